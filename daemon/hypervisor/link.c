/* Connecting to libvirt, hearing from it, and letting go. libvirt's event loop is the process's
 * default GMainContext; it has a thread here that runs nothing else, and nothing else in the
 * process may run that context. It knows nothing of looks, verbs or the main loop: what is heard is
 * passed on as a word and a UUID. */
#include "hypervisor/link.h"

#include "hypervisor/domain-xml.h"
#include "hypervisor/uri.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>
#include <systemd/sd-journal.h>

/* A libvirtd that is silent for this long is gone; without it a call waits for it for ever. */
#define KEEPALIVE_INTERVAL_SEC 5
#define KEEPALIVE_COUNT        3

/* So many lines are kept for the next call; opening one costs some 10 ms. */
#define LINES_IDLE_MAX 4

/* Each event has a callback of its own type behind one registration. As libvirt's own macro for
 * this, by way of the type that compilers take for "any function". */
#define EVENT_CALLBACK(func)   ((virConnectDomainEventGenericCallback)(void (*)(void))(func))
#define NETWORK_CALLBACK(func) ((virConnectNetworkEventGenericCallback)(void (*)(void))(func))

/* What libvirt's callbacks hold on to; they outlive the link by a moment. */
typedef struct Listener {
        gatomicrefcount references;
        LinkNotify notify;
        void *userdata;
        GDestroyNotify free_userdata;

        GMutex mutex;
        GCond changed;
        uint64_t device_changes; /* under the mutex; likewise below */
        bool abandoned;
} Listener;

/* After each of these the domain is looked at again. A change by virsh setvcpus, or by setmem of
 * a definition alone, is told by none (libvirt 9.0.0, src/qemu/qemu_driver.c,
 * qemuDomainSetVcpusFlags() and qemuDomainSetMemoryFlags()): the next listing finds it. */
typedef enum LinkEvent {
        EVENT_LIFECYCLE, /* defined, redefined and renamed, too */
        EVENT_REBOOT,
        EVENT_DEVICE_ADDED,
        EVENT_DEVICE_REMOVED,
        EVENT_DEVICE_REMOVAL_FAILED,
        EVENT_METADATA,
        EVENT_BALLOON,
        EVENT_MEMORY_DEVICE,
        EVENT_TUNABLE,
        EVENT_DISK,
        EVENT_BLOCK_JOB, /* one that has ended may have left the disk with another file */
        _EVENT_MAX,
} LinkEvent;

struct Link {
        gatomicrefcount references;
        virConnectPtr connection;
        Listener *listener;
        int events[_EVENT_MAX]; /* callback ids, -1 = none */
        int networks;           /* likewise */
        bool close_callback;
        ConnectionFacts facts;

        char *uri;
        GMutex mutex;
        GPtrArray *idle; /* virConnectPtr, lines that nobody has; under the mutex */
        gint told_missing;
};

struct Line {
        Link *link;
        virConnectPtr connection;
};

static Listener *listener_ref(Listener *listener) {
        g_atomic_ref_count_inc(&listener->references);
        return listener;
}

static void listener_unref(void *data) {
        Listener *listener = data;

        if (!g_atomic_ref_count_dec(&listener->references))
                return;
        listener->free_userdata(listener->userdata);
        g_mutex_clear(&listener->mutex);
        g_cond_clear(&listener->changed);
        g_free(listener);
}

static void on_error(void *userdata, virErrorPtr error) {
        /* libvirt would print every error to stderr; whoever made the call reports it instead. */
}

static void *events_run(void *data) {
        for (;;)
                if (virEventRunDefaultImpl() < 0) {
                        sd_journal_print(LOG_ERR, "libvirt's event loop failed: %s",
                                         virGetLastErrorMessage());
                        g_usleep(G_USEC_PER_SEC);
                }
        return NULL;
}

/* Once per process and before the first connection, as virEventRegisterDefaultImpl() demands. The
 * thread stays until the process ends: it serves connections that are still closing, and there is
 * no moment at which waiting for it could not block. */
