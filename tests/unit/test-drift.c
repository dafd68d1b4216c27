/* What others do to cards: rebind them in every state. It is seen, told once and never fought; what
 * we do ourselves is none of it. */
#include "drift-scene.h"
#include "testing.h"

#include <string.h>

static void a_free_card_that_somebody_rebinds_is_shown_as_it_is(void **state) {
        static const struct {
                const char *address, *driver, *drifts, *states, *host_driver;
        } cases[] = {
                { AUDIO_CARD, "vfio-pci", AUDIO_CARD " bochs-drm>vfio-pci\n",
                  "host-bound>vfio-bound (somebody else rebound it from bochs-drm to vfio-pci)\n",
                  "bochs-drm" },
                { AUDIO_CARD, "simpledrm", AUDIO_CARD " bochs-drm>simpledrm\n", "", "simpledrm" },
                { AUDIO_CARD, "", AUDIO_CARD " bochs-drm>\n", "", "" },
                { AUDIO, "vfio-pci", AUDIO " snd_hda_intel>vfio-pci\n", "", "bochs-drm" },
                { AUDIO, "", AUDIO " snd_hda_intel>\n", "", "bochs-drm" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_auto(Diary) diary = DIARY;
                World *world = observed_scene(&diary);

                rebind(world, cases[i].address, cases[i].driver);
                world_uevent(world, AUDIO_CARD); /* once is enough */
                assert_string_equal(diary.drifts->str, cases[i].drifts);
                assert_string_equal(diary.states->str, cases[i].states);
                assert_string_equal(gpu_at(world, AUDIO_CARD)->host_driver, cases[i].host_driver);
                assert_string_equal(world_driver(world, cases[i].address), cases[i].driver);
                assert_int_equal(world->handovers_begun, 0);
                assert_int_equal(world->ledger->len, 0);
                world_free(world);
        }
}

static void a_drift_that_a_call_sees_first_is_told_as_well(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);
        Caller caller = { 0 };

        world_rebind(world, AUDIO_CARD, "");
        call_and_run(world, manager_release_gpu, &caller);
        assert_done(&caller);
        assert_string_equal(diary.drifts->str, AUDIO_CARD " bochs-drm>\n");
        assert_int_equal(world->handovers_begun, 0);
        world_free(world);
}

static void step_with_uevents(World *world) {
        while (world_step(world)) {
                world_uevent(world, AUDIO_CARD);
                world_uevent(world, OTHER_CARD);
        }
}

static void what_we_do_ourselves_is_no_drift(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);
        Caller caller = { 0 };

        create_box(world, &caller);
        step_with_uevents(world);
        assert_done(&caller);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        step_with_uevents(world);
        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        step_with_uevents(world);
        assert_done(&caller);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        step_with_uevents(world);
        assert_done(&caller);
        world_mark(world->refused, AUDIO_CARD);
        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        step_with_uevents(world);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(diary.drifts->str, "");
        world_free(world);
}

static void what_an_earlier_daemon_left_undone_is_no_drift(void **state) {
        for (unsigned steps = 1;; steps++) {
                g_auto(Diary) diary = DIARY;
                World *world = observed_scene(&diary);
                Caller caller = { 0 };
                bool over = false;

                create_box(world, &caller);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                world_kill_daemon(world);
                world_boot(world);
                observe(world, &diary);
                step_with_uevents(world);
                assert_string_equal(diary.drifts->str, "");
                caller_forget(&caller);
                world_free(world);
                if (over)
                        break;
        }
}

