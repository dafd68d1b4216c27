/* Machines whose card is exchanged while they are off: what is compared at a Start, and that a
 * refused one leaves everything as it was. */
#include "caller.h"
#include "testing.h"
#include "world.h"

#include <string.h>

#define CARD  "0000:01:00.0"
#define AUDIO "0000:01:00.1"
#define OTHER "0000:02:00.0"

#define SERIAL       "00-1b-21-ff-ff-12-34-56"
#define OTHER_SERIAL "00-1b-21-ff-ff-12-34-57"

/* --- the scene: a machine with a card and its companion, made and shut down --- */

static World *scene(bool autostart) {
        const char *gpus[] = { CARD, NULL };
        g_autoptr(GPtrArray) findings = findings_new();
        Request *request = request_new("box", gpus, findings);
        World *world = world_new();
        Caller caller = { 0 };

        world_add(world, CARD, 0x038000, 1, "bochs-drm")->serial = SERIAL;
        world_add(world, AUDIO, 0x040300, 1, "snd_hda_intel");
        world_add(world, OTHER, 0x038000, 2, "bochs-drm");
        world_boot(world);
        world_run(world);
        request_finish(request, findings);
        request->autostart = autostart;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        world_run(world);
        assert_done(&caller);
        return world;
}

static MachineState state_of_box(World *world) {
        return manager_machine(world->manager, "box")->state;
}

static void start(World *world, Caller *caller) {
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, caller);
        world_run(world);
}

/* Refused because of the card, before anything was touched. */
static void assert_mismatch(World *world, const char *says) {
        unsigned handovers = world->handovers_begun;
        Caller caller = { 0 };

        start(world, &caller);
        if (!caller.message || !strstr(caller.message, says))
                fail_msg("\"%s\" does not say \"%s\"", caller.message, says);
        assert_refused(&caller, REFUSAL_IDENTITY_MISMATCH);
        assert_int_equal(world->handovers_begun, handovers);
        assert_int_equal(world->ledger->len, 0);
        assert_string_equal(world_driver(world, CARD), "bochs-drm");
        assert_int_equal(state_of_box(world), MACHINE_STOPPED);
}

static void assert_starts(World *world) {
        Caller caller = { 0 };

        start(world, &caller);
        assert_done(&caller);
        assert_int_equal(state_of_box(world), MACHINE_RUNNING);
        assert_string_equal(world_driver(world, CARD), "vfio-pci");
}

/* --- the tests --- */

static void an_exchanged_card_is_refused_until_it_is_put_back(void **unused) {
        World *world = scene(false);
        PciFunction *facts = &world_function(world, CARD)->facts;

        facts->device = 0x2222;
        assert_mismatch(world, "1234:2222");
        facts->device = 0x1111;
        facts->subsystem_device = 7;
        assert_mismatch(world, "0000:0007");
        facts->subsystem_device = 0;
        world_function(world, CARD)->serial = OTHER_SERIAL;
        assert_mismatch(world, OTHER_SERIAL);
        world_function(world, CARD)->serial = SERIAL;
        assert_starts(world);
        world_free(world);
}

static void a_serial_that_cannot_be_read_stops_nothing(void **unused) {
        World *world = scene(false);

        world_function(world, CARD)->serial = NULL;
        assert_starts(world);
        world_free(world);
}

static void what_is_no_gpu_at_all_is_another_card_too(void **unused) {
        World *world = scene(false);

        world_function(world, CARD)->facts.class = 0x020000;
        world_function(world, CARD)->facts.device = 0x10d3;
        world_uevent(world, CARD);
        assert_mismatch(world, "1234:10d3");
        world_free(world);
}

static void a_slot_that_is_empty_has_no_gpu(void **unused) {
        World *world = scene(false);
        Caller caller = { 0 };

        world_remove(world, AUDIO);
        world_remove(world, CARD);
        start(world, &caller);
        assert_refused(&caller, REFUSAL_NO_SUCH_GPU);
        world_free(world);
}

