/* The device nodes of a card. Part of the survey helper: reading them can block. */
#pragma once

#include "core/pci-address.h"

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct Node {
        dev_t number;
        bool block;
        char *path;   /* as the host names it, /dev/... */
        char *folder; /* where sysfs has it; NULL when it was found by its name in /dev */
} Node;

/* Every node of @functions (PciAddress) and of what hangs on them, and the block devices that are
 * made of those (RAID, LVM, encryption). A new array that owns its Nodes. */
GArray *nodes_survey(const GArray *functions);

/* The block device with this number, its partitions, the disk that it is a partition of, and the
 * block devices that are made of those. A new array, likewise. */
GArray *nodes_survey_block(dev_t number);

/* The node with this number and kind among @nodes, lent; NULL when there is none. */
const Node *nodes_find(const GArray *nodes, dev_t number, bool block);

/* The nodes among @nodes of the block devices made of @node, lent, in a new array. */
GPtrArray *nodes_made_of(const GArray *nodes, const Node *node);
