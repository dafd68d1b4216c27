/* Cards that the administrator keeps for machines. */
#include "caller.h"
#include "testing.h"
#include "world.h"

#include <string.h>

#define CARD      "0000:01:00.0"
#define COMPANION "0000:01:00.1"
#define OTHER     "0000:02:00.0"

static unsigned failures;
static RefusalCode failure;

static void on_keep_failed(void *userdata, PciAddress gpu, const Refusal *refusal) {
        char shown[PCI_ADDRESS_BUFFER];

        failures++;
        failure = refusal->code;
        assert_string_equal(pci_address_print(gpu, shown), CARD);
}

static const Observer observer = { .keep_failed = on_keep_failed };

static World *scene(void) {
        World *world = world_new();

        failures = 0;
        world_add(world, CARD, 0x038000, 1, "bochs-drm")->kept = true;
        world_add(world, COMPANION, 0x040300, 1, "snd_hda_intel");
        world_add(world, OTHER, 0x038000, 2, "bochs-drm");
        return world;
}

static void boot(World *world) {
        world_boot(world);
        manager_set_observer(world->manager, &observer, NULL);
        world_run(world);
}

static GpuState state_of(World *world, const char *address) {
        PciAddress parsed;

        assert_true(pci_address_parse(address, &parsed));
        return manager_gpu(world->manager, parsed)->view.state;
}

static PciAddress card(void) {
        PciAddress address;

        assert_true(pci_address_parse(CARD, &address));
        return address;
}

static void create(World *world, const char *name, bool autostart) {
        const char *gpus[] = { CARD, NULL };
        g_autoptr(GPtrArray) findings = findings_new();
        Request *request = request_new(name, gpus, findings);
        Caller caller = { 0 };

        request->autostart = autostart;
        request_finish(request, findings);
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
}

static void a_kept_card_is_taken_whole_when_the_daemon_starts(void **unused) {
        World *world = scene();

        boot(world);
        assert_int_equal(state_of(world, CARD), GPU_VFIO_BOUND);
        assert_string_equal(world_driver(world, COMPANION), "vfio-pci");
        assert_int_equal(state_of(world, OTHER), GPU_HOST_BOUND);
        assert_int_equal(failures, 0);
        world_free(world);
}

static void it_stays_when_its_machine_has_ended(void **unused) {
        World *world = scene();

        boot(world);
        create(world, "box", false);
        assert_int_equal(state_of(world, CARD), GPU_ATTACHED);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_int_equal(state_of(world, CARD), GPU_VFIO_BOUND);
        assert_string_equal(world_driver(world, COMPANION), "vfio-pci");
        world_free(world);
}

