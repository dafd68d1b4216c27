/* The callers' side of the manager: every request of the bus comes in here, is judged against fresh
 * facts, and is answered when its work has ended. */
#include "core/manager-private.h"

#include <errno.h>

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
        manager->condemned = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        manager->launches = g_ptr_array_new_with_free_func((GDestroyNotify)launch_free);
        manager->intakes = g_ptr_array_new_with_free_func((GDestroyNotify)intake_free);
        manager->gpu_calls = g_ptr_array_new_with_free_func((GDestroyNotify)call_free);
        manager->lists = g_ptr_array_new_with_free_func(g_free);
        manager->releases = g_ptr_array_new_with_free_func((GDestroyNotify)call_free);
        manager->deletes = g_ptr_array_new_with_free_func((GDestroyNotify)call_free);
        manager->machine_calls = g_ptr_array_new_with_free_func((GDestroyNotify)call_free);
        manager->attaches = g_ptr_array_new_with_free_func((GDestroyNotify)attach_free);
        manager->keeps = g_ptr_array_new_with_free_func(g_free);
        manager->orphans = g_ptr_array_new_with_free_func((GDestroyNotify)card_record_free);
        return manager;
}

void manager_free(Manager *manager) {
        if (!manager)
                return;
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
        g_ptr_array_unref(manager->orphans);
        g_ptr_array_unref(manager->undefines);
        g_hash_table_unref(manager->condemned);
        g_hash_table_unref(manager->domains);
        g_free(manager);
}

void manager_set_observer(Manager *manager, const Observer *observer, void *userdata) {
        manager->observer = *observer;
        manager->observer_data = userdata;
}

void manager_begin(Manager *manager) {
        g_ptr_array_unref(manager->orphans);
        manager->orphans = manager->host.ops->ledger_read(manager->host.self);
}

const Gpu *manager_gpu(Manager *manager, PciAddress address) {
        return manager_find_gpu(manager, address);
}

const Machine *manager_machine(Manager *manager, const char *name_or_uuid) {
        return manager_find_machine_named(manager, name_or_uuid)
                       ?: manager_find_machine(manager, name_or_uuid);
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
        return copy_weak(manager->machines);
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
        Intake *intake = intake_new(manager, request, NULL, request->gpus, findings, check_judged);

        intake->checked = done;
        intake->userdata = userdata;
        intake_begin(intake);
}

static void create_judged(Intake *intake, GPtrArray *findings) {
        const Refusal *error = findings_first_error(findings);

        if (!error) {
                launch_begin(intake->manager, NULL, g_steal_pointer(&intake->request),
                             g_steal_pointer(&intake->survey), intake->done, intake->ended,
                             intake->userdata);
                return;
        }
        intake->done(intake->userdata, error);
        intake->ended(intake->userdata);
}

void manager_create_to_the_end(Manager *manager, Request *request, ManagerDone done,
                               void (*ended)(void *userdata), void *userdata) {
        TURN(manager);
        Intake *intake = intake_new(manager, request, NULL, request->gpus, NULL, create_judged);

        intake->done = done;
        intake->ended = ended;
        intake->userdata = userdata;
        intake_begin(intake);
}

static void nobody_waits(void *userdata) {
}

void manager_create(Manager *manager, Request *request, ManagerDone done, void *userdata) {
        manager_create_to_the_end(manager, request, done, nobody_waits, userdata);
}

/* --- GPUs --- */

static void refuse(ManagerDone done, void *userdata, Refusal *refusal) {
        done(userdata, refusal);
        refusal_free(refusal);
}

Refusal *no_such_gpu(PciAddress address) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(address, shown);
        return refusal_new(REFUSAL_NO_SUCH_GPU, shown, "ListGPUs shows the GPUs there are.",
                           "There is no GPU %s on this host.", shown);
}

