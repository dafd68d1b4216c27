/* Every system call of the daemon's own start failing in turn, from main() until it has listed
 * everything and says so, each with every errno that it might have. A machine runs with one card,
 * and another card is bound ahead of any ("kept"); or the machine has ended while there was no
 * daemon, and its card is to go home ("owed"). All of it is in the ledger. The daemon may end with
 * an error, and then the next one finds all of it; or it runs, and within one retry everything is
 * as it was, or home, or has a fault with a reason that Recover clears. No record is lost, moved or
 * changed that was not carried out.
 *
 * FEOS_CHAOS_START_STEP=K makes every K-th trial, 1 is all; FEOS_CHAOS_OFFSET says at which to
 * begin (else the day decides). FEOS_CHAOS_START_AT="kept|owed NUMBER ERRNO" makes that one. */
#include "chaos-errors.h"
#include "rig.h"
#include "testing.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* What could not be read is looked at again after a second. */
#define SETTLE_SEC 5

#define FAILURES_MAX 10

typedef struct Trials {
        Rig *rig;
        char *plan;
        char *ledger; /* as it is to stay */
        bool owed;
        unsigned made, ended, faulted, failed;
        double slowest; /* seconds until all was well, of a daemon that ran */
} Trials;

static int name_compare(const void *a, const void *b) {
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All names in the ledger's folder but the locks', and all of its records. The caller's. */
static char *ledger_read_all(const Rig *rig) {
        g_autofree char *path = g_build_filename(rig->dir, "state", NULL);
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        GString *all = g_string_new(NULL);
        const char *name;

        while ((name = g_dir_read_name(dir)))
                if (!g_str_has_suffix(name, ".lock"))
                        g_ptr_array_add(names, g_strdup(name));
        g_ptr_array_sort(names, name_compare);
        for (guint i = 0; i < names->len; i++) {
                g_autofree char *file = g_build_filename(path, g_ptr_array_index(names, i), NULL);
                g_autofree char *text = NULL;

                g_string_append_printf(all, "%s\n", (char *)g_ptr_array_index(names, i));
                if (g_str_has_suffix(file, ".card") && g_file_get_contents(file, &text, NULL, NULL))
                        g_string_append(all, text);
        }
        return g_string_free(all, FALSE);
}

static void plan_make(const Trials *trials, unsigned number, int error) {
        g_autofree char *text = g_strdup_printf("%u %d", number, error);

        assert_true(g_file_set_contents(trials->plan, text, -1, NULL));
}

/* How many calls there were, and which failed: its number in the kernel's table. Who traces says so
 * a moment after the daemon has ended. */
static unsigned plan_end(const Trials *trials, int *ret_call) {
        g_autofree char *path = g_strconcat(trials->plan, ".calls", NULL);
        gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;
        unsigned calls = 0;
        bool there = false;

        while (!there) {
                g_autofree char *text = NULL;

                assert_true(g_get_monotonic_time() < end);
                there = g_file_get_contents(path, &text, NULL, NULL) &&
                        sscanf(text, "%u %d", &calls, ret_call) == 2;
                if (!there)
                        rig_run(trials->rig, 1);
        }
        g_unlink(trials->plan);
        g_unlink(path);
        return calls;
}

/* By itself, with a failure, or because there was no more memory, of which GLib says so. */
static bool ended_well(int status) {
        return (WIFEXITED(status) && WEXITSTATUS(status) != 0) ||
               (WIFSIGNALED(status) &&
                (WTERMSIG(status) == SIGABRT || WTERMSIG(status) == SIGTRAP));
}

static char *other_wrong(Rig *rig) {
        g_autofree char *path = rig_gpu_path(OTHER);
        g_autofree char *fault = rig_property(rig, path, "org.feos.VM1.GPU", "Fault");

        if (strcmp(fake_kernel_driver(rig->kernel, OTHER), "vfio-pci") != 0)
                return g_strdup("the other card has moved");
        return *fault ? g_strdup_printf("the other card has the fault %s", fault) : NULL;
}

/* What the kernel or the host has refused for once is a fault, and has a reason. */
static char *home_or_recovered(Trials *trials) {
        Rig *rig = trials->rig;
        g_autofree char *path = rig_gpu_path(GPU);
        g_autofree char *fault = NULL;
        g_autofree char *message = NULL;
        g_auto(Answer) answer = { 0 };
        char *wrong = rig_settle(rig, RIG_STOPPED, SETTLE_SEC);

        fault = rig_property(rig, path, "org.feos.VM1.GPU", "Fault");
        message = rig_property(rig, path, "org.feos.VM1.GPU", "FaultMessage");
        if (!wrong || !fault || !*fault || !message || !*message)
                return wrong;
        g_free(wrong);
        trials->faulted++;
        rig_call(rig, path, "org.feos.VM1.GPU", "Recover", &answer);
        rig_wait(rig, &answer);
        return rig_settle(rig, RIG_STOPPED, SETTLE_SEC);
}

/* NULL, or what is wrong once all should be well again. */
static char *whole_wrong(Trials *trials) {
        Rig *rig = trials->rig;
        g_autofree char *ledger = NULL;
        gint64 end = g_get_monotonic_time() + SETTLE_SEC * G_USEC_PER_SEC;
        char *wrong =
                trials->owed ? home_or_recovered(trials) : rig_settle(rig, RIG_RUNNING, SETTLE_SEC);

        while (!wrong && !trials->owed && (wrong = other_wrong(rig)) &&
               g_get_monotonic_time() < end) {
                g_clear_pointer(&wrong, g_free);
                rig_run(rig, 20);
        }
        ledger = ledger_read_all(rig);
        if (!wrong && strcmp(ledger, trials->ledger) != 0)
                wrong = g_strdup_printf("the ledger has changed to %s", ledger);
        return wrong;
}

static void machine_start(Rig *rig) {
        g_auto(Answer) answer = { 0 };

        rig_call(rig, VM1 "/machine/vm", "org.feos.VM1.Machine", "Start", &answer);
        rig_wait(rig, &answer);
        if (answer.error)
                g_error("the machine cannot be started: %s", answer.text);
}

static char *trial_make(Trials *trials, unsigned number, int error, unsigned *ret_calls,
                        int *ret_call) {
        Rig *rig = trials->rig;
        gint64 began = g_get_monotonic_time();
        bool runs;
        int status;
        char *wrong;

        if (trials->owed)
                machine_start(rig);
        rig_kill(rig);
        if (trials->owed)
                rig_end_machines(rig);
        plan_make(trials, number, error);
        runs = rig_try_boot(rig, &status);
        *ret_calls = plan_end(trials, ret_call);
        trials->made++;
        if (!runs) {
                trials->ended++;
                rig_boot(rig);
                if (!ended_well(status))
                        return g_strdup_printf("the daemon ended with status %#x", status);
        }
        wrong = whole_wrong(trials);
        if (runs)
                trials->slowest = MAX(trials->slowest,
                                      (double)(g_get_monotonic_time() - began) / G_USEC_PER_SEC);
        return wrong;
}

/* Machine and cards as they are to be before the first trial, and after each. */
static void scene_set(Trials *trials) {
        Rig *rig = trials->rig;
        g_autofree char *wrong = NULL;

        rig_kill(rig);
        if (trials->owed)
                rig_end_machines(rig);
        rig_boot(rig);
        wrong = rig_settle(rig, trials->owed ? RIG_STOPPED : RIG_RUNNING, SETTLE_SEC);
        if (wrong)
                g_error("the scene cannot be set: %s", wrong);
        g_free(trials->ledger);
        trials->ledger = ledger_read_all(rig);
        assert_int_equal(!strstr(trials->ledger, GPU ".card"), trials->owed);
        assert_int_equal(!strstr(trials->ledger, OTHER ".card"), trials->owed);
}

static void other_ask(Rig *rig, const char *member) {
        g_autofree char *path = rig_gpu_path(OTHER);
        g_auto(Answer) answer = { 0 };

        rig_call(rig, path, "org.feos.VM1.GPU", member, &answer);
        rig_wait(rig, &answer);
        assert_null(answer.error);
}

static void scene_make(Rig *rig) {
        g_auto(Answer) created = { 0 };

        rig_create(rig, rig->caller, "vm", &created);
        rig_wait(rig, &created);
        assert_null(created.error);
}

static const char *way(const Trials *trials) {
        return trials->owed ? "owed" : "kept";
}

static unsigned trial_run(Trials *trials, unsigned number, int error) {
        unsigned calls = 0;
        int call = -1;
        g_autofree char *wrong = trial_make(trials, number, error, &calls, &call);

        if (wrong) {
                g_autofree char *words = rig_last_words(trials->rig);

                trials->failed++;
                print_error("%s, call %u of %u (%d) failing with %s: %s%s\n", way(trials), number,
                            calls, call, g_strerror(error), wrong, words);
                /* So that the next one begins as it should. */
                rig_kill(trials->rig);
                rig_boot(trials->rig);
                g_free(wrong);
                wrong = whole_wrong(trials);
                if (wrong)
                        g_error("nothing mends that: %s", wrong);
        }
        return calls;
}

static void fail_everywhere(Trials *trials, bool owed) {
        const char *wanted = g_getenv("FEOS_CHAOS_START_AT");
        unsigned step = MAX(rig_number("FEOS_CHAOS_START_STEP", 500), 1);
        unsigned today = (unsigned)(g_get_real_time() / G_TIME_SPAN_DAY);
        unsigned offset = rig_number("FEOS_CHAOS_OFFSET", today) % step;
        unsigned number, calls;
        char of[16];
        int error;

        trials->owed = owed;
        trials->made = trials->ended = trials->faulted = trials->failed = 0;
        trials->slowest = 0;
        other_ask(trials->rig, owed ? "Release" : "Bind");
        scene_set(trials);
        if (wanted) {
                assert_int_equal(sscanf(wanted, "%15s %u %d", of, &number, &error), 3);
                if (strcmp(of, way(trials)) == 0)
                        trial_run(trials, number, error);
                assert_int_equal(trials->failed, 0);
                return;
        }
        calls = trial_run(trials, 0, 0);
        for (unsigned i = offset; i < calls * G_N_ELEMENTS(errors) && trials->failed < FAILURES_MAX;
             i += step)
                trial_run(trials, 1 + i / G_N_ELEMENTS(errors), errors[i % G_N_ELEMENTS(errors)]);
        print_message("# %s: %u system calls, %zu errors each; %u trials, step %u, offset %u; "
                      "the daemon ended in %u, faults in %u; the slowest was whole after %.1f s\n",
                      way(trials), calls, G_N_ELEMENTS(errors), trials->made, step, offset,
                      trials->ended, trials->faulted, trials->slowest);
        assert_int_equal(trials->failed, 0);
}

static void test_kept(void **state) {
        fail_everywhere(*state, false);
}

static void test_owed(void **state) {
        fail_everywhere(*state, true);
}

/* The daemon is ours. */
static int setup(void **state) {
        Trials *trials = g_new0(Trials, 1);
        g_autofree char *dir = g_dir_make_tmp("feos-start-XXXXXX", NULL);

        trials->plan = g_build_filename(dir, "plan", NULL);
        g_setenv("FEOS_CHAOS_PLAN", trials->plan, TRUE);
        g_setenv("FEOS_CHAOS_DAEMON", g_getenv("FEOS_VMD"), TRUE);
        g_setenv("FEOS_VMD", g_getenv("FEOS_CHAOS_START"), TRUE);
        trials->rig = rig_new(NULL);
        scene_make(trials->rig);
        *state = trials;
        return 0;
}

static int teardown(void **state) {
        Trials *trials = *state;
        g_autofree char *dir = g_path_get_dirname(trials->plan);

        rig_free(trials->rig);
        g_rmdir(dir);
        g_free(trials->plan);
        g_free(trials->ledger);
        g_free(trials);
        return 0;
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kept),
                cmocka_unit_test(test_owed),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
