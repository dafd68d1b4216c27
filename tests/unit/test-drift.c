/* What others do to cards: rebind them in every state, pull them out of running machines, put
 * others in their place. It is seen, told once and never fought; what we do ourselves is none of
 * it. */
#include "caller.h"
#include "testing.h"
#include "world.h"

#include <string.h>

#define CARD  "0000:01:00.0"
#define AUDIO "0000:01:00.1"
#define OTHER "0000:02:00.0"

/* --- an observer that writes it down --- */

typedef struct Diary {
        GString *drifts; /* "0000:01:00.0 bochs-drm>vfio-pci" and so on, a line each */
        GString *states; /* of CARD: "host-bound>vfio-bound (reason)", a line each */
        GString *losses; /* "box 0000:01:00.0", a line each */
        unsigned gpus_changed;
} Diary;

static void diary_drift(void *userdata, const Gpu *gpu, const GpuDrift *drift) {
        Diary *diary = userdata;
        char shown[PCI_ADDRESS_BUFFER];

        g_string_append_printf(diary->drifts, "%s %s>%s\n",
                               pci_address_print(drift->function, shown), drift->old_driver,
                               drift->driver);
}

static void diary_state(void *userdata, const Gpu *gpu, GpuState old, const char *reason) {
        Diary *diary = userdata;
        char shown[PCI_ADDRESS_BUFFER];

        if (g_str_equal(pci_address_print(gpu->address, shown), CARD))
                g_string_append_printf(diary->states, "%s>%s (%s)\n", gpu_state_to_string(old),
                                       gpu_state_to_string(gpu->view.state), reason);
}

static void diary_loss(void *userdata, const Machine *machine, PciAddress gpu) {
        Diary *diary = userdata;
        char shown[PCI_ADDRESS_BUFFER];

        g_string_append_printf(diary->losses, "%s %s\n", machine->name,
                               pci_address_print(gpu, shown));
}

static void diary_machine(void *userdata, const Machine *machine, unsigned changes) {
        Diary *diary = userdata;

        if (changes & MACHINE_CHANGED_GPUS)
                diary->gpus_changed++;
}

static const Observer diary_observer = {
        .gpu_drifted = diary_drift,
        .gpu_state_changed = diary_state,
        .machine_lost_gpu = diary_loss,
        .machine_changed = diary_machine,
};

static void diary_clear(Diary *diary) {
        g_string_free(diary->drifts, TRUE);
        g_string_free(diary->states, TRUE);
        g_string_free(diary->losses, TRUE);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Diary, diary_clear)

#define DIARY \
        { g_string_new(NULL), g_string_new(NULL), g_string_new(NULL), 0 }

static void forget(GString *written) {
        g_string_truncate(written, 0);
}

/* --- the scene --- */

static World *scene(Diary *diary) {
        World *world = world_new();

        world_add(world, CARD, 0x038000, 1, "bochs-drm");
        world_add(world, AUDIO, 0x040300, 1, "snd_hda_intel");
        world_add(world, OTHER, 0x038000, 2, "bochs-drm");
        world_boot(world);
        world_run(world);
        manager_set_observer(world->manager, &diary_observer, diary);
        return world;
}

static PciAddress at(const char *address) {
        PciAddress ret;

        assert_true(pci_address_parse(address, &ret));
        return ret;
}

static const Gpu *gpu_at(World *world, const char *address) {
        const Gpu *gpu = manager_gpu(world->manager, at(address));

        assert_non_null(gpu);
        return gpu;
}

static void assert_gpu(World *world, const char *address, GpuState state, const char *driver) {
        const Gpu *gpu = gpu_at(world, address);

        assert_string_equal(gpu_state_to_string(gpu->view.state), gpu_state_to_string(state));
        assert_string_equal(gpu_pending_to_string(gpu->view.pending), "");
        assert_string_equal(gpu_fault_to_string(gpu->view.fault), "");
        assert_string_equal(gpu->facts->function.driver, driver);
        assert_string_equal(world_driver(world, address), driver);
}