static Refusal *gpu_refusal(const Gpu *gpu, GpuVerdict verdict) {
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

static Call *manager_add_call(GPtrArray *calls, Manager *manager, ManagerDone done,
                              void *userdata) {
        Call *call = g_new0(Call, 1);

        call->manager = manager;
        call->done = done;
        call->userdata = userdata;
        g_ptr_array_add(calls, call);
        return call;
}

static void bind_judged(Intake *intake, GPtrArray *findings) {
        Manager *manager = intake->manager;
        PciAddress address = g_array_index(intake->gpus, PciAddress, 0);
        const Refusal *error = findings_first_error(findings);
        Gpu *gpu = manager_find_gpu(manager, address);
        int r;

        if (!error && !gpu) {
                refuse(intake->done, intake->userdata, no_such_gpu(address));
                return;
        }
        if (error || gpu_wholly_on_vfio(gpu)) {
                intake->done(intake->userdata, error);
                return;
        }
        gpu_apply(gpu, GPU_ASK_BIND);
        r = gpu_begin_binding(manager, gpu, "");
        if (r < 0) {
                gpu_apply(gpu, GPU_LET_GO);
                refuse(intake->done, intake->userdata, handover_refusal(address, r));
        } else
                manager_add_call(manager->gpu_calls, manager, intake->done, intake->userdata)->gpu =
                        address;
        gpu_tell(manager, gpu, "");
}

void manager_bind_gpu(Manager *manager, PciAddress address, ManagerDone done, void *userdata) {
        TURN(manager);
        g_autoptr(GArray) gpus = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        Intake *intake;

        g_array_append_val(gpus, address);
        intake = intake_new(manager, NULL, NULL, gpus, NULL, bind_judged);
        intake->done = done;
        intake->userdata = userdata;
        intake_begin(intake);
}

static Refusal *release_refusal(Manager *manager, Gpu *gpu) {
        const char *taker = manager_neighbour_taker(manager, gpu->facts);
        char shown[PCI_ADDRESS_BUFFER];
        GpuView after;
        GpuVerdict verdict = gpu_step(&gpu->view, GPU_ASK_RELEASE, &after);

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
static void manager_await_return(Manager *manager, Gpu *gpu, ManagerDone done, void *userdata) {
        Call *call = manager_add_call(manager->gpu_calls, manager, done, userdata);

        call->gpu = gpu->address;
        gpu_settle(manager, gpu, true);
        call->over = gpu->view.pending != GPU_PENDING_RELEASING;
        if (call->over && gpu->view.fault != GPU_FAULT_NONE)
                call->failure = gpu_refusal(gpu, GPU_REFUSED_FAULTED);
}

static void manager_release_asked(Manager *manager, Gpu *gpu, ManagerDone done, void *userdata) {
        int r = gpu_want_on_host(manager, gpu, true);

        if (r < 0) {
                refuse(done, userdata, handover_refusal(gpu->address, r));
                return;
        }
        manager_await_return(manager, gpu, done, userdata);
}

/* The GPU, when it may be released now and there is something to do; else answers the caller and
 * returns NULL. */
static Gpu *gpu_to_release(Manager *manager, PciAddress address, ManagerDone done, void *userdata) {
        Gpu *gpu = manager_look_at_gpu(manager, address);
        Refusal *refusal = gpu ? release_refusal(manager, gpu) : no_such_gpu(address);

        if (refusal) {
                refuse(done, userdata, refusal);
                return NULL;
        }
        if (!gpu->record && !gpu_partly_on_vfio(gpu)) {
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
                refuse(call->done, call->userdata, refusal);
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
                refuse(done, userdata, no_such_gpu(address));
                return;
        }
        if (manager->host.ops->handing_over(manager->host.self, address)) {
                refuse(done, userdata,
                       gpu_refusal(gpu, gpu->view.fault != GPU_FAULT_NONE ? GPU_REFUSED_FAULTED
                                                                          : GPU_REFUSED_PENDING));
                return;
        }
        gpu_apply(gpu, GPU_CURED);
        gpu_tell(manager, gpu, "");
        manager_await_return(manager, gpu, done, userdata);
}

/* --- machines --- */

Refusal *no_such_machine(const char *name) {
        return refusal_new(REFUSAL_NO_SUCH_MACHINE, name,
                           "ListMachines shows the machines there are.", "There is no machine %s.",
                           name);
}

Refusal *machine_refusal(const Machine *machine, MachineEvent event) {
        return refusal_new(REFUSAL_INVALID_STATE, machine->name,
                           machine_help(machine->state, event), "Machine %s is %s.", machine->name,
                           machine_state_to_string(machine->state));
}

static bool manager_deletes(Manager *manager, const Machine *machine) {
        for (guint i = 0; i < manager->deletes->len; i++) {
                const Call *call = g_ptr_array_index(manager->deletes, i);

                if (g_str_equal(call->uuid, machine->uuid))
                        return true;
        }
        return false;
}

/* The machine, when it may be asked @event now; else answers the caller and returns NULL. */
Machine *machine_to_ask(Manager *manager, const char *name, MachineEvent event, ManagerDone done,
                        void *userdata) {
        Machine *machine = manager_find_machine_named(manager, name);
        MachineState after;

        if (!machine) {
                refuse(done, userdata, no_such_machine(name));
                return NULL;
        }
        if (manager_deletes(manager, machine)) {
                refuse(done, userdata,
                       refusal_new(REFUSAL_INVALID_STATE, machine->name,
                                   "Wait until it is gone, then create it anew.",
                                   "Machine %s is being deleted.", machine->name));
                return NULL;
        }
        if (machine->launch || machine_step(machine->state, event, &after) == MACHINE_REFUSED) {
                refuse(done, userdata, machine_refusal(machine, event));
                return NULL;
        }
        return machine;
}

static void start_judged(Intake *intake, GPtrArray *findings) {
        Manager *manager = intake->manager;
        const Refusal *error = findings_first_error(findings);
        Machine *machine;

        if (error) {
                intake->done(intake->userdata, error);
                return;
        }
        machine = machine_to_ask(manager, intake->machine, MACHINE_ASK_START, intake->done,
                                 intake->userdata);
        if (machine)
                launch_begin(manager, machine, NULL, NULL, intake->done, nobody_waits,
                             intake->userdata);
}

void manager_start_machine(Manager *manager, const char *name, ManagerDone done, void *userdata) {
        TURN(manager);
        Machine *machine = machine_to_ask(manager, name, MACHINE_ASK_START, done, userdata);
        Intake *intake;

        if (!machine)
                return;
        intake = intake_new(manager, NULL, machine->name, machine->gpus, NULL, start_judged);
        intake->done = done;
        intake->userdata = userdata;
        intake_begin(intake);
}

/* What was to end runs on. */
static void machine_stop_failed(Manager *manager, Machine *machine, const Refusal *refusal) {
        machine->stop_asked = false;
        machine_apply(manager, machine, MACHINE_STOP_FAILED, refusal->message);
        machine_refresh(manager, machine);
}

/* libvirt has answered: the caller is told, and a machine that could not be stopped runs on. */
static void machine_call_ended(void *userdata, const Refusal *refusal) {
        Call *call = userdata;
        Manager *manager = call->manager;
        TURN(manager);
        Machine *machine = manager_find_machine(manager, call->uuid);
        guint index;

        if (refusal && machine)
                machine_stop_failed(manager, machine, refusal);
        g_ptr_array_find(manager->machine_calls, call, &index);
        g_ptr_array_steal_index_fast(manager->machine_calls, index);
        call->done(call->userdata, refusal);
        call_free(call);
}

static void machine_act(Manager *manager, const char *name, MachineEvent event, HypervisorVerb verb,
                        const char *reason, ManagerDone done, void *userdata) {
        TURN(manager);
        Machine *machine = machine_to_ask(manager, name, event, done, userdata);
        Call *call;

        if (!machine)
                return;
        call = manager_add_call(manager->machine_calls, manager, done, userdata);
        g_strlcpy(call->uuid, machine->uuid, sizeof(call->uuid));
        if (event == MACHINE_ASK_SHUTDOWN || event == MACHINE_ASK_POWER_OFF)
                machine->stop_asked = true;
        machine_apply(manager, machine, event, reason);
        manager->hypervisor.ops->act(manager->hypervisor.self, verb, call->uuid, machine_call_ended,
                                     call);
}

void manager_shutdown_machine(Manager *manager, const char *name, ManagerDone done,
                              void *userdata) {
        machine_act(manager, name, MACHINE_ASK_SHUTDOWN, HYPERVISOR_SHUTDOWN, "asked to shut down",
                    done, userdata);
}

void manager_power_off_machine(Manager *manager, const char *name, ManagerDone done,
                               void *userdata) {
        machine_act(manager, name, MACHINE_ASK_POWER_OFF, HYPERVISOR_DESTROY, "asked to power off",
                    done, userdata);
}

void manager_reboot_machine(Manager *manager, const char *name, ManagerDone done, void *userdata) {
        machine_act(manager, name, MACHINE_ASK_REBOOT, HYPERVISOR_REBOOT, "", done, userdata);
}

void manager_pause_machine(Manager *manager, const char *name, ManagerDone done, void *userdata) {
        machine_act(manager, name, MACHINE_ASK_PAUSE, HYPERVISOR_PAUSE, "", done, userdata);
}

void manager_resume_machine(Manager *manager, const char *name, ManagerDone done, void *userdata) {
        machine_act(manager, name, MACHINE_ASK_RESUME, HYPERVISOR_RESUME, "", done, userdata);
}

/* --- Delete: pull the plug, wait for the cards, forget --- */

static void delete_end(Call *call, const Refusal *refusal) {
        Manager *manager = call->manager;
        guint index;

        if (!g_ptr_array_find(manager->deletes, call, &index))
                return;
        g_ptr_array_steal_index_fast(manager->deletes, index);
        call->done(call->userdata, refusal);
        call_free(call);
}

static void delete_forgotten(void *userdata, const Refusal *refusal) {
        Call *call = userdata;
        TURN(call->manager);

        delete_end(call, refusal ?: call->failure);
}

/* The machine goes, but its caller is told of a card that did not come back. */
static Refusal *delete_shortfall(const Call *call) {
        for (guint i = 0; i < call->manager->gpus->len; i++) {
                const Gpu *gpu = g_ptr_array_index(call->manager->gpus, i);
                char shown[PCI_ADDRESS_BUFFER];

                if (gpu->record && g_str_equal(gpu->record->machine_uuid, call->uuid))
                        return refusal_new(
                                REFUSAL_GPU_FAULTED, pci_address_print(gpu->address, shown),
                                "Remove the cause, then call Recover on the GPU.",
                                "The machine is deleted, but GPU %s did not come back "
                                "(%s): %s",
                                shown, gpu_fault_to_string(gpu->view.fault), gpu->fault_message);
        }
        return NULL;
}

static bool delete_waits(const Call *call) {
        const Manager *manager = call->manager;

        if (manager_domain_may_live(call->manager, call->uuid))
                return true;
        for (guint i = 0; i < manager->gpus->len; i++)
                if (gpu_owes_return(g_ptr_array_index(manager->gpus, i), call->uuid))
                        return true;
        return false;
}

void manager_continue_deletes(Manager *manager) {
        for (guint i = 0; i < manager->deletes->len; i++) {
                Call *call = g_ptr_array_index(manager->deletes, i);

                if (!call->plug_pulled || call->forgetting || delete_waits(call))
                        continue;
                call->forgetting = true;
                call->failure = delete_shortfall(call);
                manager->hypervisor.ops->act(manager->hypervisor.self, HYPERVISOR_UNDEFINE,
                                             call->uuid, delete_forgotten, call);
        }
}

static void delete_powered_off(void *userdata, const Refusal *refusal) {
        Call *call = userdata;
        Manager *manager = call->manager;
        TURN(manager);
        Machine *machine = manager_find_machine(manager, call->uuid);

        if (refusal) {
                if (machine)
                        machine_stop_failed(manager, machine, refusal);
                delete_end(call, refusal);
                return;
        }
        call->plug_pulled = true;
}

void manager_delete_machine(Manager *manager, const char *name, ManagerDone done, void *userdata) {
        TURN(manager);
        Machine *machine = machine_to_ask(manager, name, MACHINE_ASK_DELETE, done, userdata);
        Call *call;

        if (!machine)
                return;
        call = manager_add_call(manager->deletes, manager, done, userdata);
        g_strlcpy(call->uuid, machine->uuid, sizeof(call->uuid));
        machine->stop_asked = true;
        machine_apply(manager, machine, MACHINE_ASK_DELETE, "asked to be deleted");
        manager->hypervisor.ops->act(manager->hypervisor.self, HYPERVISOR_DESTROY, call->uuid,
                                     delete_powered_off, call);
}
