/* The main thread's side of libvirt: sends what may block to worker threads, and hands their
 * results to core in an order that makes sense. It knows no libvirt.h itself: what is said to
 * libvirt, link.c and the domain-*.c say, in the workers; how questions wait for their answers,
 * verbs.c; how to stay connected, connector.c.
 *
 * Nothing is believed because an event said so. An event means "look again at this domain", a new
 * connection "look at everything". */
#include "hypervisor/libvirt.h"

#include "hypervisor/connector.h"
#include "hypervisor/console.h"
#include "hypervisor/domain-define.h"
#include "hypervisor/domain-look.h"
#include "hypervisor/domain-refusal.h"
#include "hypervisor/link.h"
#include "hypervisor/looks.h"
#include "hypervisor/main-queue.h"
#include "hypervisor/timer.h"
#include "hypervisor/verbs.h"

#include "autoptr-bus.h"

#include <libxml/parser.h>
#include <string.h>
#include <systemd/sd-journal.h>

#define LOOKS_AT_ONCE 4

#define RETRY_MIN_SEC 1
#define RETRY_MAX_SEC 30

/* When all domains are listed again, in seconds after the connect, and then each time that long
 * after the last. A libvirtd that has just started takes up its running domains one by one, drops
 * those whose QEMU is gone, and sends no event; nor does it of some changes later on (link.c). */
static const unsigned relist_at_sec[] = { 2, 10, 30 };
#define RELIST_EVERY_SEC 60

/* So long libvirt may take to say which domains there are; then who waits for it is told. */
#define PATIENCE_SEC 30

struct Libvirt {
        sd_event *event;
        char *uri;
        const HypervisorEvents *events;
        void *userdata;

        MainQueue *queue;
        Verbs *verbs;
        GThreadPool *lookers;
        Looks *looks;
        GHashTable *names; /* UUID -> what the domain is called, as last seen, for refusals */
        Consoles *consoles;

        Connector *connector;
        char **networks;       /* the active ones, never NULL; */
        bool networks_unknown; /* libvirt has not told */
        bool awaited;          /* as HypervisorFacts has it; likewise the next */
        bool silent;
        sd_event_source *patience;

        unsigned n_relists;
        sd_event_source *relist_timer;
        unsigned list_retry_sec;
        sd_event_source *list_retry_timer;
};

/* A look at one domain, or at all of them. */
typedef struct Look {
        MainQueue *queue;
        Link *link; /* held until the end: it tells whether the connection is still the same */
        char *uuid; /* NULL: all */
        LookResult result;
        DomainFacts *facts;
        GPtrArray *all;
        char **networks; /* with all */
        char *error;
} Look;

static void look_free(void *data) {
        Look *look = data;

        link_unref(look->link);
        main_queue_unref(look->queue);
        g_free(look->uuid);
        domain_facts_free(look->facts);
        if (look->all)
                g_ptr_array_unref(look->all);
        g_strfreev(look->networks);
        g_free(look->error);
        g_free(look);
}

static Link *self_link(Libvirt *self) {
        return connector_link(self->connector);
}

static unsigned retry_next(unsigned seconds) {
        return MIN(seconds * 2, RETRY_MAX_SEC);
}

/* --- Looks --- */

/* Worker. */
static void look_run(void *data, void *pool_data);

static void look_begin(Libvirt *self, const char *uuid) {
        Look *look = g_new0(Look, 1);

        look->queue = main_queue_ref(self->queue);
        look->link = link_ref(self_link(self));
        look->uuid = g_strdup(uuid);
        g_thread_pool_push(self->lookers, look, NULL);
}

static void on_start_look(void *owner, const char *uuid) {
        look_begin(owner, uuid);
}

static void on_start_list(void *owner) {
        look_begin(owner, NULL);
}

static void on_look_answered(void *owner, void *waiter, LookOutcome outcome) {
        Libvirt *self = owner;

        verbs_looked(self->verbs, waiter, outcome);
}

static const LooksOps looks_ops = {
        .start_look = on_start_look,
        .start_list = on_start_list,
        .answer = on_look_answered,
        .drop = verbs_drop,
};

/* A look that failed is made good by a listing, later and later while that fails too. */
static void look_failed(Libvirt *self, const Look *look) {
        sd_journal_print(LOG_WARNING, "Could not look at %s%s: %s",
                         look->uuid ? "domain " : "the domains", look->uuid ?: "", look->error);
        timer_arm(self->list_retry_timer, self->list_retry_sec);
        self->list_retry_sec = retry_next(self->list_retry_sec);
}

