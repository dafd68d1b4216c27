/* The callers' side of the manager: every request of the bus comes in here, is judged against fresh
 * facts, and is answered when its work has ended. */
#include "core/manager-private.h"

#include <errno.h>

unsigned manager_take_service(Manager *manager) {
        HypervisorFacts hypervisor;
        HostFacts host;
        unsigned changes = 0;

        manager_hypervisor_facts(manager, &hypervisor);
        manager_host_facts(manager, &host);
        if (g_strcmp0(manager->told.version ?: "", hypervisor.version) != 0)
                changes |= SERVICE_CHANGED_VERSION;
        if (manager->told.connected != hypervisor.connected)
                changes |= SERVICE_CHANGED_STATE;
        if (host.unread)
                host.iommu = manager->told.iommu;
        if (manager->told.iommu != host.iommu)
                changes |= SERVICE_CHANGED_IOMMU;
        g_free(manager->told.version);
        manager->told.version = g_strdup(hypervisor.version);
        manager->told.connected = hypervisor.connected;
        manager->told.iommu = host.iommu;
        return changes;
}

Manager *manager_new(Host host, Hypervisor hypervisor) {
        Manager *manager = g_new0(Manager, 1);

        manager->host = host;
        manager->hypervisor = hypervisor;
        manager->gpus = g_ptr_array_new_with_free_func((GDestroyNotify)gpu_free);
        manager->lost = g_ptr_array_new_with_free_func((GDestroyNotify)gpu_free);
        manager->machines = g_ptr_array_new_with_free_func((GDestroyNotify)machine_free);
        manager->domains =
                g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)domain_free);
        manager->undefines = g_ptr_array_new_with_free_func((GDestroyNotify)call_free);
        manager->condemned = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        manager->launches = g_ptr_array_new_with_free_func((GDestroyNotify)launch_free);
        manager->intakes = g_ptr_array_new_with_free_func((GDestroyNotify)intake_free);
        manager->gpu_calls = g_ptr_array_new_with_free_func((GDestroyNotify)call_free);
        manager->lists = g_ptr_array_new_with_free_func(g_free);
        manager->releases = g_ptr_array_new_with_free_func((GDestroyNotify)call_free);
        manager->deletes = g_ptr_array_new_with_free_func((GDestroyNotify)call_free);
        manager->machine_calls = g_ptr_array_new_with_free_func((GDestroyNotify)call_free);
        manager->attaches = g_ptr_array_new_with_free_func((GDestroyNotify)attach_free);
        manager->keeps = g_ptr_array_new_with_free_func(g_free);
        manager->unseen = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        manager_take_service(manager);
        return manager;
}

void manager_free(Manager *manager) {
        if (!manager)
                return;
        g_queue_clear_full(&manager->waits, g_free);
        g_ptr_array_unref(manager->intakes);
        g_ptr_array_unref(manager->launches);
        g_ptr_array_unref(manager->gpu_calls);
        g_ptr_array_unref(manager->lists);
        g_ptr_array_unref(manager->releases);
        g_ptr_array_unref(manager->deletes);
        g_ptr_array_unref(manager->machine_calls);
        g_ptr_array_unref(manager->attaches);
        g_ptr_array_unref(manager->machines);
        g_ptr_array_unref(manager->gpus);
        g_ptr_array_unref(manager->lost);
        g_ptr_array_unref(manager->keeps);
        g_array_unref(manager->unseen);
        g_ptr_array_unref(manager->undefines);
        g_hash_table_unref(manager->condemned);
        g_hash_table_unref(manager->domains);
        g_free(manager->told.version);
        g_free(manager);
}

void manager_set_observer(Manager *manager, const Observer *observer, void *userdata) {
        manager->observer = *observer;
        manager->observer_data = userdata;
}

const Gpu *manager_gpu(Manager *manager, PciAddress address) {
        return manager_find_gpu(manager, address);
}

const Machine *manager_machine(Manager *manager, const char *name_or_uuid) {
        const Machine *named = manager_find_machine_named(manager, name_or_uuid);

        if (named || !manager_shows_machine(manager, name_or_uuid))
                return named;
        return manager_find_machine(manager, name_or_uuid);
}

