/* Each question is a Verb: filled on the main thread, carried out by a worker, answered on the main
 * thread again. What is said to libvirt, the workers' functions know; here is only who may wait for
 * whom. */
#include "hypervisor/verbs.h"

#include "hypervisor/domain-define.h"
#include "hypervisor/domain-device.h"
#include "hypervisor/domain-refusal.h"
#include "hypervisor/domain-verb.h"
#include "hypervisor/domain-xml.h"

#include <string.h>
#include <unistd.h>

#define AT_ONCE 16

struct Verbs {
        MainQueue *queue;
        const VerbsOps *ops;
        void *self;
        GThreadPool *workers;
        GThreadPool *waiters; /* for what waits for a guest, and must keep nobody else waiting */
        GPtrArray *in_flight; /* Verb, weak: the workers' */
};

typedef struct Verb Verb;

struct Verb {
        Verbs *verbs; /* weak; main thread only */
        MainQueue *queue;
        Link *link;

        void (*run)(Verb *verb); /* in a worker */
        bool looks;              /* the domain is looked at before the answer */
        char *doing;             /* "start machine", for messages */
        HypervisorVerb verb;
        char *uuid;
        char *name;            /* the UUID where it is not known */
        char *xml;             /* what to define; what get_xml found */
        char *ignition;        /* define only */
        DeviceRequest *device; /* attach; for detach its kind and id alone */
        char *terminal;        /* console only */
        int fd;                /* likewise: the terminal, open */
        Refusal *refusal;

        bool answered; /* main thread only; likewise below */
        HypervisorDone done;
        HypervisorXML done_xml;
        VerbsTerminal done_terminal;
        void *userdata;
        GDestroyNotify free_userdata; /* NULL when it was answered */
};

static void verb_free(void *data) {
        Verb *verb = data;

        if (verb->free_userdata)
                verb->free_userdata(verb->userdata);
        link_unref(verb->link);
        main_queue_unref(verb->queue);
        g_free(verb->doing);
        g_free(verb->uuid);
        g_free(verb->name);
        g_free(verb->xml);
        if (verb->ignition)
                explicit_bzero(verb->ignition, strlen(verb->ignition));
        g_free(verb->ignition);
        device_request_free(verb->device);
        g_free(verb->terminal);
        if (verb->fd >= 0)
                close(verb->fd);
        refusal_free(verb->refusal);
        g_free(verb);
}

/* Main thread. @refusal is lent. */
static void verb_tell(Verb *verb, const Refusal *refusal) {
        int fd = refusal ? -1 : verb->fd;

        verb->answered = true;
        verb->free_userdata = NULL;
        if (verb->done_xml)
                verb->done_xml(verb->userdata, refusal ? NULL : verb->xml, refusal);
        else if (verb->done_terminal) {
                if (!refusal)
                        verb->fd = -1;
                verb->done_terminal(verb->userdata, fd, refusal);
        } else
                verb->done(verb->userdata, refusal);
}

/* Main thread. Takes @verb; @refusal is lent. */
static void verb_answer(Verb *verb, const Refusal *refusal) {
        verb_tell(verb, refusal);
        verb_free(verb);
}

static void verb_answer_lost(Verb *verb) {
        g_autoptr(Refusal) refusal = domain_refuse_lost(verb->doing, verb->name);

        verb_answer(verb, refusal);
}

/* Main thread: the worker is done, now the domain is looked at. */
static void on_verb_done(void *owner, void *data) {
        Verb *verb = data;
        Verbs *self = verb->verbs;

        (void)g_ptr_array_remove_fast(self->in_flight, verb);
        g_clear_pointer(&verb->link, link_unref);
        if (verb->answered)
                verb_free(verb);
        else if (verb->refusal && verb->refusal->code == REFUSAL_HYPERVISOR_UNAVAILABLE)
                verb_answer(verb, verb->refusal);
        else if (!self->ops->link(self->self))
                verb_answer_lost(verb);
        else if (verb->looks)
                self->ops->look(self->self, verb->uuid, verb);
        else
                verb_answer(verb, verb->refusal);
}

