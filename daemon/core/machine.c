/* The record of one machine: made and freed here, changed by the manager alone. */
#include "core/machine.h"

Machine *machine_new(const char *name, const char *uuid) {
        Machine *machine = g_new0(Machine, 1);

        machine->name = g_strdup(name);
        g_strlcpy(machine->uuid, uuid, sizeof(machine->uuid));
        machine->state_reason = g_strdup("");
        machine->gpus = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        machine->present = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        return machine;
}

void machine_free(Machine *machine) {
        if (!machine)
                return;
        g_free(machine->name);
        g_free(machine->state_reason);
        g_array_unref(machine->gpus);
        g_array_unref(machine->present);
        g_free(machine);
}
