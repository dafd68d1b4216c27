/* Every system call of the handover helper failing in turn, from its first to its last, each with
 * every errno that it might have: Bind and Release of a card through a daemon that lives through
 * all of it. A success must be one, and a failure must leave the card at home or under a fault that
 * has a reason; and without the failure everything can be put right.
 *
 * FEOS_CHAOS_ERRORS_STEP=K makes every K-th trial, 1 is all; FEOS_CHAOS_OFFSET says at which to
 * begin (else the day decides). FEOS_CHAOS_ERRORS_AT="bind|release NUMBER ERRNO" makes that one. */
#include "chaos-errors.h"
#include "rig.h"
#include "testing.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SETTLE_SEC 10

#define FAILURES_MAX 5 /* then it is known well enough */

typedef struct Trials {
        Rig *rig;
        char *dir; /* our helper's folder */
        char *plan;
        const char *way; /* "bind", "release" */
        unsigned made, refused, overdue, failed;
} Trials;

static void plan_make(const Trials *trials, unsigned number, int error) {
        g_autofree char *text = g_strdup_printf("%u %d", number, error);

        assert_true(g_file_set_contents(trials->plan, text, -1, NULL));
}

/* How many calls the helper has made, and which failed: its number in the kernel's table. */
static unsigned plan_end(const Trials *trials, int *ret_call) {
        g_autofree char *path = g_strconcat(trials->plan, ".calls", NULL);
        g_autofree char *text = NULL;
        unsigned calls = 0;

        *ret_call = -1;
        if (g_file_get_contents(path, &text, NULL, NULL))
                assert_int_equal(sscanf(text, "%u %d", &calls, ret_call), 2);
        g_unlink(trials->plan);
        g_unlink(path);
        return calls;
}

/* NULL, or the error that was answered. */
static char *gpu_call(Rig *rig, const char *member) {
        g_autofree char *path = rig_gpu_path(GPU);
        g_auto(Answer) answer = { 0 };

        rig_call(rig, path, "org.feos.VM1.GPU", member, &answer);
        rig_wait(rig, &answer);
        return g_strdup(answer.text);
}

static bool is_bind(const Trials *trials) {
        return strcmp(trials->way, "bind") == 0;
}

/* With nothing failing any more. */
static char *put_right(Rig *rig) {
        g_autofree char *path = rig_gpu_path(GPU);
        g_autofree char *fault = rig_property(rig, path, "org.feos.VM1.GPU", "Fault");
        g_autofree char *refused = NULL;

        if (*fault)
                refused = gpu_call(rig, "Recover");
        g_free(refused);
        refused = gpu_call(rig, "Release");
        if (refused)
                return g_strdup_printf("it cannot be released afterwards: %s", refused);
        return rig_settle(rig, RIG_HOME, SETTLE_SEC);
}

/* Begins and ends with the card at home. NULL, or what went wrong. */
static char *trial_make(Trials *trials, unsigned number, int error, unsigned *ret_calls,
                        int *ret_call) {
        Rig *rig = trials->rig;
        g_autofree char *refused = NULL;
        char *wrong = NULL;

        if (!is_bind(trials)) {
                refused = gpu_call(rig, "Bind");
                if (refused)
                        return g_strdup_printf("it cannot be bound before: %s", refused);
        }
        plan_make(trials, number, error);
        g_free(refused);
        refused = gpu_call(rig, is_bind(trials) ? "Bind" : "Release");
        *ret_calls = plan_end(trials, ret_call);
        trials->made++;
        if (refused)
                trials->refused++;
        if (refused && strstr(refused, "within 5 seconds"))
                trials->overdue++;
        if (refused)
                wrong = rig_settle(rig, RIG_HOME_OR_FAULT, SETTLE_SEC);
        else
                wrong = rig_settle(rig, is_bind(trials) ? RIG_BOUND : RIG_HOME, SETTLE_SEC);
        if (wrong) {
                char *all = g_strdup_printf("%s; the answer: %s", wrong, refused ?: "success");

                g_free(wrong);
                return all;
        }
        return put_right(rig);
}

/* After a failure, so that the next trial begins as it should. */
static void by_hand(Rig *rig) {
        static const char *const functions[] = { GPU, AUDIO };

        for (size_t i = 0; i < G_N_ELEMENTS(functions); i++) {
                g_autofree char *override =
                        g_strdup_printf("/sys/bus/pci/devices/%s/driver_override", functions[i]);

                (void)fake_kernel_write(rig->kernel, override, "\n");
                (void)fake_kernel_write(rig->kernel, "/sys/bus/pci/drivers/vfio-pci/unbind",
                                        functions[i]);
                (void)fake_kernel_write(rig->kernel, "/sys/bus/pci/drivers_probe", functions[i]);
        }
        g_free(put_right(rig));
}

