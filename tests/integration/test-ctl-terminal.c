/* feosctl as people use it: on a terminal, with colours and progress, a console, events, a
 * password's agent, and the shell's completion. */
#include "run-ctl.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <json-c/json.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static Stage *stage_with_machine(void) {
        Stage *stage = stage_new(0);
        g_auto(Answer) created = { 0 };

        create(stage, stage->root, "vm-1", &created);
        assert_path(&created, MACHINE);
        return stage;
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* On a terminal, from beginning to end. */
static Run *on_terminal(Stage *stage, const char *const *setting, const char *const *arguments) {
        Run *run =
                run_start(stage, &(RunSetting){ .terminal = true, .setting = setting }, arguments);

        run_end(run);
        return run;
}

/* --- how it looks --------------------------------------------------------------------------------
 */

static void test_colours_and_dots(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) coloured = on_terminal(stage, NULL, WORDS("gpus"));
        g_autoptr(Run) plain = on_terminal(stage, WORDS("NO_COLOR=1"), WORDS("gpus"));
        g_autoptr(Run) dumb = on_terminal(stage, WORDS("TERM=dumb"), WORDS("gpus"));
        g_autoptr(Run) ascii = on_terminal(stage, WORDS("LC_ALL=C", "NO_COLOR=1"), WORDS("gpus"));

        assert_out(coloured, "\033[32m●\033[0m  0000:01:00.0  \033[32mattached\033[0m");
        assert_out(plain, "●  0000:01:00.0  attached");
        assert_null(strchr(plain->out->str, '\033'));
        assert_null(strchr(dumb->out->str, '\033'));
        assert_out(ascii, "*  0000:01:00.0  attached");
}

static void test_rows_fit_the_window(void **state) {
        static const char *const widths[] = { "COLUMNS=50", "COLUMNS=60", "COLUMNS=70" };
        g_autoptr(Stage) stage = stage_with_machine();

        for (size_t i = 0; i < G_N_ELEMENTS(widths); i++) {
                g_autoptr(Run) shown =
                        on_terminal(stage, WORDS(widths[i], "NO_COLOR=1"), WORDS("gpus"));
                g_auto(GStrv) lines = g_strsplit(shown->out->str, "\r\n", -1);
                glong most = atoi(widths[i] + strlen("COLUMNS="));

                assert_int_equal(g_strv_length(lines), 4);
                for (char **line = lines; *line; line++)
                        assert_true(g_utf8_strlen(*line, -1) <= most);
        }
}

/* What goes on is told on a line that is taken away, before the answer or the refusal. */
static void test_progress(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) made = on_terminal(
                stage, NULL, WORDS("create", "vm-1", "--gpu", "01:00.0", "--gpu", "02:00.0"));
        g_autoptr(Run) dumb = NULL;

        assert_int_equal(made->status, 0);
        assert_out(made, "binding 0000:01:00.0, binding 0000:02:00.0");
        assert_out(made, "; vm-1 starting");
        assert_out(made, "\r\033[KMachine vm-1 is running.\r\n");
        dumb = on_terminal(stage, WORDS("TERM=dumb"), WORDS("poweroff", "vm-1"));
        assert_string_equal(dumb->out->str, "Machine vm-1 is off.\r\n");
}

static void test_progress_gives_way_to_a_refusal(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) refused = NULL;

        world_mark(stage->world->refused, "0000:01:00.0");
        refused = on_terminal(stage, NULL, WORDS("create", "vm-1", "--gpu", "01:00.0"));
        assert_int_equal(refused->status, 1);
        assert_out(refused, "binding 0000:01:00.0");
        assert_out(refused, "\r\033[K\033[31mGPU 0000:01:00.0 could not be handed over");
        assert_out(refused, "\r\n  → The kernel's log");
}

/* --- the console ---------------------------------------------------------------------------------
 */

static Run *console_start(Stage *stage, bool terminal) {
        Run *run;

        stage->world->hold_console = true;
        run = run_start(stage, &(RunSetting){ .terminal = terminal }, WORDS("console", "vm-1"));
        run_until(run, "hello");
        return run;
}

static void guest_says(Stage *stage, const char *text) {
        assert_int_equal(write(stage->world->guest, text, strlen(text)), strlen(text));
}