static void the_companions_are_part_of_the_card(void **unused) {
        World *world = scene(false);

        world_function(world, AUDIO)->facts.device = 0x2222;
        assert_mismatch(world, AUDIO);
        world_remove(world, AUDIO);
        assert_mismatch(world, AUDIO);
        world_add(world, AUDIO, 0x040300, 1, "snd_hda_intel");
        world_add(world, "0000:01:00.2", 0x0c0330, 1, "xhci_hcd");
        assert_mismatch(world, "0000:01:00.2");
        world_remove(world, "0000:01:00.2");
        assert_starts(world);
        world_free(world);
}

static void the_identity_survives_the_daemon_and_the_first_start(void **unused) {
        World *world = scene(false);

        world_kill_daemon(world);
        world_function(world, CARD)->serial = OTHER_SERIAL;
        world_boot(world);
        world_run(world);
        assert_mismatch(world, OTHER_SERIAL);
        world_free(world);
}

static void autostart_is_no_exception(void **unused) {
        World *world = scene(true);

        world_kill_daemon(world);
        world->booted_before = false;
        world_function(world, CARD)->serial = OTHER_SERIAL;
        world_boot(world);
        world_run(world);
        assert_int_equal(state_of_box(world), MACHINE_STOPPED);
        assert_string_equal(world_driver(world, CARD), "bochs-drm");

        world_kill_daemon(world);
        world->booted_before = false;
        world_function(world, CARD)->serial = SERIAL;
        world_boot(world);
        world_run(world);
        assert_int_equal(state_of_box(world), MACHINE_RUNNING);
        world_free(world);
}

/* As an earlier version defined it. */
static World *old_scene(void) {
        World *world = scene(false);

        g_array_set_size(world_domain(world, "box")->cards, 0);
        world_look_again(world, world_domain(world, "box"));
        world_run(world);
        return world;
}

static void a_machine_without_identities_starts_and_learns_none(void **unused) {
        World *world = old_scene();

        world_function(world, CARD)->serial = OTHER_SERIAL;
        assert_starts(world);
        assert_int_equal(world_domain(world, "box")->cards->len, 0);
        world_free(world);
}

static void a_function_that_only_the_definition_has_is_named(void **unused) {
        World *world = old_scene();

        world_remove(world, AUDIO);
        assert_mismatch(world, "PCI device " AUDIO);
        world_free(world);
}

static void a_create_compares_with_nothing(void **unused) {
        const char *gpus[] = { OTHER, NULL };
        World *world = scene(false);
        g_autoptr(GPtrArray) findings = findings_new();
        Request *request = request_new("second", gpus, findings);
        const CardIdentity *made_with;
        Caller caller = { 0 };

        request_finish(request, findings);
        world_function(world, OTHER)->facts.device = 0x2222;
        world_function(world, OTHER)->serial = OTHER_SERIAL;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        made_with = &g_array_index(world_domain(world, "second")->cards, CardIdentity, 0);
        assert_int_equal(made_with->n_functions, 1);
        assert_int_equal(made_with->functions[0].device, 0x2222);
        assert_string_equal(made_with->functions[0].serial, OTHER_SERIAL);
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_exchanged_card_is_refused_until_it_is_put_back),
                cmocka_unit_test(a_serial_that_cannot_be_read_stops_nothing),
                cmocka_unit_test(what_is_no_gpu_at_all_is_another_card_too),
                cmocka_unit_test(a_slot_that_is_empty_has_no_gpu),
                cmocka_unit_test(the_companions_are_part_of_the_card),
                cmocka_unit_test(the_identity_survives_the_daemon_and_the_first_start),
                cmocka_unit_test(autostart_is_no_exception),
                cmocka_unit_test(a_machine_without_identities_starts_and_learns_none),
                cmocka_unit_test(a_function_that_only_the_definition_has_is_named),
                cmocka_unit_test(a_create_compares_with_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
