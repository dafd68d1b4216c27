/* The main thread's side of libvirt: sends what may block to worker threads, and hands their
 * results to core in an order that makes sense. It knows no libvirt.h itself: what is said to
 * libvirt, link.c, domain-look.c and domain-verb.c say, in the workers; how to stay connected,
 * connector.c.
 *
 * Nothing is believed because an event said so. An event means "look again at this domain", a new
 * connection "look at everything". */
#include "hypervisor/libvirt.h"

#include "hypervisor/connector.h"
#include "hypervisor/domain-look.h"
#include "hypervisor/domain-verb.h"
#include "hypervisor/domain-xml.h"
#include "hypervisor/link.h"
#include "hypervisor/looks.h"
#include "hypervisor/main-queue.h"

#include "autoptr-bus.h"

#include <libxml/parser.h>
#include <string.h>
#include <systemd/sd-journal.h>

#define VERBS_AT_ONCE 16
#define LOOKS_AT_ONCE 4

#define RETRY_MIN_SEC 1
#define RETRY_MAX_SEC 30

/* When all domains are listed again, in seconds after the connect. A libvirtd that has just started
 * takes up its running domains one by one, drops those whose QEMU is gone, and sends no event. */
static const unsigned relist_at_sec[] = { 2, 10, 30 };

struct Libvirt {
        sd_event *event;
        char *uri;
        const HypervisorEvents *events;
        void *userdata;

        MainQueue *queue;
        GThreadPool *verbs;
        GPtrArray *verbs_in_flight; /* Verb, weak: the workers' */
        GThreadPool *lookers;
        Looks *looks;

        Connector *connector;

        unsigned n_relists;
        sd_event_source *relist_timer;
        unsigned list_retry_sec;
        sd_event_source *list_retry_timer;
};

/* One verb from its beginning to its answer: in a worker, then until the look that follows. */
typedef struct Verb {
        MainQueue *queue;
        Link *link;
        HypervisorVerb verb;
        char *uuid;
        char *name; /* define only */
        char *xml;  /* define only */
        Refusal *refusal;
        bool answered; /* main thread only; likewise below */
        HypervisorDone done;
        void *userdata;
} Verb;

/* A look at one domain, or at all of them. */
typedef struct Look {
        MainQueue *queue;
        Link *link; /* held until the end: it tells whether the connection is still the same */
        char *uuid; /* NULL: all */
        LookResult result;
        DomainFacts *facts;
        GPtrArray *all;
        char *error;
} Look;

static void verb_free(void *data) {
        Verb *verb = data;

        link_unref(verb->link);
        main_queue_unref(verb->queue);
        g_free(verb->uuid);
        g_free(verb->name);
        g_free(verb->xml);
        refusal_free(verb->refusal);
        g_free(verb);
}

static void look_free(void *data) {
        Look *look = data;

        link_unref(look->link);
        main_queue_unref(look->queue);
        g_free(look->uuid);
        domain_facts_free(look->facts);
        if (look->all)
                g_ptr_array_unref(look->all);
        g_free(look->error);
        g_free(look);
}

/* Arms a timer that goes off once, @seconds from now. */
static void timer_arm(sd_event_source *timer, unsigned seconds) {
        int r = sd_event_source_set_time_relative(timer, (uint64_t)seconds * G_USEC_PER_SEC);

        if (r >= 0)
                r = sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
        if (r < 0)
                sd_journal_print(LOG_ERR, "Could not set a timer: %s", g_strerror(-r));
}

static Link *self_link(Libvirt *self) {
        return connector_link(self->connector);
}

static void timer_disarm(sd_event_source *timer) {
        (void)sd_event_source_set_enabled(timer, SD_EVENT_OFF);
}

static unsigned retry_next(unsigned seconds) {
        return MIN(seconds * 2, RETRY_MAX_SEC);
}

/* --- Verbs --- */

/* Main thread. Takes @verb; @refusal is lent. */
static void verb_answer(Verb *verb, const Refusal *refusal) {
        verb->done(verb->userdata, refusal);
        verb_free(verb);
}

static const char *verb_subject(const Verb *verb) {
        return verb->name ?: verb->uuid;
}

static void verb_answer_lost(Verb *verb) {
        g_autoptr(Refusal) refusal = domain_refuse_lost(verb->verb, verb_subject(verb));

        verb_answer(verb, refusal);
}

/* Main thread: the worker is done, now the domain is looked at. */
static void on_verb_done(void *owner, void *data) {
        Libvirt *self = owner;
        Verb *verb = data;

        (void)g_ptr_array_remove_fast(self->verbs_in_flight, verb);
        g_clear_pointer(&verb->link, link_unref);
        if (verb->answered)
                verb_free(verb);
        else if (verb->refusal && verb->refusal->code == REFUSAL_HYPERVISOR_UNAVAILABLE)
                verb_answer(verb, verb->refusal);
        else if (!self_link(self))
                verb_answer_lost(verb);
        else
                looks_want(self->looks, verb->uuid, verb);
}

