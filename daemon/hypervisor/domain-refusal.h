/* The sentences in which libvirt's refusals are passed on. */
#pragma once

#include "core/hypervisor.h"
#include "hypervisor/link.h"

/* What is being done to a machine, to stand before its name: "start machine", "attach disk data to
 * machine". Of a verb; constant. */
const char *domain_verb_doing(HypervisorVerb verb);

/* What to answer when there is no connection; when it was lost before it was done, so that nobody
 * knows what became of it; and when there is no domain with that UUID. */
Refusal *domain_refuse_unavailable(const char *subject);
Refusal *domain_refuse_lost(const char *doing, const char *name);
Refusal *domain_refuse_missing(const char *uuid);

/* libvirt's @words in one line. Of a QEMU that did not start they hold all that it printed: its
 * warnings and times are left out, for what it died of comes after them. The caller's to free. */
char *domain_clear_words(const char *words);

/* Turns the error that libvirt left in this thread into a refusal. @line is NULL where there was
 * none to be had. */
Refusal *domain_refuse_by_libvirt(Line *line, const char *doing, const char *name);
