/* The manager against a world in memory: whole requests, every step failing in turn, the daemon
 * killed at every step, callers that race. */
#include "caller.h"
#include "testing.h"
#include "world.h"

#include <errno.h>
#include <string.h>

#define AUDIO_CARD "0000:01:00.0"
#define AUDIO      "0000:01:00.1"
#define OTHER_CARD "0000:02:00.0"
#define THIRD_CARD "0000:03:00.0"
#define NIC        "0000:05:00.0"

/* --- an observer that writes everything down --- */

typedef struct Diary {
        GString *gpu_states; /* of one GPU: "host-bound>vfio-bound" and so on, a line each */
        GString *machine_states;
} Diary;

static void diary_gpu(void *userdata, const Gpu *gpu, GpuState old, const char *reason) {
        Diary *diary = userdata;
        char shown[PCI_ADDRESS_BUFFER];

        /* The order among GPUs is nobody's promise; that of one GPU's states is. */
        if (g_str_equal(pci_address_print(gpu->address, shown), AUDIO_CARD))
                g_string_append_printf(diary->gpu_states, "%s>%s\n", gpu_state_to_string(old),
                                       gpu_state_to_string(gpu->view.state));
}

static void diary_machine(void *userdata, const Machine *machine, MachineState old,
                          const char *reason) {
        Diary *diary = userdata;

        g_string_append_printf(diary->machine_states, "%s %s>%s\n", machine->name,
                               machine_state_to_string(old),
                               machine_state_to_string(machine->state));
}

static const Observer diary_observer = {
        .gpu_state_changed = diary_gpu,
        .machine_state_changed = diary_machine,
};

/* --- the scene --- */

static World *scene(void) {
        World *world = world_new();

        world_add(world, AUDIO_CARD, 0x038000, 1, "bochs-drm");
        world_add(world, AUDIO, 0x040300, 1, "snd_hda_intel");
        world_add(world, OTHER_CARD, 0x038000, 2, "virtio-pci");
        world_add(world, THIRD_CARD, 0x038000, 3, "bochs-drm");
        world_add(world, NIC, 0x020000, 5, "e1000e");
        /* One is at the administrator's mercy, one at its driver's, and one cannot sleep at all. */
        world_set_power(world, AUDIO, "0", "auto");
        world_set_power(world, OTHER_CARD, "1", "on");
        world_set_power(world, THIRD_CARD, "", "");
        return world;
}

static World *booted_scene(void) {
        World *world = scene();

        world_boot(world);
        world_run(world);
        return world;
}

static Request *request_for(const char *name, ...) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(GPtrArray) gpus = g_ptr_array_new();
        const char *gpu;
        Request *request;
        va_list args;

        va_start(args, name);
        while ((gpu = va_arg(args, const char *)))
                g_ptr_array_add(gpus, (char *)gpu);
        va_end(args);
        g_ptr_array_add(gpus, NULL);
        request = request_new(name, (const char *const *)gpus->pdata, findings);
        request_finish(request, findings);
        assert_int_equal(findings->len, 0);
        return request;
}

static PciAddress at(const char *address) {
        PciAddress ret;

        assert_true(pci_address_parse(address, &ret));
        return ret;
}

static const Gpu *gpu_at(World *world, const char *address) {
        const Gpu *gpu = manager_gpu(world->manager, at(address));

        assert_non_null(gpu);
        return gpu;
}

static void assert_gpu(World *world, const char *address, GpuState state, const char *machine) {
        const Gpu *gpu = gpu_at(world, address);

        assert_string_equal(gpu_state_to_string(gpu->view.state), gpu_state_to_string(state));
        assert_string_equal(gpu_pending_to_string(gpu->view.pending), "");
        assert_string_equal(gpu_fault_to_string(gpu->view.fault), "");
        assert_string_equal(gpu->machine_name, machine);
}

static void assert_power(World *world, const char *address, const char *d3cold_allowed,
                         const char *control) {
        const FunctionPower *power = &world_function(world, address)->power;

        assert_string_equal(power->d3cold_allowed, d3cold_allowed);
        assert_string_equal(power->control, control);
}

static void assert_power_is_as_before(World *world) {
        assert_power(world, AUDIO_CARD, "1", "auto");
        assert_power(world, AUDIO, "0", "auto");
        assert_power(world, OTHER_CARD, "1", "on");
        assert_power(world, THIRD_CARD, "", "");
}

static void assert_everything_home(World *world) {
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
        assert_gpu(world, THIRD_CARD, GPU_HOST_BOUND, "");
        assert_string_equal(world_driver(world, AUDIO_CARD), "bochs-drm");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        assert_string_equal(world_driver(world, OTHER_CARD), "virtio-pci");
        assert_string_equal(world_driver(world, NIC), "e1000e");
        assert_string_equal(world_function(world, AUDIO_CARD)->driver_override, "");
        assert_string_equal(world_function(world, AUDIO)->driver_override, "");
        assert_power_is_as_before(world);
        assert_int_equal(world->ledger->len, 0);
        assert_int_equal(world->helpers->len, 0);
}

static void assert_no_machine(World *world) {
        assert_null(manager_machine(world->manager, "box"));
        assert_null(world_domain(world, "box"));
}

static void create_box(World *world, Caller *caller) {
        manager_create(world->manager, request_for("box", AUDIO_CARD, OTHER_CARD, NULL),
                       caller_done, caller);
}

/* The machine runs, and its cards are attached. */
static void run_box(World *world) {
        Caller caller = { 0 };

        create_box(world, &caller);
        world_run(world);
        assert_done(&caller);
}

/* --- the main job --- */

