/* The record of one machine of ours. Fields are written by the manager alone; everybody else reads.
 */
#pragma once

#include "core/hypervisor.h"
#include "machine-state.h"

typedef struct Launch Launch;

typedef enum MachineChange {
        MACHINE_CHANGED_STATE = 1 << 0,  /* State and StateReason */
        MACHINE_CHANGED_LEADER = 1 << 1, /* LeaderPID */
        MACHINE_CHANGED_FACTS = 1 << 2,  /* VCPUs, MemoryMiB, Autostart */
        MACHINE_CHANGED_GPUS = 1 << 3,   /* GPUs */
        MACHINE_CHANGED_REASON = 1 << 4, /* StateReason alone */
} MachineChange;

typedef struct Machine {
        char *name;
        char uuid[37];
        MachineState state;
        char *state_reason; /* "" while there is nothing to say */
        GArray *gpus;       /* PciAddress, as Create was asked */
        GArray *present;    /* PciAddress: those of them that there are, without a card that has
                             * come in the place of one that the running machine has lost */
        uint32_t vcpus;
        uint64_t memory_mib;
        bool autostart;
        pid_t leader; /* QEMU, 0 = none */

        bool stop_asked; /* by Shutdown, PowerOff or Delete: it is stopping until it is off */
        Launch *launch;  /* weak: what is under way with it, NULL = nothing */
} Machine;

Machine *machine_new(const char *name, const char *uuid);
void machine_free(Machine *machine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Machine, machine_free)
