/* Which processes have a card open. Part of the survey helper: all of this can block. */
#pragma once

#include "core/host.h"

/* The processes that have a device node of one of @functions (PciAddress) open or mapped, one entry
 * for each process and node, but for this process and its parent. A new array that owns its
 * Holders. */
GPtrArray *holders_survey(const GArray *functions);