static void *events_begin(void *data) {
        GThread *thread;

        virSetErrorFunc(NULL, on_error);
        if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
                return GINT_TO_POINTER(false);
        thread = g_thread_new("libvirt-events", events_run, NULL);
        g_thread_unref(thread);
        return GINT_TO_POINTER(true);
}

static void on_closed(virConnectPtr connection, int reason, void *userdata) {
        Listener *listener = userdata;

        listener->notify(listener->userdata, LINK_LOST, NULL);
}

static void domain_changed(Listener *listener, virDomainPtr domain) {
        char uuid[VIR_UUID_STRING_BUFLEN];

        if (virDomainGetUUIDString(domain, uuid) == 0)
                listener->notify(listener->userdata, LINK_DOMAIN, uuid);
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
                        void *userdata) {
        domain_changed(userdata, domain);
        return 0;
}

static void on_reboot(virConnectPtr connection, virDomainPtr domain, void *userdata) {
        domain_changed(userdata, domain);
}

static void on_device(virConnectPtr connection, virDomainPtr domain, const char *alias,
                      void *userdata) {
        Listener *listener = userdata;

        g_mutex_lock(&listener->mutex);
        listener->device_changes++;
        g_cond_broadcast(&listener->changed);
        g_mutex_unlock(&listener->mutex);
        domain_changed(listener, domain);
}

static void on_metadata(virConnectPtr connection, virDomainPtr domain, int type, const char *uri,
                        void *userdata) {
        domain_changed(userdata, domain);
}

static void on_balloon(virConnectPtr connection, virDomainPtr domain, unsigned long long kib,
                       void *userdata) {
        domain_changed(userdata, domain);
}

static void on_memory_device(virConnectPtr connection, virDomainPtr domain, const char *alias,
                             unsigned long long kib, void *userdata) {
        domain_changed(userdata, domain);
}

static void on_tunable(virConnectPtr connection, virDomainPtr domain, virTypedParameterPtr params,
                       int n_params, void *userdata) {
        domain_changed(userdata, domain);
}

static void on_disk(virConnectPtr connection, virDomainPtr domain, const char *old_path,
                    const char *new_path, const char *alias, int reason, void *userdata) {
        domain_changed(userdata, domain);
}

static void on_block_job(virConnectPtr connection, virDomainPtr domain, const char *disk, int type,
                         int status, void *userdata) {
        domain_changed(userdata, domain);
}

static void on_network(virConnectPtr connection, virNetworkPtr network, int event, int detail,
                       void *userdata) {
        Listener *listener = userdata;

        listener->notify(listener->userdata, LINK_NETWORKS, NULL);
}

/* libvirt's test driver lives in this process and has no connection to lose; it takes the callback
 * all the same and then never lets go of it. */
static int link_listen_for_its_end(Link *link) {
        virConnectPtr c = link->connection;

        if (link->facts.test)
                return 0;
        if (virConnectSetKeepAlive(c, KEEPALIVE_INTERVAL_SEC, KEEPALIVE_COUNT) < 0)
                return -1;
        if (virConnectRegisterCloseCallback(c, on_closed, listener_ref(link->listener),
                                            listener_unref) < 0) {
                listener_unref(link->listener);
                return -1;
        }
        link->close_callback = true;
        return 0;
}

