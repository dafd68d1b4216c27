/* The manager's machines: libvirt's domains as they were last seen, the processes behind them, and
 * the Machine records of those that are ours. libvirt's word that a domain has stopped does not
 * prove that its QEMU is dead (qemuProcessStop ignores the result of the kill), and when libvirt is
 * down it says nothing at all; so each QEMU is watched by pidfd, and a domain counts as over when
 * both agree, or the process is dead and nobody is there to ask, which an attempt to connect has to
 * say. Its cards wait for libvirt even then. When it is back it resets the cards of every domain
 * whose QEMU it finds dead, unless they are on vfio-pci, their host drivers notwithstanding; and as
 * it resets the bus once for each function, and puts back that one alone, a card of two is left
 * without any BARs (virPCIDeviceReset() in libvirt's src/util/virpci.c). */
#include "core/manager-private.h"

#include <string.h>
#include <unistd.h>

void domain_free(Domain *domain) {
        domain_facts_free(domain->facts);
        g_array_unref(domain->lost);
        g_free(domain);
}

Domain *manager_find_domain(Manager *manager, const char *uuid) {
        return g_hash_table_lookup(manager->domains, uuid);
}

bool domain_may_live(const Domain *domain) {
        return domain->facts->active || domain->process_lives ||
               (domain->start_asked && !domain->process_died);
}

void domain_ask_for_start(Domain *domain) {
        domain->start_asked = true;
        domain->process_died = false; /* that was an earlier QEMU */
}

bool manager_domain_may_live(Manager *manager, const char *uuid) {
        const Domain *domain = manager_find_domain(manager, uuid);

        /* Of a domain that nobody has seen, only a libvirt that has told them all says it is not.
         */
        return domain ? domain_may_live(domain) : !manager->domains_known;
}

bool manager_domain_awaits_libvirt(Manager *manager, const char *uuid) {
        const Domain *domain = manager_find_domain(manager, uuid);

        return (domain && domain->unreaped) ||
               (!manager->domains_known && manager_domain_may_live(manager, uuid));
}

/* --- machines --- */

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

