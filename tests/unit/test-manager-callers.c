/* The manager against a world in memory: callers against each other, and against others who have
 * the cards. */
#include "manager-scene.h"
#include "testing.h"

#include <string.h>

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
                world_step(world); /* nobody has it open */
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

static void every_request_in_a_wrong_state_is_refused(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
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
        manager_shutdown_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        manager_start_machine(world->manager, world_machine(world, "nobody"), caller_done, &caller);
        assert_refused(&caller, REFUSAL_NO_SUCH_MACHINE);
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(of_many_callers_for_one_gpu_exactly_one_wins),
                cmocka_unit_test(two_creates_at_once_both_run),
                cmocka_unit_test(one_bad_gpu_of_a_request_touches_none),
                cmocka_unit_test(a_gpu_of_a_foreign_domain_is_attached_with_its_name_and_refused),
                cmocka_unit_test(the_name_of_a_foreign_domain_is_taken),
                cmocka_unit_test(a_process_that_holds_the_gpu_is_named),
                cmocka_unit_test(a_gpu_that_comes_to_rest_during_a_create_is_not_taken_unseen),
                cmocka_unit_test(a_check_while_a_card_vanishes_judges_what_is_left),
                cmocka_unit_test(every_request_in_a_wrong_state_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
