/* The laws of a GPU's rules, over every cell of the table rather than over examples. */
#include "gpu-state.h"
#include "testing.h"

#include <stdio.h>
#include <string.h>

#define N_VIEWS (_GPU_STATE_MAX * _GPU_PENDING_MAX * _GPU_FAULT_MAX)

static GpuView view_number(unsigned n) {
        return (GpuView){
                .state = n % _GPU_STATE_MAX,
                .pending = n / _GPU_STATE_MAX % _GPU_PENDING_MAX,
                .fault = n / _GPU_STATE_MAX / _GPU_PENDING_MAX,
        };
}

static bool same(GpuView a, GpuView b) {
        return a.state == b.state && a.pending == b.pending && a.fault == b.fault;
}

static bool is_observation(GpuEvent event) {
        return event <= GPU_SEEN_HELD;
}

static bool is_request(GpuEvent event) {
        return event >= GPU_ASK_RESERVE && event <= GPU_ASK_RECOVER;
}

static void every_cell_has_a_valid_answer(void **state) {
        for (unsigned n = 0; n < N_VIEWS; n++)
                for (GpuEvent event = 0; event < _GPU_EVENT_MAX; event++) {
                        GpuView before = view_number(n), after;
                        GpuVerdict verdict = gpu_step(&before, event, &after);

                        assert_in_range(verdict, 0, _GPU_VERDICT_MAX - 1);
                        assert_in_range(after.state, 0, _GPU_STATE_MAX - 1);
                        assert_in_range(after.pending, 0, _GPU_PENDING_MAX - 1);
                        assert_in_range(after.fault, 0, _GPU_FAULT_MAX - 1);
                }
}

static void a_refusal_changes_nothing_and_only_requests_are_refused(void **state) {
        for (unsigned n = 0; n < N_VIEWS; n++)
                for (GpuEvent event = 0; event < _GPU_EVENT_MAX; event++) {
                        GpuView before = view_number(n), after;

                        if (gpu_step(&before, event, &after) == GPU_OK)
                                continue;
                        assert_true(is_request(event));
                        assert_true(same(before, after));
                }
}

static void only_observations_change_the_state(void **state) {
        for (unsigned n = 0; n < N_VIEWS; n++)
                for (GpuEvent event = 0; event < _GPU_EVENT_MAX; event++) {
                        GpuView before = view_number(n), after;

                        gpu_step(&before, event, &after);
                        if (is_observation(event)) {
                                assert_int_equal(after.pending, before.pending);
                                assert_int_equal(after.fault, before.fault);
                        } else
                                assert_int_equal(after.state, before.state);
                }
}

static void observations_and_completions_are_idempotent(void **state) {
        for (unsigned n = 0; n < N_VIEWS; n++)
                for (GpuEvent event = 0; event < _GPU_EVENT_MAX; event++) {
                        GpuView before = view_number(n), once, twice;

                        if (is_request(event))
                                continue;
                        gpu_step(&before, event, &once);
                        gpu_step(&once, event, &twice);
                        assert_true(same(once, twice));
                }
}

/* udev and libvirt may speak before or after our own completion: the end is the same. */
static void an_observation_and_a_completion_commute(void **state) {
        for (unsigned n = 0; n < N_VIEWS; n++)
                for (GpuEvent seen = 0; seen <= GPU_SEEN_HELD; seen++)
                        for (GpuEvent event = GPU_BOUND; event < _GPU_EVENT_MAX; event++) {
                                GpuView before = view_number(n), a, b;

                                gpu_step(&before, seen, &a);
                                gpu_step(&a, event, &a);
                                gpu_step(&before, event, &b);
                                gpu_step(&b, seen, &b);
                                assert_true(same(a, b));
                        }
}

static void from_everywhere_a_path_leads_back_to_nothing_pending_and_no_fault(void **state) {
        for (unsigned n = 0; n < N_VIEWS; n++) {
                GpuView view = view_number(n);

                gpu_step(&view, GPU_LET_GO, &view);
                gpu_step(&view, GPU_RETURNED, &view);
                gpu_step(&view, GPU_CURED, &view);
                assert_int_equal(view.pending, GPU_PENDING_NONE);
                assert_int_equal(view.fault, GPU_FAULT_NONE);
        }
}

static void a_faulted_gpu_is_given_to_nobody(void **state) {
        for (unsigned n = 0; n < N_VIEWS; n++) {
                static const GpuEvent asks[] = { GPU_ASK_RESERVE, GPU_ASK_BIND, GPU_ASK_RELEASE };
                GpuView view = view_number(n), after;

                if (view.fault == GPU_FAULT_NONE)
                        continue;
                for (unsigned i = 0; i < 3; i++)
                        assert_int_not_equal(gpu_step(&view, asks[i], &after), GPU_OK);
        }
}