/* Its UUID where it has not been seen. */
static const char *domain_name(Libvirt *self, const char *uuid) {
        return g_hash_table_lookup(self->names, uuid) ?: uuid;
}

/* Whether somebody may wait for libvirt to say which domains there are, and how long. */
static void answer_await(Libvirt *self) {
        if (!self->awaited)
                timer_arm(self->patience, PATIENCE_SEC);
        self->awaited = true;
}

static void answer_came(Libvirt *self, bool silent) {
        timer_disarm(self->patience);
        self->awaited = false;
        self->silent = silent;
}

static int on_impatient(sd_event_source *source, uint64_t usec, void *userdata) {
        Libvirt *self = userdata;

        answer_came(self, true);
        self->events->answer_overdue(self->userdata);
        return 0;
}

/* A domain that was seen to be off says nothing more on its console. */
static void domain_follow(Libvirt *self, const DomainFacts *facts) {
        g_hash_table_replace(self->names, g_strdup(facts->uuid), g_strdup(facts->name));
        if (!facts->active)
                consoles_end(self->consoles, facts->uuid);
}

/* Where libvirt has not told which are active, nobody is to think that none is. */
static void networks_take(Libvirt *self, char **networks) {
        self->networks_unknown = !networks;
        g_strfreev(self->networks);
        self->networks = networks ?: g_new0(char *, 1);
}

static void on_listed(Libvirt *self, Look *look) {
        if (look->all) {
                self->list_retry_sec = RETRY_MIN_SEC;
                networks_take(self, g_steal_pointer(&look->networks));
                g_hash_table_remove_all(self->names);
                for (unsigned i = 0; i < look->all->len; i++)
                        domain_follow(self, g_ptr_array_index(look->all, i));
                answer_came(self, false);
                self->events->domains_listed(self->userdata, look->all);
        } else
                look_failed(self, look);
        looks_listed(self->looks);
}

static void on_domain_looked(Libvirt *self, const Look *look) {
        LookOutcome outcome = LOOK_DELIVERED;

        switch (look->result) {
        case LOOK_RESULT_SEEN:
                domain_follow(self, look->facts);
                self->events->domain_seen(self->userdata, look->facts);
                break;
        case LOOK_RESULT_GONE:
                consoles_end(self->consoles, look->uuid);
                g_hash_table_remove(self->names, look->uuid);
                self->events->domain_gone(self->userdata, look->uuid);
                break;
        case LOOK_RESULT_FAILED:
                look_failed(self, look);
                outcome = LOOK_FAILED;
                break;
        }
        looks_looked(self->looks, look->uuid, outcome);
}

/* Main thread. */
static void on_looked(void *owner, void *data) {
        Libvirt *self = owner;
        Look *look = data;

        /* What an earlier connection still had to say was forgotten when it was lost. */
        if (look->link == self_link(self)) {
                if (look->uuid)
                        on_domain_looked(self, look);
                else
                        on_listed(self, look);
        }
        look_free(look);
}

static void look_run(void *data, void *pool_data) {
        Look *look = data;

        if (main_queue_is_closed(look->queue)) {
                look_free(look);
                return;
        }
        if (look->uuid)
                look->result = domain_look(look->link, look->uuid, &look->facts, &look->error);
        else {
                look->networks = networks_list(look->link);
                look->all = domain_look_all(look->link, &look->error);
        }
        /* Whoever removed a domain, nothing of it is to stay. */
        if (look->uuid ? look->result == LOOK_RESULT_GONE : look->all != NULL)
                domain_forget_others(look->link);
        main_queue_post(look->queue, on_looked, look, look_free);
}

static int on_list_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Libvirt *self = userdata;

        if (self_link(self))
                looks_want_list(self->looks);
        return 0;
}

static int on_relist(sd_event_source *source, uint64_t usec, void *userdata) {
        Libvirt *self = userdata;
        unsigned n = ++self->n_relists;

        if (self_link(self))
                looks_want_list(self->looks);
        timer_arm(self->relist_timer, n < G_N_ELEMENTS(relist_at_sec)
                                              ? relist_at_sec[n] - relist_at_sec[n - 1]
                                              : RELIST_EVERY_SEC);
        return 0;
}

/* --- Verbs --- */

static Link *on_verbs_link(void *owner) {
        return self_link(owner);
}

static void on_verbs_look(void *owner, const char *uuid, void *waiter) {
        Libvirt *self = owner;

        looks_want(self->looks, uuid, waiter);
}

static const char *on_verbs_name(void *owner, const char *uuid) {
        return domain_name(owner, uuid);
}

