/* The start of a helper process, and what is left where it fails. */
#include "host/helper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int pidfd_error; /* errno of every pidfd_open(), 0 = none */

/* In the place of libc's. */
int pidfd_open(pid_t pid, unsigned flags) {
        if (pidfd_error != 0) {
                errno = pidfd_error;
                return -1;
        }
        return (int)syscall(SYS_pidfd_open, pid, flags);
}

static bool ended;
static int status;

static void on_line(void *userdata, char *line) {
}

static void on_overdue(void *userdata) {
        fail();
}

static void on_ended(void *userdata, int how) {
        ended = true;
        status = how;
}

static const HelperEvents events = { on_line, on_overdue, on_ended };

static int start(sd_event *event, const char *script, Helper **ret) {
        char *argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)script, NULL };

        return helper_start(event, argv, 60, &events, NULL, ret);
}

static sd_event *loop(void) {
        sd_event *event;

        ended = false;
        pidfd_error = 0;
        assert_true(sd_event_new(&event) >= 0);
        return event;
}

static void assert_no_child_is_left(void) {
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

/* Without one it could be neither waited for nor killed. */
static void a_process_that_nobody_can_watch_runs_nothing_and_is_gone(void **unused) {
        static const int errors[] = { EMFILE, ENFILE, ENOMEM };
        g_autofree char *folder = g_dir_make_tmp("test-helper-XXXXXX", NULL);
        g_autofree char *script = g_strdup_printf("mkdir %s/ran", folder);
        sd_event *event = loop();

        for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
                Helper *helper = NULL;

                pidfd_error = errors[i];
                assert_int_equal(start(event, script, &helper), -errors[i]);
                assert_null(helper);
                assert_no_child_is_left();
        }
        assert_int_equal(rmdir(folder), 0);
        sd_event_unref(event);
}

static void a_program_that_is_not_there_is_told_and_leaves_no_process(void **unused) {
        char *argv[] = { (char *)"/nonexistent/helper", NULL };
        sd_event *event = loop();
        Helper *helper = NULL;

        assert_int_equal(helper_start(event, argv, 60, &events, NULL, &helper), -ENOENT);
        assert_no_child_is_left();
        sd_event_unref(event);
}

/* Nothing of ours but the three, no signal blocked, a session of its own. */
static void a_process_begins_with_a_clean_slate(void **unused) {
        sd_event *event = loop();
        Helper *helper;

        assert_int_equal(dup2(STDERR_FILENO, 50), 50);
        assert_int_equal(
                start(event,
                      "for n in 3 4 5 6 7 50; do [ ! -e /proc/$$/fd/$n ] || exit 3; done\n"
                      "while read -r key value; do\n"
                      "    [ \"$key\" != SigBlk: ] || [ \"${value#*[!0]}\" = \"$value\" ] || exit "
                      "4\n"
                      "done < /proc/self/status\n"
                      "read -r pid name state parent group session rest < /proc/self/stat\n"
                      "[ $session = $$ ] || exit 5\n"
                      "exit 42",
                      &helper),
                0);
        while (!ended)
                assert_true(sd_event_run(event, 20 * 1000000) > 0);
        assert_int_equal(status, 42);
        close(50);
        helper_free(helper);
        assert_no_child_is_left();
        sd_event_unref(event);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_process_that_nobody_can_watch_runs_nothing_and_is_gone),
                cmocka_unit_test(a_program_that_is_not_there_is_told_and_leaves_no_process),
                cmocka_unit_test(a_process_begins_with_a_clean_slate),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
