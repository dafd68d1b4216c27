/* Cards that the administrator keeps for machines. Each is taken to vfio-pci once, when it is first
 * seen at the host, by a Bind like any caller's, with the same checks. What stands in the way is
 * told and not tried again: a card that somebody uses is not taken from them later, unawares; and
 * one that was given back by Release stays there. */
#include "core/manager-private.h"

typedef struct Keep {
        Manager *manager; /* weak */
        PciAddress gpu;
} Keep;

static void keep_ended(void *userdata, const Refusal *refusal) {
        Keep *keep = userdata;
        Manager *manager = keep->manager;

        if (refusal && manager->observer.keep_failed)
                manager->observer.keep_failed(manager->observer_data, keep->gpu, refusal);
        g_ptr_array_remove(manager->keeps, keep);
}

/* Whether nothing else is to be done with it first. */
static bool gpu_is_at_rest(const Gpu *gpu) {
        return gpu->view.pending == GPU_PENDING_NONE && gpu->view.fault == GPU_FAULT_NONE &&
               gpu->view.state != GPU_ATTACHED && !gpu->launch &&
               !(gpu->record && gpu->record->return_to_host);
}

static Gpu *manager_next_to_keep(Manager *manager) {
        for (guint i = 0; i < manager->gpus->len; i++) {
                Gpu *gpu = g_ptr_array_index(manager->gpus, i);

                if (!gpu->facts->kept)
                        gpu->kept = false;
                if (gpu->facts->kept && !gpu->kept && gpu_is_at_rest(gpu))
                        return gpu;
        }
        return NULL;
}

void manager_keep_gpus(Manager *manager) {
        Gpu *gpu;

        /* Until libvirt has told, any card could be a running machine's. */
        if (!manager->begun || !manager->domains_known)
                return;
        /* A Bind looks at the card, and may lose it. */
        while ((gpu = manager_next_to_keep(manager))) {
                Keep *keep;

                gpu->kept = true;
                if (gpu_wholly_on_vfio(gpu))
                        continue;
                keep = g_new(Keep, 1);
                *keep = (Keep){ manager, gpu->address };
                g_ptr_array_add(manager->keeps, keep);
                manager_bind_gpu(manager, keep->gpu, keep_ended, keep);
        }
}
