/* The seam to libvirt, against the real library and its test driver, which keeps its domains in
 * this process. Nothing sleeps: the loop runs until what is awaited has happened, or a deadline
 * passes. */
#include "hypervisor/libvirt.h"

#include "autoptr-bus.h"
#include "hypervisor/domain-refusal.h"
#include "hypervisor/ignition.h"
#include "hypervisor/looks.h"
#include "hypervisor/main-queue.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <libvirt/libvirt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A driver of its own for each connection, beginning with one running domain; and the one that all
 * connections of the process share. */
#define TEST_URI      "test://" GOLDEN_DIR "/libvirt-node.xml"
#define SHARED_URI    "test:///default"
#define TEST_DOMAIN   "6695eb01-f6a4-8304-79aa-97f2502e193f" /* "test", in both */
#define UUID          "5cba7a3e-0d4c-4b0e-9f4c-2c8a4f1f7d10"
#define OTHER_UUID    "5cba7a3e-0d4c-4b0e-9f4c-2c8a4f1f7d11"
#define SERIAL        "00-1b-21-ff-ff-12-34-56"
#define DEADLINE_USEC (30 * G_USEC_PER_SEC)

typedef struct Fixture {
        sd_event *event;
        Libvirt *libvirt;
        Hypervisor hypervisor;
        Request request;
        DomainSpec spec;

        unsigned n_connection_changed, n_listed, n_seen, n_gone, n_done, n_unreachable;
        GHashTable *domains; /* UUID -> DomainFacts as last told */
        GPtrArray *order;    /* what was called, words */
        Refusal *refusal;    /* of the last verb */
        char *xml;           /* that was told last */
        int fd;              /* of the last console */
} Fixture;

static DomainFacts *facts_take(DomainFacts *facts) {
        DomainFacts *copy = domain_facts_new();

        g_array_append_vals(copy->gpus, facts->gpus->data, facts->gpus->len);
        g_array_append_vals(copy->cards, facts->cards->data, facts->cards->len);
        g_array_append_vals(copy->hostdevs, facts->hostdevs->data, facts->hostdevs->len);
        for (unsigned i = 0; i < facts->disks->len; i++)
                g_ptr_array_add(copy->disks, g_strdup(g_ptr_array_index(facts->disks, i)));
        for (unsigned i = 0; i < facts->nics->len; i++)
                g_ptr_array_add(copy->nics, g_strdup(g_ptr_array_index(facts->nics, i)));
        copy->autostart = facts->autostart;
        memcpy(copy->uuid, facts->uuid, sizeof(copy->uuid));
        copy->name = g_strdup(facts->name);
        copy->ours = facts->ours;
        copy->active = facts->active;
        copy->state = facts->state;
        copy->off_reason = facts->off_reason;
        copy->first_start = facts->first_start;
        copy->vcpus = facts->vcpus;
        copy->memory_mib = facts->memory_mib;
        copy->pid = facts->pid;
        copy->pidfd = facts->pidfd;
        facts->pidfd = -1;
        return copy;
}

static void on_connection_changed(void *userdata) {
        Fixture *f = userdata;

        f->n_connection_changed++;
        g_ptr_array_add(f->order, (void *)"connection");
}

static void on_unreachable(void *userdata) {
        Fixture *f = userdata;

        f->n_unreachable++;
}

static void domain_remember(Fixture *f, DomainFacts *facts) {
        g_hash_table_replace(f->domains, g_strdup(facts->uuid), facts_take(facts));
}

static void on_domains_listed(void *userdata, GPtrArray *domains) {
        Fixture *f = userdata;

        f->n_listed++;
        g_ptr_array_add(f->order, (void *)"listed");
        g_hash_table_remove_all(f->domains);
        for (unsigned i = 0; i < domains->len; i++)
                domain_remember(f, g_ptr_array_index(domains, i));
}

static void on_domain_seen(void *userdata, DomainFacts *facts) {
        Fixture *f = userdata;

        f->n_seen++;
        g_ptr_array_add(f->order, (void *)"seen");
        domain_remember(f, facts);
}

static void on_domain_gone(void *userdata, const char *uuid) {
        Fixture *f = userdata;

        f->n_gone++;
        g_ptr_array_add(f->order, (void *)"gone");
        g_hash_table_remove(f->domains, uuid);
}

static void on_done(void *userdata, const Refusal *refusal) {
        Fixture *f = userdata;

        f->n_done++;
        g_ptr_array_add(f->order, (void *)"done");
        g_clear_pointer(&f->refusal, refusal_free);
        if (refusal)
                f->refusal = refusal_copy(refusal);
}