static int link_listen(Link *link) {
        static const struct {
                int id;
                virConnectDomainEventGenericCallback callback;
        } events[_EVENT_MAX] = {
                [EVENT_LIFECYCLE] = { VIR_DOMAIN_EVENT_ID_LIFECYCLE, EVENT_CALLBACK(on_lifecycle) },
                [EVENT_REBOOT] = { VIR_DOMAIN_EVENT_ID_REBOOT, EVENT_CALLBACK(on_reboot) },
                [EVENT_DEVICE_ADDED] = { VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
                                         EVENT_CALLBACK(on_device) },
                [EVENT_DEVICE_REMOVED] = { VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
                                           EVENT_CALLBACK(on_device) },
                [EVENT_DEVICE_REMOVAL_FAILED] = { VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
                                                  EVENT_CALLBACK(on_device) },
                [EVENT_METADATA] = { VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                                     EVENT_CALLBACK(on_metadata) },
                [EVENT_BALLOON] = { VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE,
                                    EVENT_CALLBACK(on_balloon) },
                [EVENT_MEMORY_DEVICE] = { VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE,
                                          EVENT_CALLBACK(on_memory_device) },
                [EVENT_TUNABLE] = { VIR_DOMAIN_EVENT_ID_TUNABLE, EVENT_CALLBACK(on_tunable) },
                [EVENT_DISK] = { VIR_DOMAIN_EVENT_ID_DISK_CHANGE, EVENT_CALLBACK(on_disk) },
                [EVENT_BLOCK_JOB] = { VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                                      EVENT_CALLBACK(on_block_job) },
        };
        virConnectPtr c = link->connection;

        if (link_listen_for_its_end(link) < 0)
                return -1;
        for (unsigned i = 0; i < _EVENT_MAX; i++) {
                link->events[i] = virConnectDomainEventRegisterAny(
                        c, NULL, events[i].id, events[i].callback, listener_ref(link->listener),
                        listener_unref);
                if (link->events[i] < 0)
                        listener_unref(link->listener);
        }
        /* A libvirt without networks has no such events either. */
        link->networks = virConnectNetworkEventRegisterAny(
                c, NULL, VIR_NETWORK_EVENT_ID_LIFECYCLE, NETWORK_CALLBACK(on_network),
                listener_ref(link->listener), listener_unref);
        if (link->networks < 0)
                listener_unref(link->listener);
        /* The others are no reason to do without libvirt. */
        return link->events[EVENT_LIFECYCLE] < 0 ? -1 : 0;
}

static char *version_to_string(unsigned long version) {
        return g_strdup_printf("%lu.%lu.%lu", version / 1000000, version / 1000 % 1000,
                               version % 1000);
}

static char *versions_read(virConnectPtr c, const char *type) {
        unsigned long library, driver;
        g_autofree char *library_text = NULL, *driver_text = NULL;

        if (virConnectGetLibVersion(c, &library) < 0)
                return NULL;
        library_text = version_to_string(library);
        if (virConnectGetVersion(c, &driver) < 0 || driver == 0)
                return g_steal_pointer(&library_text); /* no emulator is installed */
        driver_text = version_to_string(driver);
        return g_strdup_printf("%s (%s %s)", library_text, type, driver_text);
}

static char *capabilities_read(virConnectPtr c, const char *type) {
        char *xml = virConnectGetDomainCapabilities(c, NULL, "x86_64", "q35", type, 0);
        char *copy = g_strdup(xml);

        free(xml);
        return copy;
}

/* By the URI that libvirt has made of ours, which may be an alias of its own configuration. */
static bool is_on_this_host(virConnectPtr c) {
        char *uri = virConnectGetURI(c);
        bool is = uri && uri_is_of_this_host(uri);

        free(uri);
        return is;
}

/* How QEMU's processes are kept apart from what is not theirs. */
static void security_read(virConnectPtr c, ConnectionFacts *facts) {
        char *xml = virConnectGetCapabilities(c);
        gid_t group;

        facts->qemu_uid = 0;
        facts->apparmor = false;
        if (xml) {
                (void)capabilities_get_owner(xml, &facts->qemu_uid, &group);
                facts->apparmor = capabilities_have_apparmor(xml);
        }
        free(xml);
}

