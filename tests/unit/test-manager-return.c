/* The manager against a world in memory: every way of a card home, or to wherever it was kept, and
 * what becomes of one that cannot go there. */
#include "manager-scene.h"
#include "testing.h"

#include <errno.h>

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
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);

        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
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
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
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
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_RUNNING);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

/* --- cards that have been on vfio-pci before --- */

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

/* --- cards that cannot go where they should --- */

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

static void a_stuck_helper_that_was_killed_leaves_a_card_that_goes_home_by_itself(void **state) {
        for (unsigned by_bind = 0; by_bind < 2; by_bind++) {
                World *world = booted_scene();

                get_stuck(world, by_bind);
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
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);

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

static void delete_tells_of_a_card_that_did_not_come_back(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        world_mark(world->no_return, AUDIO_CARD);
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
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

int main(void) {
        const struct CMUnitTest tests[] = {
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
                        a_stuck_helper_that_was_killed_leaves_a_card_that_goes_home_by_itself),
                cmocka_unit_test(a_card_that_cannot_go_home_is_faulted_and_recover_takes_it_there),
                cmocka_unit_test(a_bind_that_the_kernel_refuses_is_undone_before_the_answer),
                cmocka_unit_test(a_card_that_does_not_answer_is_lost_and_given_to_nobody),
                cmocka_unit_test(a_card_half_on_vfio_before_its_machine_is_so_after_it),
                cmocka_unit_test(delete_tells_of_a_card_that_did_not_come_back),
                cmocka_unit_test(a_fault_clears_by_itself_when_somebody_removes_its_cause),
                cmocka_unit_test(a_card_that_cannot_be_looked_at_is_not_gone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