static void on_xml(void *userdata, const char *xml, const Refusal *refusal) {
        Fixture *f = userdata;

        on_done(f, refusal);
        assert_true(!xml == !!refusal);
        g_free(f->xml);
        f->xml = g_strdup(xml);
}

static void on_console(void *userdata, int fd, const Refusal *refusal) {
        Fixture *f = userdata;

        on_done(f, refusal);
        assert_true((fd < 0) == !!refusal);
        f->fd = fd;
}

static const HypervisorEvents events = {
        .connection_changed = on_connection_changed,
        .unreachable = on_unreachable,
        .domains_listed = on_domains_listed,
        .domain_seen = on_domain_seen,
        .domain_gone = on_domain_gone,
};

static void fixture_open(Fixture *f, const char *uri) {
        assert_true(sd_event_new(&f->event) >= 0);
        f->domains = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                           (GDestroyNotify)domain_facts_free);
        f->order = g_ptr_array_new();
        assert_int_equal(libvirt_new(f->event, uri, &f->libvirt), 0);
        f->hypervisor = libvirt_seam(f->libvirt);
        f->request = (Request){
                .name = (char *)"box",
                .gpus = g_array_new(FALSE, FALSE, sizeof(PciAddress)),
                .vcpus = 3,
                .memory_mib = 96,
                .start = true,
        };
        f->spec = (DomainSpec){
                .request = &f->request,
                .uuid = UUID,
                .cards = g_array_new(FALSE, FALSE, sizeof(CardIdentity)),
        };
}

static void fixture_close(Fixture *f) {
        libvirt_free(f->libvirt);
        sd_event_unref(f->event);
        g_hash_table_unref(f->domains);
        g_ptr_array_unref(f->order);
        g_array_unref(f->request.gpus);
        g_array_unref(f->spec.cards);
        refusal_free(f->refusal);
        g_free(f->xml);
}

/* Runs the loop until @counter, one of the fixture's, is at least @value. */
static void await(Fixture *f, const unsigned *counter, unsigned value) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;

        while (*counter < value) {
                gint64 left = deadline - g_get_monotonic_time();

                assert_true(left > 0);
                assert_true(sd_event_run(f->event, (uint64_t)left) >= 0);
        }
}

static void await_connected(Fixture *f) {
        assert_int_equal(libvirt_begin(f->libvirt, &events, f), 0);
        await(f, &f->n_listed, 1);
}

static void act(Fixture *f, HypervisorVerb verb, const char *uuid) {
        unsigned n = f->n_done;

        f->hypervisor.ops->act(f->hypervisor.self, verb, uuid, on_done, f);
        assert_int_equal(f->n_done, n);
        await(f, &f->n_done, n + 1);
}

static void define(Fixture *f) {
        unsigned n = f->n_done;

        f->hypervisor.ops->define(f->hypervisor.self, &f->spec, on_done, f);
        assert_int_equal(f->n_done, n);
        await(f, &f->n_done, n + 1);
}

static void assert_done(Fixture *f) {
        if (f->refusal)
                print_error("%s: %s\n", refusal_code_to_string(f->refusal->code),
                            f->refusal->message);
        assert_null(f->refusal);
}

static void assert_refused(Fixture *f, RefusalCode code) {
        assert_non_null(f->refusal);
        assert_string_equal(refusal_code_to_string(f->refusal->code), refusal_code_to_string(code));
        assert_true(g_str_has_suffix(f->refusal->remedy, "."));
}

static const DomainFacts *domain(Fixture *f, const char *uuid) {
        return g_hash_table_lookup(f->domains, uuid);
}

static void add_gpu(Fixture *f, const char *text) {
        CardIdentity card = {
                .functions = { { .vendor = 0x10de,
                                 .device = 0x20b0,
                                 .subsystem_vendor = 0x10de,
                                 .subsystem_device = 0x1463,
                                 .serial = SERIAL } },
                .n_functions = 1,
        };

        assert_true(pci_address_parse(text, &card.functions[0].address));
        g_array_append_val(f->request.gpus, card.functions[0].address);
        g_array_append_val(f->spec.cards, card);
}

/* What the machine was given stands in libvirt. */
static void assert_identity(Fixture *f) {
        const GArray *cards = domain(f, UUID)->cards;

        assert_int_equal(cards->len, 1);
        assert_int_equal(g_array_index(cards, CardIdentity, 0).functions[0].device, 0x20b0);
        assert_string_equal(g_array_index(cards, CardIdentity, 0).functions[0].serial, SERIAL);
}