static void create_runs_a_machine_and_its_end_brings_every_function_home(void **state) {
        World *world = booted_scene();
        Diary diary = { g_string_new(NULL), g_string_new(NULL) };

        manager_set_observer(world->manager, &diary_observer, &diary);
        run_box(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        assert_gpu(world, OTHER_CARD, GPU_ATTACHED, "box");
        assert_gpu(world, THIRD_CARD, GPU_HOST_BOUND, "");
        assert_string_equal(world_driver(world, AUDIO), "vfio-pci");
        assert_string_equal(world_driver(world, THIRD_CARD), "bochs-drm");

        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_everything_home(world);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_STOPPED);

        assert_string_equal(diary.machine_states->str, "box created>starting\n"
                                                       "box starting>running\n"
                                                       "box running>stopped\n");
        assert_string_equal(diary.gpu_states->str, "host-bound>vfio-bound\n"
                                                   "vfio-bound>attached\n"
                                                   "attached>vfio-bound\n"
                                                   "vfio-bound>host-bound\n");
        g_string_free(diary.gpu_states, TRUE);
        g_string_free(diary.machine_states, TRUE);
        world_free(world);
}

static void a_machine_without_gpus_is_welcome(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        manager_create(world->manager, request_for("plain", NULL), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_int_equal(manager_machine(world->manager, "plain")->state, MACHINE_RUNNING);
        assert_int_equal(world->handovers_begun, 0);
        world_free(world);
}

static void create_without_wait_answers_when_the_gpus_are_reserved(void **state) {
        World *world = booted_scene();
        Request *request = request_for("box", AUDIO_CARD, NULL);
        Caller caller = { 0 };

        request->wait = false;
        manager_create(world->manager, request, caller_done, &caller);
        while (caller.answers == 0)
                assert_true(world_step(world));
        assert_done(&caller);
        assert_int_equal(gpu_at(world, AUDIO_CARD)->view.pending, GPU_PENDING_BINDING);
        assert_string_equal(gpu_at(world, AUDIO_CARD)->machine_name, "box");
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_STARTING);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

static void create_without_start_takes_no_gpu_until_start(void **state) {
        World *world = booted_scene();
        Request *request = request_for("box", AUDIO_CARD, NULL);
        Caller caller = { 0 };

        request->start = false;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_CREATED);
        assert_int_equal(world->handovers_begun, 0);

        manager_start_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

static void assert_awake(World *world) {
        assert_true(world_is_awake(world, AUDIO_CARD));
        assert_true(world_is_awake(world, AUDIO));
}

static void a_card_that_was_bound_ahead_stays_on_vfio_after_its_machine(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        assert_string_equal(world_driver(world, AUDIO), "vfio-pci");
        assert_string_equal(gpu_at(world, AUDIO_CARD)->host_driver, "bochs-drm");
        assert_awake(world);

        run_box(world);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
        assert_awake(world);

        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        world_free(world);
}

/* The card with its companion is on vfio-pci already, where it may sleep. */
static World *scene_with_a_kept_card(void) {
        World *world = scene();

        g_strlcpy(world_function(world, AUDIO_CARD)->facts.driver, "vfio-pci", 64);
        g_strlcpy(world_function(world, AUDIO)->facts.driver, "vfio-pci", 64);
        world_boot(world);
        world_run(world);
        return world;
}

static void assert_kept_card_is_as_before(World *world) {
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        assert_string_equal(world_driver(world, AUDIO), "vfio-pci");
        assert_power_is_as_before(world);
        assert_int_equal(world->ledger->len, 0);
}

static void a_card_that_the_administrator_keeps_on_vfio_is_left_there(void **state) {
        World *world = scene_with_a_kept_card();
        Caller caller = { 0 };

        run_box(world);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_kept_card_is_as_before(world);
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");

        /* Release takes it to whatever driver the kernel has for it. */
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        world_free(world);
}

/* Function by function, each first without a driver, as by hand. The last one that leaves vfio-pci
 * sends the helper. */
static void a_bound_card_that_somebody_takes_back_gets_its_power_settings_back(void **state) {
        static const char *const steps[][2] = { { AUDIO, "" },
                                                { AUDIO, "snd_hda_intel" },
                                                { AUDIO_CARD, "" },
                                                { AUDIO_CARD, "nouveau" } };
        World *world = booted_scene();
        Caller caller = { 0 };

        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        g_strlcpy(world_function(world, AUDIO_CARD)->driver_override, "theirs", 64);
        for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
                g_strlcpy(world_function(world, steps[i][0])->facts.driver, steps[i][1], 64);
                world_uevent(world, steps[i][0]);
                world_run(world);
                assert_int_equal(world->ledger->len, i < 2);
                assert_int_equal(world->handovers_begun, i < 2 ? 1 : 2);
                assert_string_equal(world_driver(world, steps[i][0]), steps[i][1]);
        }
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        assert_string_equal(world_driver(world, AUDIO_CARD), "nouveau");
        assert_string_equal(world_function(world, AUDIO_CARD)->driver_override, "theirs");
        assert_power_is_as_before(world);
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

/* --- every way to end --- */

static void however_the_machine_ends_its_cards_come_home(void **state) {
        static const struct {
                DomainOffReason reason;
                MachineState after;
        } ends[] = {
                { DOMAIN_OFF_SHUTDOWN, MACHINE_STOPPED },
                { DOMAIN_OFF_DESTROYED, MACHINE_STOPPED },
                { DOMAIN_OFF_CRASHED, MACHINE_CRASHED },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(ends); i++) {
                World *world = booted_scene();

                run_box(world);
                world_end_domain(world, world_domain(world, "box"), ends[i].reason);
                world_run(world);
                assert_everything_home(world);
                assert_int_equal(manager_machine(world->manager, "box")->state, ends[i].after);
                world_free(world);
        }
}

static void power_off_and_delete_bring_the_cards_home(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        manager_power_off_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);

        manager_start_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        manager_delete_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        assert_no_machine(world);
        world_free(world);
}

