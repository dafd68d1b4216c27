/* The manager's domains: libvirt's as they were last seen, and the processes behind them. libvirt's
 * word that a domain has stopped does not prove that its QEMU is dead (qemuProcessStop ignores the
 * result of the kill), and when libvirt is down it says nothing at all; so each QEMU is watched by
 * pidfd, and a domain counts as over when both agree, or the process is dead and nobody is there to
 * ask, which an attempt to connect has to say. Its cards wait for libvirt even then. When it is
 * back it resets the cards of every domain whose QEMU it finds dead, unless they are on vfio-pci,
 * their host drivers notwithstanding; and as it resets the bus once for each function, and puts
 * back that one alone, a card of two is left without any BARs (virPCIDeviceReset() in libvirt's
 * src/util/virpci.c). */
#include "core/manager-private.h"

#include <string.h>
#include <unistd.h>

void domain_free(Domain *domain) {
        domain_facts_free(domain->facts);
        g_array_unref(domain->lost);
        g_clear_pointer(&domain->claims, g_ptr_array_unref);
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

/* --- what the hypervisor tells --- */

bool manager_launches(Manager *manager, const char *uuid) {
        for (guint i = 0; i < manager->launches->len; i++) {
                const Launch *launch = g_ptr_array_index(manager->launches, i);

                if (g_str_equal(launch->uuid, uuid))
                        return true;
        }
        return false;
}

/* What follows from what is known of the domain now is seen to when the turn ends. */
static void domain_is_due(Domain *domain) {
        domain->due = true;
        domain->manager->domains_due = true;
        domain->manager->owners_due = true;
}

static void domain_undefined(void *userdata, const Refusal *refusal) {
        Call *call = userdata;
        Manager *manager = call->manager;
        TURN(manager);
        Domain *domain = manager_find_domain(manager, call->uuid);

        g_ptr_array_remove_fast(manager->undefines, call);
        if (refusal && domain) {
                domain->undefine_refused = true;
                domain_is_due(domain);
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

static void nobody_is_told(void *userdata, const Refusal *refusal) {
}

/* A domain that a failed launch may have left behind. */
typedef struct Condemned {
        bool forget;      /* its definition, too */
        unsigned missing; /* listings that did not have it */
} Condemned;

/* A libvirtd that has hung may still be about to define what it was asked to when it lists its
 * domains again; the next listing follows after 2 s. */
#define MISSING_MAX 2

void manager_condemn(Manager *manager, const char *uuid, bool forget) {
        Condemned *condemned = g_new0(Condemned, 1);

        condemned->forget = forget;
        g_hash_table_replace(manager->condemned, g_strdup(uuid), condemned);
        manager->hypervisor.ops->look(manager->hypervisor.self, uuid);
}

/* A mark dies with what it was about: by the same UUID there may be another machine later on. */
void manager_pardon(Manager *manager, const char *uuid) {
        g_hash_table_remove(manager->condemned, uuid);
}

static bool is_among(const GPtrArray *domains, const char *uuid) {
        for (guint i = 0; i < domains->len; i++) {
                const DomainFacts *facts = g_ptr_array_index(domains, i);

                if (g_str_equal(facts->uuid, uuid))
                        return true;
        }
        return false;
}

/* What never came does not come any more. */
static void manager_pardon_missing(Manager *manager, const GPtrArray *domains) {
        GHashTableIter iter;
        const char *uuid;
        Condemned *condemned;

        g_hash_table_iter_init(&iter, manager->condemned);
        while (g_hash_table_iter_next(&iter, (void **)&uuid, (void **)&condemned))
                if (!is_among(domains, uuid) && ++condemned->missing == MISSING_MAX)
                        g_hash_table_iter_remove(&iter);
}

/* Undoes what a failed launch may have left in libvirt. Returns whether the domain is to be
 * nobody's machine. */
static bool manager_carry_out(Manager *manager, Domain *domain) {
        const Condemned *condemned = g_hash_table_lookup(manager->condemned, domain->facts->uuid);
        bool forget;

        if (!condemned)
                return false;
        forget = condemned->forget;
        if (domain->facts->active)
                manager->hypervisor.ops->act(manager->hypervisor.self, HYPERVISOR_DESTROY,
                                             domain->facts->uuid, nobody_is_told, NULL);
        else if (!domain_may_live(domain) && forget && !domain->undefine_refused)
                domain_undefine(manager, domain);
        else if (!domain_may_live(domain) && !forget)
                manager_pardon(manager, domain->facts->uuid);
        return forget && !domain->undefine_refused;
}

static void manager_follow_domain(Manager *manager, Domain *domain) {
        const DomainFacts *facts = domain->facts;
        Machine *machine = manager_find_machine(manager, facts->uuid);

        if (!facts->ours) {
                /* Somebody has taken it out of our hands, and with it what was to become of it.
                 * What we owe for it, the way back of its cards, is owed all the same. */
                manager_pardon(manager, facts->uuid);
                if (machine)
                        manager_remove_machine(manager, machine);
                return;
        }
        if (manager_carry_out(manager, domain))
                return;
        /* A Create that a crash of the daemon, or of libvirt, cut short before the first start was
         * answered with an error or not at all: the machine is not to stay. */
        if (facts->first_start == FIRST_START_PENDING && !domain_may_live(domain) &&
            !domain->has_run && !domain->undefine_refused &&
            !manager_launches(manager, facts->uuid)) {
                domain_undefine(manager, domain);
                return;
        }
        if (machine)
                machine_refresh(manager, machine);
        else
                manager_adopt_machine(manager, domain);
}

/* Every name that is out of date goes from the bus before any that is new comes, so that no path
 * goes that a machine has. */
void manager_follow_domains(Manager *manager) {
        g_autoptr(GList) domains = NULL;

        if (!manager->domains_due)
                return;
        manager->domains_due = false;
        domains = g_hash_table_get_values(manager->domains);
        manager_hide_machines(manager);
        for (GList *l = domains; l; l = l->next) {
                Domain *domain = l->data;

                if (domain->due) {
                        domain->due = false;
                        manager_follow_domain(manager, domain);
                }
        }
        manager_show_machines(manager);
}

static void manager_forget_domain(Manager *manager, Domain *domain) {
        g_autofree char *uuid = g_strdup(domain->facts->uuid);
        Machine *machine = manager_find_machine(manager, uuid);

        manager_pardon(manager, uuid);
        g_hash_table_remove(manager->domains, uuid);
        manager->domains_due = manager->owners_due = true; /* its name may be another's now */
        if (machine)
                machine_refresh(manager, machine);
}

static void domain_is_over(Domain *domain) {
        if (domain->facts->active)
                domain->facts->off_reason = DOMAIN_OFF_CRASHED;
        domain->facts->active = false;
        domain_is_due(domain);
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
                domain_is_over(domain);
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

static Domain *manager_add_domain(Manager *manager, const char *uuid) {
        Domain *domain = g_new0(Domain, 1);

        domain->manager = manager;
        domain->facts = domain_facts_new();
        domain->lost = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_hash_table_insert(manager->domains, g_strdup(uuid), domain);
        return domain;
}

/* Takes what is in @facts and leaves it empty, but valid to free. */
static void manager_take_domain(Manager *manager, DomainFacts *facts) {
        Domain *domain = manager_find_domain(manager, facts->uuid)
                                 ?: manager_add_domain(manager, facts->uuid);
        pid_t old_pid = 0;

        /* virsh domrename gives names that no machine can have; they have no path on the bus. */
        facts->ours = facts->ours && machine_name_is_valid(facts->name);
        pci_addresses_make_unique(facts->gpus);
        if (domain->process_lives)
                old_pid = domain->facts->pid;
        if (old_pid != 0 && facts->pid != 0 && facts->pid != old_pid && facts->ours) {
                Machine *machine = manager_find_machine(manager, facts->uuid);

                /* It ended and was started again between two looks. */
                if (machine)
                        machine_note(manager, machine, MACHINE_SEEN_OFF, "");
        }
        if (facts->pid == 0 && old_pid != 0) {
                GArray *live = domain->facts->hostdevs;
                GPtrArray *files = domain->facts->files;

                /* libvirt is through with it, and told what it would have next time; its QEMU still
                 * has what it had. */
                facts->pid = old_pid;
                domain->facts->hostdevs = facts->hostdevs;
                facts->hostdevs = live;
                domain->facts->files = facts->files;
                facts->files = files;
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
        domain->seen = ++manager->looks;
        domain_forget_lost(domain, domain->facts->pid != old_pid);
        if (domain->facts->active) {
                domain->has_run = true;
                domain->start_asked = false;
        }
        if (domain->facts->pidfd >= 0 && domain->facts->pid != old_pid)
                domain_watch(manager, domain);
        if (!domain_may_live(domain) || (old_pid != 0 && domain->facts->pid != old_pid))
                domain_claim(domain, NULL);
        if (domain->facts->active)
                domain_review_claims(domain);
        domain_is_due(domain);
}

static void manager_lose_domain(Manager *manager, Domain *domain) {
        if (domain->process_lives) {
                domain->facts->active = false;
                domain->gone = true;
                domain_is_due(domain);
                return;
        }
        manager_forget_domain(manager, domain);
}

static void domain_seen(void *userdata, DomainFacts *facts) {
        Manager *manager = userdata;
        TURN(manager);

        manager_take_domain(manager, facts);
}

static void domain_gone(void *userdata, const char *uuid) {
        Manager *manager = userdata;
        TURN(manager);
        Domain *domain = manager_find_domain(manager, uuid);

        manager_pardon(manager, uuid);
        if (domain)
                manager_lose_domain(manager, domain);
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
        manager_pardon_missing(manager, domains);
        for (guint i = manager->machines->len; i-- > 0;)
                machine_refresh(manager, g_ptr_array_index(manager->machines, i));
        manager->owners_due = true;
}

static void connection_changed(void *userdata) {
        Manager *manager = userdata;
        TURN(manager);
        unsigned changes = manager_take_service(manager);

        manager->domains_known = false;
        if (changes != 0 && manager->observer.service_changed)
                manager->observer.service_changed(manager->observer_data, changes);
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
                domain_is_over(domain);
        }
        manager->owners_due = true;
}

/* Who waits for it is seen to when the turn ends. */
static void answer_overdue(void *userdata) {
        TURN(userdata);
}

const HypervisorEvents *manager_hypervisor_events(void) {
        static const HypervisorEvents events = {
                .connection_changed = connection_changed,
                .unreachable = unreachable,
                .answer_overdue = answer_overdue,
                .domains_listed = domains_listed,
                .domain_seen = domain_seen,
                .domain_gone = domain_gone,
        };

        return &events;
}