static void test_connect(void **state) {
        Fixture f = { 0 };
        HypervisorFacts facts;

        fixture_open(&f, TEST_URI);
        f.hypervisor.ops->facts(f.hypervisor.self, &facts);
        assert_false(facts.tried);
        assert_false(facts.connected);
        assert_string_equal(facts.version, "");
        await_connected(&f);
        assert_int_equal(f.n_connection_changed, 1);
        assert_string_equal(g_ptr_array_index(f.order, 0), "connection");
        assert_string_equal(g_ptr_array_index(f.order, 1), "listed");

        f.hypervisor.ops->facts(f.hypervisor.self, &facts);
        assert_true(facts.tried);
        assert_true(facts.connected);
        assert_string_equal(facts.uri, TEST_URI);
        assert_non_null(strstr(facts.version, " (TEST "));

        assert_int_equal(g_hash_table_size(f.domains), 1);
        assert_non_null(domain(&f, TEST_DOMAIN));
        assert_string_equal(domain(&f, TEST_DOMAIN)->name, "test");
        assert_false(domain(&f, TEST_DOMAIN)->ours);
        assert_true(domain(&f, TEST_DOMAIN)->active);
        assert_int_equal(domain(&f, TEST_DOMAIN)->state, DOMAIN_RUNNING);
        assert_int_equal(domain(&f, TEST_DOMAIN)->pid, 0);
        assert_int_equal(domain(&f, TEST_DOMAIN)->pidfd, -1);
        fixture_close(&f);
}

static void test_life(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        add_gpu(&f, "0000:c1:00.0");
        f.spec.kernel = "/nowhere/vmlinuz";
        f.spec.image = "/nowhere/disk.qcow2";
        f.request.image_format = IMAGE_QCOW2;

        define(&f);
        assert_done(&f);
        assert_non_null(domain(&f, UUID));
        assert_true(domain(&f, UUID)->ours);
        assert_false(domain(&f, UUID)->active);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_OFF);
        assert_int_equal(domain(&f, UUID)->first_start, FIRST_START_PENDING);
        assert_int_equal(domain(&f, UUID)->gpus->len, 1);
        assert_identity(&f);
        assert_int_equal(domain(&f, UUID)->hostdevs->len, 1);
        assert_int_equal(domain(&f, UUID)->vcpus, 3);
        assert_int_equal(domain(&f, UUID)->memory_mib, 96);

        act(&f, HYPERVISOR_START, UUID);
        assert_done(&f);
        assert_true(domain(&f, UUID)->active);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_RUNNING);
        assert_int_equal(domain(&f, UUID)->first_start, FIRST_START_DONE);
        assert_int_equal(domain(&f, UUID)->gpus->len, 1);
        assert_identity(&f);

        act(&f, HYPERVISOR_START, UUID);
        assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
        assert_true(g_str_has_prefix(f.refusal->message, "libvirt could not start machine box: "));

        act(&f, HYPERVISOR_DESTROY, UUID);
        assert_done(&f);
        assert_false(domain(&f, UUID)->active);
        assert_int_equal(domain(&f, UUID)->off_reason, DOMAIN_OFF_DESTROYED);
        /* Kept in the definition, not in the running domain alone. */
        assert_int_equal(domain(&f, UUID)->first_start, FIRST_START_DONE);
        act(&f, HYPERVISOR_DESTROY, UUID);
        assert_done(&f);

        act(&f, HYPERVISOR_UNDEFINE, UUID);
        assert_done(&f);
        assert_null(domain(&f, UUID));
        act(&f, HYPERVISOR_UNDEFINE, UUID);
        assert_done(&f);
        act(&f, HYPERVISOR_DESTROY, UUID);
        assert_done(&f);
        act(&f, HYPERVISOR_START, UUID);
        assert_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        fixture_close(&f);
}

static void test_shutdown(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        define(&f);
        act(&f, HYPERVISOR_SHUTDOWN, UUID);
        assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
        act(&f, HYPERVISOR_START, UUID);
        act(&f, HYPERVISOR_SHUTDOWN, UUID);
        assert_done(&f);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_OFF);
        assert_int_equal(domain(&f, UUID)->off_reason, DOMAIN_OFF_SHUTDOWN);
        fixture_close(&f);
}

static void test_pause(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        f.request.autostart = true;
        define(&f);
        assert_true(domain(&f, UUID)->autostart);
        act(&f, HYPERVISOR_PAUSE, UUID);
        assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
        assert_true(g_str_has_prefix(f.refusal->message, "libvirt could not pause machine box: "));
        act(&f, HYPERVISOR_START, UUID);
        assert_true(domain(&f, UUID)->autostart);
        act(&f, HYPERVISOR_PAUSE, UUID);
        assert_done(&f);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_PAUSED);
        act(&f, HYPERVISOR_RESUME, UUID);
        assert_done(&f);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_RUNNING);
        act(&f, HYPERVISOR_REBOOT, UUID);
        assert_done(&f);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_RUNNING);
        act(&f, HYPERVISOR_PAUSE, OTHER_UUID);
        assert_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        fixture_close(&f);
}