static void create(World *world, const char *name, const char *gpu, const char *other,
                   Caller *caller) {
        const char *gpus[] = { gpu, other, NULL };
        g_autoptr(GPtrArray) findings = findings_new();
        Request *request = request_new(name, gpus, findings);

        request_finish(request, findings);
        assert_int_equal(findings->len, 0);
        manager_create(world->manager, request, caller_done, caller);
}

static void run_box(World *world) {
        Caller caller = { 0 };

        create(world, "box", CARD, OTHER, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, CARD, GPU_ATTACHED, "vfio-pci");
}

static void end_box(World *world) {
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
}

static void call_and_run(World *world,
                         void (*method)(Manager *manager, PciAddress address, ManagerDone done,
                                        void *userdata),
                         Caller *caller) {
        method(world->manager, at(CARD), caller_done, caller);
        world_run(world);
}

static void bind(World *world) {
        Caller caller = { 0 };

        call_and_run(world, manager_bind_gpu, &caller);
        assert_done(&caller);
        assert_gpu(world, CARD, GPU_VFIO_BOUND, "vfio-pci");
        assert_int_equal(world->ledger->len, 1);
}

static void rebind(World *world, const char *address, const char *driver) {
        world_rebind(world, address, driver);
        world_uevent(world, CARD);
        world_run(world);
}

/* --- drift --- */

static void a_free_card_that_somebody_rebinds_is_shown_as_it_is(void **state) {
        static const struct {
                const char *address, *driver, *drifts, *states, *host_driver;
        } cases[] = {
                { CARD, "vfio-pci", CARD " bochs-drm>vfio-pci\n",
                  "host-bound>vfio-bound (somebody else rebound it from bochs-drm to vfio-pci)\n",
                  "bochs-drm" },
                { CARD, "simpledrm", CARD " bochs-drm>simpledrm\n", "", "simpledrm" },
                { CARD, "", CARD " bochs-drm>\n", "", "" },
                { AUDIO, "vfio-pci", AUDIO " snd_hda_intel>vfio-pci\n", "", "bochs-drm" },
                { AUDIO, "", AUDIO " snd_hda_intel>\n", "", "bochs-drm" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_auto(Diary) diary = DIARY;
                World *world = scene(&diary);

                rebind(world, cases[i].address, cases[i].driver);
                world_uevent(world, CARD); /* once is enough */
                assert_string_equal(diary.drifts->str, cases[i].drifts);
                assert_string_equal(diary.states->str, cases[i].states);
                assert_string_equal(gpu_at(world, CARD)->host_driver, cases[i].host_driver);
                assert_string_equal(world_driver(world, cases[i].address), cases[i].driver);
                assert_int_equal(world->handovers_begun, 0);
                assert_int_equal(world->ledger->len, 0);
                world_free(world);
        }
}

static void a_drift_that_a_call_sees_first_is_told_as_well(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);
        Caller caller = { 0 };

        world_rebind(world, CARD, "");
        call_and_run(world, manager_release_gpu, &caller);
        assert_done(&caller);
        assert_string_equal(diary.drifts->str, CARD " bochs-drm>\n");
        assert_int_equal(world->handovers_begun, 0);
        world_free(world);
}

static void step_with_uevents(World *world) {
        while (world_step(world)) {
                world_uevent(world, CARD);
                world_uevent(world, OTHER);
        }
}

static void what_we_do_ourselves_is_no_drift(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);
        Caller caller = { 0 };

        create(world, "box", CARD, OTHER, &caller);
        step_with_uevents(world);
        assert_done(&caller);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        step_with_uevents(world);
        manager_bind_gpu(world->manager, at(CARD), caller_done, &caller);
        step_with_uevents(world);
        assert_done(&caller);
        manager_release_gpu(world->manager, at(CARD), caller_done, &caller);
        step_with_uevents(world);
        assert_done(&caller);
        world_mark(world->refused, CARD);
        manager_bind_gpu(world->manager, at(CARD), caller_done, &caller);
        step_with_uevents(world);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        assert_gpu(world, CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(diary.drifts->str, "");
        world_free(world);
}

