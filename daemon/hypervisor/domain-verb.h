/* What is done to domains as a whole. All of it blocks: for worker threads. */
#pragma once

#include "core/hypervisor.h"
#include "hypervisor/link.h"

/* Any verb but define, on the domain with @uuid, which must be ours and called @name (its UUID: not
 * known). Returns NULL when done, or why not (refusal_free()): NoSuchMachine, InvalidState,
 * HypervisorUnavailable, HypervisorFailed. */
Refusal *domain_act(Link *link, HypervisorVerb verb, const char *uuid, const char *name);