/* Runs the loop until the guest has read @expected. */
static void guest_hears(Run *run, const char *expected) {
        g_autoptr(GString) heard = g_string_new(NULL);
        char data[256];

        for (int i = 0; i < 1000 && heard->len < strlen(expected); i++) {
                ssize_t n = read(run->stage->world->guest, data, sizeof data);

                if (n > 0)
                        g_string_append_len(heard, data, n);
                else
                        assert_true(sd_event_run(private_bus_event(run->stage->private_bus),
                                                 10000) >= 0);
        }
        assert_string_equal(heard->str, expected);
}

/* As run_start() has made the terminal. */
static void assert_terminal_restored(const Run *run) {
        assert_true(run->left.c_lflag & ICANON);
        assert_true(run->left.c_lflag & ECHO);
        assert_true(run->left.c_lflag & ISIG);
        assert_true(run->left.c_oflag & OPOST);
        /* The mouse, the other screen, the cursor, the title. */
        assert_out(run, "\033[?1049l");
        assert_out(run, "\033[?1000l");
        assert_out(run, "\033[?25h");
        assert_out(run, "\033[23;0t");
}

static void test_console_both_ways(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) run = console_start(stage, true);
        struct termios raw;

        assert_out(run, "The console of machine vm-1. Ctrl-] leaves it.");
        assert_out(run, "stty rows 30 cols 100");
        guest_says(stage, "login: ");
        run_until(run, "login: ");
        assert_int_equal(tcgetattr(run->terminal, &raw), 0);
        assert_false(raw.c_lflag & (ICANON | ECHO | ISIG));
        /* Keys as they are, those too that a terminal acts on. */
        run_write(run, "root\r\003\004");
        guest_hears(run, "root\r\003\004");
        run_write(run, "last\035not for the guest");
        run_end(run);
        assert_int_equal(run->status, 0);
        assert_out(run, "Left the console of machine vm-1.");
        assert_terminal_restored(run);
}

static void test_console_ends_with_the_machine(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) run = console_start(stage, true);

        guest_says(stage, "bye\033[?1049h\033[?25l");
        run_until(run, "bye");
        close(stage->world->guest);
        stage->world->guest = -1;
        run_end(run);
        assert_int_equal(run->status, 0);
        assert_out(run, "This was the end of the console of machine vm-1.");
        assert_terminal_restored(run);
}

static void test_console_is_killed(void **state) {
        static const int signals[] = { SIGTERM, SIGHUP, SIGINT, SIGQUIT };

        for (size_t i = 0; i < G_N_ELEMENTS(signals); i++) {
                g_autoptr(Stage) stage = stage_with_machine();
                g_autoptr(Run) run = console_start(stage, true);

                assert_int_equal(kill(run->pid, signals[i]), 0);
                run_end(run);
                assert_int_equal(run->status, 128 + signals[i]);
                assert_terminal_restored(run);
        }
}

/* A guest that takes nothing does not keep anybody. */
static void test_console_of_a_deaf_guest(void **state) {
        g_autofree char *keys = g_strnfill(4000, 'x');
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) run = console_start(stage, true);
        struct pollfd writable = { .fd = run->input, .events = POLLOUT };
        size_t written = 0;

        /* More than its socket and feosctl hold together; the console's ends are not in this loop.
         */
        while (written < 600000) {
                ssize_t n;

                assert_int_equal(poll(&writable, 1, 10000), 1);
                n = write(run->input, keys, strlen(keys));
                assert_true(n > 0 || errno == EAGAIN);
                written += n > 0 ? (size_t)n : 0;
        }
        assert_int_equal(poll(&writable, 1, 10000), 1);
        run_write(run, "\035");
        run_end(run);
        assert_int_equal(run->status, 0);
        assert_terminal_restored(run);
}

/* Scripts get the bytes and nothing else. */
static void test_console_through_pipes(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) run = console_start(stage, false);

        run_write(run, "a\035b");
        guest_hears(run, "a\035b");
        close(run->input);
        run->input = -1;
        guest_says(stage, " world");
        run_until(run, "hello world");
        close(stage->world->guest);
        stage->world->guest = -1;
        run_end(run);
        assert_int_equal(run->status, 0);
        assert_string_equal(run->out->str, "hello world");
        assert_string_equal(run->err->str, "");
}

static void test_no_console(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) G_GNUC_UNUSED off = on_terminal(stage, NULL, WORDS("poweroff", "vm-1"));
        g_autoptr(Run) refused = on_terminal(stage, NULL, WORDS("console", "vm-1"));

        assert_int_equal(refused->status, 1);
        assert_out(refused, "Machine vm-1 is stopped.");
        assert_null(strstr(refused->out->str, "Ctrl-]"));
}