/* The connection is lost. A worker can be stuck for as long as a libvirtd is stopped; its caller
 * need not be. The worker keeps the verb and gets no further with it (link_abandon()). */
static void verbs_in_flight_answer(Libvirt *self) {
        g_autoptr(GPtrArray) verbs = g_steal_pointer(&self->verbs_in_flight);

        self->verbs_in_flight = g_ptr_array_new();
        for (unsigned i = 0; i < verbs->len; i++) {
                Verb *verb = g_ptr_array_index(verbs, i);
                g_autoptr(Refusal) refusal = domain_refuse_lost(verb->verb, verb_subject(verb));

                verb->answered = true;
                verb->done(verb->userdata, refusal);
        }
}

/* Main thread, as said by looks: the look after the verb has ended. */
static void on_verb_looked(void *owner, void *waiter, LookOutcome outcome) {
        Verb *verb = waiter;

        switch (outcome) {
        case LOOK_DELIVERED:
                verb_answer(verb, verb->refusal);
                return;
        case LOOK_LOST:
                verb_answer_lost(verb);
                return;
        case LOOK_FAILED:
                if (!verb->refusal)
                        verb->refusal = refusal_new(
                                REFUSAL_HYPERVISOR_FAILED, verb_subject(verb),
                                "Look at the machine again in a moment.",
                                "libvirt did what it was asked, but does not tell what became of "
                                "machine %s.",
                                verb_subject(verb));
                verb_answer(verb, verb->refusal);
                return;
        }
}

/* Worker. */
static void verb_run(void *data, void *pool_data) {
        Verb *verb = data;

        if (main_queue_is_closed(verb->queue)) {
                verb_free(verb);
                return;
        }
        if (verb->verb == HYPERVISOR_DEFINE)
                verb->refusal = domain_define(verb->link, verb->name, verb->uuid, verb->xml);
        else
                verb->refusal = domain_act(verb->link, verb->verb, verb->uuid);
        main_queue_post(verb->queue, on_verb_done, verb, verb_free);
}

/* Takes @verb. What stands in the way already is answered the same way as what comes from a worker:
 * later. */
static void verb_begin(Libvirt *self, Verb *verb) {
        if (!self_link(self))
                verb->refusal = domain_refuse_unavailable(verb_subject(verb));
        if (verb->refusal) {
                main_queue_post(self->queue, on_verb_done, verb, verb_free);
                return;
        }
        verb->link = link_ref(self_link(self));
        g_ptr_array_add(self->verbs_in_flight, verb);
        g_thread_pool_push(self->verbs, verb, NULL);
}