static void get_xml(Fixture *f, const char *uuid) {
        unsigned n = f->n_done;

        f->hypervisor.ops->get_xml(f->hypervisor.self, uuid, on_xml, f);
        assert_int_equal(f->n_done, n);
        await(f, &f->n_done, n + 1);
}

/* The definition says where the Ignition text is, and not what is in it. */
static void test_get_xml(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        f.request.ignition = (char *)"{\"secret\": 1}";
        define(&f);
        assert_done(&f);
        get_xml(&f, UUID);
        assert_done(&f);
        assert_non_null(strstr(f.xml, "<name>box</name>"));
        assert_non_null(strstr(f.xml, "file='/var/lib/feos/ignition/" UUID ".ign'"));
        assert_null(strstr(f.xml, "secret"));
        get_xml(&f, OTHER_UUID);
        assert_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        fixture_close(&f);
}

static DeviceRequest *device_new(DeviceKind kind, const char *id) {
        DeviceRequest *device = device_request_new(kind);

        device->id = g_strdup(id);
        device->resolved = g_strdup("/nowhere/disk.img");
        device->source = g_strdup("default");
        return device;
}

static void attach(Fixture *f, const char *uuid, DeviceKind kind, const char *id) {
        g_autoptr(DeviceRequest) device = device_new(kind, id);
        unsigned n = f->n_done;

        f->hypervisor.ops->attach(f->hypervisor.self, uuid, device, on_done, f);
        assert_int_equal(f->n_done, n);
        await(f, &f->n_done, n + 1);
}

static void detach(Fixture *f, const char *uuid, DeviceKind kind, const char *id) {
        unsigned n = f->n_done;

        f->hypervisor.ops->detach(f->hypervisor.self, uuid, kind, id, on_done, f);
        assert_int_equal(f->n_done, n);
        await(f, &f->n_done, n + 1);
}

/* libvirt's test driver has no way to attach anything, so here are the refusals. */
static void test_devices(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        attach(&f, UUID, DEVICE_DISK, "data");
        assert_refused(&f, REFUSAL_HYPERVISOR_UNAVAILABLE);
        await_connected(&f);
        f.request.disks = g_ptr_array_new_with_free_func((GDestroyNotify)device_request_free);
        f.request.nics = g_ptr_array_new_with_free_func((GDestroyNotify)device_request_free);
        g_ptr_array_add(f.request.disks, device_new(DEVICE_DISK, "data"));
        g_ptr_array_add(f.request.nics, device_new(DEVICE_NIC, "lan"));
        define(&f);
        assert_done(&f);
        assert_int_equal(domain(&f, UUID)->disks->len, 1);
        assert_string_equal(g_ptr_array_index(domain(&f, UUID)->disks, 0), "data");
        assert_int_equal(domain(&f, UUID)->nics->len, 1);
        assert_string_equal(g_ptr_array_index(domain(&f, UUID)->nics, 0), "lan");

        for (unsigned i = 0; i < 2; i++) {
                attach(&f, UUID, DEVICE_DISK, "data");
                assert_refused(&f, REFUSAL_INVALID_OPTION);
                attach(&f, UUID, DEVICE_NIC, "data");
                assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
                assert_true(g_str_has_prefix(f.refusal->message,
                                             "libvirt could not attach NIC data to machine box: "));
                detach(&f, UUID, DEVICE_NIC, "data");
                assert_refused(&f, REFUSAL_INVALID_OPTION);
                detach(&f, UUID, DEVICE_NIC, "lan");
                assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
                act(&f, HYPERVISOR_START, UUID);
                assert_int_equal(domain(&f, UUID)->disks->len, 1);
                assert_int_equal(domain(&f, UUID)->nics->len, 1);
        }
        detach(&f, OTHER_UUID, DEVICE_NIC, "lan");
        assert_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        g_ptr_array_unref(f.request.disks);
        g_ptr_array_unref(f.request.nics);
        fixture_close(&f);
}

/* What is no terminal of the domain's is not handed out. */
static void test_console_refused(void **state) {
        static const char *const terminals[] = { "/dev/pts/99999", "/dev/null", "/etc/passwd", "" };
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        define(&f);
        act(&f, HYPERVISOR_START, UUID);
        for (unsigned i = 0; i < G_N_ELEMENTS(terminals); i++) {
                unsigned n = f.n_done;

                f.hypervisor.ops->open_console(f.hypervisor.self, UUID, terminals[i], 0, on_console,
                                               &f);
                await(&f, &f.n_done, n + 1);
                assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
                assert_int_equal(f.fd, -1);
        }
        fixture_close(&f);
}

