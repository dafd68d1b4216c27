/* Cards that do not go back where they came from, and the way on from there: a fault of a card that
 * answers ends with Recover, and what vfio-pci claims by itself has none. */
#include "manager-scene.h"
#include "testing.h"

static void release_card(World *world, const char *card, Caller *caller) {
        manager_release_gpu(world->manager, at(card), caller_done, caller);
        world_run(world);
}

static void recover_card(World *world, const char *card, Caller *caller) {
        manager_recover_gpu(world->manager, at(card), caller_done, caller);
        world_run(world);
}

static void release(World *world, Caller *caller) {
        release_card(world, AUDIO_CARD, caller);
}

static void recover(World *world, Caller *caller) {
        recover_card(world, AUDIO_CARD, caller);
}

static void bind_card(World *world, const char *card) {
        Caller caller = { 0 };

        manager_bind_gpu(world->manager, at(card), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
}

static void run_and_delete_box(World *world) {
        Caller caller = { 0 };

        run_box(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_no_machine(world);
}

static void claim(World *world, const char *address) {
        g_strlcpy(world_function(world, address)->native_driver, "vfio-pci", 64);
}

/* --- vfio-pci.ids=, new_id --- */

static void a_card_that_vfio_pci_claims_by_itself_stays_there_without_a_fault(void **unused) {
        World *world = scene_with_a_kept_card();
        Caller caller = { 0 };

        claim(world, AUDIO_CARD);
        claim(world, AUDIO);
        for (unsigned i = 0; i < 2; i++) {
                release(world, &caller);
                assert_done(&caller);
                assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
                assert_int_equal(world->ledger->len, 0);
        }
        recover(world, &caller);
        assert_done(&caller);
        bind_card(world, AUDIO_CARD);
        run_and_delete_box(world);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

static void one_of_which_it_claims_a_part_can_be_used(void **unused) {
        World *world = scene_with_a_kept_card();
        Caller caller = { 0 };

        claim(world, AUDIO);
        release(world, &caller);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        assert_string_equal(world_driver(world, AUDIO), "vfio-pci");
        run_and_delete_box(world);
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        world_free(world);
}

/* --- a driver that does not take it back --- */

/* The card was bound, and its driver is not there any more when it is released. */
static World *scene_with_a_homeless_card(void) {
        World *world = booted_scene();
        Caller caller = { 0 };

        bind_card(world, OTHER_CARD);
        world_mark(world->no_return, OTHER_CARD);
        release_card(world, OTHER_CARD, &caller);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        assert_int_equal(gpu_at(world, OTHER_CARD)->view.fault, GPU_FAULT_HANDOVER_FAILED);
        return world;
}

static void a_card_that_no_driver_takes_back_can_be_recovered_and_used(void **unused) {
        World *world = scene_with_a_homeless_card();
        Caller caller = { 0 };

        recover_card(world, OTHER_CARD, &caller);
        assert_done(&caller);
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
        assert_string_equal(gpu_at(world, OTHER_CARD)->host_driver, "virtio-pci");
        run_box(world);
        assert_gpu(world, OTHER_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

static void it_goes_home_with_a_release_when_its_driver_is_back(void **unused) {
        World *world = scene_with_a_homeless_card();
        Caller caller = { 0 };

        recover_card(world, OTHER_CARD, &caller);
        assert_done(&caller);
        g_array_set_size(world->no_return, 0);
        release_card(world, OTHER_CARD, &caller);
        assert_done(&caller);
        assert_everything_home(world);
        world_free(world);
}

/* What was on vfio-pci before stays there, and is in nobody's way. */
static void so_can_one_of_which_a_part_came_from_vfio_pci(void **unused) {
        World *world = scene();
        Caller caller = { 0 };

        g_strlcpy(world_function(world, AUDIO)->facts.driver, "vfio-pci", 64);
        world_boot(world);
        world_run(world);
        bind_card(world, AUDIO_CARD);
        world_mark(world->no_return, AUDIO_CARD);
        release(world, &caller);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        assert_string_equal(world_driver(world, AUDIO_CARD), "");
        assert_string_equal(world_driver(world, AUDIO), "vfio-pci");
        recover(world, &caller);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        run_box(world);
        world_free(world);
}

/* --- vfio-pci does not let go of it --- */

static void fail_on_vfio(World *world, void (*ask)(World *world, Caller *caller), Caller *caller) {
        world_mark(world->stuck, AUDIO_CARD);
        ask(world, caller);
        world_end_helper(world, AUDIO_CARD, HANDOVER_FAILED);
        world_run(world);
}

static void a_card_that_vfio_pci_keeps_can_be_recovered_and_used(void **unused) {
        World *world = booted_scene();
        Caller caller = { 0 };

        bind_card(world, AUDIO_CARD);
        fail_on_vfio(world, release, &caller);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        fail_on_vfio(world, recover, &caller);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");

        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        run_and_delete_box(world);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        release(world, &caller);
        assert_done(&caller);
        assert_everything_home(world);
        world_free(world);
}

/* One that is neither here nor there is nothing to accept. */
static void a_card_of_which_a_part_has_gone_back_keeps_its_fault(void **unused) {
        World *world = booted_scene();
        Caller caller = { 0 };

        bind_card(world, AUDIO_CARD);
        fail_on_vfio(world, release, &caller);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        g_strlcpy(world_function(world, AUDIO)->facts.driver, "snd_hda_intel", 64);
        fail_on_vfio(world, recover, &caller);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        recover(world, &caller);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_card_that_vfio_pci_claims_by_itself_stays_there_without_a_fault),
                cmocka_unit_test(one_of_which_it_claims_a_part_can_be_used),
                cmocka_unit_test(a_card_that_no_driver_takes_back_can_be_recovered_and_used),
                cmocka_unit_test(it_goes_home_with_a_release_when_its_driver_is_back),
                cmocka_unit_test(so_can_one_of_which_a_part_came_from_vfio_pci),
                cmocka_unit_test(a_card_that_vfio_pci_keeps_can_be_recovered_and_used),
                cmocka_unit_test(a_card_of_which_a_part_has_gone_back_keeps_its_fault),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
