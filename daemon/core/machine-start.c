/* Start and CheckStart: both are judged as Create is, by what the machine's definition says now. */
#include "core/manager-private.h"

static Intake *start_intake(Manager *manager, const Machine *machine, GPtrArray *findings,
                            IntakeDone judged, void *userdata) {
        Intake *intake = intake_new(manager, INTAKE_START, NULL, findings, judged);

        intake_set_machine(intake, machine);
        intake->userdata = userdata;
        return intake;
}

/* What it is being given is in no definition that was judged. */
static Refusal *attach_refusal(const Machine *machine) {
        return refusal_new(REFUSAL_INVALID_STATE, machine->name, "Try again in a moment.",
                           "Machine %s is being given a disk or network interface.", machine->name);
}

/* The machine, when it is still the one that was asked for and may be started; else answers. */
static Machine *start_machine(const Intake *intake, ManagerDone done, void *userdata) {
        Refusal *refusal = NULL;
        Machine *machine = intake_machine(intake, &refusal);

        if (machine && manager_attaches(intake->manager, machine->uuid)) {
                refusal = attach_refusal(machine);
                machine = NULL;
        }
        if (machine)
                return machine_to_ask(intake->manager, machine->uuid, MACHINE_ASK_START, done,
                                      userdata);
        call_refuse(done, userdata, refusal);
        return NULL;
}

static void start_judged(Intake *intake, GPtrArray *findings) {
        const Refusal *error = findings_first_error(findings);
        Machine *machine;

        if (error) {
                intake->done(intake->userdata, error);
                return;
        }
        machine = start_machine(intake, intake->done, intake->userdata);
        if (machine)
                launch_begin(intake, machine);
}

void manager_start_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata) {
        TURN(manager);
        Machine *machine = machine_to_ask(manager, uuid, MACHINE_ASK_START, done, userdata);
        Intake *intake;

        if (!machine)
                return;
        intake = start_intake(manager, machine, NULL, start_judged, userdata);
        intake->done = done;
        intake_begin(intake);
}

static void add_refusal(void *userdata, const Refusal *refusal) {
        g_ptr_array_add(userdata, refusal_copy(refusal));
}

static void check_start_judged(Intake *intake, GPtrArray *findings) {
        if (!findings_first_error(findings))
                start_machine(intake, add_refusal, findings);
        intake->checked(intake->userdata, findings);
}

void manager_check_start(Manager *manager, const char *uuid, ManagerChecked done, void *userdata) {
        TURN(manager);
        g_autoptr(GPtrArray) findings = findings_new();
        Machine *machine = machine_to_ask(manager, uuid, MACHINE_ASK_START, add_refusal, findings);
        Intake *intake;

        if (!machine) {
                done(userdata, findings);
                return;
        }
        intake = start_intake(manager, machine, g_steal_pointer(&findings), check_start_judged,
                              userdata);
        intake->checked = done;
        intake_begin(intake);
}