bool manager_has_looked(Manager *manager) {
        HypervisorFacts hypervisor;

        manager_hypervisor_facts(manager, &hypervisor);
        return manager->begun &&
               (manager->domains_known || (hypervisor.tried && !hypervisor.connected));
}

static GPtrArray *copy_weak(const GPtrArray *from) {
        GPtrArray *copy = g_ptr_array_sized_new(from->len);

        for (guint i = 0; i < from->len; i++)
                g_ptr_array_add(copy, g_ptr_array_index(from, i));
        return copy;
}

GPtrArray *manager_gpus(Manager *manager) {
        return copy_weak(manager->gpus);
}

GPtrArray *manager_machines(Manager *manager) {
        GPtrArray *shown = g_ptr_array_new();

        for (guint i = 0; i < manager->machines->len; i++) {
                Machine *machine = g_ptr_array_index(manager->machines, i);

                if (machine->shown)
                        g_ptr_array_add(shown, machine);
        }
        return shown;
}

void manager_host_facts(Manager *manager, HostFacts *ret) {
        manager->host.ops->facts(manager->host.self, ret);
}

void manager_hypervisor_facts(Manager *manager, HypervisorFacts *ret) {
        manager->hypervisor.ops->facts(manager->hypervisor.self, ret);
}

/* --- Check and Create --- */

static void check_judged(Intake *intake, GPtrArray *findings) {
        intake->checked(intake->userdata, findings);
}

void manager_check(Manager *manager, Request *request, GPtrArray *findings, ManagerChecked done,
                   void *userdata) {
        TURN(manager);
        Intake *intake = intake_new(manager, INTAKE_CREATE, request, findings, check_judged);

        intake->checked = done;
        intake->userdata = userdata;
        intake_begin(intake);
}

static void create_judged(Intake *intake, GPtrArray *findings) {
        const Refusal *error = findings_first_error(findings);

        if (!error) {
                launch_begin(intake, NULL);
                return;
        }
        intake->done(intake->userdata, error);
        intake->ended(intake->userdata);
}

void manager_create_to_the_end(Manager *manager, Request *request, ManagerDone done,
                               void (*ended)(void *userdata), void *userdata) {
        TURN(manager);
        Intake *intake = intake_new(manager, INTAKE_CREATE, request, NULL, create_judged);

        intake->done = done;
        intake->ended = ended;
        intake->userdata = userdata;
        intake_begin(intake);
}

void nobody_waits(void *userdata) {
}

void manager_create(Manager *manager, Request *request, ManagerDone done, void *userdata) {
        manager_create_to_the_end(manager, request, done, nobody_waits, userdata);
}

/* --- GPUs --- */

void call_refuse(ManagerDone done, void *userdata, Refusal *refusal) {
        done(userdata, refusal);
        refusal_free(refusal);
}

Refusal *no_such_gpu(PciAddress address) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(address, shown);
        return refusal_new(REFUSAL_NO_SUCH_GPU, shown, "ListGPUs shows the GPUs there are.",
                           "There is no GPU %s on this host.", shown);
}

Refusal *gpu_refusal(const Gpu *gpu, GpuVerdict verdict) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(gpu->address, shown);
        switch (verdict) {
        case GPU_REFUSED_IN_USE:
                return refusal_new(REFUSAL_GPU_IN_USE, shown, "Shut that machine down first.",
                                   "GPU %s belongs to machine %s.", shown, gpu->machine_name);
        case GPU_REFUSED_FAULTED:
                return refusal_new(REFUSAL_GPU_FAULTED, shown, gpu_fault_help(gpu->view.fault),
                                   "GPU %s is faulted (%s): %s", shown,
                                   gpu_fault_to_string(gpu->view.fault), gpu->fault_message);
        default:
                if (gpu->launch)
                        return refusal_new(
                                REFUSAL_GPU_IN_USE, shown, "Wait until that machine has ended.",
                                "GPU %s is reserved for machine %s.", shown, gpu->launch->name);
                return refusal_new(REFUSAL_INVALID_STATE, shown,
                                   "Try again when its Pending property is empty.",
                                   "GPU %s is on its way (%s).", shown,
                                   gpu_pending_to_string(gpu->view.pending));
        }
}

