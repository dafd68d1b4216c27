/* Calls on machines as a whole: the stops, Pause and the like, Delete. Each is judged against the
 * machine as last seen and passed to libvirt's side; the caller gets its answer when libvirt's side
 * has answered. */
#include "core/manager-private.h"

Refusal *no_such_machine(const char *name) {
        return refusal_new(REFUSAL_NO_SUCH_MACHINE, name,
                           "ListMachines shows the machines there are.", "There is no machine %s.",
                           name);
}

Refusal *machine_refusal(const Machine *machine, MachineEvent event) {
        if (machine->launch && machine->state == MACHINE_CREATED)
                return refusal_new(REFUSAL_INVALID_STATE, machine->name,
                                   "Wait until its Create replies.", "Machine %s is being created.",
                                   machine->name);
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

static bool machine_may_be_asked(const Machine *machine, MachineEvent event) {
        bool ends = event == MACHINE_ASK_POWER_OFF || event == MACHINE_ASK_DELETE;
        MachineState after;

        return (!machine->launch || ends) &&
               machine_step(machine->state, event, &after) != MACHINE_REFUSED;
}

/* The machine, when it may be asked @event now; else answers the caller and returns NULL. */
Machine *machine_to_ask(Manager *manager, const char *uuid, MachineEvent event, ManagerDone done,
                        void *userdata) {
        Machine *machine = manager_find_machine(manager, uuid);

        /* One without a domain is about to go, but for one that is being made. */
        if (!machine || !machine->shown ||
            (!machine->launch && !manager_find_domain(manager, uuid))) {
                call_refuse(done, userdata, no_such_machine(uuid));
                return NULL;
        }
        if (manager_deletes(manager, machine)) {
                call_refuse(done, userdata,
                            refusal_new(REFUSAL_INVALID_STATE, machine->name,
                                        "Wait until it is gone, then create it again.",
                                        "Machine %s is being deleted.", machine->name));
                return NULL;
        }
        if (!machine_may_be_asked(machine, event)) {
                call_refuse(done, userdata, machine_refusal(machine, event));
                return NULL;
        }
        return machine;
}

static bool calls_stop(const GPtrArray *calls, const Machine *machine) {
        for (guint i = 0; i < calls->len; i++) {
                const Call *call = g_ptr_array_index(calls, i);

                if (call->stops && g_str_equal(call->uuid, machine->uuid))
                        return true;
        }
        return false;
}

bool machine_is_to_stop(Manager *manager, const Machine *machine) {
        return machine->stop_taken || calls_stop(manager->machine_calls, machine) ||
               calls_stop(manager->deletes, machine);
}

/* A call that has failed takes back only its own effect: the machine that it was to stop runs on,
 * unless another call stops it all the same. */
static void machine_call_failed(Manager *manager, const Call *call, const Refusal *refusal) {
        Machine *machine = manager_find_machine(manager, call->uuid);

        if (!machine)
                return;
        if (call->stops && !machine_is_to_stop(manager, machine))
                machine_note(manager, machine, MACHINE_STOP_FAILED, refusal->message);
        machine_refresh(manager, machine);
}

/* libvirt has answered: the caller is told, and a machine that could not be stopped runs on. */
static void machine_call_ended(void *userdata, const Refusal *refusal) {
        Call *call = userdata;
        Manager *manager = call->manager;
        TURN(manager);
        Machine *machine = manager_find_machine(manager, call->uuid);
        guint index;

        g_ptr_array_find(manager->machine_calls, call, &index);
        g_ptr_array_steal_index_fast(manager->machine_calls, index);
        if (refusal)
                machine_call_failed(manager, call, refusal);
        else if (machine && call->stops && manager_domain_may_live(manager, call->uuid))
                machine->stop_taken = true;
        call->done(call->userdata, refusal);
        call_free(call);
}

/* Of all calls, only PowerOff and Delete end a start that is under way. */
static void call_end_launch(Call *call, Launch *launch, const char *how) {
        call->awaits_launch = true;
        launch_cancel(launch,
                      refusal_new(REFUSAL_INVALID_STATE, launch->name,
                                  "If it should run, start it or create it again.",
                                  "Machine %s was %s while it was starting.", launch->name, how));
}

static void machine_act(Manager *manager, const char *uuid, MachineEvent event, HypervisorVerb verb,
                        const char *reason, ManagerDone done, void *userdata) {
        TURN(manager);
        Machine *machine = machine_to_ask(manager, uuid, event, done, userdata);
        Call *call;

        if (!machine)
                return;
        if (machine_apply(manager, machine, event, reason) == MACHINE_REFUSED) {
                call_refuse(done, userdata, machine_refusal(machine, event));
                return;
        }
        call = manager_add_call(manager->machine_calls, manager, done, userdata);
        g_strlcpy(call->uuid, machine->uuid, sizeof(call->uuid));
        call->stops = event == MACHINE_ASK_SHUTDOWN || event == MACHINE_ASK_POWER_OFF;
        if (machine->launch)
                call_end_launch(call, machine->launch, "powered off");
        else
                manager->hypervisor.ops->act(manager->hypervisor.self, verb, call->uuid,
                                             machine_call_ended, call);
}

void manager_shutdown_machine(Manager *manager, const char *uuid, ManagerDone done,
                              void *userdata) {
        machine_act(manager, uuid, MACHINE_ASK_SHUTDOWN, HYPERVISOR_SHUTDOWN, "asked to shut down",
                    done, userdata);
}

void manager_power_off_machine(Manager *manager, const char *uuid, ManagerDone done,
                               void *userdata) {
        machine_act(manager, uuid, MACHINE_ASK_POWER_OFF, HYPERVISOR_DESTROY, "asked to power off",
                    done, userdata);
}

void manager_reboot_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata) {
        machine_act(manager, uuid, MACHINE_ASK_REBOOT, HYPERVISOR_REBOOT, "", done, userdata);
}