static void an_attached_or_reserved_gpu_is_in_use(void **state) {
        for (unsigned n = 0; n < N_VIEWS; n++) {
                GpuView view = view_number(n), after;

                if (view.state == GPU_ATTACHED)
                        assert_int_equal(gpu_step(&view, GPU_ASK_RESERVE, &after),
                                         GPU_REFUSED_IN_USE);
                else if (view.pending != GPU_PENDING_NONE)
                        assert_int_not_equal(gpu_step(&view, GPU_ASK_RESERVE, &after), GPU_OK);
                else if (view.fault == GPU_FAULT_NONE)
                        assert_int_equal(gpu_step(&view, GPU_ASK_RESERVE, &after), GPU_OK);
        }
}

static void after_one_reservation_every_other_is_refused(void **state) {
        for (GpuState s = 0; s < GPU_ATTACHED; s++) {
                GpuView view = { .state = s }, after;

                assert_int_equal(gpu_step(&view, GPU_ASK_RESERVE, &view), GPU_OK);
                assert_int_not_equal(gpu_step(&view, GPU_ASK_RESERVE, &after), GPU_OK);
                assert_int_not_equal(gpu_step(&view, GPU_ASK_BIND, &after), GPU_OK);
                assert_int_not_equal(gpu_step(&view, GPU_ASK_RELEASE, &after), GPU_OK);
        }
}

static void an_overdue_helper_leaves_it_pending_until_the_helper_is_gone(void **state) {
        GpuView view = { .pending = GPU_PENDING_BINDING };

        gpu_step(&view, GPU_OVERDUE, &view);
        assert_int_equal(view.fault, GPU_FAULT_STUCK);
        assert_int_equal(view.pending, GPU_PENDING_BINDING);
        gpu_step(&view, GPU_RETURNING, &view); /* no second helper beside the first */
        assert_int_equal(view.pending, GPU_PENDING_BINDING);
        gpu_step(&view, GPU_FAILED, &view);
        assert_int_equal(view.pending, GPU_PENDING_NONE);
}

static void the_facts_amount_to_one_observation(void **state) {
        assert_int_equal(gpu_observation(false, false), GPU_SEEN_HOST);
        assert_int_equal(gpu_observation(true, false), GPU_SEEN_VFIO);
        assert_int_equal(gpu_observation(true, true), GPU_SEEN_HELD);
        assert_int_equal(gpu_observation(false, true), GPU_SEEN_HELD);
}

static void every_value_has_a_word_of_its_own(void **state) {
        for (int i = 0; i < _GPU_STATE_MAX; i++)
                for (int j = 0; j < i; j++)
                        assert_string_not_equal(gpu_state_to_string(i), gpu_state_to_string(j));
        for (int i = 0; i < _GPU_PENDING_MAX; i++)
                for (int j = 0; j < i; j++)
                        assert_string_not_equal(gpu_pending_to_string(i), gpu_pending_to_string(j));
        for (int i = 0; i < _GPU_FAULT_MAX; i++)
                for (int j = 0; j < i; j++)
                        assert_string_not_equal(gpu_fault_to_string(i), gpu_fault_to_string(j));
        for (int i = 0; i < _GPU_EVENT_MAX; i++)
                for (int j = 0; j < i; j++)
                        assert_string_not_equal(gpu_event_to_string(i), gpu_event_to_string(j));
}

static const char *shown(const char *word) {
        return word[0] ? word : "-";
}

/* The table as text, as it stands in git, so that a change of behaviour shows as a diff. */
static void dump(FILE *out) {
        for (unsigned n = 0; n < N_VIEWS; n++)
                for (GpuEvent event = 0; event < _GPU_EVENT_MAX; event++) {
                        GpuView before = view_number(n), after;
                        GpuVerdict verdict = gpu_step(&before, event, &after);

                        fprintf(out, "%s %s %s | %s | ", gpu_state_to_string(before.state),
                                shown(gpu_pending_to_string(before.pending)),
                                shown(gpu_fault_to_string(before.fault)),
                                gpu_event_to_string(event));
                        if (verdict != GPU_OK)
                                fprintf(out, "refused: %s\n", gpu_verdict_to_string(verdict));
                        else
                                fprintf(out, "%s %s %s\n", gpu_state_to_string(after.state),
                                        shown(gpu_pending_to_string(after.pending)),
                                        shown(gpu_fault_to_string(after.fault)));
                }
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_cell_has_a_valid_answer),
                cmocka_unit_test(a_refusal_changes_nothing_and_only_requests_are_refused),
                cmocka_unit_test(only_observations_change_the_state),
                cmocka_unit_test(observations_and_completions_are_idempotent),
                cmocka_unit_test(an_observation_and_a_completion_commute),
                cmocka_unit_test(from_everywhere_a_path_leads_back_to_nothing_pending_and_no_fault),
                cmocka_unit_test(a_faulted_gpu_is_given_to_nobody),
                cmocka_unit_test(an_attached_or_reserved_gpu_is_in_use),
                cmocka_unit_test(after_one_reservation_every_other_is_refused),
                cmocka_unit_test(an_overdue_helper_leaves_it_pending_until_the_helper_is_gone),
                cmocka_unit_test(the_facts_amount_to_one_observation),
                cmocka_unit_test(every_value_has_a_word_of_its_own),
        };

        if (argc > 1 && strcmp(argv[1], "--dump") == 0) {
                dump(stdout);
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