static bool has_network(Fixture *f, const char *name) {
        HypervisorFacts facts;

        f->hypervisor.ops->facts(f->hypervisor.self, &facts);
        assert_non_null(facts.networks);
        return g_strv_contains(facts.networks, name);
}

/* Networks come and go, and are known without being asked for. */
static void test_networks(void **state) {
        Fixture f = { 0 };
        virConnectPtr other;
        virNetworkPtr network;
        unsigned listed;

        fixture_open(&f, SHARED_URI);
        assert_false(has_network(&f, "default"));
        await_connected(&f);
        assert_true(has_network(&f, "default"));
        other = virConnectOpen(SHARED_URI);
        network = virNetworkLookupByName(other, "default");
        assert_non_null(network);

        listed = f.n_listed;
        assert_int_equal(virNetworkDestroy(network), 0);
        await(&f, &f.n_listed, listed + 1);
        assert_false(has_network(&f, "default"));
        listed = f.n_listed;
        assert_int_equal(virNetworkCreate(network), 0);
        await(&f, &f.n_listed, listed + 1);
        assert_true(has_network(&f, "default"));

        virNetworkFree(network);
        virConnectClose(other);
        fixture_close(&f);
}

/* --- Ignition's files --- */

static void assert_file(const char *path, const char *text, mode_t mode) {
        g_autofree char *content = NULL;
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, mode);
        assert_true(g_file_get_contents(path, &content, NULL, NULL));
        assert_string_equal(content, text);
}