Call *manager_add_call(GPtrArray *calls, Manager *manager, ManagerDone done, void *userdata) {
        Call *call = g_new0(Call, 1);

        call->manager = manager;
        call->done = done;
        call->userdata = userdata;
        g_ptr_array_add(calls, call);
        return call;
}

/* Whoever may move one card may not move the next that is plugged in there. */
static Refusal *another_gpu(PciAddress address) {
        char shown[PCI_ADDRESS_BUFFER];

        return refusal_new(REFUSAL_INVALID_STATE, pci_address_print(address, shown),
                           "Look at it, then call again.",
                           "Another card has been plugged in at %s in the meantime.", shown);
}

static void bind_judged(Intake *intake, GPtrArray *findings) {
        Manager *manager = intake->manager;
        PciAddress address = g_array_index(intake->request->gpus, PciAddress, 0);
        const Refusal *error = findings_first_error(findings);
        Gpu *gpu = manager_find_gpu(manager, address);
        GpuVerdict verdict;
        int r;

        if (!error && !gpu) {
                call_refuse(intake->done, intake->userdata, no_such_gpu(address));
                return;
        }
        if (!error && gpu->instance != intake->instance) {
                call_refuse(intake->done, intake->userdata, another_gpu(address));
                return;
        }
        if (error || gpu_wholly_on_vfio(gpu)) {
                intake->done(intake->userdata, error);
                return;
        }
        verdict = gpu_apply(gpu, GPU_ASK_BIND);
        if (verdict != GPU_OK) {
                call_refuse(intake->done, intake->userdata, gpu_refusal(gpu, verdict));
                return;
        }
        r = gpu_begin_binding(manager, gpu, "");
        if (r < 0) {
                gpu_note(gpu, GPU_LET_GO);
                call_refuse(intake->done, intake->userdata, handover_refusal(address, r));
        } else
                manager_add_call(manager->gpu_calls, manager, intake->done, intake->userdata)->gpu =
                        address;
        gpu_tell(manager, gpu, "");
}

void manager_bind_gpu(Manager *manager, PciAddress address, ManagerDone done, void *userdata) {
        TURN(manager);
        Request *request = request_new_empty("");
        Intake *intake = intake_new(manager, INTAKE_BIND, request, NULL, bind_judged);
        const Gpu *gpu = manager_find_gpu(manager, address);

        intake->instance = gpu ? gpu->instance : 0;
        g_array_append_val(request->gpus, address);
        intake->done = done;
        intake->userdata = userdata;
        intake_begin(intake);
}

static Refusal *release_refusal(Manager *manager, Gpu *gpu) {
        const char *taker = manager_neighbour_taker(manager, gpu->facts);
        char shown[PCI_ADDRESS_BUFFER];
        GpuView after;
        GpuVerdict verdict = gpu_step(&gpu->view, GPU_ASK_RELEASE, &after);

        if (gpu->unread)
                return unread_refusal(gpu->address);
        if (verdict != GPU_OK)
                return gpu_refusal(gpu, verdict);
        if (gpu->record && gpu->record->machine_uuid[0] &&
            manager_domain_awaits_libvirt(manager, gpu->record->machine_uuid))
                return refusal_new(
                        REFUSAL_HYPERVISOR_UNAVAILABLE, pci_address_print(gpu->address, shown),
                        "Start libvirt: systemctl start libvirtd (or virtqemud). Where it has just "
                        "started, try again in a moment.",
                        "GPU %s was taken for a machine, and libvirt has not told that it is "
                        "through with that.",
                        shown);
        /* The kernel would refuse: a group with a VFIO user takes no host driver (since 5.19). */
        if (taker[0])
                return refusal_new(REFUSAL_GPU_IN_USE, pci_address_print(gpu->address, shown),
                                   "Shut that machine down first.",
                                   "GPU %s shares IOMMU group %d with a device of machine %s.",
                                   shown, gpu->facts->iommu_group, taker);
        return NULL;
}

