/* Calls that wait until libvirt has listed its domains: a request that comes while the service
 * connects is not refused for that. libvirt's side says how long that may take; while libvirt is
 * known to be away, nobody waits. */
#include "core/manager-private.h"

typedef struct Wait {
        void (*then)(void *userdata);
        void *userdata;
} Wait;

bool manager_awaits_libvirt(Manager *manager) {
        HypervisorFacts hypervisor;

        manager_hypervisor_facts(manager, &hypervisor);
        return !manager->domains_known && hypervisor.awaited;
}

void manager_await_libvirt(Manager *manager, void (*then)(void *userdata), void *userdata) {
        TURN(manager);
        Wait *wait;

        if (!manager->domains_known)
                manager->hypervisor.ops->reach(manager->hypervisor.self);
        if (!manager_awaits_libvirt(manager)) {
                then(userdata);
                return;
        }
        wait = g_new(Wait, 1);
        *wait = (Wait){ then, userdata };
        g_queue_push_tail(&manager->waits, wait);
}

Refusal *manager_why_no_machine(Manager *manager, const char *shown) {
        g_autoptr(GPtrArray) findings = findings_new();
        CheckFacts facts = { .domains_known = manager->domains_known };

        manager_hypervisor_facts(manager, &facts.hypervisor);
        check_hypervisor(&facts, shown, findings);
        return findings->len > 0 ? refusal_copy(g_ptr_array_index(findings, 0))
                                 : no_such_machine(shown);
}

void manager_end_waits(Manager *manager) {
        while (!g_queue_is_empty(&manager->waits) && !manager_awaits_libvirt(manager)) {
                g_autofree Wait *wait = g_queue_pop_head(&manager->waits);

                wait->then(wait->userdata);
        }
}