void manager_pause_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata) {
        machine_act(manager, uuid, MACHINE_ASK_PAUSE, HYPERVISOR_PAUSE, "", done, userdata);
}

void manager_resume_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata) {
        machine_act(manager, uuid, MACHINE_ASK_RESUME, HYPERVISOR_RESUME, "", done, userdata);
}

/* --- Delete: pull the plug, wait for the cards, forget --- */

static void delete_end(Call *call, const Refusal *refusal) {
        Manager *manager = call->manager;
        guint index;

        if (!g_ptr_array_find(manager->deletes, call, &index))
                return;
        g_ptr_array_steal_index_fast(manager->deletes, index);
        if (refusal)
                machine_call_failed(manager, call, refusal);
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
                                gpu_fault_help(gpu->view.fault),
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

        if (refusal)
                delete_end(call, refusal);
        else
                call->plug_pulled = true;
}

void manager_delete_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata) {
        TURN(manager);
        Machine *machine = machine_to_ask(manager, uuid, MACHINE_ASK_DELETE, done, userdata);
        Call *call;

        if (!machine)
                return;
        if (machine_apply(manager, machine, MACHINE_ASK_DELETE, "asked to be deleted") ==
            MACHINE_REFUSED) {
                call_refuse(done, userdata, machine_refusal(machine, MACHINE_ASK_DELETE));
                return;
        }
        call = manager_add_call(manager->deletes, manager, done, userdata);
        g_strlcpy(call->uuid, machine->uuid, sizeof(call->uuid));
        call->stops = true;
        if (machine->launch)
                call_end_launch(call, machine->launch, "deleted");
        else
                manager->hypervisor.ops->act(manager->hypervisor.self, HYPERVISOR_DESTROY,
                                             call->uuid, delete_powered_off, call);
}

/* Ends here: whatever the launch could not undo, or libvirt did in spite of it. */
static void calls_pull_plug(Manager *manager, const GPtrArray *calls, HypervisorDone done) {
        for (guint i = 0; i < calls->len; i++) {
                Call *call = g_ptr_array_index(calls, i);

                if (!call->awaits_launch || manager_launches(manager, call->uuid))
                        continue;
                call->awaits_launch = false;
                manager->hypervisor.ops->act(manager->hypervisor.self, HYPERVISOR_DESTROY,
                                             call->uuid, done, call);
        }
}

void manager_continue_stops(Manager *manager) {
        calls_pull_plug(manager, manager->machine_calls, machine_call_ended);
        calls_pull_plug(manager, manager->deletes, delete_powered_off);
}