static Machine *manager_adopt_machine(Manager *manager, const Domain *domain) {
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

/* --- what the hypervisor tells --- */

static bool manager_launches(Manager *manager, const char *uuid) {
        for (guint i = 0; i < manager->launches->len; i++) {
                const Launch *launch = g_ptr_array_index(manager->launches, i);

                if (g_str_equal(launch->uuid, uuid))
                        return true;
        }
        return false;
}

static void manager_follow_domain(Manager *manager, Domain *domain);

static void domain_undefined(void *userdata, const Refusal *refusal) {
        Call *call = userdata;
        Manager *manager = call->manager;
        TURN(manager);
        Domain *domain = manager_find_domain(manager, call->uuid);

        g_ptr_array_remove_fast(manager->undefines, call);
        if (refusal && domain) {
                domain->undefine_refused = true;
                manager_follow_domain(manager, domain);
        }
}

static void domain_undefine(Manager *manager, Domain *domain) {
        Call *call;

        if (domain->undefine_asked)
                return;
        domain->undefine_asked = true;
        call = g_new0(Call, 1);
        call->manager = manager;
        g_strlcpy(call->uuid, domain->facts->uuid, sizeof(call->uuid));
        g_ptr_array_add(manager->undefines, call);
        manager->hypervisor.ops->act(manager->hypervisor.self, HYPERVISOR_UNDEFINE, call->uuid,
                                     domain_undefined, call);
}

static void nobody_waits(void *userdata, const Refusal *refusal) {
}

void manager_condemn(Manager *manager, const char *uuid, bool forget) {
        g_hash_table_insert(manager->condemned, g_strdup(uuid), GINT_TO_POINTER(forget));
        manager->hypervisor.ops->look(manager->hypervisor.self, uuid);
}

/* Undoes what a failed launch may have left in libvirt. Returns whether the domain is to be
 * nobody's machine. */
static bool manager_carry_out(Manager *manager, Domain *domain) {
        void *forget;

        if (!g_hash_table_lookup_extended(manager->condemned, domain->facts->uuid, NULL, &forget))
                return false;
        if (domain->facts->active)
                manager->hypervisor.ops->act(manager->hypervisor.self, HYPERVISOR_DESTROY,
                                             domain->facts->uuid, nobody_waits, NULL);
        else if (!domain_may_live(domain) && forget && !domain->undefine_refused)
                domain_undefine(manager, domain);
        else if (!domain_may_live(domain) && !forget)
                g_hash_table_remove(manager->condemned, domain->facts->uuid);
        return forget && !domain->undefine_refused;
}

static void manager_follow_domain(Manager *manager, Domain *domain) {
        const DomainFacts *facts = domain->facts;
        Machine *machine;

        if (!facts->ours || manager_carry_out(manager, domain))
                return;
        /* A Create that a crash of the daemon, or of libvirt, cut short before the first start was
         * answered with an error or not at all: the machine is not to stay. */
        if (facts->first_start == FIRST_START_PENDING && !domain_may_live(domain) &&
            !domain->has_run && !domain->undefine_refused &&
            !manager_launches(manager, facts->uuid)) {
                domain_undefine(manager, domain);
                return;
        }
        machine = manager_find_machine(manager, facts->uuid);
        if (machine && !g_str_equal(machine->name, facts->name)) {
                /* virsh domrename: the object's path is its name. */
                manager_remove_machine(manager, machine);
                machine = NULL;
        }
        if (machine)
                machine_refresh(manager, machine);
        else
                manager_adopt_machine(manager, domain);
}

static void manager_forget_domain(Manager *manager, Domain *domain) {
        g_autofree char *uuid = g_strdup(domain->facts->uuid);
        Machine *machine = manager_find_machine(manager, uuid);

        g_hash_table_remove(manager->condemned, uuid);
        g_hash_table_remove(manager->domains, uuid);
        if (machine)
                machine_refresh(manager, machine);
}

static void domain_is_over(Manager *manager, Domain *domain) {
        if (domain->facts->active)
                domain->facts->off_reason = DOMAIN_OFF_CRASHED;
        domain->facts->active = false;
        manager_follow_domain(manager, domain);
}

static void domain_died(void *userdata) {
        Domain *domain = userdata;
        Manager *manager = domain->manager;
        TURN(manager);

        domain->watch = 0;
        domain->process_lives = false;
        domain->process_died = true;
        if (domain->facts->active) {
                /* libvirt is about to find out, and it knows why. */
                manager->hypervisor.ops->look(manager->hypervisor.self, domain->facts->uuid);
                return;
        }
        if (domain->gone)
                manager_forget_domain(manager, domain);
        else
                domain_is_over(manager, domain);
        manager->owners_due = true;
}

static void domain_watch(Manager *manager, Domain *domain) {
        DomainFacts *facts = domain->facts;

        if (domain->watch != 0)
                manager->host.ops->unwatch_process(manager->host.self, domain->watch);
        domain->watch = manager->host.ops->watch_process(manager->host.self, facts->pidfd,
                                                         domain_died, domain);
        domain->process_lives = domain->watch != 0;
        domain->process_died = false;
        /* The watch has a descriptor of its own: one a machine is enough. */
        close(facts->pidfd);
        facts->pidfd = -1;
}

/* Takes what is in @facts and leaves it empty, but valid to free. */
static void manager_take_domain(Manager *manager, DomainFacts *facts) {
        Domain *domain = manager_find_domain(manager, facts->uuid);
        pid_t old_pid = 0;

        /* virsh domrename gives names that no machine can have; they have no path on the bus. */
        facts->ours = facts->ours && machine_name_is_valid(facts->name);
        if (!domain) {
                domain = g_new0(Domain, 1);
                domain->manager = manager;
                domain->facts = domain_facts_new();
                domain->lost = g_array_new(FALSE, TRUE, sizeof(PciAddress));
                g_hash_table_insert(manager->domains, g_strdup(facts->uuid), domain);
        }
        if (domain->process_lives)
                old_pid = domain->facts->pid;
        if (old_pid != 0 && facts->pid != 0 && facts->pid != old_pid && facts->ours) {
                Machine *machine = manager_find_machine(manager, facts->uuid);

                /* It ended and was started again between two looks. */
                if (machine)
                        machine_apply(manager, machine, MACHINE_SEEN_OFF, "");
        }
        if (facts->pid == 0 && old_pid != 0) {
                GArray *live = domain->facts->hostdevs;

                /* libvirt is through with it, and told what it would have next time; its QEMU still
                 * has what it had. */
                facts->pid = old_pid;
                domain->facts->hostdevs = facts->hostdevs;
                facts->hostdevs = live;
        }

        /* One that is back takes its dead for alive until it has tried their monitors. */
        domain->unreaped = domain->unreaped && facts->active && facts->pid == 0;
        if (domain->unreaped) {
                facts->active = false;
                facts->off_reason = DOMAIN_OFF_CRASHED;
        }

        DomainFacts before = *domain->facts;
        *domain->facts = *facts;
        *facts = before;
        domain->gone = false;
        domain_forget_lost(domain, domain->facts->pid != old_pid);
        if (domain->facts->active) {
                domain->has_run = true;
                domain->start_asked = false;
        }
        if (domain->facts->pidfd >= 0 && domain->facts->pid != old_pid)
                domain_watch(manager, domain);
        manager_follow_domain(manager, domain);
}

static void manager_lose_domain(Manager *manager, Domain *domain) {
        if (domain->process_lives) {
                domain->facts->active = false;
                domain->gone = true;
                return;
        }
        manager_forget_domain(manager, domain);
}

static void domain_seen(void *userdata, DomainFacts *facts) {
        Manager *manager = userdata;
        TURN(manager);

        manager_take_domain(manager, facts);
        manager->owners_due = true;
}

static void domain_gone(void *userdata, const char *uuid) {
        Manager *manager = userdata;
        TURN(manager);
        Domain *domain = manager_find_domain(manager, uuid);

        if (domain)
                manager_lose_domain(manager, domain);
        manager->owners_due = true;
}

static bool is_among(const GPtrArray *domains, const char *uuid) {
        for (guint i = 0; i < domains->len; i++) {
                const DomainFacts *facts = g_ptr_array_index(domains, i);

                if (g_str_equal(facts->uuid, uuid))
                        return true;
        }
        return false;
}

/* A start that libvirt was asked for before it went has happened or will not. */
static void manager_forget_starts(Manager *manager) {
        GHashTableIter iter;
        Domain *domain;

        g_hash_table_iter_init(&iter, manager->domains);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&domain))
                if (!manager_launches(manager, domain->facts->uuid))
                        domain->start_asked = false;
}