/* As with a udev rule that caught it before its host driver. */
static void one_that_is_there_already_is_left_alone(void **unused) {
        World *world = scene();

        g_strlcpy(world_function(world, CARD)->facts.driver, "vfio-pci", 64);
        g_strlcpy(world_function(world, COMPANION)->facts.driver, "vfio-pci", 64);
        boot(world);
        assert_int_equal(world->handovers_begun, 0);
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

static void one_that_is_there_without_its_companion_is_completed(void **unused) {
        World *world = scene();

        g_strlcpy(world_function(world, CARD)->facts.driver, "vfio-pci", 64);
        boot(world);
        assert_string_equal(world_driver(world, COMPANION), "vfio-pci");
        world_free(world);
}

static void one_that_is_marked_later_is_taken_then(void **unused) {
        World *world = scene();

        world_function(world, CARD)->kept = false;
        boot(world);
        assert_int_equal(state_of(world, CARD), GPU_HOST_BOUND);
        world_function(world, CARD)->kept = true;
        world_uevent(world, CARD);
        world_run(world);
        assert_int_equal(state_of(world, CARD), GPU_VFIO_BOUND);
        world_free(world);
}

static void what_was_released_is_not_taken_again(void **unused) {
        World *world = scene();
        Caller caller = { 0 };

        boot(world);
        manager_release_gpu(world->manager, card(), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world_uevent(world, CARD);
        world_run(world);
        assert_int_equal(state_of(world, CARD), GPU_HOST_BOUND);
        world_free(world);
}

static void hold(World *world, pid_t pid, const char *command) {
        Holder *holder = holder_new(HOLDER_PROCESS, "/dev/dri/card0");

        holder->pid = pid;
        g_free(holder->command);
        holder->command = g_strdup(command);
        g_ptr_array_set_size(world->holders, 0);
        g_ptr_array_add(world->holders, holder);
}

static World *scene_with_a_card_in_use(void) {
        World *world = scene();

        hold(world, 4711, "alsactl");
        boot(world);
        assert_int_equal(state_of(world, CARD), GPU_HOST_BOUND);
        assert_int_equal(failures, 1);
        assert_int_equal(failure, REFUSAL_GPU_BUSY);
        return world;
}

/* It is told once for each reason, and the next process of the same kind is the same one. */
static void what_somebody_uses_is_taken_when_they_have_ended(void **unused) {
        World *world = scene_with_a_card_in_use();

        hold(world, 4712, "alsactl");
        world_let_time_pass(world);
        assert_int_equal(state_of(world, CARD), GPU_HOST_BOUND);
        assert_int_equal(failures, 1);
        hold(world, 4713, "Xorg");
        world_let_time_pass(world);
        assert_int_equal(failures, 2);

        g_ptr_array_set_size(world->holders, 0);
        world_run(world);
        assert_int_equal(state_of(world, CARD), GPU_HOST_BOUND); /* no event has told */
        world_let_time_pass(world);
        assert_int_equal(state_of(world, CARD), GPU_VFIO_BOUND);
        assert_int_equal(world->looks_later->len, 0);
        assert_int_equal(failures, 2);
        world_free(world);
}

static void what_is_released_while_somebody_uses_it_is_not_tried_again(void **unused) {
        World *world = scene_with_a_card_in_use();
        Caller caller = { 0 };

        manager_release_gpu(world->manager, card(), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_int_equal(world->looks_later->len, 0);
        g_ptr_array_set_size(world->holders, 0);
        world_uevent(world, CARD);
        world_run(world);
        assert_int_equal(state_of(world, CARD), GPU_HOST_BOUND);
        world_free(world);
}

static void what_is_kept_no_more_is_not_tried_again(void **unused) {
        World *world = scene_with_a_card_in_use();

        world_function(world, CARD)->kept = false;
        g_ptr_array_set_size(world->holders, 0);
        world_let_time_pass(world);
        assert_int_equal(state_of(world, CARD), GPU_HOST_BOUND);
        assert_int_equal(world->looks_later->len, 0);
        world_free(world);
}

static void a_machine_that_starts_with_the_host_waits_for_its_kept_card(void **unused) {
        World *world = scene();

        world_function(world, CARD)->kept = false;
        boot(world);
        create(world, "box", true);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_int_equal(state_of(world, CARD), GPU_HOST_BOUND);

        world_kill_daemon(world);
        world->booted_before = false;
        world_function(world, CARD)->kept = true;
        boot(world);
        assert_int_equal(failures, 0);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_RUNNING);
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_int_equal(state_of(world, CARD), GPU_VFIO_BOUND);
        world_free(world);
}

static void a_daemon_that_is_killed_at_any_step_keeps_it_in_the_end(void **unused) {
        for (unsigned steps = 0;; steps++) {
                World *world = scene();
                unsigned n = 0;

                world_boot(world);
                while (n < steps && world_step(world))
                        n++;
                world_kill_daemon(world);
                boot(world);
                assert_int_equal(state_of(world, CARD), GPU_VFIO_BOUND);
                assert_string_equal(world_driver(world, COMPANION), "vfio-pci");
                world_check(world);
                world_free(world);
                if (n < steps)
                        break;
        }
}

/* The kernel tells of each move, also of the one back; udev's word comes after the helper's end. */
static void what_fails_is_not_tried_again_at_its_own_events(void **unused) {
        World *world = scene();
        unsigned begun;

        world_mark(world->refused, CARD);
        boot(world);
        assert_int_equal(state_of(world, CARD), GPU_HOST_BOUND);
        begun = world->handovers_begun;
        for (unsigned i = 0; i < 10; i++) {
                world_uevent(world, CARD); /* it is on its host driver again */
                world_run(world);
        }
        assert_int_equal(world->handovers_begun, begun);
        world_free(world);
}

/* A try unbinds the host driver and binds it again: the clock alone does not do that for ever. */
static void what_the_kernel_has_refused_waits_for_somebody_to_change_something(void **unused) {
        World *world = scene();
        unsigned begun;

        world_mark(world->refused, CARD);
        boot(world);
        assert_int_equal(failures, 1);
        assert_int_equal(failure, REFUSAL_HANDOVER_FAILED);
        assert_int_equal(world->looks_later->len, 0);
        begun = world->handovers_begun;
        world_let_time_pass(world);
        assert_int_equal(world->handovers_begun, begun);

        world_unmark(world->refused, card());
        world_rebind(world, CARD, "nouveau");
        world_uevent(world, CARD);
        world_run(world);
        assert_int_equal(world->handovers_begun, begun);
        world_let_time_pass(world);
        assert_int_equal(state_of(world, CARD), GPU_VFIO_BOUND);
        assert_int_equal(world->looks_later->len, 0);
        world_free(world);
}

static void what_the_kernel_has_refused_is_tried_again_after_recover(void **unused) {
        World *world = scene();
        Caller caller = { 0 };

        world_mark(world->refused, CARD);
        boot(world);
        assert_int_equal(failure, REFUSAL_HANDOVER_FAILED);
        world_unmark(world->refused, card());
        manager_recover_gpu(world->manager, card(), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world_let_time_pass(world);
        assert_int_equal(state_of(world, CARD), GPU_VFIO_BOUND);
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_kept_card_is_taken_whole_when_the_daemon_starts),
                cmocka_unit_test(it_stays_when_its_machine_has_ended),
                cmocka_unit_test(one_that_is_there_already_is_left_alone),
                cmocka_unit_test(one_that_is_there_without_its_companion_is_completed),
                cmocka_unit_test(one_that_is_marked_later_is_taken_then),
                cmocka_unit_test(what_was_released_is_not_taken_again),
                cmocka_unit_test(what_somebody_uses_is_taken_when_they_have_ended),
                cmocka_unit_test(what_is_released_while_somebody_uses_it_is_not_tried_again),
                cmocka_unit_test(what_is_kept_no_more_is_not_tried_again),
                cmocka_unit_test(a_machine_that_starts_with_the_host_waits_for_its_kept_card),
                cmocka_unit_test(a_daemon_that_is_killed_at_any_step_keeps_it_in_the_end),
                cmocka_unit_test(what_fails_is_not_tried_again_at_its_own_events),
                cmocka_unit_test(
                        what_the_kernel_has_refused_waits_for_somebody_to_change_something),
                cmocka_unit_test(what_the_kernel_has_refused_is_tried_again_after_recover),
        };

        return cmocka_run_group_tests_name("keep", tests, NULL, NULL);
}
