/* What the files of this folder share. Nobody else includes it. */
#pragma once

#include "authorize.h"
#include "bus.h"

#include "autoptr-bus.h"

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(sd_bus_error, sd_bus_error_free)

#define VM1_INTERFACE     "org.feos.VM1"
#define GPU_INTERFACE     "org.feos.VM1.GPU"
#define MACHINE_INTERFACE "org.feos.VM1.Machine"

#define ACTION_CREATE  "org.feos.vm1.create"
#define ACTION_MANAGE  "org.feos.vm1.manage"
#define ACTION_CONSOLE "org.feos.vm1.console"
#define ACTION_GPU     "org.feos.vm1.gpu"

struct Bus {
        sd_event *event;
        sd_bus *sd;
        Manager *manager; /* not ours */
        Authorizer *authorizer;
        char *version;
        char *hypervisor_uri;
        char **image_directories;
        GHashTable *pendings; /* set of Pending *, owned */
        GHashTable
                *faults; /* GPU's path, owned -> GpuFault: those that the journal has as raised */
};
