/* The examples for callers (examples/), each run against the stage as a stranger would run it. */
#include "run-ctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* What each test is given: the program, out of EXAMPLES. */
static Run *start(void **state, Stage *stage, const char *const *arguments) {
        return run_start(stage, &(RunSetting){ .program = *state }, arguments);
}

static Stage *stage_with_image(void) {
        Stage *stage = stage_new(0);

        g_hash_table_insert(stage->world->images, g_strdup("data.raw"), GINT_TO_POINTER(IMAGE_OK));
        return stage;
}

static void test_list(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) run = start(state, stage, (const char *const[]){ NULL });

        run_end(run);
        assert_int_equal(run->status, 0);
        assert_string_equal(run->err->str, "");
        assert_out(run, "0000:01:00.0  host-bound  bochs-drm   ");
        assert_out(run, "\n0000:02:00.0  host-bound  bochs-drm   ");
}

static bool is_stopping(const Stage *stage) {
        const Machine *machine = manager_machine(stage->world->manager, "vm-1");

        return machine && machine->state == MACHINE_STOPPING;
}

/* Starts it with both GPUs and has it shut the machine down, which the guest obeys. */
static Run *to_the_end(void **state, Stage *stage) {
        Run *run = start(
                state, stage,
                (const char *const[]){ "vm-1", "image=data.raw", "02:00.0", "01:00.0", NULL });

        run_until(run, MACHINE " runs. Enter shuts it down.\n");
        assert_text(stage, MACHINE, "org.feos.VM1.Machine", "State", "running");
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "attached");
        assert_text(stage, GPU2, "org.feos.VM1.GPU", "State", "attached");
        assert_int_equal(world_domain(stage->world, "vm-1")->memory_mib, 1024);
        run_write(run, "\n");
        stage_wait(stage, is_stopping);
        world_end_domain(stage->world, world_domain(stage->world, "vm-1"), DOMAIN_OFF_SHUTDOWN);
        run_end(run);
        return run;
}

static void test_life(void **state) {
        g_autoptr(Stage) stage = stage_with_image();
        g_autoptr(Run) run = to_the_end(state, stage);

        if (run->status != 0)
                fail_msg("%s%s", run->out->str, run->err->str);
        assert_out(run, "Its GPUs are home, and it is deleted.\n");
        assert_null(world_domain(stage->world, "vm-1"));
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "host-bound");
        assert_text(stage, GPU2, "org.feos.VM1.GPU", "State", "host-bound");
        world_check(stage->world);
}

static void test_refusals(void **state) {
        static const struct {
                const char *arguments[4];
                const char *says, *remedy;
        } refusals[] = {
                { { "vm-1", "03:00.0" }, ERROR "NoSuchGPU: ", "ListGPUs" },
                { { "vm-1", "firmware=none", "01:00.0" }, ERROR "InvalidOption: ", "Use \"bios\"" },
                { { "vm 1", "01:00.0" }, ERROR "InvalidName: ", "Use 1 to 64 of" },
        };
        g_autoptr(Stage) stage = stage_new(0);

        for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
                g_autoptr(Run) refused = start(state, stage, refusals[i].arguments);

                run_end(refused);
                assert_int_equal(refused->status, 1);
                assert_err(refused, refusals[i].says);
                assert_err(refused, refusals[i].remedy);
        }
        assert_null(world_domain(stage->world, "vm-1"));
}

/* One that is lost on its way home is told, and not waited for. */
static void test_no_way_back(void **state) {
        g_autoptr(Stage) stage = stage_with_image();
        g_autoptr(Run) run = NULL;

        world_mark(stage->world->no_return, "0000:02:00.0");
        run = to_the_end(state, stage);
        assert_int_equal(run->status, 1);
        assert_err(run, ERROR);
        assert_err(run, "0000:02:00.0");
}

int main(int argc, char *argv[]) {
        static const struct {
                const char *name;
                CMUnitTestFunction function;
        } tests[] = {
                { "lists the GPUs", test_list },
                { "makes a machine, ends it and has its GPUs home", test_life },
                { "says why it was refused, and what to do", test_refusals },
                { "says which GPU does not come home", test_no_way_back },
        };
        g_autoptr(GArray) all = g_array_new(FALSE, TRUE, sizeof(struct CMUnitTest));
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

        for (int i = 1; i < argc; i++)
                for (size_t j = 0; j < G_N_ELEMENTS(tests); j++) {
                        g_autofree char *program = g_path_get_basename(argv[i]);
                        char *name = g_strdup_printf("%s %s", program, tests[j].name);
                        struct CMUnitTest test = { .name = name,
                                                   .test_func = tests[j].function,
                                                   .initial_state = argv[i] };

                        g_ptr_array_add(names, name);
                        g_array_append_val(all, test);
                }
        return _cmocka_run_group_tests("examples", (const struct CMUnitTest *)all->data, all->len,
                                       NULL, NULL);
}
