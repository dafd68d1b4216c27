/* The record of one machine of ours. Fields are written by the manager alone; everybody else reads.
 */
#pragma once

#include "core/hypervisor.h"
#include "machine-state.h"

typedef struct Launch Launch;

typedef enum MachineChange {
        MACHINE_CHANGED_STATE = 1 << 0,
        MACHINE_CHANGED_REASON = 1 << 1, /* StateReason */
        MACHINE_CHANGED_LEADER = 1 << 2, /* LeaderPID */
        MACHINE_CHANGED_VCPUS = 1 << 3,
        MACHINE_CHANGED_MEMORY = 1 << 4, /* MemoryMiB */
        MACHINE_CHANGED_AUTOSTART = 1 << 5,
        MACHINE_CHANGED_GPUS = 1 << 6,
        MACHINE_CHANGED_ADDRESSES = 1 << 7, /* GPUAddresses */
} MachineChange;

typedef struct Machine {
        char *name;
        char uuid[37];
        MachineState state;
        char *state_reason; /* "" while there is nothing to say */
        GArray *gpus;       /* PciAddress, each once: as Create was asked, or as somebody has edited
                             * that in our metadata element since */
        GArray *present;    /* PciAddress: those of them that there are, without a card that has
                             * come in the place of one that the running machine has lost */
        uint32_t vcpus;     /* those that it has now, or would be started with */
        uint64_t memory_mib; /* what it has now, or would be started with: virsh setmem on a machine
                              * with a balloon changes it */
        bool autostart;
        bool autostart_due;   /* the host was booted, and it is to start when its cards are known */
        bool autostart_waits; /* that was refused for a moment's reason; tried again by the clock */
        bool autostart_told;  /* and the observer was told so */
        pid_t leader;         /* QEMU, 0 = none */

        bool shown; /* it has its path on the bus: while two have one name, the one whose domain
                     * was looked at last */
        bool stop_taken; /* libvirt has taken a Shutdown or PowerOff: it is stopping until it is off
                          */
        Launch *launch;  /* weak: what is under way with it, NULL = nothing */
} Machine;

Machine *machine_new(const char *name, const char *uuid);
void machine_free(Machine *machine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Machine, machine_free)
