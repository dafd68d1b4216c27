/* What goes wrong between the service and its callers: the world moves while polkit thinks, callers
 * hang up or ask for too much, the service ends, the bus does. */
#include "stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* Somebody has called that, and polkit is thinking about it. */
static void polkit_thinks_of(Stage *stage, const char *path, const char *interface,
                             const char *method, Answer *answer) {
        stage->polkit->verdict = MOCK_SILENT;
        answer_expect(answer, stage->somebody, call_new(stage->somebody, path, interface, method));
        private_bus_wait(stage->private_bus, &stage->polkit->was_asked);
}

static void polkit_lets(Stage *stage, const Answer *answer) {
        mock_polkit_answer(stage->polkit, MOCK_YES);
        private_bus_wait(stage->private_bus, &answer->there);
}

static void a_gpu_that_goes_while_polkit_thinks_is_unknown(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };

        polkit_thinks_of(stage, GPU2, "org.feos.VM1.GPU", "Bind", &answer);
        world_remove(stage->world, "0000:02:00.0");
        polkit_lets(stage, &answer);
        assert_error(&answer, DBUS "Error.UnknownObject", GPU2);
        assert_int_equal(stage->world->handovers_begun, 0);
}

static void a_gpu_that_is_taken_while_polkit_thinks_is_in_use(void **state) {
        g_autoptr(Stage) stage = NULL;
        g_auto(Answer) slow = { 0 };
        g_auto(Answer) fast = { 0 };

        if (!private_bus_can_be_anybody())
                skip();
        stage = stage_new(0);
        stage->polkit->verdict = MOCK_SILENT;
        request(stage, stage->somebody, "Create", "vm-2", "start", true, &slow);
        private_bus_wait(stage->private_bus, &stage->polkit->was_asked);
        create(stage, stage->root, "vm-1", &fast);
        assert_path(&fast, MACHINE);
        polkit_lets(stage, &slow);
        assert_error(&slow, ERROR "GPUInUse", "vm-1");
}

/* What somebody may do to one GPU he may not do to the next that is plugged in there. */
static void a_gpu_that_is_replaced_while_polkit_thinks_is_not_touched(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };

        polkit_thinks_of(stage, GPU2, "org.feos.VM1.GPU", "Bind", &answer);
        world_remove(stage->world, "0000:02:00.0");
        world_add(stage->world, "0000:02:00.0", 0x030200, 2, "bochs-drm");
        world_uevent(stage->world, "0000:02:00.0");
        polkit_lets(stage, &answer);
        assert_error(&answer, DBUS "Error.AccessDenied", "changed");
        assert_int_equal(stage->world->handovers_begun, 0);
}

/* The same of a machine that is deleted and made anew, with the same GPUs under the same name. */
static void a_machine_that_is_replaced_while_polkit_thinks_is_not_touched(void **state) {
        g_autoptr(Stage) stage = NULL;
        g_auto(Answer) made = { 0 };
        g_auto(Answer) slow = { 0 };
        g_auto(Answer) deleted = { 0 };
        g_auto(Answer) again = { 0 };

        if (!private_bus_can_be_anybody())
                skip();
        stage = stage_new(0);
        create(stage, stage->root, "vm-1", &made);
        assert_null(made.error);
        polkit_thinks_of(stage, MACHINE, "org.feos.VM1.Machine", "Delete", &slow);
        call(stage, stage->root, MACHINE, "org.feos.VM1.Machine", "Delete", &deleted);
        assert_null(deleted.error);
        create(stage, stage->root, "vm-1", &again);
        assert_null(again.error);
        polkit_lets(stage, &slow);
        assert_error(&slow, DBUS "Error.AccessDenied", "changed");
        assert_text(stage, MACHINE, "org.feos.VM1.Machine", "State", "running");
}

static bool something_is_to_happen(const Stage *stage) {
        return stage->world->todo.length > 0;
}

static void a_caller_who_hangs_up_does_not_stop_what_he_began(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };

        stage->paused = true;
        request(stage, stage->somebody, "Create", "vm-1", "start", true, &answer);
        stage_wait(stage, something_is_to_happen);
        assert_false(answer.there);
        sd_bus_flush_close_unref(g_steal_pointer(&stage->somebody));
        private_bus_settle(stage->private_bus);
        stage->paused = false;
        private_bus_settle(stage->private_bus);
        heard_at(stage, "StateChanged " MACHINE " starting running");
}