/* Starts the card's way back and keeps the call until it has ended. */
static Call *manager_await_return(Manager *manager, Gpu *gpu, ManagerDone done, void *userdata) {
        Call *call = manager_add_call(manager->gpu_calls, manager, done, userdata);

        call->gpu = gpu->address;
        gpu_settle(manager, gpu, true);
        call->over = gpu->view.pending != GPU_PENDING_RELEASING;
        if (call->over && gpu->view.fault != GPU_FAULT_NONE)
                call->failure = gpu_refusal(gpu, GPU_REFUSED_FAULTED);
        return call;
}

static void manager_release_asked(Manager *manager, Gpu *gpu, ManagerDone done, void *userdata) {
        int r = gpu_want_on_host(manager, gpu, true);

        if (r < 0) {
                call_refuse(done, userdata, handover_refusal(gpu->address, r));
                return;
        }
        gpu_stop_keeping(manager, gpu);
        manager_await_return(manager, gpu, done, userdata);
}

/* The GPU, when it may be released now and there is something to do; else answers the caller and
 * returns NULL. */
static Gpu *gpu_to_release(Manager *manager, PciAddress address, ManagerDone done, void *userdata) {
        Gpu *gpu = manager_look_at_gpu(manager, address);
        Refusal *refusal = gpu ? release_refusal(manager, gpu) : no_such_gpu(address);

        if (refusal) {
                call_refuse(done, userdata, refusal);
                return NULL;
        }
        if (!gpu->record && !gpu_partly_on_vfio(gpu)) {
                gpu_stop_keeping(manager, gpu);
                done(userdata, NULL);
                return NULL;
        }
        return gpu;
}

/* Where the host could not say who has the card, its helper finds out whether anybody has, before
 * it touches anything. */
static void release_surveyed(void *userdata, const GPtrArray *holders, const Refusal *unknown) {
        Call *call = userdata;
        Manager *manager = call->manager;
        Gpu *gpu = gpu_to_release(manager, call->gpu, call->done, call->userdata);
        Refusal *refusal = NULL;

        if (gpu && gpu->instance != call->instance)
                refusal = no_such_gpu(call->gpu);
        else if (gpu && !unknown)
                refusal = vfio_user_refusal(holders);
        if (refusal)
                call_refuse(call->done, call->userdata, refusal);
        else if (gpu)
                manager_release_asked(manager, gpu, call->done, call->userdata);
        g_ptr_array_remove_fast(manager->releases, call);
}

void manager_release_gpu(Manager *manager, PciAddress address, ManagerDone done, void *userdata) {
        TURN(manager);
        Gpu *gpu = gpu_to_release(manager, address, done, userdata);
        Call *call;

        if (!gpu)
                return;
        if (!gpu_partly_on_vfio(gpu)) {
                manager_release_asked(manager, gpu, done, userdata);
                return;
        }
        call = manager_add_call(manager->releases, manager, done, userdata);
        call->gpu = address;
        call->instance = gpu->instance;
        manager_list_holders(manager, address, release_surveyed, call);
}

void manager_recover_gpu(Manager *manager, PciAddress address, ManagerDone done, void *userdata) {
        TURN(manager);
        Gpu *gpu = manager_look_at_gpu(manager, address);

        if (!gpu) {
                call_refuse(done, userdata, no_such_gpu(address));
                return;
        }
        if (manager->host.ops->handing_over(manager->host.self, address)) {
                call_refuse(done, userdata,
                            gpu_refusal(gpu, gpu->view.fault != GPU_FAULT_NONE
                                                     ? GPU_REFUSED_FAULTED
                                                     : GPU_REFUSED_PENDING));
                return;
        }
        if (gpu->record_unknown) {
                call_refuse(done, userdata, gpu_refusal(gpu, GPU_REFUSED_FAULTED));
                return;
        }
        gpu_note(gpu, GPU_CURED);
        gpu_keep_again(manager, gpu);
        gpu_tell(manager, gpu, "");
        manager_await_return(manager, gpu, done, userdata)->accepts = true;
}