static void what_an_earlier_daemon_left_undone_is_no_drift(void **state) {
        for (unsigned steps = 1;; steps++) {
                g_auto(Diary) diary = DIARY;
                World *world = scene(&diary);
                Caller caller = { 0 };
                bool over = false;

                create(world, "box", CARD, OTHER, &caller);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                world_kill_daemon(world);
                world_boot(world);
                manager_set_observer(world->manager, &diary_observer, &diary);
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
        World *world = scene(&diary);
        Caller caller = { 0 };

        bind(world);
        world->handovers_begun = 0;
        world_rebind(world, AUDIO, "snd_hda_intel");
        rebind(world, CARD, "simpledrm");
        assert_string_equal(diary.drifts->str,
                            CARD " vfio-pci>simpledrm\n" AUDIO " vfio-pci>snd_hda_intel\n");
        assert_gpu(world, CARD, GPU_HOST_BOUND, "simpledrm");
        assert_string_equal(gpu_at(world, CARD)->host_driver, "simpledrm");
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
        assert_gpu(world, CARD, GPU_HOST_BOUND, "simpledrm");
        world_free(world);
}

static void a_companion_that_somebody_takes_back_stays_there_and_the_rest_is_ours(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);
        Caller caller = { 0 };

        bind(world);
        rebind(world, AUDIO, "");
        assert_gpu(world, CARD, GPU_VFIO_BOUND, "vfio-pci");
        assert_int_equal(world->ledger->len, 1);

        /* A daemon that is started now takes it for no Bind that was cut short. */
        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        assert_gpu(world, CARD, GPU_VFIO_BOUND, "vfio-pci");
        assert_string_equal(world_driver(world, AUDIO), "");

        call_and_run(world, manager_release_gpu, &caller);
        assert_done(&caller);
        assert_gpu(world, CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(world_driver(world, AUDIO), "");
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

static void a_half_bound_card_goes_whole_into_a_machine(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);
        Caller caller = { 0 };

        bind(world);
        rebind(world, AUDIO, "snd_hda_intel");
        run_box(world);
        assert_string_equal(world_driver(world, AUDIO), "vfio-pci");
        end_box(world);
        /* It was bound ahead, so it stays; and Release knows where each function came from. */
        assert_gpu(world, CARD, GPU_VFIO_BOUND, "vfio-pci");
        call_and_run(world, manager_release_gpu, &caller);
        assert_done(&caller);
        assert_gpu(world, CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        world_free(world);
}

/* The kernel takes the driver's link away at once, and waits for the QEMU with the rest. */
static void what_is_unbound_from_a_machine_stays_with_it_and_is_not_brought_home(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);

        run_box(world);
        forget(diary.states);
        rebind(world, CARD, "");
        assert_gpu(world, CARD, GPU_ATTACHED, "");
        assert_string_equal(diary.drifts->str, CARD " vfio-pci>\n");
        assert_string_equal(diary.states->str, "");

        end_box(world);
        assert_gpu(world, CARD, GPU_HOST_BOUND, "");
        assert_gpu(world, OTHER, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        assert_string_equal(diary.states->str, "attached>host-bound (machine box has ended)\n");
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

/* One card is reserved and waits for the other; nobody has heard of what happens to it. */
static void a_card_that_is_taken_before_the_start_is_not_given_to_libvirt(void **state) {
        static const char *const taken[] = { CARD, AUDIO };

        for (size_t i = 0; i < G_N_ELEMENTS(taken); i++) {
                g_auto(Diary) diary = DIARY;
                World *world = scene(&diary);
                Caller caller = { 0 };

                world_mark(world->stuck, OTHER);
                create(world, "box", CARD, OTHER, &caller);
                world_run(world);
                assert_int_equal(gpu_at(world, CARD)->view.pending, GPU_PENDING_STARTING);
                world_rebind(world, taken[i], "simpledrm");
                world_unstick(world, OTHER);
                world_run(world);
                assert_non_null(strstr(caller.message, CARD));
                assert_refused(&caller, REFUSAL_INVALID_STATE);
                assert_null(world_domain(world, "box"));
                assert_string_equal(world_driver(world, taken[i]), "simpledrm");
                assert_string_equal(world_driver(world, taken[!i]),
                                    i == 0 ? "snd_hda_intel" : "bochs-drm");
                assert_gpu(world, OTHER, GPU_HOST_BOUND, "bochs-drm");
                assert_int_equal(world->ledger->len, 0);
                world_free(world);
        }
}

static bool is_on_vfio(World *world) {
        return g_str_equal(world_driver(world, CARD), "vfio-pci") &&
               g_str_equal(world_driver(world, AUDIO), "vfio-pci");
}

static void a_card_that_is_taken_as_its_helper_ends_was_not_handed_over(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);
        Caller caller = { 0 };

        manager_bind_gpu(world->manager, at(CARD), caller_done, &caller);
        while (!is_on_vfio(world))
                assert_true(world_step(world));
        world_rebind(world, CARD, "bochs-drm");
        world_run(world);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        assert_gpu(world, CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

static void what_the_kernel_refused_and_somebody_takes_elsewhere_is_left_there(void **state) {
        static const char *const drivers[] = { "vfio-pci", "simpledrm" };

        for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
                g_auto(Diary) diary = DIARY;
                World *world = scene(&diary);

                run_box(world);
                world_mark(world->no_return, CARD);
                end_box(world);
                assert_int_equal(gpu_at(world, CARD)->view.fault, GPU_FAULT_HANDOVER_FAILED);
                g_array_set_size(world->no_return, 0);
                rebind(world, CARD, drivers[i]);
                assert_gpu(world, CARD, i == 0 ? GPU_VFIO_BOUND : GPU_HOST_BOUND, drivers[i]);
                assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
                assert_int_equal(world->ledger->len, 0);
                world_free(world);
        }
}

/* --- surprise removal --- */

static void pull(World *world) {
        world_remove(world, AUDIO);
        world_remove(world, CARD);
        world_run(world);
}

static void plug(World *world, const char *driver) {
        world_add(world, CARD, 0x038000, 1, driver);
        world_uevent(world, CARD);
        world_add(world, AUDIO, 0x040300, 1, driver);
        world_uevent(world, CARD);
        world_run(world);
}

static void assert_box_without_card(World *world) {
        const Machine *box = manager_machine(world->manager, "box");

        assert_int_equal(box->state, MACHINE_RUNNING);
        assert_int_equal(box->gpus->len, 2);
        assert_int_equal(box->present->len, 1);
        assert_true(pci_address_equal(g_array_index(box->present, PciAddress, 0), at(OTHER)));
}

static void a_machine_that_loses_a_card_says_so_and_lives(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);

        run_box(world);
        diary.gpus_changed = 0;
        pull(world);
        assert_null(manager_gpu(world->manager, at(CARD)));
        assert_box_without_card(world);
        assert_string_equal(manager_machine(world->manager, "box")->state_reason,
                            "GPU " CARD " has gone from the bus");
        assert_string_equal(diary.losses->str, "box " CARD "\n");
        assert_int_equal(diary.gpus_changed, 1);
        assert_string_equal(diary.drifts->str, "");
        assert_gpu(world, OTHER, GPU_ATTACHED, "vfio-pci");
        assert_int_equal(world->ledger->len, 1);

        /* Nobody tries to hand it back. */
        world->handovers_begun = 0;
        end_box(world);
        assert_int_equal(world->handovers_begun, 1);
        assert_gpu(world, OTHER, GPU_HOST_BOUND, "bochs-drm");
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

static void a_guest_that_lets_go_first_has_lost_it_too(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);
        WorldDomain *box;

        run_box(world);
        forget(diary.states);
        box = world_domain(world, "box");
        rebind(world, CARD, "");
        world_unlist(box, CARD);
        world_unlist(box, AUDIO);
        world_look_again(world, box);
        world_run(world);
        assert_string_equal(diary.states->str,
                            "attached>host-bound (machine box has let go of it)\n");
        pull(world);
        assert_box_without_card(world);
        assert_string_equal(diary.losses->str, "box " CARD "\n");
        assert_int_equal(world->ledger->len, 1);
        end_box(world);
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

/* virsh detach-device: the card is free to go home before its machine ends. */
static void a_card_that_was_taken_out_of_its_machine_can_be_released(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);
        Caller caller = { 0 };

        run_box(world);
        world_unlist(world_domain(world, "box"), CARD);
        world_unlist(world_domain(world, "box"), AUDIO);
        world_look_again(world, world_domain(world, "box"));
        world_run(world);
        assert_gpu(world, CARD, GPU_VFIO_BOUND, "vfio-pci");
        call_and_run(world, manager_release_gpu, &caller);
        assert_done(&caller);
        assert_gpu(world, CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_gpu(world, OTHER, GPU_ATTACHED, "vfio-pci");
        world_free(world);
}

static void assert_refused_everything(World *world) {
        Caller caller = { 0 };

        create(world, "more", CARD, NULL, &caller);
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
                World *world = scene(&diary);

                run_box(world);
                pull(world);
                plug(world, cases[i].driver);
                assert_gpu(world, CARD, cases[i].state, cases[i].driver);
                assert_string_equal(gpu_at(world, CARD)->machine_name, "");
                assert_box_without_card(world);
                assert_refused_everything(world);
                world_look_again(world, world_domain(world, "box"));
                world_run(world);
                assert_gpu(world, CARD, cases[i].state, cases[i].driver);
                assert_string_equal(gpu_at(world, CARD)->machine_name, "");

                /* The end of that machine is none of its business, and then it is free. */
                end_box(world);
                assert_gpu(world, CARD, cases[i].state, cases[i].driver);
                assert_int_equal(manager_machine(world->manager, "box")->present->len, 2);
                assert_string_equal(diary.drifts->str, "");
                world_free(world);
        }
}

static void a_card_in_the_place_of_a_lost_one_is_free_when_libvirt_has_struck_that_off(
        void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);
        Caller caller = { 0 };

        run_box(world);
        pull(world);
        plug(world, "bochs-drm");
        world_unlist(world_domain(world, "box"), CARD);
        world_unlist(world_domain(world, "box"), AUDIO);
        world_look_again(world, world_domain(world, "box"));
        world_run(world);
        create(world, "more", CARD, NULL, &caller);
        world_run(world);
        assert_done(&caller);
        assert_string_equal(gpu_at(world, CARD)->machine_name, "more");
        world_free(world);
}

static void a_daemon_that_has_not_seen_it_go_knows_the_new_card_too(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);

        run_box(world);
        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        pull(world);
        plug(world, "bochs-drm");
        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        assert_gpu(world, CARD, GPU_HOST_BOUND, "bochs-drm");
        assert_string_equal(gpu_at(world, CARD)->machine_name, "");
        assert_refused_everything(world);
        world_free(world);
}

