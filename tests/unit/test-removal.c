/* Surprise removal: others pull cards out of running machines, and put others in their place. */
#include "drift-scene.h"
#include "testing.h"

#include <string.h>

static void pull(World *world) {
        world_remove(world, AUDIO);
        world_remove(world, AUDIO_CARD);
        world_run(world);
}

static void plug(World *world, const char *driver) {
        world_add(world, AUDIO_CARD, 0x038000, 1, driver);
        world_uevent(world, AUDIO_CARD);
        world_add(world, AUDIO, 0x040300, 1, driver);
        world_uevent(world, AUDIO_CARD);
        world_run(world);
}

static void assert_box_without_card(World *world) {
        const Machine *box = manager_machine(world->manager, "box");

        assert_int_equal(box->state, MACHINE_RUNNING);
        assert_int_equal(box->gpus->len, 2);
        assert_int_equal(box->present->len, 1);
        assert_true(pci_address_equal(g_array_index(box->present, PciAddress, 0), at(OTHER_CARD)));
}

static void a_machine_that_loses_a_card_says_so_and_lives(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);

        run_box(world);
        diary.gpus_changed = 0;
        pull(world);
        assert_null(manager_gpu(world->manager, at(AUDIO_CARD)));
        assert_box_without_card(world);
        assert_string_equal(manager_machine(world->manager, "box")->state_reason,
                            "GPU " AUDIO_CARD " has gone from the bus");
        assert_string_equal(diary.losses->str, "box " AUDIO_CARD "\n");
        assert_int_equal(diary.gpus_changed, 1);
        assert_string_equal(diary.drifts->str, "");
        assert_driven(world, OTHER_CARD, GPU_ATTACHED, "vfio-pci");
        assert_int_equal(world->ledger->len, 1);

        /* Nobody tries to hand it back. */
        world->handovers_begun = 0;
        end_box(world);
        assert_int_equal(world->handovers_begun, 1);
        assert_driven(world, OTHER_CARD, GPU_HOST_BOUND, "virtio-pci");
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

static void a_guest_that_lets_go_first_has_lost_it_too(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);
        WorldDomain *box;

        run_box(world);
        forget(diary.states);
        box = world_domain(world, "box");
        rebind(world, AUDIO_CARD, "");
        world_unlist(box, AUDIO_CARD);
        world_unlist(box, AUDIO);
        world_look_again(world, box);
        world_run(world);
        assert_string_equal(diary.states->str,
                            "attached>host-bound (machine box has let go of it)\n");
        pull(world);
        assert_box_without_card(world);
        assert_string_equal(diary.losses->str, "box " AUDIO_CARD "\n");
        assert_int_equal(world->ledger->len, 1);
        end_box(world);
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

/* virsh detach-device: the card is free to go home before its machine ends. */
static void a_card_that_was_taken_out_of_its_machine_can_be_released(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);
        Caller caller = { 0 };

        run_box(world);
        world_unlist(world_domain(world, "box"), AUDIO_CARD);
        world_unlist(world_domain(world, "box"), AUDIO);
        world_look_again(world, world_domain(world, "box"));
        world_run(world);
        assert_driven(world, AUDIO_CARD, GPU_VFIO_BOUND, "vfio-pci");
        call_and_run(world, manager_release_gpu, &caller);
        assert_done(&caller);
        assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_driven(world, OTHER_CARD, GPU_ATTACHED, "vfio-pci");
        world_free(world);
}

static void assert_refused_everything(World *world) {
        Caller caller = { 0 };

        manager_create(world->manager, request_for("more", AUDIO_CARD, NULL), caller_done, &caller);
        world_run(world);
        assert_non_null(strstr(caller.message, "box"));
        assert_refused(&caller, REFUSAL_GPU_IN_USE);
        call_and_run(world, manager_bind_gpu, &caller);
        assert_refused(&caller, REFUSAL_GPU_IN_USE);
}

/* libvirt lists the address on, for a device that is not there any more. */
static void a_card_in_the_place_of_a_lost_one_is_not_in_its_machine(void **state) {
        static const struct {
                const char *driver;
                GpuState state;
        } cases[] = { { "bochs-drm", GPU_HOST_BOUND }, { "vfio-pci", GPU_VFIO_BOUND } };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_auto(Diary) diary = DIARY;
                World *world = observed_scene(&diary);

                run_box(world);
                pull(world);
                plug(world, cases[i].driver);
                assert_driven(world, AUDIO_CARD, cases[i].state, cases[i].driver);
                assert_string_equal(gpu_at(world, AUDIO_CARD)->machine_name, "");
                assert_box_without_card(world);
                assert_refused_everything(world);
                world_look_again(world, world_domain(world, "box"));
                world_run(world);
                assert_driven(world, AUDIO_CARD, cases[i].state, cases[i].driver);
                assert_string_equal(gpu_at(world, AUDIO_CARD)->machine_name, "");

                /* The end of that machine is none of its business, and then it is free. */
                end_box(world);
                assert_driven(world, AUDIO_CARD, cases[i].state, cases[i].driver);
                assert_int_equal(manager_machine(world->manager, "box")->present->len, 2);
                assert_string_equal(diary.drifts->str, "");
                world_free(world);
        }
}

static void a_card_in_the_place_of_a_lost_one_is_free_when_libvirt_has_struck_that_off(
        void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);
        Caller caller = { 0 };

        run_box(world);
        pull(world);
        plug(world, "bochs-drm");
        world_unlist(world_domain(world, "box"), AUDIO_CARD);
        world_unlist(world_domain(world, "box"), AUDIO);
        world_look_again(world, world_domain(world, "box"));
        world_run(world);
        manager_create(world->manager, request_for("more", AUDIO_CARD, NULL), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_string_equal(gpu_at(world, AUDIO_CARD)->machine_name, "more");
        world_free(world);
}

static void a_daemon_that_has_not_seen_it_go_knows_the_new_card_too(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);

        run_box(world);
        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        pull(world);
        plug(world, "bochs-drm");
        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(gpu_at(world, AUDIO_CARD)->machine_name, "");
        assert_refused_everything(world);
        world_free(world);
}

/* The helper that was at the first card ends after the second has come. */
static void what_becomes_of_a_helper_says_nothing_of_the_next_card(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);
        Caller caller = { 0 };

        get_stuck(world, true);
        pull(world);
        plug(world, "bochs-drm");
        assert_string_equal(gpu_fault_to_string(gpu_at(world, AUDIO_CARD)->view.fault), "");

        /* Until it is gone there is no second one. */
        call_and_run(world, manager_bind_gpu, &caller);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        world_end_helper(world, AUDIO_CARD, HANDOVER_LOST);
        world_run(world);
        assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "bochs-drm");
        call_and_run(world, manager_bind_gpu, &caller);
        assert_done(&caller);
        assert_driven(world, AUDIO_CARD, GPU_VFIO_BOUND, "vfio-pci");
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_machine_that_loses_a_card_says_so_and_lives),
                cmocka_unit_test(a_guest_that_lets_go_first_has_lost_it_too),
                cmocka_unit_test(a_card_that_was_taken_out_of_its_machine_can_be_released),
                cmocka_unit_test(a_card_in_the_place_of_a_lost_one_is_not_in_its_machine),
                cmocka_unit_test(
                        a_card_in_the_place_of_a_lost_one_is_free_when_libvirt_has_struck_that_off),
                cmocka_unit_test(a_daemon_that_has_not_seen_it_go_knows_the_new_card_too),
                cmocka_unit_test(what_becomes_of_a_helper_says_nothing_of_the_next_card),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
