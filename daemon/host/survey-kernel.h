/* What the kernel itself does with a card. Part of the survey helper. */
#pragma once

#include "core/host.h"

/* Adds to @holders (Holder) what the kernel does with the block devices among @nodes (Node):
 * devices made of them, and swap. And what it does with @functions (PciAddress) that needs no node:
 * network interfaces that are up, mediated devices, the text console, modules that hold a driver's
 * card. 0 or a negative errno. */
int kernel_survey(const GArray *functions, const GArray *nodes, GPtrArray *holders);

/* Adds to @holders (Holder) the members of mounted file systems among @nodes (Node): of several
 * devices the mount tables name one. 0 or a negative errno. */
int kernel_survey_members(const GArray *nodes, GPtrArray *holders);

/* Adds to @holders (Holder) the areas among @nodes (Node) that the host swaps to. 0 or a negative
 * errno. */
int kernel_survey_swaps(const GArray *nodes, GPtrArray *holders);