static void delete_answers_only_when_the_cards_are_home(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        manager_delete_machine(world->manager, "box", caller_done, &caller);
        while (caller.answers == 0) {
                assert_true(world_step(world));
                if (world_domain(world, "box") == NULL)
                        assert_int_equal(world->ledger->len, 0);
        }
        assert_done(&caller);
        world_free(world);
}

static void a_machine_that_cannot_be_powered_off_runs_on_and_its_caller_is_told(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        world->fail_verb[HYPERVISOR_DESTROY] = true;
        manager_power_off_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_RUNNING);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

/* --- every step of Create fails in turn --- */

static void fail_define(World *world) {
        world->fail_verb[HYPERVISOR_DEFINE] = true;
}

static void fail_ledger(World *world) {
        world->fail_ledger = -ENOSPC;
}

static void fail_first_bind(World *world) {
        world_mark(world->refused, AUDIO_CARD);
}

static void fail_second_bind(World *world) {
        world_mark(world->refused, OTHER_CARD);
}

static void fail_start(World *world) {
        world->fail_verb[HYPERVISOR_START] = true;
}

static void fail_running(World *world) {
        world->quit_at_once = true;
}

static void whatever_step_of_create_fails_everything_is_undone_before_the_answer(void **state) {
        static const struct {
                void (*break_it)(World *world);
                RefusalCode code;
        } failures[] = {
                { fail_define, REFUSAL_HYPERVISOR_FAILED },
                { fail_ledger, REFUSAL_HANDOVER_FAILED },
                { fail_first_bind, REFUSAL_HANDOVER_FAILED },
                { fail_second_bind, REFUSAL_HANDOVER_FAILED },
                { fail_start, REFUSAL_HYPERVISOR_FAILED },
                { fail_running, REFUSAL_HYPERVISOR_FAILED },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(failures); i++) {
                World *world = booted_scene();
                Caller caller = { 0 };

                failures[i].break_it(world);
                create_box(world, &caller);
                while (caller.answers == 0)
                        assert_true(world_step(world));
                assert_refused(&caller, failures[i].code);
                world->fail_ledger = 0;
                assert_everything_home(world);
                assert_no_machine(world);
                world_run(world);
                assert_everything_home(world);
                world_free(world);
        }
}

static void whatever_step_of_start_fails_the_machine_stays_and_its_cards_are_home(void **state) {
        static void (*const failures[])(World *) = { fail_ledger, fail_first_bind, fail_second_bind,
                                                     fail_start, fail_running };

        for (size_t i = 0; i < G_N_ELEMENTS(failures); i++) {
                World *world = booted_scene();
                Request *request = request_for("box", AUDIO_CARD, OTHER_CARD, NULL);
                Caller caller = { 0 };

                request->start = false;
                manager_create(world->manager, request, caller_done, &caller);
                world_run(world);
                assert_done(&caller);
                failures[i](world);
                manager_start_machine(world->manager, "box", caller_done, &caller);
                while (caller.answers == 0)
                        assert_true(world_step(world));
                assert_true(caller.refused);
                g_free(caller.message);
                world->fail_ledger = 0;
                assert_everything_home(world);
                assert_non_null(manager_machine(world->manager, "box"));
                assert_false(machine_state_is_up(manager_machine(world->manager, "box")->state));
                world_free(world);
        }
}

static void a_driver_that_does_not_let_go_makes_its_gpu_stuck_and_nothing_else(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        world_mark(world->stuck, AUDIO_CARD);
        create_box(world, &caller);
        world_run(world);
        assert_int_equal(caller.answers, 0);
        world_overdue(world, AUDIO_CARD);
        world_run(world);
        assert_refused(&caller, REFUSAL_HANDOVER_TIMEOUT);
        assert_no_machine(world);
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
        assert_int_equal(gpu_at(world, AUDIO_CARD)->view.fault, GPU_FAULT_STUCK);
        assert_true(strstr(gpu_at(world, AUDIO_CARD)->fault_message, "bochs-drm") != NULL);

        /* Another machine with another card starts meanwhile; the stuck one is refused. */
        manager_create(world->manager, request_for("other", OTHER_CARD, NULL), caller_done,
                       &caller);
        world_run(world);
        assert_done(&caller);
        manager_create(world->manager, request_for("more", AUDIO_CARD, NULL), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);
        manager_recover_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);

        /* When the helper ends after all, the fault clears and the card goes home. */
        world_unstick(world, AUDIO_CARD);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        world_free(world);
}

static void a_stuck_helper_that_was_killed_leaves_a_card_that_goes_home_by_itself(void **state) {
        for (unsigned by_bind = 0; by_bind < 2; by_bind++) {
                World *world = booted_scene();
                Caller caller = { 0 };

                world_mark(world->stuck, AUDIO_CARD);
                if (by_bind)
                        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
                else
                        create_box(world, &caller);
                world_run(world);
                world_overdue(world, AUDIO_CARD);
                world_run(world);
                assert_refused(&caller, REFUSAL_HANDOVER_TIMEOUT);
                world_kill_helper(world, AUDIO_CARD);
                world_run(world);
                assert_everything_home(world);
                assert_no_machine(world);
                world_free(world);
        }
}