static int link_ask(Link *link, const char *type) {
        virConnectPtr c = link->connection;
        g_autofree char *kvm = NULL, *qemu = NULL;
        const char *capabilities;

        link->facts.on_this_host = is_on_this_host(c);
        link->facts.version = versions_read(c, type);
        if (!link->facts.version)
                return -1;
        kvm = capabilities_read(c, "kvm");
        if (!kvm)
                qemu = capabilities_read(c, "qemu");
        link->facts.kvm = kvm != NULL;
        capabilities = kvm ? kvm : qemu;
        link->facts.uefi = capabilities && domain_capabilities_have_uefi(capabilities);
        security_read(c, &link->facts);
        return 0;
}

static int link_begin(Link *link, const char *uri) {
        const char *type;

        link->connection = virConnectOpen(uri);
        type = link->connection ? virConnectGetType(link->connection) : NULL;
        if (!type)
                return -1;
        link->facts.test = strcmp(type, "TEST") == 0;
        if (link_listen(link) < 0)
                return -1;
        return link_ask(link, type);
}

/* Blocks. Each registration holds the connection, so they all have to go before it closes. */
static void *link_close(void *data) {
        Link *link = data;
        virConnectPtr c = link->connection;

        for (unsigned i = 0; c && i < _EVENT_MAX; i++)
                if (link->events[i] >= 0)
                        (void)virConnectDomainEventDeregisterAny(c, link->events[i]);
        if (c && link->networks >= 0)
                (void)virConnectNetworkEventDeregisterAny(c, link->networks);
        if (c && link->close_callback)
                (void)virConnectUnregisterCloseCallback(c, on_closed);
        if (c)
                (void)virConnectClose(c);
        for (unsigned i = 0; i < link->idle->len; i++)
                (void)virConnectClose(g_ptr_array_index(link->idle, i));
        g_ptr_array_unref(link->idle);
        g_mutex_clear(&link->mutex);
        listener_unref(link->listener);
        g_free(link->facts.version);
        g_free(link->uri);
        g_free(link);
        return NULL;
}

Link *link_open(const char *uri, LinkNotify notify, void *userdata, GDestroyNotify free_userdata,
                char **ret_error) {
        static GOnce begin = G_ONCE_INIT;
        Link *link = g_new0(Link, 1);

        g_atomic_ref_count_init(&link->references);
        link->networks = -1;
        for (unsigned i = 0; i < _EVENT_MAX; i++)
                link->events[i] = -1;
        link->uri = g_strdup(uri);
        g_mutex_init(&link->mutex);
        link->idle = g_ptr_array_new();
        link->listener = g_new(Listener, 1);
        *link->listener = (Listener){ .notify = notify,
                                      .userdata = userdata,
                                      .free_userdata = free_userdata };
        g_atomic_ref_count_init(&link->listener->references);
        g_mutex_init(&link->listener->mutex);
        g_cond_init(&link->listener->changed);

        if (g_once(&begin, events_begin, NULL) != GINT_TO_POINTER(true)) {
                *ret_error = g_strdup("libvirt's event loop cannot be set up");
                link_close(link);
                return NULL;
        }
        if (link_begin(link, uri) < 0) {
                *ret_error = link_error_words();
                link_close(link);
                return NULL;
        }
        return link;
}

Link *link_ref(Link *link) {
        g_atomic_ref_count_inc(&link->references);
        return link;
}

void link_unref(Link *link) {
        GThread *thread;

        if (!link || !g_atomic_ref_count_dec(&link->references))
                return;
        /* Closing asks the other end, which may have stopped answering. Where there is no room for
         * one more thread, a connection is leaked rather than the caller held up. */
        thread = g_thread_try_new("libvirt-close", link_close, link, NULL);
        if (thread)
                g_thread_unref(thread);
}

const ConnectionFacts *link_facts(const Link *link) {
        return &link->facts;
}

void link_abandon(Link *link) {
        Listener *listener = link->listener;

        g_mutex_lock(&listener->mutex);
        listener->abandoned = true;
        g_cond_broadcast(&listener->changed);
        g_mutex_unlock(&listener->mutex);
}

