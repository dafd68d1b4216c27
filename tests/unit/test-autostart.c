/* Machines that start with the host wait for what is not known, and are not skipped for it. */
#include "manager-scene.h"
#include "testing.h"

#include <errno.h>

static void define(World *world, const char *name, const char *gpu) {
        Request *request = request_for(name, gpu, NULL);
        Caller caller = { 0 };

        request->autostart = true;
        request->start = false;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
}

/* The host goes down with two machines that start with it, and comes up. */
static World *scene_before_boot(void) {
        World *world = booted_scene();

        define(world, "one", AUDIO_CARD);
        define(world, "two", OTHER_CARD);
        world_kill_daemon(world);
        world->booted_before = false;
        return world;
}

static void boot(World *world) {
        world_boot(world);
        world_run(world);
}

static void assert_runs(World *world, const char *name, bool runs) {
        const Machine *machine = manager_machine(world->manager, name);

        assert_non_null(machine);
        assert_string_equal(machine_state_to_string(machine->state), runs ? "running" : "created");
}

static void they_wait_until_it_is_known_that_the_host_was_booted(void **unused) {
        World *world = scene_before_boot();

        world->fail_boot = -EAGAIN;
        boot(world);
        assert_runs(world, "one", false);
        world->fail_boot = 0;
        world->host_events->boot_told(world->manager);
        world_run(world);
        assert_runs(world, "one", true);
        assert_runs(world, "two", true);
        world_free(world);
}

static void and_do_not_start_when_it_was_not(void **unused) {
        World *world = scene_before_boot();

        world->booted_before = true;
        world->fail_boot = -EIO;
        boot(world);
        world->fail_boot = 0;
        world->host_events->boot_told(world->manager);
        world_run(world);
        assert_runs(world, "one", false);
        world_free(world);
}

/* Only the one whose card it is. */
static void one_whose_card_could_not_be_looked_at_waits_for_it(void **unused) {
        World *world = scene_before_boot();

        world_mark(world->unreadable, OTHER_CARD);
        boot(world);
        assert_runs(world, "one", true);
        assert_runs(world, "two", false);
        world_unmark(world->unreadable, at(OTHER_CARD));
        world_uevent(world, OTHER_CARD);
        world_run(world);
        assert_runs(world, "two", true);
        world_free(world);
}

static void one_whose_card_has_a_record_that_could_not_be_read_waits_for_it(void **unused) {
        World *world = scene_before_boot();

        world->fail_ledger_read = -EIO;
        boot(world);
        assert_runs(world, "one", false);
        world->fail_ledger_read = 0;
        world_uevent(world, AUDIO_CARD);
        world_run(world);
        assert_runs(world, "one", true);
        assert_runs(world, "two", false);
        world_free(world);
}

static void what_was_started_by_hand_meanwhile_is_not_started_again(void **unused) {
        World *world = scene_before_boot();
        Caller caller = { 0 };

        world_mark(world->unreadable, AUDIO_CARD);
        boot(world);
        world_unmark(world->unreadable, at(AUDIO_CARD));
        manager_start_machine(world->manager, world_machine(world, "one"), caller_done, &caller);
        world_run(world);
        caller_forget(&caller);
        assert_runs(world, "one", true);
        world_end_domain(world, world_domain(world, "one"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_string_equal(machine_state_to_string(manager_machine(world->manager, "one")->state),
                            "stopped");
        world_free(world);
}

/* There are 64 surveys at a time, and each start begins one; or the host is slow just then. */
static void one_that_the_host_was_too_busy_for_is_tried_again(void **unused) {
        World *world = scene_before_boot();

        world->survey_error = -EBUSY;
        boot(world);
        assert_runs(world, "one", false);
        world->survey_error = 0;
        world_let_time_pass(world);
        world_uevent(world, AUDIO_CARD);
        world_list(world);
        world_run(world);
        assert_runs(world, "one", true);
        world_free(world);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(they_wait_until_it_is_known_that_the_host_was_booted),
                cmocka_unit_test(and_do_not_start_when_it_was_not),
                cmocka_unit_test(one_whose_card_could_not_be_looked_at_waits_for_it),
                cmocka_unit_test(one_whose_card_has_a_record_that_could_not_be_read_waits_for_it),
                cmocka_unit_test(what_was_started_by_hand_meanwhile_is_not_started_again),
                cmocka_unit_test(one_that_the_host_was_too_busy_for_is_tried_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
