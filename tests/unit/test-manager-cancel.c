/* PowerOff and Delete of a machine that is starting, at every step of the way: whoever waits for
 * the start is told, and nothing is left of it. */
#include "manager-scene.h"
#include "testing.h"

typedef void (*Stop)(Manager *manager, const char *name, ManagerDone done, void *userdata);

static const Stop stops[] = { manager_power_off_machine, manager_delete_machine };

static void start_box(World *world, Caller *caller) {
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, caller);
}

/* The machine is there, and has run once. */
static World *scene_with_a_stopped_box(void) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        return world;
}

static bool is_starting(World *world) {
        const Machine *machine = manager_machine(world->manager, "box");

        return machine && machine->launch;
}

/* Begins the start and goes on to its @step; false when it has not so many. */
static bool begin(World *world, void (*ask)(World *world, Caller *caller), Caller *caller,
                  unsigned step) {
        ask(world, caller);
        while (!is_starting(world))
                assert_true(world_step(world));
        for (unsigned i = 0; i < step; i++)
                world_step(world);
        return is_starting(world);
}

static void a_create_that_is_stopped_at_any_step_leaves_nothing(void **unused) {
        for (size_t i = 0; i < G_N_ELEMENTS(stops); i++)
                for (unsigned step = 0;; step++) {
                        World *world = booted_scene();
                        Caller creator = { 0 }, stopper = { 0 };
                        bool begun = begin(world, create_box, &creator, step);

                        if (begun) {
                                stops[i](world->manager, world_machine(world, "box"), caller_done,
                                         &stopper);
                                assert_string_equal(
                                        machine_state_to_string(
                                                manager_machine(world->manager, "box")->state),
                                        "stopping");
                                world_run(world);
                                assert_refused(&creator, REFUSAL_INVALID_STATE);
                                assert_done(&stopper);
                                assert_no_machine(world);
                                assert_everything_home(world);
                        } else
                                assert_true(step > 8);
                        caller_forget(&creator);
                        world_free(world);
                        if (!begun)
                                break;
                }
}

static void a_start_that_is_stopped_at_any_step_leaves_the_machine_off(void **unused) {
        for (unsigned step = 0;; step++) {
                World *world = scene_with_a_stopped_box();
                Caller starter = { 0 }, stopper = { 0 };
                bool begun = begin(world, start_box, &starter, step);

                if (begun) {
                        manager_power_off_machine(world->manager, world_machine(world, "box"),
                                                  caller_done, &stopper);
                        world_run(world);
                        assert_refused(&starter, REFUSAL_INVALID_STATE);
                        assert_done(&stopper);
                        assert_int_equal(manager_machine(world->manager, "box")->state,
                                         MACHINE_STOPPED);
                        assert_everything_home(world);
                        /* And it starts as ever. */
                        start_box(world, &starter);
                        world_run(world);
                        assert_done(&starter);
                } else
                        assert_true(step > 6);
                caller_forget(&starter);
                world_free(world);
                if (!begun)
                        break;
        }
}

static void a_machine_that_is_deleted_at_any_step_of_its_start_is_gone(void **unused) {
        for (unsigned step = 0;; step++) {
                World *world = scene_with_a_stopped_box();
                Caller starter = { 0 }, stopper = { 0 };
                bool begun = begin(world, start_box, &starter, step);

                if (begun) {
                        manager_delete_machine(world->manager, world_machine(world, "box"),
                                               caller_done, &stopper);
                        world_run(world);
                        assert_refused(&starter, REFUSAL_INVALID_STATE);
                        assert_done(&stopper);
                        assert_no_machine(world);
                        assert_everything_home(world);
                }
                caller_forget(&starter);
                world_free(world);
                if (!begun)
                        break;
        }
}

/* Its cards are not moved at all when their helpers have not begun. */
static void a_create_that_does_not_wait_can_be_deleted_at_once(void **unused) {
        World *world = booted_scene();
        Request *request = request_for("box", AUDIO_CARD, OTHER_CARD, NULL);
        Caller creator = { 0 }, deleter = { 0 };

        request->wait = false;
        manager_create(world->manager, request, caller_done, &creator);
        while (creator.answers == 0)
                assert_true(world_step(world));
        assert_done(&creator);
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done, &deleter);
        world_run(world);
        assert_done(&deleter);
        assert_no_machine(world);
        assert_everything_home(world);
        assert_int_equal(world->handovers_begun, 0);
        world_free(world);
}

static void a_machine_that_is_only_defined_can_be_deleted_meanwhile(void **unused) {
        World *world = booted_scene();
        Request *request = request_for("box", AUDIO_CARD, NULL);
        Caller creator = { 0 }, early = { 0 }, deleter = { 0 };

        request->start = false;
        manager_create(world->manager, request, caller_done, &creator);
        while (!is_starting(world))
                assert_true(world_step(world));
        start_box(world, &early);
        assert_refused(&early, REFUSAL_INVALID_STATE);
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done, &deleter);
        world_run(world);
        assert_done(&creator);
        assert_done(&deleter);
        assert_no_machine(world);
        world_free(world);
}