static void a_card_that_cannot_go_home_is_faulted_and_recover_takes_it_there(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        world_mark(world->no_return, AUDIO_CARD);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_int_equal(gpu_at(world, AUDIO_CARD)->view.fault, GPU_FAULT_HANDOVER_FAILED);
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
        manager_start_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);

        g_array_set_size(world->no_return, 0);
        manager_recover_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        world_free(world);
}

static void a_bind_that_the_kernel_refuses_is_undone_before_the_answer(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        world_mark(world->refused, AUDIO_CARD);
        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        while (caller.answers == 0)
                assert_true(world_step(world));
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        assert_everything_home(world);
        world_free(world);
}

static void a_card_that_does_not_answer_is_lost_and_given_to_nobody(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        world_function(world, AUDIO_CARD)->dead = true;
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_CRASHED);
        world_run(world);
        assert_int_equal(gpu_at(world, AUDIO_CARD)->view.fault, GPU_FAULT_LOST);
        manager_create(world->manager, request_for("more", AUDIO_CARD, NULL), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);
        world_free(world);
}

/* --- the daemon is killed --- */

static void assert_recovered(World *world) {
        const WorldDomain *domain = world_domain(world, "box");

        if (domain && domain->qemu) {
                assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
                assert_gpu(world, OTHER_CARD, GPU_ATTACHED, "box");
                assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_RUNNING);
                return;
        }
        assert_everything_home(world);
        assert_no_machine(world);
}

static void killed_at_any_step_of_create_the_next_daemon_finishes_or_undoes(void **state) {
        unsigned steps;

        for (steps = 0;; steps++) {
                World *world = booted_scene();
                Caller caller = { 0 };
                bool over = false;

                create_box(world, &caller);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                world_kill_daemon(world);
                world_boot(world);
                world_run(world);
                assert_recovered(world);
                world_free(world);
                g_free(caller.message);
                if (over)
                        break;
        }
        assert_true(steps > 10);
}

static void killed_twice_at_any_step_the_third_daemon_finishes_or_undoes(void **state) {
        for (unsigned first = 0; first < 16; first++)
                for (unsigned second = 0; second < 16; second++) {
                        World *world = booted_scene();
                        Caller caller = { 0 };

                        create_box(world, &caller);
                        for (unsigned i = 0; i < first; i++)
                                world_step(world);
                        world_kill_daemon(world);
                        world_boot(world);
                        for (unsigned i = 0; i < second; i++)
                                world_step(world);
                        world_kill_daemon(world);
                        world_boot(world);
                        world_run(world);
                        assert_recovered(world);
                        world_free(world);
                        g_free(caller.message);
                }
}

static void killed_at_any_step_of_the_return_the_next_daemon_finishes(void **state) {
        bool over = false;

        for (unsigned steps = 0; !over; steps++) {
                World *world = booted_scene();

                run_box(world);
                world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                world_kill_daemon(world);
                world_boot(world);
                world_run(world);
                assert_everything_home(world);
                assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_STOPPED);
                world_free(world);
        }
}

static void killed_at_any_step_of_bind_the_card_is_wholly_on_one_side(void **state) {
        bool over = false;

        for (unsigned steps = 0; !over; steps++) {
                World *world = booted_scene();
                Caller caller = { 0 };
                const Gpu *gpu;

                manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                world_kill_daemon(world);
                world_boot(world);
                world_run(world);
                gpu = gpu_at(world, AUDIO_CARD);
                if (gpu->view.state == GPU_VFIO_BOUND) {
                        assert_string_equal(world_driver(world, AUDIO), "vfio-pci");
                        assert_awake(world);
                } else
                        assert_everything_home(world);
                world_free(world);
        }
}

static void killed_at_any_step_with_a_card_that_is_kept_on_vfio_it_is_put_back_as_it_was(
        void **state) {
        bool over = false;

        for (unsigned steps = 0; !over; steps++) {
                World *world = scene_with_a_kept_card();
                Caller caller = { 0 };
                WorldDomain *domain;

                create_box(world, &caller);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                world_kill_daemon(world);
                world_boot(world);
                world_run(world);
                domain = world_domain(world, "box");
                if (domain && domain->qemu) {
                        world_end_domain(world, domain, DOMAIN_OFF_SHUTDOWN);
                        for (unsigned i = 0; i < steps % 12; i++)
                                world_step(world);
                        world_kill_daemon(world);
                        world_boot(world);
                        world_run(world);
                }
                assert_kept_card_is_as_before(world);
                assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
                world_free(world);
                g_free(caller.message);
        }
}

/* Its daemon has written no power settings, and none is restored: what keeps the card awake stays,
 * but for what the kernel and its drivers set by themselves. */
