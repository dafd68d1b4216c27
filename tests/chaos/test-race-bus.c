/* The same race as in test-race.c, many times over: the real bus and manager on the world in memory
 * (tests/integration/stage.h), 32 callers with connections of their own.
 *
 * FEOS_CHAOS_BUS_ROUNDS=N makes so many rounds. */
#include "stage.h"
#include "testing.h"

#include <stdlib.h>
#include <string.h>

#define CALLERS 32

static void create_send(sd_bus *caller, const char *name, Answer *answer) {
        sd_bus_message *m = call_new(caller, VM1, "org.feos.VM1", "Create");

        assert_true(sd_bus_message_append(m, "sasa{sv}", name, 1, "0000:01:00.0", 0) >= 0);
        answer_expect(answer, caller, m);
}

static void round_make(Stage *stage, sd_bus *callers[static CALLERS]) {
        Answer answers[CALLERS] = { 0 };
        g_auto(Answer) deleted = { 0 };
        g_autofree char *path = NULL;

        for (unsigned i = 0; i < CALLERS; i++) {
                g_autofree char *name = g_strdup_printf("vm%u", i);

                create_send(callers[i], name, &answers[i]);
        }
        for (unsigned i = 0; i < CALLERS; i++) {
                private_bus_wait(stage->private_bus, &answers[i].there);
                if (answers[i].error) {
                        assert_string_equal(answers[i].error, ERROR "GPUInUse");
                } else {
                        assert_null(path);
                        path = g_strdup_printf(VM1 "/machine/vm%u", i);
                }
                answer_clear(&answers[i]);
        }
        assert_non_null(path);
        world_check(stage->world);
        assert_string_equal(world_driver(stage->world, "0000:01:00.0"), "vfio-pci");
        call(stage, stage->root, path, "org.feos.VM1.Machine", "Delete", &deleted);
        assert_null(deleted.error);
        world_check(stage->world);
        assert_string_equal(world_driver(stage->world, "0000:01:00.0"), "bochs-drm");
        assert_int_equal(stage->world->ledger->len, 0);
        g_ptr_array_set_size(stage->heard, 0);
}

static void test_race(void **state) {
        const char *text = g_getenv("FEOS_CHAOS_BUS_ROUNDS");
        unsigned rounds = text ? (unsigned)g_ascii_strtoull(text, NULL, 10) : 1000;
        g_autoptr(Stage) stage = stage_new(2 * CALLERS);
        sd_bus *callers[CALLERS];

        for (unsigned i = 0; i < CALLERS; i++)
                callers[i] = private_bus_connect(stage->private_bus, 0);
        for (unsigned i = 0; i < rounds; i++)
                round_make(stage, callers);
        print_message("# %u rounds of %d callers\n", rounds, CALLERS);
        for (unsigned i = 0; i < CALLERS; i++)
                sd_bus_flush_close_unref(callers[i]);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_race),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
