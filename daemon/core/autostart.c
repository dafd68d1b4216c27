/* The machines that start with the host: once after each boot, by a Start like any caller's. What
 * is refused because the host could not be asked just then is tried again by the clock. */
#include "core/manager-private.h"

typedef struct Autostart {
        Manager *manager; /* weak */
        char *name;
        char uuid[37];
} Autostart;

static bool manager_waits_to_autostart(Manager *manager) {
        for (guint i = 0; i < manager->machines->len; i++)
                if (((Machine *)g_ptr_array_index(manager->machines, i))->autostart_waits)
                        return true;
        return false;
}

/* Has the machine tried again where the refusal is a moment's. Whether the observer has heard of
 * that before. */
static bool autostart_was_told(const Autostart *autostart, const Refusal *refusal) {
        Machine *machine = manager_find_machine(autostart->manager, autostart->uuid);
        bool told;

        if (!machine || !refusal->passing)
                return false;
        machine->autostart_due = machine->autostart_waits = true;
        told = machine->autostart_told;
        machine->autostart_told = true;
        return told;
}

static void autostart_ended(void *userdata, const Refusal *refusal) {
        Autostart *autostart = userdata;
        Manager *manager = autostart->manager;

        if (refusal && !autostart_was_told(autostart, refusal) &&
            manager->observer.autostart_failed)
                manager->observer.autostart_failed(manager->observer_data, autostart->name,
                                                   refusal);
        manager->host.ops->look_later(manager->host.self, NO_DEVICE,
                                      manager_waits_to_autostart(manager));
        g_free(autostart->name);
        g_free(autostart);
}

void manager_autostart_again(Manager *manager) {
        for (guint i = 0; i < manager->machines->len; i++)
                ((Machine *)g_ptr_array_index(manager->machines, i))->autostart_waits = false;
}

/* Notes which machines are to start, once it is known whether the host was booted. A daemon that is
 * only restarted starts nothing that its administrator has stopped. */
static void manager_note_boot(Manager *manager) {
        int first = manager->host.ops->first_since_boot(manager->host.self);

        if (first < 0)
                return;
        manager->autostarted = true;
        for (guint i = 0; i < manager->machines->len; i++) {
                Machine *machine = g_ptr_array_index(manager->machines, i);

                machine->autostart_due =
                        first > 0 && machine->autostart && !machine_state_is_up(machine->state);
        }
}

static bool machine_cards_are_known(Manager *manager, const Machine *machine) {
        for (guint i = 0; i < machine->gpus->len; i++)
                if (!manager_knows_card(manager, g_array_index(machine->gpus, PciAddress, i)))
                        return false;
        return true;
}

static Autostart *autostart_new(Manager *manager, const Machine *machine) {
        Autostart *autostart = g_new(Autostart, 1);

        *autostart = (Autostart){ .manager = manager, .name = g_strdup(machine->name) };
        g_strlcpy(autostart->uuid, machine->uuid, sizeof(autostart->uuid));
        return autostart;
}

/* The starts to begin; one may end at once, and take its machine along. One whose card could not be
 * read waits until it could. */
static GPtrArray *manager_take_due(Manager *manager) {
        GPtrArray *due = g_ptr_array_new();

        for (guint i = 0; i < manager->machines->len; i++) {
                Machine *machine = g_ptr_array_index(manager->machines, i);

                if (!machine->autostart || machine_state_is_up(machine->state))
                        machine->autostart_due = machine->autostart_waits = false;
                if (!machine->shown || !machine->autostart_due || machine->autostart_waits ||
                    !machine_cards_are_known(manager, machine))
                        continue;
                machine->autostart_due = false;
                g_ptr_array_add(due, autostart_new(manager, machine));
        }
        return due;
}

void manager_autostart(Manager *manager) {
        g_autoptr(GPtrArray) due = NULL;

        /* A card that is on its way to being kept could not be a machine's now. */
        if (!manager->begun || !manager->domains_known || manager->keeps->len > 0)
                return;
        if (!manager->autostarted)
                manager_note_boot(manager);
        due = manager_take_due(manager);
        for (guint i = 0; i < due->len; i++) {
                Autostart *autostart = g_ptr_array_index(due, i);

                manager_start_machine(manager, autostart->uuid, autostart_ended, autostart);
        }
}
