/* The record that crosses the seam to the hypervisor: its birth and its end. What is in it is
 * decided on the other side. */
#include "core/hypervisor.h"

#include <unistd.h>

DomainFile *domain_file_copy(const DomainFile *file) {
        DomainFile *copy = g_new(DomainFile, 1);

        *copy = *file;
        copy->path = g_strdup(file->path);
        copy->pool = g_strdup(file->pool);
        copy->volume = g_strdup(file->volume);
        return copy;
}

void domain_file_free(DomainFile *file) {
        if (!file)
                return;
        g_free(file->path);
        g_free(file->pool);
        g_free(file->volume);
        g_free(file);
}

DomainFacts *domain_facts_new(void) {
        DomainFacts *facts = g_new0(DomainFacts, 1);

        facts->gpus = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        facts->cards = g_array_new(FALSE, FALSE, sizeof(CardIdentity));
        facts->hostdevs = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        facts->disks = g_ptr_array_new_with_free_func(g_free);
        facts->nics = g_ptr_array_new_with_free_func(g_free);
        facts->files = g_ptr_array_new_with_free_func((GDestroyNotify)domain_file_free);
        facts->defined_hostdevs = g_array_new(FALSE, FALSE, sizeof(DefinedHostdev));
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
        request_free(facts->definition);
        g_array_unref(facts->defined_hostdevs);
        g_free(facts->console);
        g_free(facts->name);
        g_free(facts);
}
