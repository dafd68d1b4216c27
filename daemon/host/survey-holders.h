/* Who holds a card. Part of the survey helper: all of this can block. */
#pragma once

#include "core/host.h"

/* What holds one of @functions (PciAddress): the processes that have a node of it open or mapped,
 * one entry for each process and node, but for this process and its parent; those of which nobody
 * knows; and what the kernel does with it. Users are left numbers. 0 and a new array that owns its
 * Holders, or a negative errno. */
int holders_survey(const GArray *functions, GPtrArray **ret);
