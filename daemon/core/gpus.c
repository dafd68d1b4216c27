/* The manager's GPUs: looking at them, and telling what has changed. What is true of one is
 * computed anew at each look, from the device's facts and from the domain that has it; nothing here
 * moves a card. */
#include "core/manager-private.h"

#include <errno.h>
#include <string.h>

void gpu_set_text(char **field, const char *value, Gpu *gpu, GpuChange change) {
        if (g_str_equal(*field, value))
                return;
        g_free(*field);
        *field = g_strdup(value);
        gpu->untold |= change;
}

GpuVerdict gpu_apply(Gpu *gpu, GpuEvent event) {
        GpuView before = gpu->view;
        GpuVerdict verdict = gpu_step(&before, event, &gpu->view);

        if (gpu->view.state != before.state)
                gpu->untold |= GPU_CHANGED_STATE;
        if (gpu->view.pending != before.pending)
                gpu->untold |= GPU_CHANGED_PENDING;
        if (gpu->view.fault != before.fault)
                gpu->untold |= GPU_CHANGED_FAULT;
        if (gpu->view.fault == GPU_FAULT_NONE)
                gpu_set_text(&gpu->fault_message, "", gpu, GPU_CHANGED_FAULT_MESSAGE);
        return verdict;
}

void gpu_note(Gpu *gpu, GpuEvent event) {
        GpuVerdict verdict = gpu_apply(gpu, event);

        g_assert(verdict == GPU_OK);
}

void gpu_tell(Manager *manager, Gpu *gpu, const char *reason) {
        GpuState old = gpu->told_state;
        unsigned untold = gpu->untold;

        gpu->untold = 0;
        gpu->told_state = gpu->view.state;
        if (untold != 0 && manager->observer.gpu_changed)
                manager->observer.gpu_changed(manager->observer_data, gpu, untold);
        if (old != gpu->view.state && manager->observer.gpu_state_changed)
                manager->observer.gpu_state_changed(manager->observer_data, gpu, old, reason);
}

Gpu *manager_find_gpu(Manager *manager, PciAddress address) {
        for (guint i = 0; i < manager->gpus->len; i++) {
                Gpu *gpu = g_ptr_array_index(manager->gpus, i);

                if (pci_address_equal(gpu->address, address))
                        return gpu;
        }
        return NULL;
}

bool gpu_wholly_on_vfio(const Gpu *gpu) {
        if (!pci_function_on_vfio(&gpu->facts->function))
                return false;
        for (guint i = 0; i < gpu->facts->companions->len; i++)
                if (!pci_function_on_vfio(&g_array_index(gpu->facts->companions, PciFunction, i)))
                        return false;
        return true;
}

bool gpu_owes_return(const Gpu *gpu, const char *uuid) {
        return gpu->record && g_str_equal(gpu->record->machine_uuid, uuid) &&
               gpu->view.fault == GPU_FAULT_NONE;
}

/* --- who has it --- */

static void gpu_refresh_host_driver(Gpu *gpu) {
        const FunctionOrigin *origin = gpu_origin(gpu, gpu->address);
        const char *driver = gpu->facts->function.driver;

        if (!pci_function_on_vfio(&gpu->facts->function)) {
                /* Between two drivers there is none; what it returns to does not change by that. */
                if (driver[0] || (gpu->view.pending == GPU_PENDING_NONE && !gpu->record))
                        gpu_set_text(&gpu->host_driver, driver, gpu, GPU_CHANGED_HOST_DRIVER);
        } else if (origin && !g_str_equal(origin->driver, "vfio-pci"))
                gpu_set_text(&gpu->host_driver, origin->driver, gpu, GPU_CHANGED_HOST_DRIVER);
}

const char *gpu_move_reason(const Gpu *gpu) {
        switch (gpu->view.pending) {
        case GPU_PENDING_BINDING:
                return "handed over to vfio-pci";
        case GPU_PENDING_RELEASING:
                return "handed back to the host";
        default:
                return "";
        }
}

static void gpu_set_machine(Gpu *gpu, const char *name, bool ours) {
        bool another = !g_str_equal(gpu->machine_name, name);

        if (gpu->machine_is_ours != ours || (ours && another))
                gpu->untold |= GPU_CHANGED_MACHINE;
        gpu->machine_is_ours = ours;
        gpu_set_text(&gpu->machine_name, name, gpu, GPU_CHANGED_MACHINE_NAME);
}

void gpu_refresh(Manager *manager, Gpu *gpu, const char *reason) {
        const Domain *domain = manager_domain_with(manager, gpu->facts);
        const char *name = domain ? domain->facts->name : gpu->launch ? gpu->launch->name : "";
        const char *uuid = domain ? domain->facts->uuid : gpu->launch ? gpu->launch->uuid : "";
        bool ours = manager_shows_machine(manager, uuid);
        g_autofree char *attachment = NULL;

        if (domain && gpu->told_state != GPU_ATTACHED)
                attachment = g_strdup_printf("machine %s runs with it", name);
        else if (!domain && gpu->told_state == GPU_ATTACHED)
                attachment = g_strdup_printf(manager_has_live_domain(manager, gpu->machine_name)
                                                     ? "machine %s has let go of it"
                                                     : "machine %s has ended",
                                             gpu->machine_name);

        gpu_set_machine(gpu, name, ours);
        gpu_note(gpu, gpu_observation(pci_function_on_vfio(&gpu->facts->function), domain != NULL));
        gpu_refresh_host_driver(gpu);
        gpu_tell(manager, gpu, attachment ?: reason ?: gpu_move_reason(gpu));
}

