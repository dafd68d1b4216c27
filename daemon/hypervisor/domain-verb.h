/* What is done to domains. All of it blocks: for worker threads. */
#pragma once

#include "core/hypervisor.h"
#include "hypervisor/link.h"

/* Defines the domain @xml, whose name and UUID are given as well. Returns NULL when done, or why
 * not (refusal_free()): MachineExists, HypervisorUnavailable, HypervisorFailed. */
Refusal *domain_define(Link *link, const char *name, const char *uuid, const char *xml);

/* Any other verb, on the domain with @uuid. Returns NULL when done, or NoSuchMachine,
 * HypervisorUnavailable, HypervisorFailed. */
Refusal *domain_act(Link *link, HypervisorVerb verb, const char *uuid);

/* What to answer when there is no connection, or none any more. */
Refusal *domain_refuse_unavailable(const char *subject);

/* The same when it was lost before the verb was done: what became of it, nobody knows. */
Refusal *domain_refuse_lost(HypervisorVerb verb, const char *name);
