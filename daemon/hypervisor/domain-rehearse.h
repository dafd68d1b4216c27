/* Whether a machine could be started, tried without starting it. All of it blocks: for worker
 * threads. */
#pragma once

#include "core/refusal.h"
#include "hypervisor/link.h"

struct _virDomain;

/* Has libvirt make QEMU's command line of what @domain, called @name, is defined as, and looks at
 * the files beside its disks that a start opens; makes the folder for its console's log. NULL:
 * nothing known stands in the way; else why it would not start (refusal_free()): InvalidState,
 * HypervisorUnavailable, HypervisorFailed. */
Refusal *domain_rehearse(Line *line, struct _virDomain *domain, const char *name);

/* The domain @xml with no more than what can be tried: a new string (g_free()), NULL when it is no
 * libvirt domain. */
char *domain_xml_for_rehearsal(const char *xml);
