/* The manager's machines: a record for each domain that is ours, kept up to date with what is known
 * of the domain, and the news of each change. */
#include "core/manager-private.h"

#include <string.h>

Machine *manager_find_machine(Manager *manager, const char *uuid) {
        for (guint i = 0; i < manager->machines->len; i++) {
                Machine *machine = g_ptr_array_index(manager->machines, i);

                if (g_ascii_strcasecmp(machine->uuid, uuid) == 0)
                        return machine;
        }
        return NULL;
}

bool manager_shows_machine(Manager *manager, const char *uuid) {
        const Machine *machine = manager_find_machine(manager, uuid);

        return machine && machine->shown;
}

Machine *manager_find_machine_named(Manager *manager, const char *name) {
        for (guint i = 0; i < manager->machines->len; i++) {
                Machine *machine = g_ptr_array_index(manager->machines, i);

                if (machine->shown && g_str_equal(machine->name, name))
                        return machine;
        }
        return NULL;
}

static int machine_order(const void *a, const void *b) {
        const Machine *const *x = a, *const *y = b;

        return strcmp((*x)->name, (*y)->name);
}

static void machine_show(Manager *manager, Machine *machine, const char *name) {
        if (machine->name != name) {
                g_free(machine->name);
                machine->name = g_strdup(name);
        }
        g_ptr_array_sort(manager->machines, machine_order);
        machine_look_for_gpus(manager, machine); /* nobody knows it yet, so nobody is told */
        machine->shown = true;
        if (manager->observer.machine_added)
                manager->observer.machine_added(manager->observer_data, machine);
}

static void machine_hide(Manager *manager, Machine *machine) {
        if (machine->shown && manager->observer.machine_removed)
                manager->observer.machine_removed(manager->observer_data, machine);
        machine->shown = false;
}

void manager_add_machine(Manager *manager, Machine *machine) {
        g_ptr_array_add(manager->machines, machine);
        machine_show(manager, machine, machine->name);
}

void manager_remove_machine(Manager *manager, Machine *machine) {
        machine_hide(manager, machine);
        g_ptr_array_remove(manager->machines, machine);
}

void machine_tell(Manager *manager, const Machine *machine, unsigned changes) {
        if (changes != 0 && machine->shown && manager->observer.machine_changed)
                manager->observer.machine_changed(manager->observer_data, machine, changes);
}

/* Sets a value of the machine, and adds @change to *@changes when it is another. */
#define machine_set(field, value, change, changes) \
        do {                                       \
                if ((field) != (value))            \
                        *(changes) |= (change);    \
                (field) = (value);                 \
        } while (false)

static void machine_set_reason(Machine *machine, const char *reason, unsigned *changes) {
        if (g_str_equal(machine->state_reason, reason))
                return;
        g_free(machine->state_reason);
        machine->state_reason = g_strdup(reason);
        *changes |= MACHINE_CHANGED_REASON;
}

MachineVerdict machine_apply(Manager *manager, Machine *machine, MachineEvent event,
                             const char *reason) {
        MachineState old = machine->state;
        MachineVerdict verdict = machine_step(old, event, &machine->state);
        unsigned changes = MACHINE_CHANGED_STATE;

        if (machine->state == old)
                return verdict;
        machine_set_reason(machine, reason, &changes);
        machine_tell(manager, machine, changes);
        if (machine->shown && manager->observer.machine_state_changed)
                manager->observer.machine_state_changed(manager->observer_data, machine, old,
                                                        reason);
        return verdict;
}

void machine_note(Manager *manager, Machine *machine, MachineEvent event, const char *reason) {
        MachineVerdict verdict = machine_apply(manager, machine, event, reason);

        g_assert(verdict == MACHINE_OK);
}

void machine_lose_gpu(Manager *manager, Machine *machine, PciAddress gpu) {
        char shown[PCI_ADDRESS_BUFFER];
        g_autofree char *reason =
                g_strdup_printf("GPU %s has gone from the bus", pci_address_print(gpu, shown));
        unsigned changes = 0;

        machine_set_reason(machine, reason, &changes);
        machine_tell(manager, machine, changes);
        if (manager->observer.machine_lost_gpu)
                manager->observer.machine_lost_gpu(manager->observer_data, machine, gpu);
}

static const char *off_reason_to_string(DomainOffReason reason) {
        switch (reason) {
        case DOMAIN_OFF_SHUTDOWN:
                return "the guest powered off";
        case DOMAIN_OFF_DESTROYED:
                return "it was powered off by force";
        case DOMAIN_OFF_CRASHED:
                return "QEMU died or the guest crashed";
        case DOMAIN_OFF_FAILED:
                return "it could not be started";
        default:
                return "";
        }
}