/* --- events --------------------------------------------------------------------------------------
 */

static void test_monitor(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) monitor = run_start(stage, &(RunSetting){ 0 }, WORDS("monitor"));
        g_auto(Answer) created = { 0 };

        run_until(monitor, "Waiting for events; Ctrl-C ends.\n");
        create(stage, stage->root, "vm-1", &created);
        run_until(monitor, "machine vm-1           starting → running");
        assert_out(monitor, "  machine vm-1           Added\n");
        assert_out(monitor, "  GPU 0000:01:00.0   Pending binding\n");
        assert_out(monitor, "  GPU 0000:01:00.0   host-bound → vfio-bound: handed over");
        world_set_connected(stage->world, false);
        run_until(monitor, "  feos-vmd               HypervisorState connecting\n");
}

static void test_monitor_of_one(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) monitor =
                run_start(stage, &(RunSetting){ 0 }, WORDS("--json", "monitor", "02:00.0"));
        g_auto(Answer) created = { 0 };
        g_auto(GStrv) lines = NULL;

        run_until(monitor, "Waiting for events");
        create(stage, stage->root, "vm-1", &created);
        run_until(monitor, "\"New\":\"attached\"");
        lines = g_strsplit(monitor->out->str, "\n", -1);
        assert_true(g_strv_length(lines) > 3);
        for (char **line = lines; *line && **line; line++) {
                struct json_object *event = json_tokener_parse(*line);

                assert_non_null(event);
                assert_string_equal(json_object_get_string(json_object_object_get(event, "GPU")),
                                    "0000:02:00.0");
                assert_true(json_object_get_int64(json_object_object_get(event, "Time")) > 0);
                json_object_put(event);
        }
}

static void test_monitor_tells_of_the_service(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) monitor = run_start(stage, &(RunSetting){ 0 }, WORDS("monitor"));

        run_until(monitor, "Waiting for events");
        bus_free(g_steal_pointer(&stage->bus));
        run_until(monitor, "Stopped\n");
        private_bus_kill(stage->private_bus);
        run_end(monitor);
        assert_int_equal(monitor->status, 1);
        assert_err(monitor, "The connection to the system bus is lost");
}

/* --- a password ----------------------------------------------------------------------------------
 */

/* A pkttyagent that only says that it is there; it ends when it is told to. */
static const char agent_script[] = "#!/bin/sh\n"
                                   "echo \"agent: $1 $3\"\n"
                                   "trap 'echo agent ends; exit' TERM\n"
                                   "eval \"exec $2>&-\"\n"
                                   "while :; do read -r line; done\n";

typedef struct AgentFolder {
        char *folder, *program, *path;
} AgentFolder;

static int agent_setup(void **state) {
        AgentFolder *agent = g_new0(AgentFolder, 1);

        agent->folder = g_dir_make_tmp("feosctl-agent-XXXXXX", NULL);
        agent->program = g_build_filename(agent->folder, "pkttyagent", NULL);
        agent->path = g_strdup_printf("PATH=%s:%s", agent->folder, g_getenv("PATH"));
        assert_true(g_file_set_contents(agent->program, agent_script, -1, NULL));
        assert_int_equal(g_chmod(agent->program, 0755), 0);
        assert_int_equal(g_chmod(agent->folder, 0755), 0);
        *state = agent;
        return 0;
}

static int agent_teardown(void **state) {
        AgentFolder *agent = *state;

        g_unlink(agent->program);
        g_rmdir(agent->folder);
        g_free(agent->folder);
        g_free(agent->program);
        g_free(agent->path);
        g_free(agent);
        return 0;
}

static void test_agent(void **state) {
        const AgentFolder *agent = *state;
        g_autoptr(Stage) stage = stage_with_machine();
        RunSetting setting = { .terminal = true, .uid = SOMEBODY, .setting = WORDS(agent->path) };
        g_autoptr(Run) asked = NULL;
        g_autoptr(Run) looked = NULL;
        g_autoptr(Run) unwanted = NULL;

        if (!private_bus_can_be_anybody())
                skip();
        asked = run_start(stage, &setting, WORDS("pause", "vm-1"));
        run_end(asked);
        assert_int_equal(asked->status, 0);
        assert_out(asked, "agent: --notify-fd --fallback\r\n");
        assert_out(asked, "agent ends\r\n");
        assert_out(asked, "Machine vm-1 is paused.\r\n");
        looked = run_start(stage, &setting, WORDS("check", "box"));
        run_end(looked);
        assert_null(strstr(looked->out->str, "agent"));
        unwanted = run_start(stage, &setting, WORDS("--no-ask-password", "resume", "vm-1"));
        run_end(unwanted);
        assert_null(strstr(unwanted->out->str, "agent"));
}

