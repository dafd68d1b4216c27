/* The manager against a world in memory: whole requests for a machine, every step failing in turn,
 * and the host moving meanwhile. */
#include "manager-scene.h"
#include "testing.h"

#include <errno.h>
#include <string.h>

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

        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
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

/* What a machine with GPUs wants is looked at anew at each start: what all machines may have is
 * kept to, and what is free is only an estimate. */
static void memory_that_all_machines_may_not_have_stops_a_start(void **state) {
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

        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        world_run(world);
        assert_done(&caller);
        world->host_facts.machines_limit_mib = mib;
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_true(strstr(caller.message, "MemoryMax") != NULL);
        assert_refused(&caller, REFUSAL_INVALID_OPTION);
        world->host_facts.machines_limit_mib = 0;
        world->host_facts.memory_available_mib = mib;
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world_free(world);
}

/* --- every step of Create fails in turn --- */

static void fail_define(World *world) {
        world->fail_verb[HYPERVISOR_DEFINE] = true;
}

static void fail_rehearsal(World *world) {
        world->fail_verb[HYPERVISOR_REHEARSE] = true;
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
                { fail_rehearsal, REFUSAL_HYPERVISOR_FAILED },
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
        static void (*const failures[])(World *) = { fail_rehearsal,   fail_ledger, fail_first_bind,
                                                     fail_second_bind, fail_start,  fail_running };

        for (size_t i = 0; i < G_N_ELEMENTS(failures); i++) {
                World *world = booted_scene();
                Request *request = request_for("box", AUDIO_CARD, OTHER_CARD, NULL);
                Caller caller = { 0 };

                request->start = false;
                manager_create(world->manager, request, caller_done, &caller);
                world_run(world);
                assert_done(&caller);
                failures[i](world);
                manager_start_machine(world->manager, world_machine(world, "box"), caller_done,
                                      &caller);
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

/* Runs until the caller is answered, and fails the test if a card leaves its driver meanwhile. */
static void await_answer_with_cards_untouched(World *world, Caller *caller) {
        while (caller->answers == 0) {
                assert_true(world_step(world));
                assert_string_equal(world_driver(world, AUDIO_CARD), "bochs-drm");
                assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        }
}

static void what_libvirt_would_refuse_moves_no_card(void **state) {
        World *world = booted_scene();
        Request *request = request_for("later", AUDIO_CARD, NULL);
        Caller caller = { 0 };

        fail_rehearsal(world);
        create_box(world, &caller);
        await_answer_with_cards_untouched(world, &caller);
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);
        assert_no_machine(world);

        request->start = false;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        manager_start_machine(world->manager, world_machine(world, "later"), caller_done, &caller);
        await_answer_with_cards_untouched(world, &caller);
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);

        world->fail_verb[HYPERVISOR_REHEARSE] = false;
        manager_start_machine(world->manager, world_machine(world, "later"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world_free(world);
}

/* libvirt was asked for nothing that it could still do. */
static void a_start_that_is_only_tried_when_libvirt_goes_ends_nobody_elses(void **state) {
        World *world = booted_scene();
        Request *request = request_for("later", NULL);
        WorldDomain *domain;
        Caller caller = { 0 };

        request->start = false;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        manager_start_machine(world->manager, world_machine(world, "later"), caller_done, &caller);
        world_set_connected(world, false);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        domain = world_domain(world, "later");
        domain->qemu = domain->active = true;
        domain->state = DOMAIN_RUNNING;
        domain->pid = 4711;
        world_set_connected(world, true);
        world_run(world);
        assert_true(world_domain(world, "later")->qemu);
        assert_int_equal(manager_machine(world->manager, "later")->state, MACHINE_RUNNING);
        world_free(world);
}

static void a_driver_that_does_not_let_go_makes_its_gpu_stuck_and_nothing_else(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        get_stuck(world, false);
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

/* A look shows the domain as it was before libvirt came to what we have asked it meanwhile. */
static void a_look_at_any_step_of_create_tells_no_other_state(void **state) {
        for (unsigned steps = 0, over = 0; !over; steps++) {
                World *world = booted_scene();
                Diary diary = { g_string_new(NULL), g_string_new(NULL) };
                Caller caller = { 0 };

                manager_set_observer(world->manager, &diary_observer, &diary);
                create_box(world, &caller);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                if (world_domain(world, "box"))
                        world_look_again(world, world_domain(world, "box"));
                world_run(world);
                assert_done(&caller);
                assert_string_equal(diary.machine_states->str, "box created>starting\n"
                                                               "box starting>running\n");
                world_free(world);
                g_string_free(diary.gpu_states, TRUE);
                g_string_free(diary.machine_states, TRUE);
        }
}

static unsigned ends;

static void note_end(void *userdata) {
        const Caller *caller = userdata;

        assert_int_equal(caller->answers, 1);
        ends++;
}

static void a_create_that_does_not_wait_ends_after_its_answer(void **state) {
        World *world = booted_scene();

        for (unsigned i = 0; i < 2; i++) {
                Request *request = request_for("box", AUDIO_CARD, NULL);
                Caller caller = { 0 };

                request->wait = false;
                ends = 0;
                manager_create_to_the_end(world->manager, request, caller_done, note_end, &caller);
                while (caller.answers == 0)
                        assert_true(world_step(world));
                /* The second is refused, for there is a machine of that name. */
                assert_int_equal(caller.refused, i == 1);
                assert_int_equal(ends, i);
                world_run(world);
                assert_int_equal(ends, 1);
                caller_forget(&caller);
        }
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(create_runs_a_machine_and_its_end_brings_every_function_home),
                cmocka_unit_test(a_machine_without_gpus_is_welcome),
                cmocka_unit_test(create_without_wait_answers_when_the_gpus_are_reserved),
                cmocka_unit_test(create_without_start_takes_no_gpu_until_start),
                cmocka_unit_test(
                        whatever_step_of_create_fails_everything_is_undone_before_the_answer),
                cmocka_unit_test(
                        whatever_step_of_start_fails_the_machine_stays_and_its_cards_are_home),
                cmocka_unit_test(
                        a_driver_that_does_not_let_go_makes_its_gpu_stuck_and_nothing_else),
                cmocka_unit_test(what_libvirt_would_refuse_moves_no_card),
                cmocka_unit_test(a_start_that_is_only_tried_when_libvirt_goes_ends_nobody_elses),
                cmocka_unit_test(memory_that_all_machines_may_not_have_stops_a_start),
                cmocka_unit_test(a_machine_that_is_paused_as_it_starts_is_paused_and_can_end),
                cmocka_unit_test(a_card_that_vanishes_under_a_launch_ends_it),
                cmocka_unit_test(uevents_at_any_step_do_not_disturb_a_create),
                cmocka_unit_test(a_look_at_any_step_of_create_tells_no_other_state),
                cmocka_unit_test(a_create_that_does_not_wait_ends_after_its_answer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
