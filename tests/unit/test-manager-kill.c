/* The manager against a world in memory: the daemon killed at every step, and what the next one
 * makes of what it finds. */
#include "manager-scene.h"
#include "testing.h"

#include <string.h>

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

/* The helper of the first daemon is still at it; that of the second waits behind it, and says so.
 */
static void a_restarted_daemon_shows_the_fault_and_ends_it_when_the_driver_lets_go(void **state) {
        for (unsigned by_bind = 0; by_bind < 2; by_bind++) {
                World *world = booted_scene();
                Caller caller = { 0 };

                get_stuck(world, by_bind);

                world_kill_daemon(world);
                world_boot(world);
                world_run(world);
                assert_int_equal(gpu_at(world, AUDIO_CARD)->view.pending, GPU_PENDING_RELEASING);
                world_overdue(world, AUDIO_CARD);
                assert_int_equal(gpu_at(world, AUDIO_CARD)->view.fault, GPU_FAULT_STUCK);
                manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
                world_run(world);
                assert_non_null(strstr(caller.message, "bochs-drm"));
                assert_refused(&caller, REFUSAL_GPU_FAULTED);
                manager_create(world->manager, request_for("other", OTHER_CARD, NULL), caller_done,
                               &caller);
                world_run(world);
                assert_done(&caller);
                assert_int_equal(world->helpers->len, 1);

                world_unstick(world, AUDIO_CARD);
                world_run(world);
                assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
                assert_string_equal(world_driver(world, AUDIO_CARD), "bochs-drm");
                assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
                world_free(world);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
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
                cmocka_unit_test(
                        a_restarted_daemon_shows_the_fault_and_ends_it_when_the_driver_lets_go),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