static const VerbsOps verbs_ops = {
        .link = on_verbs_link,
        .name = on_verbs_name,
        .look = on_verbs_look,
};

/* --- The connection --- */

static void on_connected(void *owner) {
        Libvirt *self = owner;

        self->list_retry_sec = RETRY_MIN_SEC;
        self->n_relists = 0;
        timer_arm(self->relist_timer, relist_at_sec[0]);
        answer_await(self);
        self->events->connection_changed(self->userdata);
        looks_want_list(self->looks);
}

static void on_lost(void *owner) {
        Libvirt *self = owner;

        timer_disarm(self->relist_timer);
        timer_disarm(self->list_retry_timer);
        answer_came(self, false);
        networks_take(self, NULL);
        /* Core hears of it before the verbs fail. */
        self->events->connection_changed(self->userdata);
        verbs_lost(self->verbs);
        looks_reset(self->looks);
}

/* An attempt that is still under way is only overdue. */
static void on_unreachable(void *owner) {
        Libvirt *self = owner;

        answer_came(self, connector_is_asking(self->connector));
        self->events->unreachable(self->userdata);
}

static void on_domain_changed(void *owner, const char *uuid) {
        Libvirt *self = owner;

        looks_want(self->looks, uuid, NULL);
}

/* They are listed together with the domains. */
static void on_networks_changed(void *owner) {
        Libvirt *self = owner;

        looks_want_list(self->looks);
}

static const ConnectorOps connector_ops = {
        .connected = on_connected,
        .lost = on_lost,
        .unreachable = on_unreachable,
        .domain_changed = on_domain_changed,
        .networks_changed = on_networks_changed,
};

/* --- The seam --- */

static void op_facts(void *seam, HypervisorFacts *ret) {
        Libvirt *self = seam;
        const ConnectionFacts *facts = self_link(self) ? link_facts(self_link(self)) : NULL;

        *ret = (HypervisorFacts){
                .tried = connector_has_tried(self->connector),
                .connected = facts,
                .awaited = self->awaited,
                .silent = self->silent,
                .elsewhere = facts && !facts->on_this_host && !facts->test,
                .uri = self->uri,
                .version = facts ? facts->version : "",
                .kvm = facts && facts->kvm,
                .uefi = facts && facts->uefi,
                .qemu_uid = facts ? facts->qemu_uid : 0,
                .apparmor = facts && facts->apparmor,
                .networks = (const char *const *)self->networks,
                .networks_unknown = self->networks_unknown,
        };
}

static void op_define(void *seam, const DomainSpec *spec, HypervisorDone done, void *userdata) {
        Libvirt *self = seam;

        verbs_define(self->verbs, spec, done, userdata);
}

static void op_act(void *seam, HypervisorVerb verb, const char *uuid, HypervisorDone done,
                   void *userdata) {
        Libvirt *self = seam;

        verbs_act(self->verbs, verb, uuid, done, userdata);
}

static void op_attach(void *seam, const char *uuid, const DeviceRequest *device,
                      HypervisorDone done, void *userdata) {
        Libvirt *self = seam;

        verbs_attach(self->verbs, uuid, device, done, userdata);
}

static void op_detach(void *seam, const char *uuid, DeviceKind kind, const char *id,
                      HypervisorDone done, void *userdata) {
        Libvirt *self = seam;

        verbs_detach(self->verbs, uuid, kind, id, done, userdata);
}

static void op_get_xml(void *seam, const char *uuid, HypervisorXML done, void *userdata) {
        Libvirt *self = seam;

        verbs_get_xml(self->verbs, uuid, done, userdata);
}

/* Who asked for a stream while its terminal is being opened. */
typedef struct StreamWanted {
        Libvirt *libvirt;
        char uuid[37];
        uid_t owner;
        HypervisorConsole done;
        void *userdata;
} StreamWanted;

/* @terminal is taken. */
static void stream_give(const StreamWanted *wanted, int terminal) {
        const char *name = domain_name(wanted->libvirt, wanted->uuid);
        g_autoptr(Refusal) refusal = NULL;
        int fd = -1, r = consoles_open(wanted->libvirt->consoles, wanted->uuid, wanted->owner,
                                       terminal, &fd);

        if (r == -EDQUOT)
                refusal = refusal_new(REFUSAL_LIMITS_EXCEEDED, name, "Close some of them first.",
                                      "You have %d consoles open, which is the most that one user "
                                      "may have.",
                                      CONSOLES_PER_OWNER);
        else if (r < 0)
                refusal = refusal_new(REFUSAL_HYPERVISOR_FAILED, name,
                                      "See whether the machine still runs, and ask again.",
                                      "The console of machine %s could not be opened: %s", name,
                                      g_strerror(-r));
        wanted->done(wanted->userdata, fd, refusal);
}