static void the_record_of_an_earlier_version_brings_its_card_home(void **state) {
        World *world = booted_scene();

        run_box(world);
        world_kill_daemon(world);
        for (guint i = 0; i < world->ledger->len; i++) {
                CardRecord *record = g_ptr_array_index(world->ledger, i);

                for (guint j = 0; j < record->origins->len; j++)
                        g_array_index(record->origins, FunctionOrigin, j).power =
                                (FunctionPower){ 0 };
        }
        world_boot(world);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        assert_power(world, AUDIO_CARD, "0", "auto");
        assert_power(world, OTHER_CARD, "0", "auto");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

static void a_restarted_daemon_shows_the_same_truth(void **state) {
        World *world = booted_scene();

        run_box(world);
        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        assert_string_equal(gpu_at(world, AUDIO_CARD)->host_driver, "bochs-drm");
        assert_int_equal(manager_machine(world->manager, "box")->gpus->len, 2);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

static void a_machine_that_ended_while_the_daemon_was_away_has_its_cards_brought_home(
        void **state) {
        World *world = booted_scene();

        run_box(world);
        world_kill_daemon(world);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_CRASHED);
        world_kill_daemon(world); /* nobody was there to look */
        world_boot(world);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

static void without_libvirt_a_restarted_daemon_touches_no_card_of_a_machine(void **state) {
        World *world = booted_scene();

        run_box(world);
        world_kill_daemon(world);
        world->connected = false;
        world_boot(world);
        world_run(world);
        assert_string_equal(world_driver(world, AUDIO_CARD), "vfio-pci");
        assert_int_equal(world->helpers->len, 0);
        world_set_connected(world, true);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

/* --- callers against each other, and against others --- */

static void of_many_callers_for_one_gpu_exactly_one_wins(void **state) {
        World *world = booted_scene();
        Caller callers[32] = { 0 };
        unsigned won = 0;

        for (unsigned i = 0; i < 32; i++) {
                g_autofree char *name = g_strdup_printf("box%u", i);

                manager_create(world->manager, request_for(name, AUDIO_CARD, NULL), caller_done,
                               callers + i);
        }
        world_run(world);
        for (unsigned i = 0; i < 32; i++) {
                assert_int_equal(callers[i].answers, 1);
                if (callers[i].refused)
                        assert_refused(callers + i, REFUSAL_GPU_IN_USE);
                else
                        won++;
        }
        assert_int_equal(won, 1);
        assert_int_equal(world->handovers_begun, 1);
        world_free(world);
}

static void two_creates_at_once_both_run(void **state) {
        World *world = booted_scene();
        Caller a = { 0 }, b = { 0 };

        manager_create(world->manager, request_for("a", AUDIO_CARD, NULL), caller_done, &a);
        manager_create(world->manager, request_for("b", OTHER_CARD, NULL), caller_done, &b);
        world_run(world);
        assert_done(&a);
        assert_done(&b);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "a");
        assert_gpu(world, OTHER_CARD, GPU_ATTACHED, "b");
        world_free(world);
}

static void one_bad_gpu_of_a_request_touches_none(void **state) {
        static const struct {
                const char *bad;
                RefusalCode code;
        } bads[] = {
                { NIC, REFUSAL_NOT_A_GPU },
                { "0000:0f:00.0", REFUSAL_NO_SUCH_GPU },
                { AUDIO, REFUSAL_NOT_A_GPU },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(bads); i++) {
                World *world = booted_scene();
                Caller caller = { 0 };

                manager_create(world->manager, request_for("box", AUDIO_CARD, bads[i].bad, NULL),
                               caller_done, &caller);
                world_run(world);
                assert_refused(&caller, bads[i].code);
                assert_everything_home(world);
                assert_no_machine(world);
                assert_int_equal(world->handovers_begun, 0);
                world_free(world);
        }
}

static void a_gpu_of_a_foreign_domain_is_attached_with_its_name_and_refused(void **state) {
        World *world = scene();
        Caller caller = { 0 };

        world_add_foreign(world, "theirs", THIRD_CARD);
        world_boot(world);
        world_run(world);
        assert_gpu(world, THIRD_CARD, GPU_ATTACHED, "theirs");
        assert_null(manager_machine(world->manager, "theirs"));
        manager_create(world->manager, request_for("box", THIRD_CARD, NULL), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_IN_USE);
        manager_release_gpu(world->manager, at(THIRD_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_IN_USE);

        /* Theirs to give back: nothing is done for it. */
        world_end_domain(world, world_domain(world, "theirs"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_gpu(world, THIRD_CARD, GPU_VFIO_BOUND, "");
        assert_int_equal(world->handovers_begun, 0);
        world_free(world);
}

static void the_name_of_a_foreign_domain_is_taken(void **state) {
        World *world = scene();
        Caller caller = { 0 };

        world_add_foreign(world, "theirs", THIRD_CARD);
        world_boot(world);
        world_run(world);
        manager_create(world->manager, request_for("theirs", NULL), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_MACHINE_EXISTS);
        world_free(world);
}

static void without_libvirt_create_is_refused_and_nothing_touched(void **state) {
        World *world = scene();
        Caller caller = { 0 };

        world->connected = false;
        world_boot(world);
        world_run(world);
        create_box(world, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        assert_everything_home(world);
        world_free(world);
}

static void a_process_that_holds_the_gpu_is_named(void **state) {
        World *world = booted_scene();
        Holder *holder = holder_new(HOLDER_PROCESS, "/dev/dri/card0");
        Caller caller = { 0 };

        holder->pid = 77;
        g_free(holder->command);
        holder->command = g_strdup("Xorg");
        g_ptr_array_add(world->holders, holder);
        manager_create(world->manager, request_for("box", AUDIO_CARD, NULL), caller_done, &caller);
        world_run(world);
        assert_true(strstr(caller.message, "Xorg") != NULL);
        assert_refused(&caller, REFUSAL_GPU_BUSY);
        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_BUSY);
        assert_everything_home(world);
        world_free(world);
}

/* Who holds a card is not asked while it moves; when it has come to rest before the answer about
 * the rest of the request is there, nobody knows. */
static void a_gpu_that_comes_to_rest_during_a_create_is_not_taken_unseen(void **state) {
        bool rested = false;

        for (unsigned steps = 0;; steps++) {
                World *world = booted_scene();
                Request *request = request_for("box", AUDIO_CARD, NULL);
                Caller bound = { 0 }, released = { 0 }, caller = { 0 };
                const Gpu *gpu = manager_gpu(world->manager, at(AUDIO_CARD));
                bool moves;

                g_hash_table_insert(world->images, g_strdup("disk.img"), GINT_TO_POINTER(IMAGE_OK));
                request->image = g_strdup("disk.img");
                manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &bound);
                world_run(world);
                assert_done(&bound);
                manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &released);
                for (unsigned i = 0; i < steps; i++)
                        world_step(world);
                moves = gpu->view.pending != GPU_PENDING_NONE;
                manager_create(world->manager, request, caller_done, &caller);
                world_run(world);
                if (moves) {
                        rested |= strstr(caller.message, "not at rest") != NULL;
                        assert_refused(&caller, REFUSAL_INVALID_STATE);
                        assert_everything_home(world);
                } else
                        assert_done(&caller);
                world_free(world);
                if (!moves)
                        break;
        }
        assert_true(rested);
}

/* What a machine with GPUs wants is looked at anew at each start: the memory that is free, and what
 * other machines have of that which all may have. */
static void memory_that_is_not_free_stops_a_start(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        uint64_t mib;

        manager_create(world->manager, request_for("box", AUDIO_CARD, NULL), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        mib = manager_machine(world->manager, "box")->memory_mib;
        world->host_facts.machines_limit_mib = 2 * mib;
        manager_create(world->manager, request_for("fox", OTHER_CARD, NULL), caller_done, &caller);
        world_run(world);
        assert_true(strstr(caller.message, "MemoryMax") != NULL);
        assert_refused(&caller, REFUSAL_INVALID_OPTION);

        manager_power_off_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world->host_facts.memory_available_mib = mib;
        manager_start_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_true(strstr(caller.message, "available") != NULL);
        assert_refused(&caller, REFUSAL_INVALID_OPTION);
        world->host_facts.memory_available_mib = 2 * mib;
        manager_start_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world_free(world);
}

static void a_card_half_on_vfio_before_its_machine_is_so_after_it(void **state) {
        World *world = scene();
        Caller caller = { 0 };

        /* The administrator keeps the GPU's function for machines, and has forgotten the audio. */
        g_strlcpy(world_function(world, AUDIO_CARD)->facts.driver, "vfio-pci", 64);
        g_strlcpy(world_function(world, AUDIO_CARD)->driver_override, "vfio-pci", 64);
        world_boot(world);
        world_run(world);
        run_box(world);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        assert_string_equal(world_function(world, AUDIO_CARD)->driver_override, "vfio-pci");
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        world_free(world);
}

static void libvirt_lost_at_any_step_of_create_leaves_no_lie(void **state) {
        bool over = false;

        for (unsigned steps = 0; !over; steps++) {
                World *world = booted_scene();
                Caller caller = { 0 };
                const WorldDomain *domain;

                create_box(world, &caller);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                world_set_connected(world, false);
                world_run(world);
                world_set_connected(world, true);
                world_run(world);
                assert_int_equal(caller.answers, 1);
                domain = world_domain(world, "box");
                if (!caller.refused) {
                        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
                        assert_int_equal(manager_machine(world->manager, "box")->state,
                                         MACHINE_RUNNING);
                } else {
                        /* An error means that nothing is left, once libvirt can be told. */
                        assert_null(domain);
                        assert_everything_home(world);
                        assert_no_machine(world);
                }
                g_free(caller.message);
                world_free(world);
        }
}

static void libvirt_lost_at_any_step_of_create_without_start_leaves_no_lie(void **state) {
        bool over = false;

        for (unsigned steps = 0; !over; steps++) {
                World *world = booted_scene();
                Request *request = request_for("box", AUDIO_CARD, NULL);
                Caller caller = { 0 };

                request->start = false;
                manager_create(world->manager, request, caller_done, &caller);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                world_set_connected(world, false);
                world_run(world);
                world_set_connected(world, true);
                world_run(world);
                assert_int_equal(caller.answers, 1);
                assert_int_equal(caller.refused, world_domain(world, "box") == NULL);
                assert_int_equal(caller.refused, manager_machine(world->manager, "box") == NULL);
                g_free(caller.message);
                world_free(world);
        }
}

static void a_machine_that_is_paused_as_it_starts_is_paused_and_can_end(void **state) {
        World *world = booted_scene();

        world->start_paused = true;
        run_box(world);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_PAUSED);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_CRASHED);
        world_run(world);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_CRASHED);
        assert_everything_home(world);
        world_free(world);
}

static void an_unfinished_create_that_libvirt_keeps_is_shown_and_can_be_deleted(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        world->fail_verb[HYPERVISOR_START] = world->fail_verb[HYPERVISOR_UNDEFINE] = true;
        create_box(world, &caller);
        world_run(world); /* and comes to rest: libvirt is not asked for ever */
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);
        assert_everything_home(world);
        assert_non_null(manager_machine(world->manager, "box"));
        world->fail_verb[HYPERVISOR_UNDEFINE] = false;
        manager_delete_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_no_machine(world);
        world_free(world);
}

