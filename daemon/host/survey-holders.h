/* Who holds a card. Part of the survey helper: all of this can block. */
#pragma once

#include "core/host.h"

/* What holds a device node of one of @functions (PciAddress): the processes that have it open or
 * mapped, one entry for each process and node, but for this process and its parent; and what the
 * kernel does with a block device: mounts, swap, devices made of it. Users are left numbers. A new
 * array that owns its Holders. */
GPtrArray *holders_survey(const GArray *functions);

/* Adds to @holders (Holder) the areas among @nodes (Node) that the host swaps to. */
void holders_survey_swaps(const GArray *nodes, GPtrArray *holders);
