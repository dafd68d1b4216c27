/* The record that crosses the seam to the hypervisor: its birth and its end. What is in it is
 * decided on the other side. */
#include "core/hypervisor.h"

#include <unistd.h>

DomainFacts *domain_facts_new(void) {
        DomainFacts *facts = g_new0(DomainFacts, 1);

        facts->gpus = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        facts->cards = g_array_new(FALSE, FALSE, sizeof(CardIdentity));
        facts->hostdevs = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        facts->disks = g_ptr_array_new_with_free_func(g_free);
        facts->nics = g_ptr_array_new_with_free_func(g_free);
        facts->files = g_ptr_array_new_with_free_func(g_free);
        facts->pidfd = -1;
        return facts;
}

void domain_facts_free(DomainFacts *facts) {
        if (!facts)
                return;
        if (facts->pidfd >= 0)
                close(facts->pidfd);
        g_array_unref(facts->gpus);
        g_array_unref(facts->cards);
        g_array_unref(facts->hostdevs);
        g_ptr_array_unref(facts->disks);
        g_ptr_array_unref(facts->nics);
        g_ptr_array_unref(facts->files);
        g_free(facts->console);
        g_free(facts->name);
        g_free(facts);
}