/* --- more than once --- */

static void every_stop_is_answered(void **unused) {
        World *world = scene_with_a_stopped_box();
        Caller starter = { 0 }, callers[4] = { 0 };

        start_box(world, &starter);
        while (!world_domain(world, "box")->active)
                assert_true(world_step(world));
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &callers[0]);
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &callers[1]);
        manager_pause_machine(world->manager, world_machine(world, "box"), caller_done,
                              &callers[2]);
        assert_refused(&callers[2], REFUSAL_INVALID_STATE);
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done,
                               &callers[2]);
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done,
                               &callers[3]);
        assert_refused(&callers[3], REFUSAL_INVALID_STATE);
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &callers[3]);
        assert_refused(&callers[3], REFUSAL_INVALID_STATE);
        world_run(world);
        assert_refused(&starter, REFUSAL_INVALID_STATE);
        for (size_t i = 0; i < 3; i++)
                assert_done(&callers[i]);
        assert_no_machine(world);
        assert_everything_home(world);
        world_free(world);
}

/* --- what is stuck --- */

/* The card goes home by itself when its helper has ended. */
static void a_stuck_helper_keeps_nobody_waiting(void **unused) {
        World *world = booted_scene();
        Caller creator = { 0 }, stopper = { 0 };

        world_mark(world->stuck, AUDIO_CARD);
        create_box(world, &creator);
        world_run(world);
        assert_int_equal(creator.answers, 0);
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &stopper);
        world_run(world);
        assert_refused(&creator, REFUSAL_INVALID_STATE);
        assert_done(&stopper);
        assert_no_machine(world);
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");

        world_unstick(world, AUDIO_CARD);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

static void so_it_does_when_its_helper_has_failed(void **unused) {
        World *world = booted_scene();
        Caller creator = { 0 }, stopper = { 0 };

        world_mark(world->stuck, AUDIO_CARD);
        create_box(world, &creator);
        world_run(world);
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &stopper);
        world_run(world);
        assert_refused(&creator, REFUSAL_INVALID_STATE);
        assert_done(&stopper);
        world_kill_helper(world, AUDIO_CARD);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

/* A Delete promises that the cards are back, so it is answered when one is known not to come. */
static void a_delete_waits_for_a_stuck_helper_until_the_deadline(void **unused) {
        World *world = booted_scene();
        Caller creator = { 0 }, deleter = { 0 };

        world_mark(world->stuck, AUDIO_CARD);
        create_box(world, &creator);
        world_run(world);
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done, &deleter);
        world_run(world);
        assert_refused(&creator, REFUSAL_INVALID_STATE);
        assert_int_equal(deleter.answers, 0);
        world_overdue(world, AUDIO_CARD);
        world_run(world);
        assert_refused(&deleter, REFUSAL_GPU_FAULTED);
        assert_no_machine(world);
        world_kill_helper(world, AUDIO_CARD);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

/* --- a libvirt that goes meanwhile --- */

static void a_stop_that_libvirt_does_not_hear_is_told_and_carried_out_when_it_is_back(
        void **unused) {
        for (size_t i = 0; i < G_N_ELEMENTS(stops); i++)
                for (unsigned step = 0;; step++) {
                        World *world = booted_scene();
                        Caller creator = { 0 }, stopper = { 0 };
                        bool begun = begin(world, create_box, &creator, step);

                        if (begun) {
                                world_set_connected(world, false);
                                stops[i](world->manager, world_machine(world, "box"), caller_done,
                                         &stopper);
                                world_run(world);
                                assert_int_equal(creator.answers, 1);
                                assert_refused(&stopper, REFUSAL_HYPERVISOR_UNAVAILABLE);
                                world_set_connected(world, true);
                                world_run(world);
                                assert_no_machine(world);
                                assert_everything_home(world);
                        }
                        caller_forget(&creator);
                        world_free(world);
                        if (!begun)
                                break;
                }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_create_that_is_stopped_at_any_step_leaves_nothing),
                cmocka_unit_test(a_start_that_is_stopped_at_any_step_leaves_the_machine_off),
                cmocka_unit_test(a_machine_that_is_deleted_at_any_step_of_its_start_is_gone),
                cmocka_unit_test(a_create_that_does_not_wait_can_be_deleted_at_once),
                cmocka_unit_test(a_machine_that_is_only_defined_can_be_deleted_meanwhile),
                cmocka_unit_test(every_stop_is_answered),
                cmocka_unit_test(a_stuck_helper_keeps_nobody_waiting),
                cmocka_unit_test(so_it_does_when_its_helper_has_failed),
                cmocka_unit_test(a_delete_waits_for_a_stuck_helper_until_the_deadline),
                cmocka_unit_test(
                        a_stop_that_libvirt_does_not_hear_is_told_and_carried_out_when_it_is_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
