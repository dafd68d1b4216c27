/* The manager's machines: the records of those domains that are ours, brought to what is known of
 * their domains, and who is told of that. */
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

Machine *manager_find_machine_named(Manager *manager, const char *name) {
        for (guint i = 0; i < manager->machines->len; i++) {
                Machine *machine = g_ptr_array_index(manager->machines, i);

                if (g_str_equal(machine->name, name))
                        return machine;
        }
        return NULL;
}

static int machine_order(const void *a, const void *b) {
        const Machine *const *x = a, *const *y = b;

        return strcmp((*x)->name, (*y)->name);
}

void manager_add_machine(Manager *manager, Machine *machine) {
        g_ptr_array_add(manager->machines, machine);
        g_ptr_array_sort(manager->machines, machine_order);
        machine_look_for_gpus(manager, machine); /* nobody knows it yet, so nobody is told */
        if (manager->observer.machine_added)
                manager->observer.machine_added(manager->observer_data, machine);
}

void manager_remove_machine(Manager *manager, Machine *machine) {
        if (manager->observer.machine_removed)
                manager->observer.machine_removed(manager->observer_data, machine);
        g_ptr_array_remove(manager->machines, machine);
}

MachineVerdict machine_apply(Manager *manager, Machine *machine, MachineEvent event,
                             const char *reason) {
        MachineState old = machine->state;
        MachineVerdict verdict = machine_step(old, event, &machine->state);

        if (machine->state == old)
                return verdict;
        g_free(machine->state_reason);
        machine->state_reason = g_strdup(reason);
        if (manager->observer.machine_changed)
                manager->observer.machine_changed(manager->observer_data, machine,
                                                  MACHINE_CHANGED_STATE);
        if (manager->observer.machine_state_changed)
                manager->observer.machine_state_changed(manager->observer_data, machine, old,
                                                        reason);
        return verdict;
}

void machine_lose_gpu(Manager *manager, Machine *machine, PciAddress gpu) {
        char shown[PCI_ADDRESS_BUFFER];

        g_free(machine->state_reason);
        machine->state_reason =
                g_strdup_printf("GPU %s has gone from the bus", pci_address_print(gpu, shown));
        if (manager->observer.machine_changed)
                manager->observer.machine_changed(manager->observer_data, machine,
                                                  MACHINE_CHANGED_REASON);
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
                *ret_reason = domain->unreaped ? "QEMU died; its GPUs go home when libvirt is back"
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

static void machine_take_facts(Manager *manager, Machine *machine, const Domain *domain) {
        const DomainFacts *facts = domain->facts;
        pid_t leader = domain_may_live(domain) ? facts->pid : 0;
        unsigned changes = 0;

        if (machine->leader != leader)
                changes |= MACHINE_CHANGED_LEADER;
        if (machine->vcpus != facts->vcpus || machine->memory_mib != facts->memory_mib ||
            machine->autostart != facts->autostart)
                changes |= MACHINE_CHANGED_FACTS;
        machine->leader = leader;
        machine->vcpus = facts->vcpus;
        machine->memory_mib = facts->memory_mib;
        machine->autostart = facts->autostart;
        if (changes != 0 && manager->observer.machine_changed)
                manager->observer.machine_changed(manager->observer_data, machine, changes);
}

/* While a start of ours is under way the domain flickers through off and paused before it runs. How
 * that ends is told once, by the launch. */
static bool machine_flickers(const Machine *machine, MachineEvent event) {
        return machine->launch && machine->state == MACHINE_STARTING &&
               event != MACHINE_SEEN_RUNNING && event != MACHINE_SEEN_STOPPING;
}

void machine_refresh(Manager *manager, Machine *machine) {
        const Domain *domain = manager_find_domain(manager, machine->uuid);
        const char *reason;
        MachineEvent event;

        if (!domain) {
                if (!machine->launch && manager->domains_known)
                        manager_remove_machine(manager, machine);
                return;
        }
        event = domain_observation(domain, &reason);
        if (!domain_may_live(domain))
                machine->stop_asked = false;
        else if (machine->stop_asked)
                event = MACHINE_SEEN_STOPPING;
        machine_take_facts(manager, machine, domain);
        if (!machine_flickers(machine, event))
                machine_apply(manager, machine, event, reason);
        machine_refresh_present(manager, machine);
}

Machine *manager_adopt_machine(Manager *manager, const Domain *domain) {
        const DomainFacts *facts = domain->facts;
        Machine *machine = machine_new(facts->name, facts->uuid);
        const char *reason;

        g_array_append_vals(machine->gpus, facts->gpus->data, facts->gpus->len);
        machine->vcpus = facts->vcpus;
        machine->memory_mib = facts->memory_mib;
        machine->autostart = facts->autostart;
        machine->leader = domain_may_live(domain) ? facts->pid : 0;
        machine_step(MACHINE_STOPPED, domain_observation(domain, &reason), &machine->state);
        g_free(machine->state_reason);
        machine->state_reason = g_strdup(reason);
        manager_add_machine(manager, machine);
        return machine;
}