void manager_refresh_holders(Manager *manager) {
        for (guint i = 0; i < manager->gpus->len; i++)
                gpu_refresh(manager, g_ptr_array_index(manager->gpus, i), NULL);
}

/* --- looking --- */

static int gpu_order(const void *a, const void *b) {
        const Gpu *const *x = a, *const *y = b;

        return pci_address_compare((*x)->address, (*y)->address);
}

static Gpu *manager_add_gpu(Manager *manager, DeviceFacts *facts) {
        Gpu *gpu = gpu_new(facts);

        gpu->instance = ++manager->instances;
        gpu_learn_record(manager, gpu);
        gpu_note(gpu, gpu_observation(pci_function_on_vfio(&facts->function),
                                      manager_domain_with(manager, facts) != NULL));
        gpu->told_state = gpu->view.state;
        gpu_refresh_host_driver(gpu);
        g_ptr_array_add(manager->gpus, gpu);
        g_ptr_array_sort(manager->gpus, gpu_order);
        gpu->untold = 0;
        if (manager->observer.gpu_added)
                manager->observer.gpu_added(manager->observer_data, gpu);
        manager->host.ops->read_link(manager->host.self, gpu->address);
        manager_refresh_present(manager);
        return gpu;
}

static bool same_functions(const GArray *a, const GArray *b) {
        if (a->len != b->len)
                return false;
        for (guint i = 0; i < a->len; i++)
                if (!pci_address_equal(g_array_index(a, PciFunction, i).address,
                                       g_array_index(b, PciFunction, i).address))
                        return false;
        return true;
}

static bool same_sizes(const GArray *a, const GArray *b) {
        return a->len == b->len &&
               (a->len == 0 || memcmp(a->data, b->data, a->len * sizeof(uint64_t)) == 0);
}

/* Which properties of the GPU are others by the new facts. */
static unsigned facts_changes(const DeviceFacts *old, const DeviceFacts *new) {
        unsigned changes = 0;

        if (!g_str_equal(old->function.driver, new->function.driver))
                changes |= GPU_CHANGED_DRIVER;
        if (!g_str_equal(old->vendor_name, new->vendor_name))
                changes |= GPU_CHANGED_VENDOR;
        if (!g_str_equal(old->model_name, new->model_name))
                changes |= GPU_CHANGED_MODEL;
        if (old->function.class != new->function.class)
                changes |= GPU_CHANGED_CLASS;
        if (old->iommu_group != new->iommu_group)
                changes |= GPU_CHANGED_GROUP;
        if (!same_functions(old->companions, new->companions))
                changes |= GPU_CHANGED_COMPANIONS;
        if (old->numa_node != new->numa_node)
                changes |= GPU_CHANGED_NUMA_NODE;
        if (old->boot_display != new->boot_display)
                changes |= GPU_CHANGED_BOOT_DISPLAY;
        if (!same_sizes(old->bar_sizes, new->bar_sizes))
                changes |= GPU_CHANGED_BAR_SIZES;
        if (!g_strv_equal((const char *const *)old->reset_methods,
                          (const char *const *)new->reset_methods))
                changes |= GPU_CHANGED_RESET_METHODS;
        return changes;
}

void gpu_take_facts(Gpu *gpu, DeviceFacts *facts) {
        gpu->untold |= facts_changes(gpu->facts, facts);
        device_facts_free(gpu->facts);
        gpu->facts = facts;
        gpu->unread = false;
        gpu->moved_unseen = false;
}

/* A new look at a card that is known. */
static void gpu_look_anew(Manager *manager, Gpu *gpu, DeviceFacts *facts) {
        g_autoptr(GArray) drifts = gpu_take_look(manager, gpu, facts);
        g_autofree char *reason = gpu_drift_reason(gpu, drifts);

        if (gpu->record_unknown)
                gpu_learn_record(manager, gpu);
        gpu_refresh(manager, gpu, reason);
        gpu_tell_drifts(manager, gpu, drifts);
}

void manager_note_unseen(Manager *manager, PciAddress address, bool unseen) {
        guint i;

        if (pci_addresses_find(manager->unseen, address, &i) == unseen)
                return;
        if (unseen)
                g_array_append_val(manager->unseen, address);
        else
                g_array_remove_index_fast(manager->unseen, i);
}

bool manager_knows_card(Manager *manager, PciAddress address) {
        const Gpu *gpu = manager_find_gpu(manager, address);

        return gpu ? !gpu->unread && !gpu->record_unknown
                   : !pci_addresses_find(manager->unseen, address, NULL);
}

Gpu *manager_look_at_gpu(Manager *manager, PciAddress address) {
        g_autoptr(DeviceFacts) facts = NULL;
        Gpu *gpu = manager_find_gpu(manager, address);
        int r;

        r = manager->host.ops->look(manager->host.self, address, &facts);
        manager_note_unseen(manager, address, !gpu && r < 0 && r != -ENODEV);
        if (r == -ENODEV && gpu)
                manager_drop_gpu(manager, gpu);
        if (r == -ENODEV)
                return NULL;
        if (r < 0) {
                if (gpu)
                        gpu->unread = true;
                return gpu; /* not to be seen now is not gone */
        }
        /* Another card may have been plugged in where the first one was, and nobody has seen it go.
         */
        if (gpu && !pci_function_same_model(&gpu->facts->function, &facts->function)) {
                manager_drop_gpu(manager, gpu);
                gpu = NULL;
        }
        if (!gpu) {
                if (!device_facts_lead_card(facts) || facts->function.virtual_function)
                        return NULL;
                gpu = manager_add_gpu(manager, g_steal_pointer(&facts));
                gpu_refresh(manager, gpu, NULL);
        } else
                gpu_look_anew(manager, gpu, g_steal_pointer(&facts));
        return gpu;
}