bool link_is_abandoned(Link *link) {
        Listener *listener = link->listener;
        bool abandoned;

        g_mutex_lock(&listener->mutex);
        abandoned = listener->abandoned;
        g_mutex_unlock(&listener->mutex);
        return abandoned;
}

uint64_t link_device_changes(Link *link) {
        Listener *listener = link->listener;
        uint64_t changes;

        g_mutex_lock(&listener->mutex);
        changes = listener->device_changes;
        g_mutex_unlock(&listener->mutex);
        return changes;
}

void link_await_device_change(Link *link, uint64_t seen, gint64 until) {
        Listener *listener = link->listener;

        g_mutex_lock(&listener->mutex);
        while (listener->device_changes == seen && !listener->abandoned)
                if (!g_cond_wait_until(&listener->changed, &listener->mutex, until))
                        break;
        g_mutex_unlock(&listener->mutex);
}

static virConnectPtr line_open(Link *link) {
        virConnectPtr connection;

        /* The test driver lives in this process: no wire, no such limits; and a second connection
         * would not see the domains of the first. */
        if (link->facts.test)
                return virConnectRef(link->connection) == 0 ? link->connection : NULL;

        connection = virConnectOpen(link->uri);
        if (!connection)
                return NULL;
        if (virConnectSetKeepAlive(connection, KEEPALIVE_INTERVAL_SEC, KEEPALIVE_COUNT) < 0) {
                (void)virConnectClose(connection);
                return NULL;
        }
        return connection;
}

static virConnectPtr line_take_idle(Link *link) {
        for (;;) {
                virConnectPtr connection = NULL;

                g_mutex_lock(&link->mutex);
                if (link->idle->len > 0)
                        connection = g_ptr_array_steal_index_fast(link->idle, link->idle->len - 1);
                g_mutex_unlock(&link->mutex);
                if (!connection || virConnectIsAlive(connection) == 1)
                        return connection;
                (void)virConnectClose(connection);
        }
}

Line *link_take_line(Link *link) {
        g_autoptr(Line) line = g_new0(Line, 1);

        line->link = link_ref(link);
        line->connection = line_take_idle(link);
        if (!line->connection)
                line->connection = line_open(link);
        /* Asked last: opening may have taken as long as libvirtd was stopped, and what nobody waits
         * for any more must not happen then. */
        if (!line->connection || link_is_abandoned(link))
                return NULL;
        return g_steal_pointer(&line);
}

void line_give_back(Line *line) {
        Link *link = line->link;
        bool keep =
                line->connection && !link->facts.test && virConnectIsAlive(line->connection) == 1;

        g_mutex_lock(&link->mutex);
        keep = keep && link->idle->len < LINES_IDLE_MAX;
        if (keep)
                g_ptr_array_add(link->idle, line->connection);
        g_mutex_unlock(&link->mutex);
        if (!keep && line->connection)
                (void)virConnectClose(line->connection);
        link_unref(link);
        g_free(line);
}

const ConnectionFacts *line_facts(const Line *line) {
        return &line->link->facts;
}

bool line_may_tell_missing(Line *line) {
        return g_atomic_int_compare_and_exchange(&line->link->told_missing, 0, 1);
}

virConnectPtr line_connection(Line *line) {
        return line->connection;
}

virDomainPtr line_domain(Line *line, const char *uuid, bool *ret_missing) {
        virDomainPtr domain = virDomainLookupByUUIDString(line->connection, uuid);

        *ret_missing = !domain && link_error_is_no_domain();
        return domain;
}

char *link_error_words(void) {
        return g_strdup(virGetLastErrorMessage());
}

bool link_error_is_no_domain(void) {
        return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN;
}

bool line_error_is_lost(Line *line) {
        const virError *error = virGetLastError();

        /* An error keeps the domain of where it arose, so one from the RPC layer is about the
         * connection and not about what was asked. */
        return (error && error->domain == VIR_FROM_RPC) || virConnectIsAlive(line->connection) == 0;
}