static void delete_tells_of_a_card_that_did_not_come_back(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        world_mark(world->no_return, AUDIO_CARD);
        manager_delete_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);
        assert_no_machine(world);
        g_array_set_size(world->no_return, 0);
        manager_recover_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        world_free(world);
}

static void a_fault_clears_by_itself_when_somebody_removes_its_cause(void **state) {
        World *world = booted_scene();

        run_box(world);
        world_mark(world->no_return, AUDIO_CARD);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_int_equal(gpu_at(world, AUDIO_CARD)->view.fault, GPU_FAULT_HANDOVER_FAILED);
        assert_string_equal(gpu_at(world, AUDIO_CARD)->host_driver, "bochs-drm");
        g_array_set_size(world->no_return, 0);
        world_rebind(world, AUDIO_CARD, "bochs-drm");
        world_uevent(world, AUDIO_CARD);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

static void without_libvirt_a_card_of_a_machine_is_not_released(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        world_kill_daemon(world);
        world->connected = false;
        world_boot(world);
        world_run(world);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        world_set_connected(world, true);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

static void a_card_that_cannot_be_looked_at_is_not_gone(void **state) {
        World *world = booted_scene();

        run_box(world);
        world->fail_look = -EMFILE;
        world_uevent(world, AUDIO_CARD);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world->fail_look = 0;
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

static void a_check_while_a_card_vanishes_judges_what_is_left(void **state) {
        for (unsigned steps = 1; steps < 8; steps++) {
                World *world = booted_scene();
                Caller caller = { 0 }, other = { 0 };

                create_box(world, &caller);
                for (unsigned i = 0; i < steps; i++)
                        world_step(world);
                g_ptr_array_remove(world->functions, world_function(world, OTHER_CARD));
                manager_create(world->manager, request_for("other", AUDIO_CARD, OTHER_CARD, NULL),
                               caller_done, &other);
                world_run(world);
                assert_int_equal(other.answers, 1);
                assert_true(other.refused);
                g_free(other.message);
                g_free(caller.message);
                world_free(world);
        }
}

static void a_machine_that_is_renamed_elsewhere_follows(void **state) {
        World *world = booted_scene();
        WorldDomain *domain;

        run_box(world);
        domain = world_domain(world, "box");
        world_end_domain(world, domain, DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        g_free(domain->name);
        domain->name = g_strdup("chest");
        world_end_domain(world, domain, DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_null(manager_machine(world->manager, "box"));
        assert_non_null(manager_machine(world->manager, "chest"));
        world_free(world);
}

/* libvirt, when it is back, resets the cards of whom it finds dead, unless they are on vfio-pci. */
static void a_qemu_that_dies_while_libvirt_is_away_keeps_its_cards_until_that_is_through(
        void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;

        run_box(world);
        domain = world_domain(world, "box");
        world_set_connected(world, false);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_kill_qemu(world, domain);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_CRASHED);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        assert_int_equal(world->helpers->len, 0);

        /* Back, it thinks that the domain runs; */
        domain->active = true;
        domain->pid = 0;
        world_set_connected(world, true);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_CRASHED);
        /* then it is through with that. */
        domain->active = false;
        domain->off_reason = DOMAIN_OFF_CRASHED;
        world_look_again(world, domain);
        world_run(world);
        assert_everything_home(world);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_CRASHED);
        world_free(world);
}

static void a_qemu_that_dies_while_libvirt_starts_keeps_its_cards_until_that_answers(void **state) {
        World *world = booted_scene();

        run_box(world);
        world->connecting = true;
        world_set_connected(world, false);
        world_kill_qemu(world, world_domain(world, "box"));
        world_run(world);
        assert_string_equal(world_driver(world, AUDIO_CARD), "vfio-pci");
        assert_int_equal(world->helpers->len, 0);
        world->connecting = false;
        world_set_connected(world, true);
        world_run(world);
        assert_everything_home(world);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_CRASHED);
        world_free(world);
}

/* Not the first start, so the QEMU of an earlier one has been seen to die. */
static void a_start_that_libvirt_took_with_it_keeps_its_cards_until_that_answers(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        manager_power_off_machine(world->manager, "box", caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        manager_start_machine(world->manager, "box", caller_done, &caller);
        while (!world_domain(world, "box")->active)
                assert_true(world_step(world));
        world->connecting = true;
        world_set_connected(world, false);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        world_kill_qemu(world, world_domain(world, "box"));
        world_run(world);
        assert_string_equal(world_driver(world, AUDIO_CARD), "vfio-pci");
        assert_int_equal(world->helpers->len, 0);
        world->connecting = false;
        world_set_connected(world, true);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

static void libvirts_word_that_it_is_off_is_not_believed_while_qemu_lives(void **state) {
        World *world = booted_scene();
        WorldDomain *domain;

        run_box(world);
        domain = world_domain(world, "box");
        domain->active = false; /* it gave up killing a QEMU that hangs in the kernel */
        domain->off_reason = DOMAIN_OFF_DESTROYED;
        world_look_again(world, domain);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_STOPPING);
        assert_int_equal(world->helpers->len, 0);
        world_kill_qemu(world, domain);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

static void every_request_in_a_wrong_state_is_refused(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        manager_start_machine(world->manager, "box", caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        create_box(world, &caller);
        world_run(world);
        assert_int_equal(caller.answers, 1);
        assert_true(caller.refused);
        g_free(caller.message);
        memset(&caller, 0, sizeof(caller));
        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_IN_USE);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        assert_refused(&caller, REFUSAL_GPU_IN_USE);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        manager_shutdown_machine(world->manager, "box", caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        manager_power_off_machine(world->manager, "box", caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        manager_start_machine(world->manager, "nobody", caller_done, &caller);
        assert_refused(&caller, REFUSAL_NO_SUCH_MACHINE);
        world_free(world);
}

static void a_card_that_vanishes_under_a_launch_ends_it(void **state) {
        for (unsigned steps = 1; steps < 8; steps++) {
                World *world = booted_scene();
                Caller caller = { 0 };

                create_box(world, &caller);
                for (unsigned i = 0; i < steps; i++)
                        world_step(world);
                world_remove(world, OTHER_CARD);
                world_run(world);
                assert_int_equal(caller.answers, 1);
                assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
                assert_null(manager_gpu(world->manager, at(OTHER_CARD)));
                assert_int_equal(world->ledger->len, 0);
                g_free(caller.message);
                world_free(world);
        }
}

static void uevents_at_any_step_do_not_disturb_a_create(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        create_box(world, &caller);
        while (world_step(world)) {
                world_uevent(world, AUDIO_CARD);
                world_uevent(world, OTHER_CARD);
                world_uevent(world, THIRD_CARD);
        }
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        while (world_step(world)) {
                world_uevent(world, AUDIO_CARD);
                world_uevent(world, OTHER_CARD);
        }
        assert_everything_home(world);
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(create_runs_a_machine_and_its_end_brings_every_function_home),
                cmocka_unit_test(a_machine_without_gpus_is_welcome),
                cmocka_unit_test(create_without_wait_answers_when_the_gpus_are_reserved),
                cmocka_unit_test(create_without_start_takes_no_gpu_until_start),
                cmocka_unit_test(a_card_that_was_bound_ahead_stays_on_vfio_after_its_machine),
                cmocka_unit_test(a_card_that_the_administrator_keeps_on_vfio_is_left_there),
                cmocka_unit_test(
                        a_bound_card_that_somebody_takes_back_gets_its_power_settings_back),
                cmocka_unit_test(however_the_machine_ends_its_cards_come_home),
                cmocka_unit_test(power_off_and_delete_bring_the_cards_home),
                cmocka_unit_test(delete_answers_only_when_the_cards_are_home),
                cmocka_unit_test(
                        a_machine_that_cannot_be_powered_off_runs_on_and_its_caller_is_told),
                cmocka_unit_test(
                        whatever_step_of_create_fails_everything_is_undone_before_the_answer),
                cmocka_unit_test(
                        whatever_step_of_start_fails_the_machine_stays_and_its_cards_are_home),
                cmocka_unit_test(
                        a_driver_that_does_not_let_go_makes_its_gpu_stuck_and_nothing_else),
                cmocka_unit_test(
                        a_stuck_helper_that_was_killed_leaves_a_card_that_goes_home_by_itself),
                cmocka_unit_test(a_card_that_cannot_go_home_is_faulted_and_recover_takes_it_there),
                cmocka_unit_test(a_bind_that_the_kernel_refuses_is_undone_before_the_answer),
                cmocka_unit_test(a_card_that_does_not_answer_is_lost_and_given_to_nobody),
                cmocka_unit_test(killed_at_any_step_of_create_the_next_daemon_finishes_or_undoes),
                cmocka_unit_test(killed_twice_at_any_step_the_third_daemon_finishes_or_undoes),
                cmocka_unit_test(killed_at_any_step_of_the_return_the_next_daemon_finishes),
                cmocka_unit_test(killed_at_any_step_of_bind_the_card_is_wholly_on_one_side),
                cmocka_unit_test(
                        killed_at_any_step_with_a_card_that_is_kept_on_vfio_it_is_put_back_as_it_was),
                cmocka_unit_test(the_record_of_an_earlier_version_brings_its_card_home),
                cmocka_unit_test(a_restarted_daemon_shows_the_same_truth),
                cmocka_unit_test(
                        a_machine_that_ended_while_the_daemon_was_away_has_its_cards_brought_home),
                cmocka_unit_test(without_libvirt_a_restarted_daemon_touches_no_card_of_a_machine),
                cmocka_unit_test(of_many_callers_for_one_gpu_exactly_one_wins),
                cmocka_unit_test(two_creates_at_once_both_run),
                cmocka_unit_test(one_bad_gpu_of_a_request_touches_none),
                cmocka_unit_test(a_gpu_of_a_foreign_domain_is_attached_with_its_name_and_refused),
                cmocka_unit_test(the_name_of_a_foreign_domain_is_taken),
                cmocka_unit_test(without_libvirt_create_is_refused_and_nothing_touched),
                cmocka_unit_test(a_process_that_holds_the_gpu_is_named),
                cmocka_unit_test(a_gpu_that_comes_to_rest_during_a_create_is_not_taken_unseen),
                cmocka_unit_test(memory_that_is_not_free_stops_a_start),
                cmocka_unit_test(a_card_half_on_vfio_before_its_machine_is_so_after_it),
                cmocka_unit_test(libvirt_lost_at_any_step_of_create_leaves_no_lie),
                cmocka_unit_test(libvirt_lost_at_any_step_of_create_without_start_leaves_no_lie),
                cmocka_unit_test(a_machine_that_is_paused_as_it_starts_is_paused_and_can_end),
                cmocka_unit_test(
                        an_unfinished_create_that_libvirt_keeps_is_shown_and_can_be_deleted),
                cmocka_unit_test(delete_tells_of_a_card_that_did_not_come_back),
                cmocka_unit_test(a_fault_clears_by_itself_when_somebody_removes_its_cause),
                cmocka_unit_test(without_libvirt_a_card_of_a_machine_is_not_released),
                cmocka_unit_test(a_card_that_cannot_be_looked_at_is_not_gone),
                cmocka_unit_test(a_check_while_a_card_vanishes_judges_what_is_left),
                cmocka_unit_test(a_machine_that_is_renamed_elsewhere_follows),
                cmocka_unit_test(
                        a_qemu_that_dies_while_libvirt_is_away_keeps_its_cards_until_that_is_through),
                cmocka_unit_test(
                        a_qemu_that_dies_while_libvirt_starts_keeps_its_cards_until_that_answers),
                cmocka_unit_test(
                        a_start_that_libvirt_took_with_it_keeps_its_cards_until_that_answers),
                cmocka_unit_test(libvirts_word_that_it_is_off_is_not_believed_while_qemu_lives),
                cmocka_unit_test(every_request_in_a_wrong_state_is_refused),
                cmocka_unit_test(a_card_that_vanishes_under_a_launch_ends_it),
                cmocka_unit_test(uevents_at_any_step_do_not_disturb_a_create),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