static void test_ignition_files(void **state) {
        g_autofree char *top = g_dir_make_tmp("feos-ignition-XXXXXX", NULL);
        g_autofree char *folder = g_build_filename(top, "a", "ignition", NULL);
        g_autofree char *above = g_path_get_dirname(folder);
        g_autofree char *one = g_build_filename(folder, UUID ".ign", NULL);
        g_autofree char *two = g_build_filename(folder, OTHER_UUID ".ign", NULL);
        g_autofree char *part = g_strconcat(two, ".part", NULL);
        g_autofree char *alien = g_build_filename(folder, "notes.ign", NULL);
        g_autoptr(GHashTable) keep = g_hash_table_new(g_str_hash, g_str_equal);
        struct stat st;

        assert_non_null(top);
        assert_int_equal(ignition_write(one, "{}", (gid_t)-1), 0);
        assert_file(one, "{}", 0600);
        assert_int_equal(stat(folder, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0711);
        assert_true(g_file_set_contents(part, "half", -1, NULL));
        assert_int_equal(ignition_write(two, "{\"a\": 1}", getgid()), 0);
        assert_file(two, "{\"a\": 1}", 0640);
        assert_false(g_file_test(part, G_FILE_TEST_EXISTS));
        assert_true(g_file_set_contents(part, "half", -1, NULL));
        assert_true(g_file_set_contents(alien, "not ours", -1, NULL));
        assert_true(ignition_write("/proc/nowhere/x.ign", "{}", (gid_t)-1) < 0);

        g_hash_table_add(keep, (void *)UUID);
        ignition_remove_others(folder, keep);
        assert_true(g_file_test(one, G_FILE_TEST_EXISTS));
        assert_false(g_file_test(two, G_FILE_TEST_EXISTS));
        assert_false(g_file_test(part, G_FILE_TEST_EXISTS));
        assert_true(g_file_test(alien, G_FILE_TEST_EXISTS));
        ignition_remove(one);
        ignition_remove(one);
        assert_false(g_file_test(one, G_FILE_TEST_EXISTS));
        ignition_remove_others("/nowhere", keep);

        ignition_begin_making();
        assert_false(ignition_begin_removing());
        ignition_end_making();
        assert_true(ignition_begin_removing());
        ignition_end_removing();

        assert_int_equal(g_remove(alien), 0);
        assert_int_equal(g_rmdir(folder), 0);
        assert_int_equal(g_rmdir(above), 0);
        assert_int_equal(g_rmdir(top), 0);
}

static void test_look_before_done(void **state) {
        Fixture f = { 0 };
        unsigned n;

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        define(&f);
        n = f.order->len;
        assert_string_equal(g_ptr_array_index(f.order, n - 2), "seen");
        assert_string_equal(g_ptr_array_index(f.order, n - 1), "done");
        fixture_close(&f);
}

static void test_exists(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        f.request.name = (char *)"test";
        define(&f);
        assert_refused(&f, REFUSAL_MACHINE_EXISTS);
        assert_string_equal(f.refusal->subject, "test");
        f.request.name = (char *)"box";
        f.spec.uuid = TEST_DOMAIN;
        define(&f);
        assert_refused(&f, REFUSAL_MACHINE_EXISTS);
        assert_string_equal(f.refusal->subject, TEST_DOMAIN);
        assert_string_equal(domain(&f, TEST_DOMAIN)->name, "test");
        fixture_close(&f);
}

static void test_unsayable(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        f.spec.kernel = "/k";
        f.request.cmdline = (char *)"\x1b";
        define(&f);
        assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
        assert_null(domain(&f, UUID));
        fixture_close(&f);
}

static void test_refused_by_libvirt(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        f.spec.uuid = "no-uuid";
        define(&f);
        assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
        fixture_close(&f);
}

/* What somebody else does with a domain is seen. */
static void test_events(void **state) {
        Fixture f = { 0 };
        virConnectPtr other;
        virDomainPtr theirs;
        unsigned seen;

        fixture_open(&f, SHARED_URI);
        await_connected(&f);
        other = virConnectOpen(SHARED_URI);
        assert_non_null(other);
        theirs = virDomainLookupByName(other, "test");
        assert_non_null(theirs);
        assert_true(domain(&f, TEST_DOMAIN)->active);

        seen = f.n_seen;
        assert_int_equal(virDomainDestroy(theirs), 0);
        await(&f, &f.n_seen, seen + 1);
        assert_false(domain(&f, TEST_DOMAIN)->active);
        seen = f.n_seen;
        assert_int_equal(virDomainCreate(theirs), 0);
        await(&f, &f.n_seen, seen + 1);
        assert_true(domain(&f, TEST_DOMAIN)->active);

        virDomainFree(theirs);
        virConnectClose(other);
        fixture_close(&f);
}

static void test_look(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        f.hypervisor.ops->look(f.hypervisor.self, UUID); /* not connected: nothing happens */
        await_connected(&f);
        f.hypervisor.ops->look(f.hypervisor.self, TEST_DOMAIN);
        f.hypervisor.ops->look(f.hypervisor.self, UUID);
        await(&f, &f.n_seen, 1);
        await(&f, &f.n_gone, 1);
        fixture_close(&f);
}

/* Many at once: one listing and sixteen verbs, all answered, each after its own look. */
static void test_many(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        define(&f);
        for (unsigned i = 0; i < 40; i++)
                f.hypervisor.ops->act(f.hypervisor.self,
                                      i % 2 ? HYPERVISOR_DESTROY : HYPERVISOR_START, UUID, on_done,
                                      &f);
        await(&f, &f.n_done, 41);
        fixture_close(&f);
}

static void test_relisted(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        await(&f, &f.n_listed, 2);
        assert_non_null(domain(&f, TEST_DOMAIN));
        fixture_close(&f);
}

static void test_not_connected(void **state) {
        Fixture f = { 0 };
        HypervisorFacts facts;

        fixture_open(&f, TEST_URI);
        define(&f);
        assert_refused(&f, REFUSAL_HYPERVISOR_UNAVAILABLE);
        assert_string_equal(f.refusal->subject, "box");
        act(&f, HYPERVISOR_DESTROY, UUID);
        assert_refused(&f, REFUSAL_HYPERVISOR_UNAVAILABLE);
        f.hypervisor.ops->facts(f.hypervisor.self, &facts);
        assert_false(facts.connected);
        fixture_close(&f);
}

/* An address where nobody is: it keeps trying, says nothing to core, and verbs are answered. */
static void test_unreachable(void **state) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;
        HypervisorFacts facts = { 0 };
        Fixture f = { 0 };

        fixture_open(&f, "qemu+unix:///system?socket=/nonexistent/libvirt-sock");
        assert_int_equal(libvirt_begin(f.libvirt, &events, &f), 0);
        act(&f, HYPERVISOR_START, UUID);
        assert_refused(&f, REFUSAL_HYPERVISOR_UNAVAILABLE);
        while (!facts.tried) {
                assert_true(g_get_monotonic_time() < deadline);
                assert_true(sd_event_run(f.event, DEADLINE_USEC) >= 0);
                f.hypervisor.ops->facts(f.hypervisor.self, &facts);
        }
        assert_false(facts.connected);
        assert_int_equal(f.n_connection_changed, 0);
        /* Who asks is told so at once, and not when the next attempt is due. */
        await(&f, &f.n_unreachable, 1);
        for (unsigned i = 2; i < 6; i++) {
                f.hypervisor.ops->look(f.hypervisor.self, UUID);
                await(&f, &f.n_unreachable, i);
        }
        fixture_close(&f);
}

