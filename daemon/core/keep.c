/* Cards that the administrator keeps for machines. Each is taken to vfio-pci when it is seen at the
 * host, by a Bind like any caller's, with the same checks. What stands in the way may be a matter
 * of a moment (a udev worker, a program that restores a sound card's volume), so it is tried again
 * by the clock, and told once for each reason. What the kernel has refused is not: a try unbinds
 * the card's host driver and binds it again. One that was given back by Release stays there. */
#include "core/manager-private.h"

#include <string.h>

typedef struct Keep {
        Manager *manager; /* weak */
        PciAddress gpu;
} Keep;

/* Whether two reasons differ in numbers at most: a process of the same kind is no news. */
static bool is_same_reason(const char *one, const char *other) {
        for (;; one++, other++) {
                one += strspn(one, "0123456789");
                other += strspn(other, "0123456789");
                if (*one != *other || !*one)
                        return *one == *other;
        }
}

static void gpu_keep_later(Manager *manager, Gpu *gpu) {
        gpu->keep = KEEP_WAITS;
        manager->host.ops->look_later(manager->host.self, gpu->address, true);
}

void gpu_note_keep(Gpu *gpu, bool failed) {
        if (failed && gpu->keep != KEEP_LEFT)
                gpu->keep = KEEP_FAILED;
        else if (gpu->keep == KEEP_FAILED)
                gpu->keep = KEEP_TAKEN;
}

void gpu_keep_again(Manager *manager, Gpu *gpu) {
        if (gpu->keep == KEEP_FAILED)
                gpu_keep_later(manager, gpu);
}

static void keep_refused(Manager *manager, PciAddress address, const Refusal *refusal) {
        Gpu *gpu = manager_find_gpu(manager, address);

        if (gpu) {
                if (gpu->keep == KEEP_TAKEN)
                        gpu_keep_later(manager, gpu);
                else if (gpu->keep != KEEP_FAILED)
                        return;
                if (gpu->keep_told && is_same_reason(gpu->keep_told, refusal->message))
                        return;
                g_free(gpu->keep_told);
                gpu->keep_told = g_strdup(refusal->message);
        }
        if (manager->observer.keep_failed)
                manager->observer.keep_failed(manager->observer_data, address, refusal);
}

static void keep_ended(void *userdata, const Refusal *refusal) {
        Keep *keep = userdata;
        Manager *manager = keep->manager;

        if (refusal)
                keep_refused(manager, keep->gpu, refusal);
        else
                manager->host.ops->look_later(manager->host.self, keep->gpu, false);
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
                        gpu->keep = KEEP_DUE;
                if (gpu->facts->kept && gpu->keep == KEEP_DUE && gpu_is_at_rest(gpu))
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

                gpu->keep = KEEP_TAKEN;
                if (gpu_wholly_on_vfio(gpu))
                        continue;
                keep = g_new(Keep, 1);
                *keep = (Keep){ manager, gpu->address };
                g_ptr_array_add(manager->keeps, keep);
                manager_bind_gpu(manager, keep->gpu, keep_ended, keep);
        }
}

void gpu_stop_keeping(Manager *manager, Gpu *gpu) {
        gpu->keep = KEEP_LEFT;
        manager->host.ops->look_later(manager->host.self, gpu->address, false);
}