/* --- completion ----------------------------------------------------------------------------------
 */

/* What bash offers for the end of @line: the words, separated by spaces. Caller frees. */
static char *completed(Stage *stage, const char *line) {
        g_autofree char *folder = g_path_get_dirname(getenv("FEOSCTL"));
        g_autofree char *path = g_strdup_printf("PATH=%s:%s", folder, g_getenv("PATH"));
        g_autofree char *quoted = g_shell_quote(line);
        g_autofree char *script = g_strdup_printf(
                "source '%s' && COMP_LINE=%s && COMP_POINT=${#COMP_LINE} && _feosctl && "
                "echo ${COMPREPLY[*]}",
                getenv("FEOSCTL_COMPLETION"), quoted);
        const RunSetting setting = { .program = "bash", .setting = WORDS(path) };
        g_autoptr(Run) bash = run_start(stage, &setting, WORDS("-c", script));

        run_end(bash);
        assert_string_equal(bash->err->str, "");
        assert_int_equal(bash->status, 0);
        return g_strdup(g_strchomp(bash->out->str));
}

static void test_completion(void **state) {
        static const struct {
                const char *line, *words;
        } lines[] = {
                { "feosctl st", "start" },
                { "feosctl p", "poweroff pause" },
                { "feosctl --no", "--no-legend --no-ask-password" },
                { "feosctl create box --max", "--max-vcpus" },
                { "feosctl create box --gpu ", "0000:01:00.0 0000:02:00.0" },
                /* bash takes what is behind the last colon for the word. */
                { "feosctl create box --gpu 0000:01", "01:00.0" },
                { "feosctl create box --gpu=0000:01:", "00.0" },
                { "feosctl bind 02", "02:00.0" },
                { "feosctl bind 02:", "00.0" },
                { "feosctl start ", "vm-1" },
                { "feosctl -q console v", "vm-1" },
                { "feosctl log ", "vm-1 0000:01:00.0 0000:02:00.0" },
                { "feosctl create box --firmware ", "bios uefi" },
                { "feosctl create box --start=", "yes no" },
                { "feosctl create box --autostart ", "" },
                { "feosctl gpus ", "" },
        };
        g_autoptr(Stage) stage = stage_with_machine();

        for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
                g_autofree char *words = completed(stage, lines[i].line);

                if (!g_str_equal(words, lines[i].words))
                        fail_msg("%s: %s", lines[i].line, words);
        }
}

/* Every command and every option of it that the help shows. */
static void test_completion_has_every_command(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autofree char *words = completed(stage, "feosctl ");
        g_auto(GStrv) commands = g_strsplit(words, " ", -1);

        assert_true(g_strv_length(commands) >= 25);
        for (char **command = commands; *command; command++) {
                g_autoptr(Run) help =
                        run_start(stage, &(RunSetting){ 0 }, WORDS(*command, "--help"));

                run_end(help);
                assert_int_equal(help->status, 0);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_colours_and_dots),
                cmocka_unit_test(test_rows_fit_the_window),
                cmocka_unit_test(test_progress),
                cmocka_unit_test(test_progress_gives_way_to_a_refusal),
                cmocka_unit_test(test_console_both_ways),
                cmocka_unit_test(test_console_ends_with_the_machine),
                cmocka_unit_test(test_console_is_killed),
                cmocka_unit_test(test_console_of_a_deaf_guest),
                cmocka_unit_test(test_console_through_pipes),
                cmocka_unit_test(test_no_console),
                cmocka_unit_test(test_monitor),
                cmocka_unit_test(test_monitor_of_one),
                cmocka_unit_test(test_monitor_tells_of_the_service),
                cmocka_unit_test_setup_teardown(test_agent, agent_setup, agent_teardown),
                cmocka_unit_test(test_completion),
                cmocka_unit_test(test_completion_has_every_command),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
