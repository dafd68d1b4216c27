/* The program as a child, and the loop that serves it meanwhile: the service is in this process. */
#include "run-ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utmp.h>

#include <cmocka.h>

#define WAIT_USEC (10 * G_USEC_PER_SEC)

static int on_output(sd_event_source *source, int fd, uint32_t events, void *userdata) {
        Run *run = userdata;
        char data[4096];
        ssize_t n = read(fd, data, sizeof data);

        if (n > 0)
                g_string_append_len(source == run->sources[0] ? run->out : run->err, data, n);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                sd_event_source_set_enabled(source, SD_EVENT_OFF);
                run->open--;
        }
        return 0;
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *userdata) {
        Run *run = userdata;

        run->status = info->si_code == CLD_EXITED ? info->si_status : 128 + info->si_status;
        run->ended = true;
        /* Once it is closed here too, what was written to it can be read, and then its end. */
        if (run->terminal >= 0) {
                assert_int_equal(tcgetattr(run->terminal, &run->left), 0);
                close(run->terminal);
                run->terminal = -1;
        }
        return 0;
}

static void exec_child(const RunSetting *setting, const char *const *arguments) {
        const char *program = setting->program ?: getenv("FEOSCTL") ?: "feosctl";
        g_autoptr(GPtrArray) argv = g_ptr_array_new();
        sigset_t none;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        unsetenv("COLUMNS");
        unsetenv("NO_COLOR");
        setenv("TERM", "xterm", 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        for (const char *const *s = setting->setting; s && *s; s++)
                putenv(strdup(*s));
        g_ptr_array_add(argv, (char *)program);
        for (; *arguments; arguments++)
                g_ptr_array_add(argv, (char *)*arguments);
        g_ptr_array_add(argv, NULL);
        if (setting->uid > 0 && private_bus_can_be_anybody() && setuid(setting->uid) < 0)
                _exit(126);
        execvp(program, (char **)argv->pdata);
        _exit(127);
}

static void watch(Run *run, unsigned i, int fd) {
        sd_event *event = private_bus_event(run->stage->private_bus);

        assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        assert_true(sd_event_add_io(event, &run->sources[i], fd, EPOLLIN, on_output, run) >= 0);
        assert_true(sd_event_source_set_io_fd_own(run->sources[i], true) >= 0);
        run->open++;
}

static void start_on_pipes(Run *run, const RunSetting *setting, const char *const *arguments) {
        int ends[3][2];

        for (int i = 0; i < 3; i++)
                assert_int_equal(pipe2(ends[i], O_CLOEXEC), 0);
        run->pid = fork();
        if (run->pid == 0) {
                dup2(ends[0][0], 0);
                dup2(ends[1][1], 1);
                dup2(ends[2][1], 2);
                exec_child(setting, arguments);
        }
        close(ends[0][0]);
        close(ends[1][1]);
        close(ends[2][1]);
        run->input = ends[0][1];
        watch(run, 0, ends[1][0]);
        watch(run, 1, ends[2][0]);
}

static void start_on_terminal(Run *run, const RunSetting *setting, const char *const *arguments) {
        const struct winsize size = { .ws_col = 100, .ws_row = 30 };
        int master, slave;

        assert_int_equal(openpty(&master, &slave, NULL, NULL, &size), 0);
        fcntl(master, F_SETFD, FD_CLOEXEC);
        fcntl(slave, F_SETFD, FD_CLOEXEC);
        run->pid = fork();
        if (run->pid == 0) {
                login_tty(slave);
                exec_child(setting, arguments);
        }
        run->terminal = slave;
        run->input = fcntl(master, F_DUPFD_CLOEXEC, 3);
        watch(run, 0, master);
}

Run *run_start(Stage *stage, const RunSetting *setting, const char *const *arguments) {
        sd_event *event = private_bus_event(stage->private_bus);
        Run *run = g_new0(Run, 1);
        sigset_t child;

        run->stage = stage;
        run->out = g_string_new(NULL);
        run->err = g_string_new(NULL);
        run->terminal = -1;
        /* As sd_event_add_child() wants it. */
        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        sigprocmask(SIG_BLOCK, &child, NULL);
        if (setting->terminal)
                start_on_terminal(run, setting, arguments);
        else
                start_on_pipes(run, setting, arguments);
        assert_true(run->pid > 0);
        assert_true(sd_event_add_child(event, &run->sources[2], run->pid, WEXITED, on_child, run) >=
                    0);
        if (setting->input) {
                run_write(run, setting->input);
                close(run->input);
                run->input = -1;
        }
        return run;
}

void run_write(Run *run, const char *text) {
        assert_int_equal(write(run->input, text, strlen(text)), strlen(text));
}

static void turn(Run *run, gint64 end) {
        gint64 left = end - g_get_monotonic_time();

        if (left <= 0)
                fail_msg("feosctl takes too long; so far:\n%s%s", run->out->str, run->err->str);
        assert_true(sd_event_run(private_bus_event(run->stage->private_bus), (uint64_t)left) >= 0);
}

void run_end(Run *run) {
        gint64 end = g_get_monotonic_time() + WAIT_USEC;

        while (!run->ended || run->open > 0)
                turn(run, end);
}

void run_until(Run *run, const char *text) {
        gint64 end = g_get_monotonic_time() + WAIT_USEC;

        while (!strstr(run->out->str, text) && !strstr(run->err->str, text))
                turn(run, end);
}

void run_free(Run *run) {
        if (!run->ended)
                kill(run->pid, SIGKILL);
        for (size_t i = 0; i < G_N_ELEMENTS(run->sources); i++)
                sd_event_source_disable_unref(run->sources[i]);
        if (!run->ended)
                waitpid(run->pid, NULL, 0);
        if (run->input >= 0)
                close(run->input);
        if (run->terminal >= 0)
                close(run->terminal);
        g_string_free(run->out, TRUE);
        g_string_free(run->err, TRUE);
        g_free(run);
}

Run *run(Stage *stage, int status, ...) {
        g_autoptr(GPtrArray) arguments = g_ptr_array_new();
        const char *argument;
        va_list args;
        Run *run;

        va_start(args, status);
        while ((argument = va_arg(args, const char *)))
                g_ptr_array_add(arguments, (char *)argument);
        va_end(args);
        g_ptr_array_add(arguments, NULL);
        run = run_start(stage, &(RunSetting){ 0 }, (const char *const *)arguments->pdata);
        run_end(run);
        if (run->status != status)
                fail_msg("it ended with %d, not %d:\n%s%s", run->status, status, run->out->str,
                         run->err->str);
        return run;
}

void assert_out(const Run *run, const char *text) {
        if (!strstr(run->out->str, text))
                fail_msg("\"%s\" is not in what it says:\n%s", text, run->out->str);
}

void assert_err(const Run *run, const char *text) {
        if (!strstr(run->err->str, text))
                fail_msg("\"%s\" is not in what it says:\n%s", text, run->err->str);
}