static void test_clear_words(void **state) {
        static const struct {
                const char *words, *clear;
        } said[] = {
                { "internal error: no such thing", "internal error: no such thing" },
                { "process exited while connecting to monitor: 2026-11-24T19:21:20.989787Z "
                  "qemu-system-x86_64: -accel kvm: warning: Number of SMP cpus requested (2)\n"
                  "2026-11-24T19:21:20.998617Z qemu-system-x86_64: warning: and more\n"
                  "qemu: linux kernel too old to load a ram disk\n",
                  "process exited while connecting to monitor: "
                  "qemu: linux kernel too old to load a ram disk" },
                { "process exited: 2026-11-24T19:21:20.989787Z qemu-system-x86_64: vfio "
                  "0000:01:00.0: group 7 is not viable\nPlease ensure all devices are bound",
                  "process exited: qemu-system-x86_64: vfio 0000:01:00.0: group 7 is not viable; "
                  "Please ensure all devices are bound" },
                { "only: 2026-11-24T19:21:20.9Z qemu-system-x86_64: warning: this\n", "only:" },
        };

        for (unsigned i = 0; i < G_N_ELEMENTS(said); i++) {
                g_autofree char *clear = domain_clear_words(said[i].words);

                assert_string_equal(clear, said[i].clear);
        }
}

/* Freed with everything under way: nothing is called afterwards, nothing hangs. */
static void test_free_early(void **state) {
        for (unsigned i = 0; i < 20; i++) {
                Fixture f = { 0 };

                fixture_open(&f, TEST_URI);
                if (i % 2)
                        await_connected(&f);
                else
                        assert_int_equal(libvirt_begin(f.libvirt, &events, &f), 0);
                f.hypervisor.ops->define(f.hypervisor.self, &f.spec, on_done, &f);
                f.hypervisor.ops->look(f.hypervisor.self, TEST_DOMAIN);
                fixture_close(&f);
        }
}

/* --- The order of looks, without libvirt --- */

typedef struct LooksFixture {
        Looks *looks;
        GString *started; /* "A " a look at A, "* " a listing */
        GString *answered;
} LooksFixture;

static void on_start_look(void *self, const char *uuid) {
        g_string_append_printf(((LooksFixture *)self)->started, "%s ", uuid);
}

static void on_start_list(void *self) {
        g_string_append(((LooksFixture *)self)->started, "* ");
}

static void on_answer(void *self, void *waiter, LookOutcome outcome) {
        static const char *const words[] = { "delivered", "failed", "lost" };

        g_string_append_printf(((LooksFixture *)self)->answered, "%s:%s ", (const char *)waiter,
                               words[outcome]);
}

static void on_drop(void *waiter) {
}

static const LooksOps looks_ops = {
        .start_look = on_start_look,
        .start_list = on_start_list,
        .answer = on_answer,
        .drop = on_drop,
};

static int looks_setup(void **state) {
        LooksFixture *f = g_new0(LooksFixture, 1);

        f->looks = looks_new(&looks_ops, f);
        f->started = g_string_new(NULL);
        f->answered = g_string_new(NULL);
        *state = f;
        return 0;
}

static int looks_teardown(void **state) {
        LooksFixture *f = *state;

        looks_free(f->looks);
        g_string_free(f->started, TRUE);
        g_string_free(f->answered, TRUE);
        g_free(f);
        return 0;
}

static void test_looks_one_at_a_time(void **state) {
        LooksFixture *f = *state;

        looks_want(f->looks, "A", NULL);
        looks_want(f->looks, "A", NULL);
        looks_want(f->looks, "A", NULL);
        looks_want(f->looks, "B", NULL);
        assert_string_equal(f->started->str, "A B ");
        looks_looked(f->looks, "A", LOOK_DELIVERED);
        assert_string_equal(f->started->str, "A B A ");
        looks_looked(f->looks, "A", LOOK_DELIVERED);
        looks_looked(f->looks, "B", LOOK_DELIVERED);
        assert_string_equal(f->started->str, "A B A ");
}

/* A look that was under way when the waiter came has seen the time before: it does not count. */
static void test_looks_waiters(void **state) {
        LooksFixture *f = *state;

        looks_want(f->looks, "A", NULL);
        looks_want(f->looks, "A", (void *)"first");
        looks_looked(f->looks, "A", LOOK_DELIVERED);
        assert_string_equal(f->answered->str, "");
        looks_want(f->looks, "A", (void *)"second");
        looks_looked(f->looks, "A", LOOK_FAILED);
        assert_string_equal(f->answered->str, "first:failed ");
        looks_looked(f->looks, "A", LOOK_DELIVERED);
        assert_string_equal(f->answered->str, "first:failed second:delivered ");
        assert_string_equal(f->started->str, "A A A ");
}

