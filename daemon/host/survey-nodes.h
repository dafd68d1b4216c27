/* The device nodes of a card. Part of the survey helper: reading them can block. */
#pragma once

#include "core/pci-address.h"

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

typedef enum NodeUse {
        NODE_OWN,    /* whoever has it open has the card */
        NODE_SHARED, /* it is the driver's, for all of its cards: nobody knows which of them are
                        used */
        NODE_KFD,    /* likewise, but for what survey-kfd.h knows */
        NODE_OTHERS, /* of another card with the same driver */
} NodeUse;

typedef struct Node {
        NodeUse use;
        dev_t number;
        bool block;
        char *path;   /* as the host names it, /dev/... */
        char *folder; /* where sysfs has it; NULL when it was found by its name in /dev */
} Node;

/* Every node of @functions (PciAddress) and of what hangs on them, and the block devices that are
 * made of those (RAID, LVM, encryption); and the nodes that their drivers have besides. 0 and a new
 * array that owns its Nodes, or a negative errno. */
int nodes_survey(const GArray *functions, GArray **ret);

/* The block device with this number, its partitions, the disk that it is a partition of, and the
 * block devices that are made of those. 0 and a new array, likewise, or a negative errno. */
int nodes_survey_block(dev_t number, GArray **ret);

/* The node with this number and kind among @nodes, lent; NULL when there is none. */
const Node *nodes_find(const GArray *nodes, dev_t number, bool block);

/* The nodes among @nodes of the block devices made of @node, lent, in a new array. 0 or a negative
 * errno. */
int nodes_made_of(const GArray *nodes, const Node *node, GPtrArray **ret);