/* A worker can be stuck for as long as a libvirtd is stopped; its caller need not be. The worker
 * keeps the verb and gets no further with it (link_abandon()). */
void verbs_lost(Verbs *self) {
        g_autoptr(GPtrArray) verbs = g_steal_pointer(&self->in_flight);

        self->in_flight = g_ptr_array_new();
        for (unsigned i = 0; i < verbs->len; i++) {
                Verb *verb = g_ptr_array_index(verbs, i);
                g_autoptr(Refusal) refusal = domain_refuse_lost(verb->doing, verb->name);

                verb_tell(verb, refusal);
        }
}

void verbs_looked(Verbs *self, void *waiter, LookOutcome outcome) {
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
                                REFUSAL_HYPERVISOR_FAILED, verb->name,
                                "Look at the machine again in a moment.",
                                "libvirt did what it was asked, but does not tell what became of "
                                "machine %s.",
                                verb->name);
                verb_answer(verb, verb->refusal);
                return;
        }
}

void verbs_drop(void *waiter) {
        verb_free(waiter);
}

/* --- Workers --- */

static void run_define(Verb *verb) {
        verb->refusal =
                domain_define(verb->link, verb->name, verb->uuid, verb->xml, verb->ignition);
}

static void run_act(Verb *verb) {
        verb->refusal = domain_act(verb->link, verb->verb, verb->uuid, verb->name);
}

static void run_attach(Verb *verb) {
        verb->refusal = domain_attach(verb->link, verb->uuid, verb->name, verb->device);
}

static void run_detach(Verb *verb) {
        verb->refusal = domain_detach(verb->link, verb->uuid, verb->name, verb->device->kind,
                                      verb->device->id);
}

static void run_get_xml(Verb *verb) {
        verb->refusal = domain_get_xml(verb->link, verb->uuid, verb->name, &verb->xml);
}

static void run_open_console(Verb *verb) {
        verb->refusal =
                domain_open_console(verb->link, verb->uuid, verb->name, verb->terminal, &verb->fd);
}

static void verb_run(void *data, void *pool_data) {
        Verb *verb = data;

        if (main_queue_is_closed(verb->queue)) {
                verb_free(verb);
                return;
        }
        verb->run(verb);
        main_queue_post(verb->queue, on_verb_done, verb, verb_free);
}

/* --- Questions --- */

/* Takes @verb. What stands in the way already is answered the same way as what comes from a worker:
 * later. */
static void verb_begin(Verb *verb) {
        Verbs *self = verb->verbs;
        Link *link = self->ops->link(self->self);

        if (!link) {
                g_clear_pointer(&verb->refusal, refusal_free);
                verb->refusal = domain_refuse_unavailable(verb->name);
        }
        if (verb->refusal) {
                main_queue_post(self->queue, on_verb_done, verb, verb_free);
                return;
        }
        verb->link = link_ref(link);
        g_ptr_array_add(self->in_flight, verb);
        g_thread_pool_push(verb->run == run_detach ? self->waiters : self->workers, verb, NULL);
}

/* @doing is taken. */
static Verb *verb_new(Verbs *self, void (*run)(Verb *), char *doing, const char *uuid,
                      void *userdata) {
        Verb *verb = g_new0(Verb, 1);

        verb->verbs = self;
        verb->queue = main_queue_ref(self->queue);
        verb->run = run;
        verb->looks = true;
        verb->doing = doing;
        verb->uuid = g_ascii_strdown(uuid, -1);
        verb->name = g_strdup(self->ops->name(self->self, verb->uuid));
        verb->fd = -1;
        verb->userdata = userdata;
        return verb;
}

