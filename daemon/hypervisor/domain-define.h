/* Making a domain, and what has to be there beside it. All of it blocks: for worker threads. */
#pragma once

#include "core/hypervisor.h"
#include "hypervisor/link.h"

/* Defines the domain @xml, whose name and UUID are given as well, and puts its Ignition text,
 * unless NULL, where @xml says that it is. Returns NULL when done, or why not (refusal_free()):
 * MachineExists, HypervisorUnavailable, HypervisorFailed; nothing is left behind then. */
Refusal *domain_define(Link *link, const char *name, const char *uuid, const char *xml,
                       const char *ignition);

/* Removes what lies beside the domain with @uuid, which is no more. */
void domain_forget(Line *line, const char *uuid);

/* Removes what was left beside domains that are no more: somebody else has removed them, or a
 * daemon did not live to do it. */
void domain_forget_others(Link *link);
