/* The seam to the outside: what core tells whoever shows it (the bus, the journal). Called from
 * within the manager; an observer reads the records and must not call the manager back. */
#pragma once

#include "core/gpu.h"
#include "core/machine.h"

/* What has changed of the service itself. */
typedef enum ServiceChange {
        SERVICE_CHANGED_VERSION = 1 << 0, /* HypervisorFacts.version */
        SERVICE_CHANGED_STATE = 1 << 1,   /* HypervisorFacts.connected */
        SERVICE_CHANGED_IOMMU = 1 << 2,   /* HostFacts.iommu */
} ServiceChange;

typedef struct Observer {
        void (*gpu_added)(void *userdata, const Gpu *gpu);
        void (*gpu_removed)(void *userdata, const Gpu *gpu);
        /* @changes is a set of GpuChange, never empty. */
        void (*gpu_changed)(void *userdata, const Gpu *gpu, unsigned changes);
        /* After gpu_changed with GPU_CHANGED_STATE; once for every change of State. */
        void (*gpu_state_changed)(void *userdata, const Gpu *gpu, GpuState old, const char *reason);
        /* Somebody else has changed the driver of one function of the card, from @drift->old_driver
         * to @drift->driver; after the changes above, also where they say nothing. */
        void (*gpu_drifted)(void *userdata, const Gpu *gpu, const GpuDrift *drift);

        void (*machine_added)(void *userdata, const Machine *machine);
        void (*machine_removed)(void *userdata, const Machine *machine);
        void (*machine_changed)(void *userdata, const Machine *machine, unsigned changes);
        void (*machine_state_changed)(void *userdata, const Machine *machine, MachineState old,
                                      const char *reason);
        /* A GPU that the running machine had has gone from the bus; after gpu_removed. */
        void (*machine_lost_gpu)(void *userdata, const Machine *machine, PciAddress gpu);

        /* A machine that is to start with the host could not; after its state was told, if it
         * changed. */
        void (*autostart_failed)(void *userdata, const char *name, const Refusal *refusal);

        /* A card that is kept for machines could not be taken to vfio-pci. */
        void (*keep_failed)(void *userdata, PciAddress gpu, const Refusal *refusal);

        /* @changes is a set of ServiceChange, never empty. */
        void (*service_changed)(void *userdata, unsigned changes);
} Observer;
