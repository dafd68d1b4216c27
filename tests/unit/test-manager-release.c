/* Releases of cards that somebody may have open: the host is asked before anything is touched. */
#include "manager-scene.h"
#include "testing.h"

#include <errno.h>
#include <string.h>

/* As Create refuses it: a QEMU that no libvirt knows keeps its card, and the card stays in order.
 */
static void a_release_of_a_card_that_a_process_has_open_touches_nothing(void **state) {
        static const char *const nodes[] = { "/dev/vfio/7", "/dev/vfio/devices/vfio0" };

        for (size_t i = 0; i < G_N_ELEMENTS(nodes); i++) {
                World *world = scene_with_a_kept_card();
                Holder *holder = holder_new(HOLDER_PROCESS, nodes[i]);
                Caller caller = { 0 };

                holder->pid = 77;
                g_free(holder->command);
                holder->command = g_strdup("qemu-system-x86");
                g_ptr_array_add(world->holders, holder);
                manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
                world_run(world);
                assert_non_null(strstr(caller.message, "qemu-system-x86"));
                assert_refused(&caller, REFUSAL_GPU_BUSY);
                assert_int_equal(world->handovers_begun, 0);
                assert_int_equal(world->ledger->len, 0);
                assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");

                g_ptr_array_set_size(world->holders, 0);
                manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
                world_run(world);
                assert_done(&caller);
                world_free(world);
        }
}

/* The rest of the card stays with its driver, whoever has it open. */
static void a_release_does_not_ask_for_what_it_does_not_move(void **state) {
        World *world = scene_with_a_kept_card();
        Holder *holder = holder_new(HOLDER_PROCESS, "/dev/snd/controlC0");
        Caller caller = { 0 };

        holder->pid = 77;
        g_ptr_array_add(world->holders, holder);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world_free(world);
}

/* Whether anybody has the group open the helper finds out for itself. */
static void a_release_goes_on_where_the_host_cannot_say_who_has_the_card(void **state) {
        World *world = scene_with_a_kept_card();
        Caller caller = { 0 };

        world->survey_error = -ETIMEDOUT;
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_everything_home(world);
        world_free(world);
}

/* Another request, another card: what was asked for is judged once more when the host has said who
 * has it. */
static void what_comes_between_a_release_and_its_answer_counts(void **state) {
        World *world = scene_with_a_kept_card();
        Caller released = { 0 }, created = { 0 };

        manager_create(world->manager, request_for("box", AUDIO_CARD, NULL), caller_done, &created);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &released);
        world_run(world);
        assert_done(&created);
        assert_refused(&released, REFUSAL_GPU_IN_USE);
        world_free(world);

        world = scene_with_a_kept_card();
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &released);
        world_remove(world, AUDIO_CARD);
        world_run(world);
        assert_refused(&released, REFUSAL_NO_SUCH_GPU);
        world_free(world);

        world = scene_with_a_kept_card();
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &released);
        world_kill_daemon(world);
        assert_int_equal(released.answers, 0);
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_release_of_a_card_that_a_process_has_open_touches_nothing),
                cmocka_unit_test(a_release_does_not_ask_for_what_it_does_not_move),
                cmocka_unit_test(a_release_goes_on_where_the_host_cannot_say_who_has_the_card),
                cmocka_unit_test(what_comes_between_a_release_and_its_answer_counts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
