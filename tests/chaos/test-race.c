/* 32 callers, each with a connection of its own, want one GPU for a machine of theirs at once: one
 * gets it, the others are told that it is in use. The real programs.
 *
 * FEOS_CHAOS_ROUNDS=N makes so many rounds. */
#include "rig.h"
#include "testing.h"

#include <stdlib.h>
#include <string.h>

#define CALLERS    32
#define SETTLE_SEC 5

static void machine_delete(Rig *rig, unsigned number) {
        g_autofree char *path = g_strdup_printf(VM1 "/machine/vm%u", number);
        g_auto(Answer) answer = { 0 };

        rig_call(rig, path, "org.feos.VM1.Machine", "Delete", &answer);
        rig_wait(rig, &answer);
        assert_null(answer.error);
}

static void round_make(Rig *rig, sd_bus *callers[static CALLERS]) {
        Answer answers[CALLERS] = { 0 };
        unsigned winners = 0, winner = 0;
        g_autofree char *wrong = NULL;

        for (unsigned i = 0; i < CALLERS; i++) {
                g_autofree char *name = g_strdup_printf("vm%u", i);

                rig_create(rig, callers[i], name, &answers[i]);
        }
        for (unsigned i = 0; i < CALLERS; i++) {
                rig_wait(rig, &answers[i]);
                if (answers[i].error) {
                        assert_string_equal(answers[i].error, "org.feos.VM1.Error.GPUInUse");
                } else {
                        winners++;
                        winner = i;
                }
                answer_clear(&answers[i]);
        }
        assert_int_equal(winners, 1);
        wrong = rig_settle(rig, RIG_RUNNING, SETTLE_SEC);
        if (!wrong) {
                machine_delete(rig, winner);
                wrong = rig_settle(rig, RIG_HOME, SETTLE_SEC);
        }
        if (wrong) {
                g_autofree char *words = rig_last_words(rig);

                fail_msg("%s%s", wrong, words);
        }
}

static void test_race(void **state) {
        Rig *rig = *state;
        unsigned rounds = rig_number("FEOS_CHAOS_ROUNDS", 20);
        sd_bus *callers[CALLERS];
        RigUsage before = { 0 }, after;

        for (unsigned i = 0; i < CALLERS; i++)
                callers[i] = private_bus_connect(rig->bus, 0);
        for (unsigned i = 0; i < rounds; i++) {
                round_make(rig, callers);
                if (i == rounds / 4)
                        before = rig_usage(rig);
        }
        after = rig_usage(rig);
        print_message("# %u rounds of %d callers; descriptors %u -> %u, memory %u -> %u KiB\n",
                      rounds, CALLERS, before.descriptors, after.descriptors, before.memory,
                      after.memory);
        assert_true(after.descriptors <= before.descriptors + 4);
        assert_int_equal(after.children, 0);
        assert_true(after.memory <= before.memory + 4096);
        for (unsigned i = 0; i < CALLERS; i++)
                sd_bus_flush_close_unref(callers[i]);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_race),
        };

        return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