static void on_terminal_opened(void *userdata, int terminal, const Refusal *refusal) {
        g_autofree StreamWanted *wanted = userdata;

        if (refusal)
                wanted->done(wanted->userdata, -1, refusal);
        else
                stream_give(wanted, terminal);
}

static void op_open_console(void *seam, const char *uuid, const char *terminal, uid_t owner,
                            HypervisorConsole done, void *userdata) {
        StreamWanted *wanted = g_new(StreamWanted, 1);
        Libvirt *self = seam;

        *wanted = (StreamWanted){
                .libvirt = self, .owner = owner, .done = done, .userdata = userdata
        };
        (void)g_strlcpy(wanted->uuid, uuid, sizeof(wanted->uuid));
        /* Also where it is open already: whether the machine is still ours is asked each time. */
        verbs_open_console(self->verbs, uuid, terminal ?: "", on_terminal_opened, wanted, g_free);
}

static void op_look(void *seam, const char *uuid) {
        Libvirt *self = seam;

        if (self_link(self))
                looks_want(self->looks, uuid, NULL);
        else
                connector_ask(self->connector); /* a connection begins with a listing */
}

static void op_reach(void *seam) {
        Libvirt *self = seam;

        if (self_link(self) || self->silent)
                return;
        answer_await(self);
        connector_ask(self->connector);
}

static const HypervisorOps ops = {
        .facts = op_facts,
        .reach = op_reach,
        .define = op_define,
        .act = op_act,
        .attach = op_attach,
        .detach = op_detach,
        .get_xml = op_get_xml,
        .open_console = op_open_console,
        .look = op_look,
};

Hypervisor libvirt_seam(Libvirt *self) {
        return (Hypervisor){ .ops = &ops, .self = self };
}

/* --- Beginning and end --- */

int libvirt_new(sd_event *event, const char *uri, Libvirt **ret) {
        g_autoptr(Libvirt) self = g_new0(Libvirt, 1);
        int r;

        /* libxml2 wants to be set up before there are threads. */
        xmlInitParser();
        self->event = sd_event_ref(event);
        self->uri = g_strdup(uri);
        self->list_retry_sec = RETRY_MIN_SEC;
        self->looks = looks_new(&looks_ops, self);
        self->names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        self->consoles = consoles_new(event);
        self->networks = g_new0(char *, 1);
        self->lookers = g_thread_pool_new(look_run, NULL, LOOKS_AT_ONCE, FALSE, NULL);
        r = main_queue_new(event, self, &self->queue);
        if (r >= 0)
                self->verbs = verbs_new(self->queue, &verbs_ops, self);
        if (r >= 0)
                r = connector_new(event, self->queue, self->uri, &connector_ops, self,
                                  &self->connector);
        if (r >= 0)
                r = timer_new(event, on_relist, self, "libvirt-relist", &self->relist_timer);
        if (r >= 0)
                r = timer_new(event, on_list_retry, self, "libvirt-list-retry",
                              &self->list_retry_timer);
        if (r >= 0)
                r = timer_new(event, on_impatient, self, "libvirt-answer", &self->patience);
        if (r < 0)
                return r;
        *ret = g_steal_pointer(&self);
        return 0;
}

int libvirt_begin(Libvirt *self, const HypervisorEvents *events, void *userdata) {
        self->events = events;
        self->userdata = userdata;
        answer_await(self);
        return connector_begin(self->connector);
}

void libvirt_free(Libvirt *self) {
        if (!self)
                return;
        /* No thread is joined, as one may be in a call that never returns. What such a thread holds
         * - its job, the queue, the connection - it frees itself when it does, or the process's end
         * frees it. Jobs that no thread has begun will see that the queue is closed. */
        if (self->queue)
                main_queue_close(self->queue);
        verbs_free(self->verbs);
        g_thread_pool_free(self->lookers, FALSE, FALSE);
        sd_event_source_disable_unref(self->relist_timer);
        sd_event_source_disable_unref(self->list_retry_timer);
        sd_event_source_disable_unref(self->patience);
        looks_free(self->looks);
        g_hash_table_unref(self->names);
        consoles_free(self->consoles);
        g_strfreev(self->networks);
        connector_free(self->connector);
        main_queue_unref(self->queue);
        sd_event_unref(self->event);
        g_free(self->uri);
        g_free(self);
}
