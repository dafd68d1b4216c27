/* The record of one GPU. Fields are written by the manager alone; everybody else reads. */
#pragma once

#include "core/host.h"
#include "gpu-state.h"

typedef struct Launch Launch;

/* What a change of a GPU touched, for PropertiesChanged. */
typedef enum GpuChange {
        GPU_CHANGED_STATE = 1 << 0,
        GPU_CHANGED_PENDING = 1 << 1,
        GPU_CHANGED_FAULT = 1 << 2,
        GPU_CHANGED_FAULT_MESSAGE = 1 << 3,
        GPU_CHANGED_DRIVER = 1 << 4,
        GPU_CHANGED_HOST_DRIVER = 1 << 5,
        GPU_CHANGED_MACHINE = 1 << 6, /* whether it has a path on the bus, and which */
        GPU_CHANGED_MACHINE_NAME = 1 << 7,
        GPU_CHANGED_LINK_SPEED = 1 << 8,
        GPU_CHANGED_LINK_WIDTH = 1 << 9,
        /* Of its facts; ids and address are those of the card, another one is another GPU. */
        GPU_CHANGED_VENDOR = 1 << 10,
        GPU_CHANGED_MODEL = 1 << 11,
        GPU_CHANGED_CLASS = 1 << 12,
        GPU_CHANGED_GROUP = 1 << 13,
        GPU_CHANGED_COMPANIONS = 1 << 14,
        GPU_CHANGED_NUMA_NODE = 1 << 15,
        GPU_CHANGED_BOOT_DISPLAY = 1 << 16,
        GPU_CHANGED_BAR_SIZES = 1 << 17,
        GPU_CHANGED_RESET_METHODS = 1 << 18,
} GpuChange;

/* One function's driver, changed by somebody who is not this service. */
typedef struct GpuDrift {
        PciAddress function;
        char old_driver[64]; /* "" = none; likewise below */
        char driver[64];
} GpuDrift;

/* How far the service is with a card that is kept for machines. */
typedef enum GpuKeep {
        KEEP_DUE,
        KEEP_TAKEN,  /* it was taken to vfio-pci, or is on its way */
        KEEP_WAITS,  /* that was refused, and is tried again by the clock */
        KEEP_FAILED, /* the kernel has refused it: until somebody else has changed something */
        KEEP_LEFT,   /* somebody wants it at the host */
} GpuKeep;

typedef struct Gpu {
        PciAddress address;
        uint64_t instance;  /* tells this card from others that were at the address before */
        DeviceFacts *facts; /* of the last look; never NULL */
        GpuView view;
        char *fault_message;  /* "" without a fault */
        char *host_driver;    /* what it returns to; "" = none or unknown */
        char *machine_name;   /* who has or gets it, foreign domains too; "" = nobody */
        bool machine_is_ours; /* whether that is one of our machines, with a path on the bus */
        char *link_speed;
        unsigned link_width;

        CardRecord *record; /* what to do with the card in the end; NULL = nothing, it is where it
                             * belongs */
        CardRecord
                *written; /* the same as the ledger has it, an earlier one perhaps; NULL = none */
        bool record_unknown; /* what the ledger says of it could not be read: it is not touched */
        bool unread;         /* the last look has failed, and facts is older */
        bool moved_unseen;   /* a helper has ended since facts were read */
        char *keep_told;     /* why that was refused, as the observer was told; NULL = it was not */
        GpuKeep keep;
        Launch *launch;     /* weak: the launch that has reserved it */
        Launch *awaited_by; /* weak: the launch that waits for the helper at this card */

        unsigned untold;     /* GpuChange: changed since the observer was told */
        GpuState told_state; /* what the observer was told last */
} Gpu;

/* Takes @facts. */
Gpu *gpu_new(DeviceFacts *facts);
void gpu_free(Gpu *gpu);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Gpu, gpu_free)