/* The helper that was at the first card ends after the second has come. */
static void what_becomes_of_a_helper_says_nothing_of_the_next_card(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);
        Caller caller = { 0 };

        world_mark(world->stuck, CARD);
        manager_bind_gpu(world->manager, at(CARD), caller_done, &caller);
        world_run(world);
        world_overdue(world, CARD);
        assert_refused(&caller, REFUSAL_HANDOVER_TIMEOUT);
        pull(world);
        plug(world, "bochs-drm");
        assert_string_equal(gpu_fault_to_string(gpu_at(world, CARD)->view.fault), "");

        /* Until it is gone there is no second one. */
        call_and_run(world, manager_bind_gpu, &caller);
        assert_refused(&caller, REFUSAL_HANDOVER_FAILED);
        world_end_helper(world, CARD, HANDOVER_LOST);
        world_run(world);
        assert_gpu(world, CARD, GPU_HOST_BOUND, "bochs-drm");
        call_and_run(world, manager_bind_gpu, &caller);
        assert_done(&caller);
        assert_gpu(world, CARD, GPU_VFIO_BOUND, "vfio-pci");
        world_free(world);
}

/* --- stuck --- */

/* The helper of the first daemon is still at it; that of the second waits behind it, and says so.
 */
static void a_restarted_daemon_shows_the_fault_and_ends_it_when_the_driver_lets_go(void **state) {
        for (unsigned by_bind = 0; by_bind < 2; by_bind++) {
                g_auto(Diary) diary = DIARY;
                World *world = scene(&diary);
                Caller caller = { 0 };

                world_mark(world->stuck, CARD);
                if (by_bind)
                        manager_bind_gpu(world->manager, at(CARD), caller_done, &caller);
                else
                        create(world, "box", CARD, OTHER, &caller);
                world_run(world);
                world_overdue(world, CARD);
                world_run(world);
                assert_refused(&caller, REFUSAL_HANDOVER_TIMEOUT);

                world_kill_daemon(world);
                world_boot(world);
                world_run(world);
                assert_int_equal(gpu_at(world, CARD)->view.pending, GPU_PENDING_RELEASING);
                world_overdue(world, CARD);
                assert_int_equal(gpu_at(world, CARD)->view.fault, GPU_FAULT_STUCK);
                call_and_run(world, manager_bind_gpu, &caller);
                assert_non_null(strstr(caller.message, "bochs-drm"));
                assert_refused(&caller, REFUSAL_GPU_FAULTED);
                create(world, "other", OTHER, NULL, &caller);
                world_run(world);
                assert_done(&caller);
                assert_int_equal(world->helpers->len, 1);

                world_unstick(world, CARD);
                world_run(world);
                assert_gpu(world, CARD, GPU_HOST_BOUND, "bochs-drm");
                assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
                world_free(world);
        }
}