void verbs_define(Verbs *self, const DomainSpec *spec, HypervisorDone done, void *userdata) {
        Verb *verb = verb_new(self, run_define, g_strdup(domain_verb_doing(HYPERVISOR_DEFINE)),
                              spec->uuid, userdata);
        Link *link = self->ops->link(self->self);
        int r = domain_xml_write(spec, link && link_facts(link)->test ? "test" : NULL, &verb->xml);

        verb->done = done;
        g_free(verb->name);
        verb->name = g_strdup(spec->request->name);
        verb->ignition = g_strdup(spec->request->ignition);
        if (r < 0)
                verb->refusal =
                        refusal_new(REFUSAL_HYPERVISOR_FAILED, verb->name,
                                    "Leave control characters out of paths and the kernel's "
                                    "command line, and write them in UTF-8.",
                                    "Machine %s cannot be described to libvirt: %s", verb->name,
                                    g_strerror(-r));
        verb_begin(verb);
}

void verbs_act(Verbs *self, HypervisorVerb kind, const char *uuid, HypervisorDone done,
               void *userdata) {
        Verb *verb = verb_new(self, run_act, g_strdup(domain_verb_doing(kind)), uuid, userdata);

        verb->verb = kind;
        verb->done = done;
        verb_begin(verb);
}

void verbs_attach(Verbs *self, const char *uuid, const DeviceRequest *device, HypervisorDone done,
                  void *userdata) {
        Verb *verb = verb_new(self, run_attach, device_doing(true, device->kind, device->id), uuid,
                              userdata);

        verb->device = device_request_copy(device);
        /* Left to libvirt, the running machine and its definition would get one each. */
        if (device->kind == DEVICE_NIC && !device->mac)
                verb->device->mac =
                        g_strdup_printf("52:54:00:%02x:%02x:%02x", g_random_int_range(0, 256),
                                        g_random_int_range(0, 256), g_random_int_range(0, 256));
        verb->done = done;
        verb_begin(verb);
}

void verbs_detach(Verbs *self, const char *uuid, DeviceKind kind, const char *id,
                  HypervisorDone done, void *userdata) {
        Verb *verb = verb_new(self, run_detach, device_doing(false, kind, id), uuid, userdata);

        verb->device = device_request_new(kind);
        verb->device->id = g_strdup(id);
        verb->done = done;
        verb_begin(verb);
}

void verbs_get_xml(Verbs *self, const char *uuid, HypervisorXML done, void *userdata) {
        Verb *verb =
                verb_new(self, run_get_xml, g_strdup("tell the XML of machine"), uuid, userdata);

        verb->looks = false;
        verb->done_xml = done;
        verb_begin(verb);
}

void verbs_open_console(Verbs *self, const char *uuid, const char *terminal, VerbsTerminal done,
                        void *userdata, GDestroyNotify free_userdata) {
        Verb *verb = verb_new(self, run_open_console, g_strdup("open the console of machine"), uuid,
                              userdata);

        verb->looks = false;
        verb->terminal = g_strdup(terminal);
        verb->done_terminal = done;
        verb->free_userdata = free_userdata;
        verb_begin(verb);
}

/* --- Beginning and end --- */

Verbs *verbs_new(MainQueue *queue, const VerbsOps *ops, void *self) {
        Verbs *verbs = g_new(Verbs, 1);

        *verbs = (Verbs){
                .queue = queue,
                .ops = ops,
                .self = self,
                .workers = g_thread_pool_new(verb_run, NULL, AT_ONCE, FALSE, NULL),
                .waiters = g_thread_pool_new(verb_run, NULL, AT_ONCE, FALSE, NULL),
                .in_flight = g_ptr_array_new(),
        };
        return verbs;
}

void verbs_free(Verbs *self) {
        if (!self)
                return;
        /* Jobs that no thread has begun will see that the queue is closed. */
        g_thread_pool_free(self->workers, FALSE, FALSE);
        g_thread_pool_free(self->waiters, FALSE, FALSE);
        g_ptr_array_unref(self->in_flight);
        g_free(self);
}
