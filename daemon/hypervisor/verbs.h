/* What core asks of domains, from the question to the answer: sent to a worker thread, and where it
 * may have changed something, answered only after the look at the domain that follows. Main thread.
 */
#pragma once

#include "core/hypervisor.h"
#include "hypervisor/link.h"
#include "hypervisor/looks.h"
#include "hypervisor/main-queue.h"

typedef struct Verbs Verbs;

typedef struct VerbsOps {
        /* The link as it is now, lent; NULL while there is none. */
        Link *(*link)(void *self);
        /* What the domain is called, lent; @uuid where that is not known. */
        const char *(*name)(void *self, const char *uuid);
        /* Look at the domain; verbs_looked() with this @waiter must follow, or verbs_drop(). */
        void (*look)(void *self, const char *uuid, void *waiter);
} VerbsOps;

/* The terminal is the receiver's; -1 together with a refusal, which is lent. */
typedef void (*VerbsTerminal)(void *userdata, int terminal, const Refusal *refusal);

/* @queue, @ops and @self must outlive it; @queue must be closed before it is freed. */
Verbs *verbs_new(MainQueue *queue, const VerbsOps *ops, void *self);
/* Joins no thread: what is under way is dropped when it ends. */
void verbs_free(Verbs *verbs);

/* As HypervisorOps has them; none calls back from within. */
void verbs_define(Verbs *verbs, const DomainSpec *spec, HypervisorDone done, void *userdata);
void verbs_act(Verbs *verbs, HypervisorVerb verb, const char *uuid, HypervisorDone done,
               void *userdata);
void verbs_attach(Verbs *verbs, const char *uuid, const DeviceRequest *device, HypervisorDone done,
                  void *userdata);
void verbs_detach(Verbs *verbs, const char *uuid, DeviceKind kind, const char *id,
                  HypervisorDone done, void *userdata);
void verbs_get_xml(Verbs *verbs, const char *uuid, HypervisorXML done, void *userdata);

/* Opens the console of the domain, see domain_open_console(). @free_userdata is for when it is
 * never answered. */
void verbs_open_console(Verbs *verbs, const char *uuid, const char *terminal, VerbsTerminal done,
                        void *userdata, GDestroyNotify free_userdata);

/* The look that @waiter asked for has ended; or it never will. */
void verbs_looked(Verbs *verbs, void *waiter, LookOutcome outcome);
void verbs_drop(void *waiter);

/* The connection is lost: answers what the workers have in hand. */
void verbs_lost(Verbs *verbs);