static unsigned ends;

static void note_end(void *userdata) {
        const Caller *caller = userdata;

        assert_int_equal(caller->answers, 1);
        ends++;
}

static void a_create_that_does_not_wait_ends_after_its_answer(void **state) {
        g_auto(Diary) diary = DIARY;
        World *world = scene(&diary);
        const char *gpus[] = { CARD, NULL };
        g_autoptr(GPtrArray) findings = findings_new();

        for (unsigned i = 0; i < 2; i++) {
                Request *request = request_new("box", gpus, findings);
                Caller caller = { 0 };

                request_finish(request, findings);
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
                cmocka_unit_test(a_free_card_that_somebody_rebinds_is_shown_as_it_is),
                cmocka_unit_test(a_drift_that_a_call_sees_first_is_told_as_well),
                cmocka_unit_test(what_we_do_ourselves_is_no_drift),
                cmocka_unit_test(what_an_earlier_daemon_left_undone_is_no_drift),
                cmocka_unit_test(a_bound_card_that_somebody_takes_back_is_the_hosts_again),
                cmocka_unit_test(
                        a_companion_that_somebody_takes_back_stays_there_and_the_rest_is_ours),
                cmocka_unit_test(a_half_bound_card_goes_whole_into_a_machine),
                cmocka_unit_test(
                        what_is_unbound_from_a_machine_stays_with_it_and_is_not_brought_home),
                cmocka_unit_test(a_card_that_is_taken_before_the_start_is_not_given_to_libvirt),
                cmocka_unit_test(a_card_that_is_taken_as_its_helper_ends_was_not_handed_over),
                cmocka_unit_test(
                        what_the_kernel_refused_and_somebody_takes_elsewhere_is_left_there),
                cmocka_unit_test(a_machine_that_loses_a_card_says_so_and_lives),
                cmocka_unit_test(a_guest_that_lets_go_first_has_lost_it_too),
                cmocka_unit_test(a_card_that_was_taken_out_of_its_machine_can_be_released),
                cmocka_unit_test(a_card_in_the_place_of_a_lost_one_is_not_in_its_machine),
                cmocka_unit_test(
                        a_card_in_the_place_of_a_lost_one_is_free_when_libvirt_has_struck_that_off),
                cmocka_unit_test(a_daemon_that_has_not_seen_it_go_knows_the_new_card_too),
                cmocka_unit_test(what_becomes_of_a_helper_says_nothing_of_the_next_card),
                cmocka_unit_test(
                        a_restarted_daemon_shows_the_fault_and_ends_it_when_the_driver_lets_go),
                cmocka_unit_test(a_create_that_does_not_wait_ends_after_its_answer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