static Verb *verb_new(Libvirt *self, HypervisorVerb kind, const char *uuid, HypervisorDone done,
                      void *userdata) {
        Verb *verb = g_new0(Verb, 1);

        verb->queue = main_queue_ref(self->queue);
        verb->verb = kind;
        verb->uuid = g_ascii_strdown(uuid, -1);
        verb->done = done;
        verb->userdata = userdata;
        return verb;
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

static const LooksOps looks_ops = {
        .start_look = on_start_look,
        .start_list = on_start_list,
        .answer = on_verb_looked,
        .drop = verb_free,
};

/* A look that failed is made good by a listing, later and later while that fails too. */
static void look_failed(Libvirt *self, const Look *look) {
        sd_journal_print(LOG_WARNING, "Could not look at %s%s: %s",
                         look->uuid ? "domain " : "the domains", look->uuid ?: "", look->error);
        timer_arm(self->list_retry_timer, self->list_retry_sec);
        self->list_retry_sec = retry_next(self->list_retry_sec);
}

static void on_listed(Libvirt *self, const Look *look) {
        if (look->all) {
                self->list_retry_sec = RETRY_MIN_SEC;
                self->events->domains_listed(self->userdata, look->all);
        } else
                look_failed(self, look);
        looks_listed(self->looks);
}

static void on_domain_looked(Libvirt *self, const Look *look) {
        LookOutcome outcome = LOOK_DELIVERED;

        switch (look->result) {
        case LOOK_RESULT_SEEN:
                self->events->domain_seen(self->userdata, look->facts);
                break;
        case LOOK_RESULT_GONE:
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
        else
                look->all = domain_look_all(look->link, &look->error);
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
        unsigned now = relist_at_sec[self->n_relists++];

        if (self_link(self))
                looks_want_list(self->looks);
        if (self->n_relists < G_N_ELEMENTS(relist_at_sec))
                timer_arm(self->relist_timer, relist_at_sec[self->n_relists] - now);
        return 0;
}

/* --- The connection --- */

static void on_connected(void *owner) {
        Libvirt *self = owner;

        self->list_retry_sec = RETRY_MIN_SEC;
        self->n_relists = 0;
        timer_arm(self->relist_timer, relist_at_sec[0]);
        self->events->connection_changed(self->userdata);
        looks_want_list(self->looks);
}

static void on_lost(void *owner) {
        Libvirt *self = owner;

        timer_disarm(self->relist_timer);
        timer_disarm(self->list_retry_timer);
        /* Core hears of it before the verbs fail. */
        self->events->connection_changed(self->userdata);
        verbs_in_flight_answer(self);
        looks_reset(self->looks);
}

static void on_domain_changed(void *owner, const char *uuid) {
        Libvirt *self = owner;

        looks_want(self->looks, uuid, NULL);
}

static const ConnectorOps connector_ops = {
        .connected = on_connected,
        .lost = on_lost,
        .domain_changed = on_domain_changed,
};

/* --- The seam --- */

static void op_facts(void *seam, HypervisorFacts *ret) {
        Libvirt *self = seam;
        const LinkFacts *facts = self_link(self) ? link_facts(self_link(self)) : NULL;

        *ret = (HypervisorFacts){
                .tried = connector_has_tried(self->connector),
                .connected = facts,
                .uri = self->uri,
                .version = facts ? facts->version : "",
                .kvm = facts && facts->kvm,
                .uefi = facts && facts->uefi,
        };
}

static void op_define(void *seam, const DomainSpec *spec, HypervisorDone done, void *userdata) {
        Libvirt *self = seam;
        Verb *verb = verb_new(self, HYPERVISOR_DEFINE, spec->uuid, done, userdata);
        const char *type = self_link(self) && link_facts(self_link(self))->test ? "test" : NULL;
        int r = domain_xml_write(spec, type, &verb->xml);

        verb->name = g_strdup(spec->request->name);
        if (r < 0)
                verb->refusal =
                        refusal_new(REFUSAL_HYPERVISOR_FAILED, verb->name,
                                    "Leave control characters out of paths and the kernel's "
                                    "command line, and write them in UTF-8.",
                                    "Machine %s cannot be described to libvirt: %s", verb->name,
                                    g_strerror(-r));
        verb_begin(self, verb);
}

static void op_act(void *seam, HypervisorVerb kind, const char *uuid, HypervisorDone done,
                   void *userdata) {
        Libvirt *self = seam;

        verb_begin(self, verb_new(self, kind, uuid, done, userdata));
}

static void op_look(void *seam, const char *uuid) {
        Libvirt *self = seam;

        /* Without a connection there is nothing to look at; the next one begins with a listing. */
        if (self_link(self))
                looks_want(self->looks, uuid, NULL);
}

static const HypervisorOps ops = {
        .facts = op_facts,
        .define = op_define,
        .act = op_act,
        .look = op_look,
};

Hypervisor libvirt_seam(Libvirt *self) {
        return (Hypervisor){ .ops = &ops, .self = self };
}

/* --- Beginning and end --- */

static int timer_new(Libvirt *self, sd_event_time_handler_t handler, const char *description,
                     sd_event_source **ret) {
        int r = sd_event_add_time(self->event, ret, CLOCK_MONOTONIC, 0, 0, handler, self);

        if (r < 0)
                return r;
        (void)sd_event_source_set_description(*ret, description);
        return sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

int libvirt_new(sd_event *event, const char *uri, Libvirt **ret) {
        g_autoptr(Libvirt) self = g_new0(Libvirt, 1);
        int r;

        /* libxml2 wants to be set up before there are threads. */
        xmlInitParser();
        self->event = sd_event_ref(event);
        self->uri = g_strdup(uri);
        self->list_retry_sec = RETRY_MIN_SEC;
        self->looks = looks_new(&looks_ops, self);
        self->verbs = g_thread_pool_new(verb_run, NULL, VERBS_AT_ONCE, FALSE, NULL);
        self->verbs_in_flight = g_ptr_array_new();
        self->lookers = g_thread_pool_new(look_run, NULL, LOOKS_AT_ONCE, FALSE, NULL);
        r = main_queue_new(event, self, &self->queue);
        if (r >= 0)
                r = connector_new(event, self->queue, self->uri, &connector_ops, self,
                                  &self->connector);
        if (r >= 0)
                r = timer_new(self, on_relist, "libvirt-relist", &self->relist_timer);
        if (r >= 0)
                r = timer_new(self, on_list_retry, "libvirt-list-retry", &self->list_retry_timer);
        if (r < 0)
                return r;
        *ret = g_steal_pointer(&self);
        return 0;
}

int libvirt_begin(Libvirt *self, const HypervisorEvents *events, void *userdata) {
        self->events = events;
        self->userdata = userdata;
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
        g_thread_pool_free(self->verbs, FALSE, FALSE);
        g_thread_pool_free(self->lookers, FALSE, FALSE);
        sd_event_source_disable_unref(self->relist_timer);
        sd_event_source_disable_unref(self->list_retry_timer);
        looks_free(self->looks);
        g_ptr_array_unref(self->verbs_in_flight);
        connector_free(self->connector);
        main_queue_unref(self->queue);
        sd_event_unref(self->event);
        g_free(self->uri);
        g_free(self);
}
