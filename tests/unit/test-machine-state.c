/* The laws of a machine's rules, and of the order of a launch. */
#include "launch.h"
#include "machine-state.h"
#include "testing.h"

#include <stdio.h>
#include <string.h>

static bool is_request(MachineEvent event) {
        return event >= MACHINE_ASK_START && event <= MACHINE_ASK_CONSOLE;
}

static void a_refusal_changes_nothing_and_only_requests_are_refused(void **unused) {
        for (MachineState state = 0; state < _MACHINE_STATE_MAX; state++)
                for (MachineEvent event = 0; event < _MACHINE_EVENT_MAX; event++) {
                        MachineState after;

                        if (machine_step(state, event, &after) == MACHINE_OK) {
                                assert_in_range(after, 0, _MACHINE_STATE_MAX - 1);
                                continue;
                        }
                        assert_true(is_request(event));
                        assert_int_equal(after, state);
                        assert_true(strlen(machine_help(state, event)) > 0);
                }
}

static void observations_are_idempotent(void **unused) {
        for (MachineState state = 0; state < _MACHINE_STATE_MAX; state++)
                for (MachineEvent event = 0; event < MACHINE_ASK_START; event++) {
                        MachineState once, twice;

                        machine_step(state, event, &once);
                        machine_step(once, event, &twice);
                        assert_int_equal(once, twice);
                }
}

static void what_is_seen_does_not_depend_on_what_was_before(void **unused) {
        for (MachineEvent event = 0; event < MACHINE_ASK_START; event++) {
                MachineState first, after;

                machine_step(MACHINE_STARTING, event, &first);
                for (MachineState state = 0; state < _MACHINE_STATE_MAX; state++) {
                        /* One exception: libvirt forgets why a domain is off. */
                        if (event == MACHINE_SEEN_OFF && state == MACHINE_CRASHED)
                                continue;
                        machine_step(state, event, &after);
                        assert_int_equal(after, first);
                }
        }
}

static void a_guest_that_ignores_the_button_stays_stopping(void **unused) {
        MachineState after;

        machine_step(MACHINE_RUNNING, MACHINE_ASK_SHUTDOWN, &after);
        assert_int_equal(after, MACHINE_STOPPING);
        machine_step(after, MACHINE_SEEN_STOPPING, &after);
        assert_int_equal(after, MACHINE_STOPPING);
        assert_int_equal(machine_step(after, MACHINE_ASK_POWER_OFF, &after), MACHINE_OK);
}

static void only_a_machine_that_is_off_can_be_started(void **unused) {
        for (MachineState state = 0; state < _MACHINE_STATE_MAX; state++) {
                MachineState after;
                bool up = machine_state_is_up(state) || state == MACHINE_STARTING;

                assert_int_equal(machine_step(state, MACHINE_ASK_START, &after),
                                 up ? MACHINE_REFUSED : MACHINE_OK);
        }
}

static void every_value_has_a_word_of_its_own(void **unused) {
        for (int i = 0; i < _MACHINE_STATE_MAX; i++)
                for (int j = 0; j < i; j++)
                        assert_string_not_equal(machine_state_to_string(i),
                                                machine_state_to_string(j));
        for (int i = 0; i < _LAUNCH_STEP_MAX; i++)
                for (int j = 0; j < i; j++)
                        assert_string_not_equal(launch_step_to_string(i), launch_step_to_string(j));
}

/* Every choice of which step fails leads to an end, and the end tells the truth. */
static void every_launch_ends_wherever_it_fails(void **unused) {
        for (LaunchKind kind = 0; kind < _LAUNCH_KIND_MAX; kind++)
                for (unsigned failing = 0; failing < 128; failing++) {
                        LaunchStep step = launch_first(kind);
                        bool failed = false;
                        unsigned n = 0;

                        for (; !launch_is_over(step); n++) {
                                bool well = !(failing & (1u << n));

                                failed = failed || !well;
                                step = launch_next(kind, step, well);
                                assert_true(n < 7);
                        }
                        assert_int_equal(step, failed ? LAUNCH_UNDONE : LAUNCH_RUNNING);
                }
}

/* What was done forward is undone backward, in the reverse order, and nothing else is. */
static void the_way_back_undoes_what_was_begun_in_reverse(void **unused) {
        for (LaunchKind kind = 0; kind < _LAUNCH_KIND_MAX; kind++)
                for (unsigned good = 0; good < 5; good++) {
                        bool begun[_LAUNCH_STEP_MAX] = { false };
                        LaunchStep step = launch_first(kind), last = LAUNCH_RUNNING;

                        for (unsigned n = 0; !launch_is_over(step); n++) {
                                begun[step] = true;
                                if (step >= LAUNCH_UNDO_START) {
                                        assert_true(step > last || last <= LAUNCH_RUNNING);
                                        assert_true(step != LAUNCH_UNDO_START ||
                                                    begun[LAUNCH_START]);
                                        assert_true(step != LAUNCH_UNDO_BIND || begun[LAUNCH_BIND]);
                                        assert_true(step != LAUNCH_UNDO_DEFINE ||
                                                    begun[LAUNCH_DEFINE]);
                                        last = step;
                                }
                                step = launch_next(kind, step, n != good);
                        }
                        if (step != LAUNCH_UNDONE)
                                continue;
                        assert_int_equal(begun[LAUNCH_START], begun[LAUNCH_UNDO_START]);
                        assert_int_equal(begun[LAUNCH_BIND], begun[LAUNCH_UNDO_BIND]);
                }
}

static void dump(FILE *out) {
        for (MachineState state = 0; state < _MACHINE_STATE_MAX; state++)
                for (MachineEvent event = 0; event < _MACHINE_EVENT_MAX; event++) {
                        MachineState after;
                        MachineVerdict verdict = machine_step(state, event, &after);

                        fprintf(out, "%s | %s | %s\n", machine_state_to_string(state),
                                machine_event_to_string(event),
                                verdict == MACHINE_OK ? machine_state_to_string(after) : "refused");
                }
        for (LaunchKind kind = 0; kind < _LAUNCH_KIND_MAX; kind++)
                for (LaunchStep step = 0; step < _LAUNCH_STEP_MAX; step++) {
                        static const char *const kinds[] = { "create-only", "create-and-start",
                                                             "start-only" };

                        fprintf(out, "launch %s | %s | well: %s | badly: %s\n", kinds[kind],
                                launch_step_to_string(step),
                                launch_step_to_string(launch_next(kind, step, true)),
                                launch_step_to_string(launch_next(kind, step, false)));
                }
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_refusal_changes_nothing_and_only_requests_are_refused),
                cmocka_unit_test(observations_are_idempotent),
                cmocka_unit_test(what_is_seen_does_not_depend_on_what_was_before),
                cmocka_unit_test(a_guest_that_ignores_the_button_stays_stopping),
                cmocka_unit_test(only_a_machine_that_is_off_can_be_started),
                cmocka_unit_test(every_value_has_a_word_of_its_own),
                cmocka_unit_test(every_launch_ends_wherever_it_fails),
                cmocka_unit_test(the_way_back_undoes_what_was_begun_in_reverse),
        };

        if (argc > 1 && strcmp(argv[1], "--dump") == 0) {
                dump(stdout);
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