static void a_bound_card_that_somebody_takes_back_is_the_hosts_again(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);
        Caller caller = { 0 };

        bind_card(world);
        world->handovers_begun = 0;
        world_rebind(world, AUDIO, "snd_hda_intel");
        rebind(world, AUDIO_CARD, "simpledrm");
        assert_string_equal(diary.drifts->str,
                            AUDIO_CARD " vfio-pci>simpledrm\n" AUDIO " vfio-pci>snd_hda_intel\n");
        assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "simpledrm");
        assert_string_equal(gpu_at(world, AUDIO_CARD)->host_driver, "simpledrm");
        /* A helper has put its power settings back, and nothing else. */
        assert_int_equal(world->ledger->len, 0);
        assert_int_equal(world->handovers_begun, 1);

        /* There is nothing to return, and nothing is. */
        call_and_run(world, manager_release_gpu, &caller);
        assert_done(&caller);
        assert_int_equal(world->handovers_begun, 1);

        /* A machine gives it back to where it is now. */
        run_box(world);
        end_box(world);
        assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "simpledrm");
        world_free(world);
}

/* Who rebinds a card unbinds it first, and that alone may be what we see. */
static void what_somebody_does_while_power_settings_are_put_back_is_told(void **state) {
        for (unsigned in_time = 0; in_time < 2; in_time++) {
                g_auto(Diary) diary = DIARY;
                World *world = observed_scene(&diary);

                bind_card(world);
                world_rebind(world, AUDIO, "snd_hda_intel");
                world_rebind(world, AUDIO_CARD, "");
                world_uevent(world, AUDIO_CARD);
                assert_int_equal(gpu_at(world, AUDIO_CARD)->view.pending, GPU_PENDING_RELEASING);
                forget(diary.drifts);
                world_rebind(world, AUDIO_CARD, "bochs-drm");
                if (in_time)
                        world_uevent(world, AUDIO_CARD);
                world_run(world);
                assert_string_equal(diary.drifts->str, AUDIO_CARD " >bochs-drm\n");
                assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "bochs-drm");
                assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
                assert_power_is_as_before(world);
                assert_int_equal(world->ledger->len, 0);
                world_free(world);
        }
}

static void a_companion_that_somebody_takes_back_stays_there_and_the_rest_is_ours(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);
        Caller caller = { 0 };

        bind_card(world);
        rebind(world, AUDIO, "");
        assert_driven(world, AUDIO_CARD, GPU_VFIO_BOUND, "vfio-pci");
        assert_int_equal(world->ledger->len, 1);

        /* A daemon that is started now takes it for no Bind that was cut short. */
        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        assert_driven(world, AUDIO_CARD, GPU_VFIO_BOUND, "vfio-pci");
        assert_string_equal(world_driver(world, AUDIO), "");

        call_and_run(world, manager_release_gpu, &caller);
        assert_done(&caller);
        assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(world_driver(world, AUDIO), "");
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

static void a_half_bound_card_goes_whole_into_a_machine(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);
        Caller caller = { 0 };

        bind_card(world);
        rebind(world, AUDIO, "snd_hda_intel");
        run_box(world);
        assert_string_equal(world_driver(world, AUDIO), "vfio-pci");
        end_box(world);
        /* It was bound ahead, so it stays; and Release knows where each function came from. */
        assert_driven(world, AUDIO_CARD, GPU_VFIO_BOUND, "vfio-pci");
        call_and_run(world, manager_release_gpu, &caller);
        assert_done(&caller);
        assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        world_free(world);
}

/* The kernel takes the driver's link away at once, and waits for the QEMU with the rest. */
static void what_is_unbound_from_a_machine_stays_with_it_and_is_not_brought_home(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);

        run_box(world);
        forget(diary.states);
        rebind(world, AUDIO_CARD, "");
        assert_driven(world, AUDIO_CARD, GPU_ATTACHED, "");
        assert_string_equal(diary.drifts->str, AUDIO_CARD " vfio-pci>\n");
        assert_string_equal(diary.states->str, "");

        end_box(world);
        assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        assert_driven(world, OTHER_CARD, GPU_HOST_BOUND, "virtio-pci");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        assert_string_equal(diary.states->str, "attached>host-bound (machine box has ended)\n");
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