static MachineEvent domain_observation(const Domain *domain, const char **ret_reason) {
        const DomainFacts *facts = domain->facts;

        *ret_reason = "";
        if (!domain_may_live(domain)) {
                if (facts->first_start != FIRST_START_DONE && !domain->has_run)
                        return MACHINE_SEEN_NEVER_STARTED;
                *ret_reason = domain->unreaped ? "QEMU died; its GPUs go back when libvirt does"
                                               : off_reason_to_string(facts->off_reason);
                return facts->off_reason == DOMAIN_OFF_CRASHED ? MACHINE_SEEN_CRASHED
                                                               : MACHINE_SEEN_OFF;
        }
        if (!facts->active) {
                /* It was looked at before libvirt, which has not answered, came to it. */
                if (domain->start_asked)
                        return MACHINE_SEEN_STARTING;
                *ret_reason = "QEMU is ending";
                return MACHINE_SEEN_STOPPING;
        }
        if (facts->stop_asked) {
                *ret_reason = "asked to shut down";
                return MACHINE_SEEN_STOPPING;
        }
        switch (facts->state) {
        case DOMAIN_STARTING:
                return MACHINE_SEEN_STARTING;
        case DOMAIN_PAUSED:
                return MACHINE_SEEN_PAUSED;
        case DOMAIN_STOPPING:
                *ret_reason = "the guest is powering off";
                return MACHINE_SEEN_STOPPING;
        default:
                return MACHINE_SEEN_RUNNING;
        }
}

static void machine_set_gpus(Machine *machine, const GArray *gpus, unsigned *changes) {
        if (pci_addresses_equal(machine->gpus, gpus))
                return;
        g_array_set_size(machine->gpus, 0);
        g_array_append_vals(machine->gpus, gpus->data, gpus->len);
        *changes |= MACHINE_CHANGED_ADDRESSES;
}

static void machine_take_facts(Manager *manager, Machine *machine, const Domain *domain) {
        const DomainFacts *facts = domain->facts;
        pid_t leader = domain_may_live(domain) ? facts->pid : 0;
        unsigned changes = 0;

        machine_set(machine->leader, leader, MACHINE_CHANGED_LEADER, &changes);
        machine_set(machine->vcpus, facts->vcpus, MACHINE_CHANGED_VCPUS, &changes);
        machine_set(machine->memory_mib, facts->memory_now_mib, MACHINE_CHANGED_MEMORY, &changes);
        machine_set(machine->autostart, facts->autostart, MACHINE_CHANGED_AUTOSTART, &changes);
        machine_set_gpus(machine, facts->gpus, &changes);
        if (machine_look_for_gpus(manager, machine))
                changes |= MACHINE_CHANGED_GPUS;
        machine_tell(manager, machine, changes);
}

/* During a start of ours the domain flickers through off and paused before it runs, and through any
 * state while the start is being ended. The launch reports the outcome, once. */
static bool machine_flickers(const Machine *machine, MachineEvent event) {
        if (!machine->launch)
                return false;
        return machine->state == MACHINE_STOPPING ||
               (machine->state == MACHINE_STARTING && event != MACHINE_SEEN_RUNNING &&
                event != MACHINE_SEEN_STOPPING);
}

void machine_refresh(Manager *manager, Machine *machine) {
        const Domain *domain = manager_find_domain(manager, machine->uuid);
        const char *reason;
        MachineEvent event;

        if (!domain) {
                /* One that a Create is about to define has none yet. */
                if (!machine->launch)
                        manager_remove_machine(manager, machine);
                return;
        }
        event = domain_observation(domain, &reason);
        if (!domain_may_live(domain))
                machine->stop_taken = false;
        else if (machine_is_to_stop(manager, machine))
                event = MACHINE_SEEN_STOPPING;
        machine_take_facts(manager, machine, domain);
        if (!machine_flickers(machine, event))
                machine_note(manager, machine, event, reason);
}

Machine *manager_adopt_machine(Manager *manager, const Domain *domain) {
        const DomainFacts *facts = domain->facts;
        Machine *machine = machine_new(facts->name, facts->uuid);
        const char *reason;

        machine_take_facts(manager, machine, domain);
        machine_step(MACHINE_STOPPED, domain_observation(domain, &reason), &machine->state);
        g_free(machine->state_reason);
        machine->state_reason = g_strdup(reason);
        g_ptr_array_add(manager->machines, machine);
        return machine;
}

/* --- who has which path on the bus --- */

/* A libvirt name belongs to one domain at a time. So if two domains were seen with one name, the
 * later look is right and the other is out of date. */
static bool machine_has_lost_name(Manager *manager, const Machine *machine, const char *name) {
        const Domain *own = manager_find_domain(manager, machine->uuid);
        uint64_t seen = own ? own->seen : 0;
        GHashTableIter iter;
        Domain *other;

        g_hash_table_iter_init(&iter, manager->domains);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&other))
                if (other->seen > seen && g_str_equal(other->facts->name, name))
                        return true;
        return false;
}

static const char *machine_name_now(Manager *manager, const Machine *machine) {
        const Domain *domain = manager_find_domain(manager, machine->uuid);

        return domain ? domain->facts->name : machine->name;
}

void manager_hide_machines(Manager *manager) {
        for (guint i = 0; i < manager->machines->len; i++) {
                Machine *machine = g_ptr_array_index(manager->machines, i);
                const char *name = machine_name_now(manager, machine);
                bool lost = machine_has_lost_name(manager, machine, name);

                if (!machine->shown || (!lost && g_str_equal(machine->name, name)))
                        continue;
                machine_hide(manager, machine);
                if (lost)
                        manager->hypervisor.ops->look(manager->hypervisor.self, machine->uuid);
        }
}

void manager_show_machines(Manager *manager) {
        for (guint i = 0; i < manager->machines->len; i++) {
                Machine *machine = g_ptr_array_index(manager->machines, i);
                const char *name = machine_name_now(manager, machine);

                if (machine->shown || machine_has_lost_name(manager, machine, name))
                        continue;
                machine_show(manager, machine, name);
                i = (guint)-1; /* the order may be another now */
        }
}
