#include "bus-model.h"

#include "testing.h"

#include <string.h>

static void on_added(void *userdata, const Machine *machine) {
        BusModel *bus = userdata;

        if (g_hash_table_contains(bus->paths, machine->name))
                fail_msg("a second machine %s", machine->name);
        g_hash_table_insert(bus->paths, g_strdup(machine->name), g_strdup(machine->uuid));
        g_string_append_printf(bus->said, "+%s\n", machine->name);
}

static void assert_owner(const BusModel *bus, const Machine *machine) {
        const char *owner = g_hash_table_lookup(bus->paths, machine->name);

        if (!owner || strcmp(owner, machine->uuid) != 0)
                fail_msg("machine %s (%s) is spoken of, which is %s", machine->name, machine->uuid,
                         owner ?: "not there");
}

static void on_removed(void *userdata, const Machine *machine) {
        BusModel *bus = userdata;

        assert_owner(bus, machine);
        g_hash_table_remove(bus->paths, machine->name);
        g_string_append_printf(bus->said, "-%s\n", machine->name);
}

static void on_changed(void *userdata, const Machine *machine, unsigned changes) {
        static const char *const words[] = { "state",  "reason",    "leader", "vcpus",
                                             "memory", "autostart", "gpus",   "addresses" };
        BusModel *bus = userdata;

        assert_owner(bus, machine);
        assert_int_not_equal(changes, 0);
        g_string_append_printf(bus->said, "%s:", machine->name);
        for (unsigned i = 0; i < G_N_ELEMENTS(words); i++)
                if (changes & 1U << i)
                        g_string_append_printf(bus->said, " %s", words[i]);
        g_string_append_c(bus->said, '\n');
}

static void on_state(void *userdata, const Machine *machine, MachineState old, const char *reason) {
        BusModel *bus = userdata;

        assert_owner(bus, machine);
        g_string_append_printf(bus->said, "%s %s\n", machine->name,
                               machine_state_to_string(machine->state));
}

BusModel *bus_model_new(Manager *manager) {
        static const Observer observer = {
                .machine_added = on_added,
                .machine_removed = on_removed,
                .machine_changed = on_changed,
                .machine_state_changed = on_state,
        };
        g_autoptr(GPtrArray) machines = manager_machines(manager);
        BusModel *bus = g_new(BusModel, 1);

        bus->paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        bus->said = g_string_new(NULL);
        for (guint i = 0; i < machines->len; i++)
                on_added(bus, g_ptr_array_index(machines, i));
        bus_model_forget(bus);
        manager_set_observer(manager, &observer, bus);
        return bus;
}

void bus_model_free(BusModel *bus) {
        g_hash_table_unref(bus->paths);
        g_string_free(bus->said, TRUE);
        g_free(bus);
}

void bus_model_forget(BusModel *bus) {
        g_string_truncate(bus->said, 0);
}

void bus_model_check(const BusModel *bus, Manager *manager) {
        g_autoptr(GPtrArray) machines = manager_machines(manager);

        assert_int_equal(machines->len, g_hash_table_size(bus->paths));
        for (guint i = 0; i < machines->len; i++)
                assert_owner(bus, g_ptr_array_index(machines, i));
}