static void test_looks_and_listing(void **state) {
        LooksFixture *f = *state;

        looks_want(f->looks, "A", NULL);
        looks_want_list(f->looks);
        looks_want(f->looks, "B", (void *)"b");
        assert_string_equal(f->started->str, "A ");
        looks_looked(f->looks, "A", LOOK_DELIVERED);
        assert_string_equal(f->started->str, "A * ");
        looks_want(f->looks, "A", NULL);
        looks_want_list(f->looks);
        assert_string_equal(f->started->str, "A * ");
        looks_listed(f->looks);
        assert_string_equal(f->started->str, "A * * ");
        looks_listed(f->looks);
        assert_int_equal(strlen(f->started->str), strlen("A * * A B "));
        assert_string_equal(f->answered->str, "");
        looks_looked(f->looks, "B", LOOK_DELIVERED);
        assert_string_equal(f->answered->str, "b:delivered ");
}

static void test_looks_reset(void **state) {
        LooksFixture *f = *state;

        looks_want(f->looks, "A", (void *)"now");
        looks_want(f->looks, "A", (void *)"later");
        looks_want_list(f->looks);
        looks_reset(f->looks);
        assert_string_equal(f->answered->str, "now:lost later:lost ");
        looks_want_list(f->looks);
        assert_string_equal(f->started->str, "A * ");
        looks_listed(f->looks);
        looks_want(f->looks, "A", NULL);
        assert_string_equal(f->started->str, "A * A ");
}

/* --- The queue to the main thread --- */

static void on_item(void *owner, void *data) {
        g_string_append_printf(owner, "%s ", (const char *)data);
        g_free(data);
}

static void *post_many(void *data) {
        MainQueue *queue = data;

        for (unsigned i = 0; i < 1000; i++)
                main_queue_post(queue, on_item, g_strdup("x"), g_free);
        main_queue_unref(queue);
        return NULL;
}

static void test_main_queue(void **state) {
        g_autoptr(GString) seen = g_string_new(NULL);
        g_autoptr(sd_event) event = NULL;
        MainQueue *queue = NULL;
        GThread *threads[4];

        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(main_queue_new(event, seen, &queue), 0);
        main_queue_post(queue, on_item, g_strdup("a"), g_free);
        main_queue_post(queue, on_item, g_strdup("b"), g_free);
        assert_string_equal(seen->str, "");
        assert_true(sd_event_run(event, DEADLINE_USEC) > 0);
        assert_string_equal(seen->str, "a b ");

        for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                threads[i] = g_thread_new("post", post_many, main_queue_ref(queue));
        while (seen->len < strlen("a b ") + strlen("x ") * 1000 * G_N_ELEMENTS(threads))
                assert_true(sd_event_run(event, DEADLINE_USEC) > 0);
        for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                g_thread_join(threads[i]);

        g_string_truncate(seen, 0);
        main_queue_post(queue, on_item, g_strdup("dropped"), g_free);
        main_queue_close(queue);
        main_queue_post(queue, on_item, g_strdup("late"), g_free);
        main_queue_unref(queue);
        assert_string_equal(seen->str, "");
}

int main(void) {
#define LOOKS(func) cmocka_unit_test_setup_teardown(func, looks_setup, looks_teardown)
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_main_queue),
                LOOKS(test_looks_one_at_a_time),
                LOOKS(test_looks_waiters),
                LOOKS(test_looks_and_listing),
                LOOKS(test_looks_reset),
                cmocka_unit_test(test_connect),
                cmocka_unit_test(test_life),
                cmocka_unit_test(test_shutdown),
                cmocka_unit_test(test_pause),
                cmocka_unit_test(test_get_xml),
                cmocka_unit_test(test_devices),
                cmocka_unit_test(test_console_refused),
                cmocka_unit_test(test_networks),
                cmocka_unit_test(test_ignition_files),
                cmocka_unit_test(test_look_before_done),
                cmocka_unit_test(test_exists),
                cmocka_unit_test(test_unsayable),
                cmocka_unit_test(test_refused_by_libvirt),
                cmocka_unit_test(test_events),
                cmocka_unit_test(test_look),
                cmocka_unit_test(test_many),
                cmocka_unit_test(test_relisted),
                cmocka_unit_test(test_not_connected),
                cmocka_unit_test(test_unreachable),
                cmocka_unit_test(test_clear_words),
                cmocka_unit_test(test_free_early),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
