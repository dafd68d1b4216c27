/* A ledger that cannot be written: what stands in it already is enough to bring a card home, and
 * where it is not nothing is touched. */
#include "manager-scene.h"
#include "testing.h"

#include <errno.h>

static void bind_card(World *world) {
        Caller caller = { 0 };

        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
}

static World *scene_with_a_bound_card_and_a_full_ledger(void) {
        World *world = booted_scene();

        bind_card(world);
        world->fail_ledger = -ENOSPC;
        return world;
}

static void a_card_that_was_bound_is_released(void **unused) {
        World *world = scene_with_a_bound_card_and_a_full_ledger();
        Caller caller = { 0 };

        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        world_free(world);
}

/* It is where it was, or home. */
static void a_daemon_that_is_killed_in_that_leaves_it_whole(void **unused) {
        for (unsigned steps = 0;; steps++) {
                World *world = scene_with_a_bound_card_and_a_full_ledger();
                Caller caller = { 0 };
                unsigned n = 0;

                manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
                while (n < steps && world_step(world))
                        n++;
                world_kill_daemon(world);
                world_boot(world);
                world_run(world);
                if (gpu_at(world, AUDIO_CARD)->view.state == GPU_HOST_BOUND)
                        assert_everything_home(world);
                else {
                        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
                        assert_string_equal(world_driver(world, AUDIO), "vfio-pci");
                        assert_int_equal(world->ledger->len, 1);
                }
                caller_forget(&caller);
                world_free(world);
                if (n < steps)
                        break;
        }
}

static void a_machine_runs_with_it_and_leaves_it_as_it_was(void **unused) {
        World *world = scene_with_a_bound_card_and_a_full_ledger();
        Caller caller = { 0 };

        manager_create(world->manager, request_for("box", AUDIO_CARD, NULL), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        /* A daemon that is started meanwhile knows it for the machine's all the same. */
        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        world->fail_ledger = 0;
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        world_free(world);
}

static void a_card_that_is_not_in_it_is_not_touched(void **unused) {
        World *world = scene_with_a_kept_card();
        Caller caller = { 0 };

        world->fail_ledger = -ENOSPC;
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        assert_kept_card_is_as_before(world);
        assert_int_equal(world->handovers_begun, 0);

        world->fail_ledger = 0;
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_card_that_was_bound_is_released),
                cmocka_unit_test(a_daemon_that_is_killed_in_that_leaves_it_whole),
                cmocka_unit_test(a_machine_runs_with_it_and_leaves_it_as_it_was),
                cmocka_unit_test(a_card_that_is_not_in_it_is_not_touched),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
