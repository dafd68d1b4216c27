/* Whether a domain is still the machine that somebody means: its owner may have taken our element
 * out of it, or renamed it, since it was last looked at. */
#pragma once

#include "core/refusal.h"
#include "hypervisor/link.h"

struct _virDomain;

/* Blocks. NULL when @domain is ours, in each of its descriptions, and called @name; else a refusal
 * that says what was not done: @doing, as in "start machine". @name: what it was called when it was
 * last seen, or its UUID where it never was. */
Refusal *domain_refuse_unless_ours(Line *line, struct _virDomain *domain, const char *doing,
                                   const char *name);