/* As after a start of the service: libvirt has taken the call, and has not said yet that there is a
 * machine. */
static Stage *stage_with_an_untold_machine(unsigned pending_per_user) {
        Stage *stage = stage_new(pending_per_user);
        g_auto(Answer) made = { 0 };
        WorldDomain *domain;

        request(stage, stage->root, "Create", "vm-1", "start", false, &made);
        private_bus_wait(stage->private_bus, &made.there);
        assert_path(&made, MACHINE);
        domain = world_domain(stage->world, "vm-1");
        domain->known = false;
        world_look_again(stage->world, domain);
        world_run(stage->world);
        stage->world->connecting = stage->world->awaited = true;
        world_set_connected(stage->world, false);
        world_run(stage->world);
        domain->known = true;
        return stage;
}

static void answer_of_libvirt(Stage *stage) {
        stage->world->connecting = false;
        world_set_connected(stage->world, true);
        world_run(stage->world);
}

static void a_call_on_a_machine_that_libvirt_has_yet_to_tell_of_waits(void **state) {
        g_autoptr(Stage) stage = stage_with_an_untold_machine(0);
        g_auto(Answer) start = { 0 };
        g_auto(Answer) get = { 0 };
        sd_bus_message *m = call_new(stage->somebody, VM1, "org.feos.VM1", "GetMachine");

        assert_true(sd_bus_message_append(m, "s", "vm-1") >= 0);
        answer_expect(&get, stage->somebody, m);
        answer_expect(&start, stage->somebody,
                      call_new(stage->somebody, MACHINE, "org.feos.VM1.Machine", "Start"));
        private_bus_settle(stage->private_bus);
        assert_false(start.there || get.there);
        answer_of_libvirt(stage);
        private_bus_wait(stage->private_bus, &start.there);
        private_bus_wait(stage->private_bus, &get.there);
        assert_null(start.error);
        assert_path(&get, MACHINE);
        assert_text(stage, MACHINE, "org.feos.VM1.Machine", "State", "running");
}

static void one_that_is_not_there_is_unknown_then(void **state) {
        g_autoptr(Stage) stage = stage_with_an_untold_machine(0);
        g_auto(Answer) answer = { 0 };

        answer_expect(
                &answer, stage->somebody,
                call_new(stage->somebody, VM1 "/machine/vm_2d2", "org.feos.VM1.Machine", "Start"));
        private_bus_settle(stage->private_bus);
        assert_false(answer.there);
        answer_of_libvirt(stage);
        private_bus_wait(stage->private_bus, &answer.there);
        assert_error(&answer, DBUS "Error.UnknownObject", "vm_2d2");
}

static void who_waits_for_libvirt_counts(void **state) {
        g_autoptr(Stage) stage = stage_with_an_untold_machine(1);
        g_auto(Answer) first = { 0 };
        g_auto(Answer) second = { 0 };

        answer_expect(&first, stage->somebody,
                      call_new(stage->somebody, MACHINE, "org.feos.VM1.Machine", "Start"));
        private_bus_settle(stage->private_bus);
        call(stage, stage->somebody, MACHINE, "org.feos.VM1.Machine", "PowerOff", &second);
        assert_error(&second, ERROR "LimitsExceeded", "under way");
        assert_false(first.there);
        answer_of_libvirt(stage);
        private_bus_wait(stage->private_bus, &first.there);
        assert_null(first.error);
}

static void nobody_waits_longer_than_libvirt_may_take(void **state) {
        g_autoptr(Stage) stage = stage_with_an_untold_machine(0);
        g_auto(Answer) get = { 0 };
        sd_bus_message *m = call_new(stage->somebody, VM1, "org.feos.VM1", "GetMachine");

        assert_true(sd_bus_message_append(m, "s", "vm-1") >= 0);
        answer_expect(&get, stage->somebody, m);
        private_bus_settle(stage->private_bus);
        assert_false(get.there);
        world_tire_of_libvirt(stage->world);
        private_bus_wait(stage->private_bus, &get.there);
        assert_error(&get, ERROR "HypervisorUnavailable", "within 30 s");
}