/* The number of calls of the way. */
static unsigned trial_run(Trials *trials, unsigned number, int error) {
        unsigned calls = 0;
        int call = -1;
        g_autofree char *wrong = trial_make(trials, number, error, &calls, &call);

        if (wrong) {
                g_autofree char *words = rig_last_words(trials->rig);

                trials->failed++;
                print_error("%s, call %u of %u (%d) failing with %s: %s%s\n", trials->way, number,
                            calls, call, g_strerror(error), wrong, words);
                by_hand(trials->rig);
        }
        return calls;
}

static void fail_everywhere(Trials *trials, const char *way) {
        unsigned step = MAX(rig_number("FEOS_CHAOS_ERRORS_STEP", 80), 1);
        unsigned today = (unsigned)(g_get_real_time() / G_TIME_SPAN_DAY);
        unsigned offset = rig_number("FEOS_CHAOS_OFFSET", today) % step;
        RigUsage before, after;
        unsigned calls;

        trials->way = way;
        trials->made = trials->refused = trials->overdue = trials->failed = 0;
        calls = trial_run(trials, 0, 0);
        before = rig_usage(trials->rig);
        for (unsigned i = offset; i < calls * G_N_ELEMENTS(errors) && trials->failed < FAILURES_MAX;
             i += step)
                trial_run(trials, 1 + i / G_N_ELEMENTS(errors), errors[i % G_N_ELEMENTS(errors)]);
        after = rig_usage(trials->rig);
        print_message("# %s: %u system calls, %zu errors each; %u trials, step %u, offset %u; "
                      "%u refused, %u of them overdue\n",
                      way, calls, G_N_ELEMENTS(errors), trials->made, step, offset, trials->refused,
                      trials->overdue);
        assert_int_equal(trials->failed, 0);
        assert_true(trials->refused > 0);
        assert_int_equal(after.descriptors, before.descriptors);
        assert_int_equal(after.children, 0);
}

/* Whether one trial alone was asked for, of this way or another. */
static bool one_only(Trials *trials, const char *way) {
        const char *wanted = g_getenv("FEOS_CHAOS_ERRORS_AT");
        char of[16];
        unsigned number;
        int error;

        if (!wanted)
                return false;
        assert_int_equal(sscanf(wanted, "%15s %u %d", of, &number, &error), 3);
        trials->way = way;
        if (strcmp(of, way) == 0)
                trial_run(trials, number, error);
        assert_int_equal(trials->failed, 0);
        return true;
}

static void test_bind(void **state) {
        if (!one_only(*state, "bind"))
                fail_everywhere(*state, "bind");
}

static void test_release(void **state) {
        if (!one_only(*state, "release"))
                fail_everywhere(*state, "release");
}

/* A folder with the programs, the handover helper among them ours. */
static int setup(void **state) {
        const char *real = g_getenv("FEOS_HELPER_DIR");
        Trials *trials = g_new0(Trials, 1);
        g_autofree char *handover = g_build_filename(real, "feos-vm-handover", NULL);
        g_autofree char *survey = g_build_filename(real, "feos-vm-survey", NULL);
        g_autofree char *handover_link = NULL;
        g_autofree char *survey_link = NULL;

        trials->dir = g_dir_make_tmp("feos-helpers-XXXXXX", NULL);
        trials->plan = g_build_filename(trials->dir, "plan", NULL);
        handover_link = g_build_filename(trials->dir, "feos-vm-handover", NULL);
        survey_link = g_build_filename(trials->dir, "feos-vm-survey", NULL);
        assert_return_code(symlink(g_getenv("FEOS_CHAOS_TRACE"), handover_link), errno);
        assert_return_code(symlink(survey, survey_link), errno);
        g_setenv("FEOS_CHAOS_PLAN", trials->plan, TRUE);
        g_setenv("FEOS_CHAOS_HELPER", handover, TRUE);
        trials->rig = rig_new(trials->dir);
        *state = trials;
        return 0;
}

static int teardown(void **state) {
        Trials *trials = *state;
        g_autofree char *handover = g_build_filename(trials->dir, "feos-vm-handover", NULL);
        g_autofree char *survey = g_build_filename(trials->dir, "feos-vm-survey", NULL);

        rig_free(trials->rig);
        g_unlink(handover);
        g_unlink(survey);
        g_rmdir(trials->dir);
        g_free(trials->plan);
        g_free(trials->dir);
        g_free(trials);
        return 0;
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bind),
                cmocka_unit_test(test_release),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