static void domains_listed(void *userdata, GPtrArray *domains) {
        Manager *manager = userdata;
        TURN(manager);
        g_autoptr(GList) known = g_hash_table_get_values(manager->domains);

        manager->domains_known = true;
        manager_forget_starts(manager);
        for (GList *l = known; l; l = l->next) {
                Domain *domain = l->data;

                if (!is_among(domains, domain->facts->uuid))
                        manager_lose_domain(manager, domain);
        }
        for (guint i = 0; i < domains->len; i++)
                manager_take_domain(manager, g_ptr_array_index(domains, i));
        for (guint i = manager->machines->len; i-- > 0;)
                machine_refresh(manager, g_ptr_array_index(manager->machines, i));
        manager->owners_due = true;
}

static void connection_changed(void *userdata) {
        Manager *manager = userdata;
        TURN(manager);

        manager->domains_known = false;
        if (manager->observer.service_changed)
                manager->observer.service_changed(manager->observer_data);
}

/* That its process is dead is enough to say so. */
static void unreachable(void *userdata) {
        Manager *manager = userdata;
        TURN(manager);
        g_autoptr(GList) known = g_hash_table_get_values(manager->domains);

        for (GList *l = known; l; l = l->next) {
                Domain *domain = l->data;

                if (!domain->facts->active || !domain->process_died)
                        continue;
                domain->unreaped = true;
                domain_is_over(manager, domain);
        }
        manager->owners_due = true;
}

const HypervisorEvents *manager_hypervisor_events(void) {
        static const HypervisorEvents events = {
                .connection_changed = connection_changed,
                .unreachable = unreachable,
                .domains_listed = domains_listed,
                .domain_seen = domain_seen,
                .domain_gone = domain_gone,
        };

        return &events;
}