/* One card is reserved and waits for the other; nobody has heard of what happens to it. */
static void a_card_that_is_taken_before_the_start_is_not_given_to_libvirt(void **state) {
        static const char *const taken[] = { AUDIO_CARD, AUDIO };

        for (size_t i = 0; i < G_N_ELEMENTS(taken); i++) {
                g_auto(Diary) diary = DIARY;
                World *world = observed_scene(&diary);
                Caller caller = { 0 };

                world_mark(world->stuck, OTHER_CARD);
                create_box(world, &caller);
                world_run(world);
                assert_int_equal(gpu_at(world, AUDIO_CARD)->view.pending, GPU_PENDING_STARTING);
                world_rebind(world, taken[i], "simpledrm");
                world_unstick(world, OTHER_CARD);
                world_run(world);
                assert_non_null(strstr(caller.message, AUDIO_CARD));
                assert_refused(&caller, REFUSAL_INVALID_STATE);
                assert_null(world_domain(world, "box"));
                assert_string_equal(world_driver(world, taken[i]), "simpledrm");
                assert_string_equal(world_driver(world, taken[!i]),
                                    i == 0 ? "snd_hda_intel" : "bochs-drm");
                assert_driven(world, OTHER_CARD, GPU_HOST_BOUND, "virtio-pci");
                assert_int_equal(world->ledger->len, 0);
                world_free(world);
        }
}

static bool is_on_vfio(World *world) {
        return g_str_equal(world_driver(world, AUDIO_CARD), "vfio-pci") &&
               g_str_equal(world_driver(world, AUDIO), "vfio-pci");
}

static void a_card_that_is_taken_as_its_helper_ends_was_not_handed_over(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = observed_scene(&diary);
        Caller caller = { 0 };

        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        while (!is_on_vfio(world))
                assert_true(world_step(world));
        world_rebind(world, AUDIO_CARD, "bochs-drm");
        world_run(world);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        assert_driven(world, AUDIO_CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

static void what_the_kernel_refused_and_somebody_takes_elsewhere_is_left_there(void **state) {
        static const char *const drivers[] = { "vfio-pci", "simpledrm" };

        for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
                g_auto(Diary) diary = DIARY;
                World *world = observed_scene(&diary);

                run_box(world);
                world_mark(world->no_return, AUDIO_CARD);
                end_box(world);
                assert_int_equal(gpu_at(world, AUDIO_CARD)->view.fault, GPU_FAULT_HANDOVER_FAILED);
                g_array_set_size(world->no_return, 0);
                rebind(world, AUDIO_CARD, drivers[i]);
                assert_driven(world, AUDIO_CARD, i == 0 ? GPU_VFIO_BOUND : GPU_HOST_BOUND,
                              drivers[i]);
                assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
                assert_int_equal(world->ledger->len, 0);
                world_free(world);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_free_card_that_somebody_rebinds_is_shown_as_it_is),
                cmocka_unit_test(a_drift_that_a_call_sees_first_is_told_as_well),
                cmocka_unit_test(what_we_do_ourselves_is_no_drift),
                cmocka_unit_test(what_an_earlier_daemon_left_undone_is_no_drift),
                cmocka_unit_test(a_bound_card_that_somebody_takes_back_is_the_hosts_again),
                cmocka_unit_test(what_somebody_does_while_power_settings_are_put_back_is_told),
                cmocka_unit_test(
                        a_companion_that_somebody_takes_back_stays_there_and_the_rest_is_ours),
                cmocka_unit_test(a_half_bound_card_goes_whole_into_a_machine),
                cmocka_unit_test(
                        what_is_unbound_from_a_machine_stays_with_it_and_is_not_brought_home),
                cmocka_unit_test(a_card_that_is_taken_before_the_start_is_not_given_to_libvirt),
                cmocka_unit_test(a_card_that_is_taken_as_its_helper_ends_was_not_handed_over),
                cmocka_unit_test(
                        what_the_kernel_refused_and_somebody_takes_elsewhere_is_left_there),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