/* One more request of somebody's. */
static void check(Stage *stage, Answer *answer) {
        request(stage, stage->somebody, "Check", "vm-2", "start", true, answer);
        private_bus_wait(stage->private_bus, &answer->there);
}

static void a_user_has_no_more_under_way_than_the_limit_says(void **state) {
        g_autoptr(Stage) stage = stage_new(1);
        g_auto(Answer) first = { 0 };
        g_auto(Answer) second = { 0 };
        g_auto(Answer) third = { 0 };

        stage->paused = true;
        request(stage, stage->somebody, "Create", "vm-1", "start", true, &first);
        stage_wait(stage, something_is_to_happen);
        check(stage, &second);
        assert_error(&second, ERROR "LimitsExceeded", "requests");

        stage->paused = false;
        private_bus_wait(stage->private_bus, &first.there);
        assert_path(&first, MACHINE);
        check(stage, &third);
        assert_null(third.error);
}

static bool helper_is_at_work(const Stage *stage) {
        return stage->world->helpers->len > 0;
}

static void what_is_not_waited_for_counts_until_it_has_ended(void **state) {
        g_autoptr(Stage) stage = stage_new(1);
        g_auto(Answer) first = { 0 };
        g_auto(Answer) second = { 0 };
        g_auto(Answer) third = { 0 };

        world_mark(stage->world->stuck, "0000:02:00.0");
        request(stage, stage->somebody, "Create", "vm-1", "wait", false, &first);
        private_bus_wait(stage->private_bus, &first.there);
        assert_path(&first, MACHINE);
        stage_wait(stage, helper_is_at_work);
        check(stage, &second);
        assert_error(&second, ERROR "LimitsExceeded", "requests");

        world_unstick(stage->world, "0000:02:00.0");
        private_bus_settle(stage->private_bus);
        heard_at(stage, "StateChanged " MACHINE " starting running");
        check(stage, &third);
        assert_null(third.error);
}

static void the_end_of_the_service_is_told_to_who_waits(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };

        stage->paused = true;
        request(stage, stage->root, "Create", "vm-1", "start", true, &answer);
        stage_wait(stage, something_is_to_happen);
        g_clear_pointer(&stage->bus, bus_free);
        private_bus_wait(stage->private_bus, &answer.there);
        assert_error(&answer, DBUS "Error.Failed", "stopping");
}

static void the_end_of_the_bus_ends_the_service_with_a_failure(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        sd_event *event = private_bus_event(stage->private_bus);
        int code;

        private_bus_kill(stage->private_bus);
        assert_int_equal(sd_event_loop(event), EXIT_FAILURE);
        assert_true(sd_event_get_exit_code(event, &code) >= 0);
        assert_int_equal(code, EXIT_FAILURE);
}

static void a_second_service_gets_no_name(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        Bus *second = NULL;

        assert_true(bus_new(private_bus_event(stage->private_bus), stage->world->manager,
                            &(BusConfig){ .version = "1" }, &second) >= 0);
        assert_true(bus_take_name(second) < 0);
        bus_free(second);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_gpu_that_goes_while_polkit_thinks_is_unknown),
                cmocka_unit_test(a_gpu_that_is_taken_while_polkit_thinks_is_in_use),
                cmocka_unit_test(a_gpu_that_is_replaced_while_polkit_thinks_is_not_touched),
                cmocka_unit_test(a_machine_that_is_replaced_while_polkit_thinks_is_not_touched),
                cmocka_unit_test(a_caller_who_hangs_up_does_not_stop_what_he_began),
                cmocka_unit_test(a_user_has_no_more_under_way_than_the_limit_says),
                cmocka_unit_test(what_is_not_waited_for_counts_until_it_has_ended),
                cmocka_unit_test(the_end_of_the_service_is_told_to_who_waits),
                cmocka_unit_test(the_end_of_the_bus_ends_the_service_with_a_failure),
                cmocka_unit_test(a_second_service_gets_no_name),
                cmocka_unit_test(a_call_on_a_machine_that_libvirt_has_yet_to_tell_of_waits),
                cmocka_unit_test(one_that_is_not_there_is_unknown_then),
                cmocka_unit_test(who_waits_for_libvirt_counts),
                cmocka_unit_test(nobody_waits_longer_than_libvirt_may_take),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
