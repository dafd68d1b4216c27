/* Runs one helper process. It knows processes, pipes and clocks, and refuses to know what a helper
 * does or what its lines mean. Nothing here waits: a process that hangs in the kernel cannot be
 * killed, so its end is an event like any other. A pidfd tells that end, so that no signal handling
 * is asked of the daemon. */
#include "helper.h"

#include "autoptr-bus.h"
#include "autoptr.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Longer lines are dropped: no helper has cause for them. */
#define LINE_BYTES_MAX (128 * 1024)

#define USEC_PER_SEC UINT64_C(1000000)

/* Where the child has it, until its program runs. */
#define GATE_FILENO (STDERR_FILENO + 1)

struct Helper {
        const HelperEvents *events;
        void *userdata;

        int pidfd;
        int input;  /* the socket that is its standard input; -1 = closed */
        int output; /* the pipe that is its standard output */
        GString *partial;
        bool too_long; /* the line that is coming in is one to be dropped */

        sd_event_source *output_source;
        sd_event_source *exit_source;
        sd_event_source *deadline_source;
};

static void line_end(Helper *helper) {
        if (!helper->too_long)
                helper->events->line(helper->userdata, helper->partial->str);
        helper->too_long = false;
        g_string_truncate(helper->partial, 0);
}

static void output_take(Helper *helper, const char *data, size_t size) {
        for (size_t i = 0; i < size; i++) {
                if (data[i] == '\n')
                        line_end(helper);
                else if (helper->partial->len >= LINE_BYTES_MAX)
                        helper->too_long = true;
                else
                        g_string_append_c(helper->partial, data[i]);
        }
}

/* Takes what there is. Returns false when nothing will come any more; an error says nothing of
 * that.
 */
static bool output_drain(Helper *helper) {
        char buffer[4096];

        for (;;) {
                ssize_t n = read(helper->output, buffer, sizeof buffer);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return true;
                if (n == 0)
                        return false;
                output_take(helper, buffer, (size_t)n);
        }
}

static int on_output(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Helper *helper = userdata;

        if (!output_drain(helper))
                sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        Helper *helper = userdata;

        helper->events->overdue(helper->userdata);
        return 0;
}

/* The owner frees the helper from within ended, so that is the last thing done. */
static int on_process_exit(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Helper *helper = userdata;
        siginfo_t info = { 0 };
        int status, r = waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG);

        if (r < 0 && errno == ECHILD)
                status = -SIGKILL; /* somebody else has reaped it, how it ended is not known */
        else if (r < 0 || info.si_pid == 0)
                return 0; /* the loop asks again */
        else
                status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;

        output_drain(helper);
        sd_event_source_set_enabled(helper->output_source, SD_EVENT_OFF);
        sd_event_source_set_enabled(helper->deadline_source, SD_EVENT_OFF);
        sd_event_source_set_enabled(source, SD_EVENT_OFF);
        helper->events->ended(helper->userdata, status);
        return 0;
}

/* A clean slate for the program: no signal blocked or ignored, a session of its own. */
static void signals_reset(void) {
        sigset_t none;

        sigemptyset(&none);
        for (int number = 1; number < NSIG; number++)
                (void)signal(number, SIG_DFL);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The child, between fork() and the program. It waits at the gate until it is let through, and says
 * there why it could not go on; the program has no gate. Only what a signal handler may call is
 * called here: other threads may have held any lock. */
static void G_GNUC_NORETURN child_run(char *const argv[], int input, int output, int gate) {
        char word;
        int error;

        if (recv(gate, &word, sizeof word, 0) != sizeof word)
                _exit(EXIT_FAILURE);
        signals_reset();
        (void)setsid();
        if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
            (gate != GATE_FILENO && dup3(gate, GATE_FILENO, O_CLOEXEC) < 0))
                _exit(EXIT_FAILURE);
        closefrom(GATE_FILENO + 1);
        (void)execve(argv[0], argv, environ);
        error = errno;
        (void)send(GATE_FILENO, &error, sizeof error, MSG_NOSIGNAL);
        _exit(EXIT_FAILURE);
}

/* 0 when it runs the program now, else a negative errno. */
static int child_let_through(int gate) {
        int error = 0;
        ssize_t n;

        if (send(gate, "g", 1, MSG_NOSIGNAL) != 1)
                return -EIO;
        do
                n = recv(gate, &error, sizeof error, 0);
        while (n < 0 && errno == EINTR);
        return n == 0 ? 0 : n == sizeof error ? -error : -EIO;
}

static int child_watch(Helper *helper, sd_event *event, pid_t pid) {
        helper->pidfd = pidfd_open(pid, 0);
        if (helper->pidfd < 0)
                return -errno;
        return sd_event_add_io(event, &helper->exit_source, helper->pidfd, EPOLLIN, on_process_exit,
                               helper);
}

/* The child is let through to its program when all that can fail has not: one that nobody watches
 * could be neither waited for nor killed. At the gate, and without a program, it ends at once, so
 * it can be waited for there. */
static int process_start(Helper *helper, sd_event *event, char *const argv[], int input,
                         int output) {
        g_autofd int ours = -1;
        g_autofd int theirs = -1;
        int pair[2];
        pid_t pid;
        int r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        theirs = pair[1];
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                close(ours);
                child_run(argv, input, output, theirs);
        }
        autofd_close(&theirs);
        theirs = -1;

        r = child_watch(helper, event, pid);
        if (r >= 0)
                r = child_let_through(ours);
        if (r < 0) {
                autofd_close(&ours);
                ours = -1;
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        return r;
}

static int sources_add(Helper *helper, sd_event *event, unsigned deadline_sec) {
        int r = sd_event_add_io(event, &helper->output_source, helper->output, EPOLLIN, on_output,
                                helper);

        if (r >= 0)
                r = sd_event_add_time_relative(event, &helper->deadline_source, CLOCK_MONOTONIC,
                                               deadline_sec * USEC_PER_SEC, 0, on_deadline, helper);
        return r;
}

int helper_start(sd_event *event, char *const argv[], unsigned deadline_sec,
                 const HelperEvents *events, void *userdata, Helper **ret) {
        g_autoptr(Helper) helper = g_new0(Helper, 1);
        g_autofd int child_input = -1;
        g_autofd int child_output = -1;
        int pair[2];
        int r;

        *helper = (Helper){
                .events = events,
                .userdata = userdata,
                .pidfd = -1,
                .input = -1,
                .output = -1,
                .partial = g_string_new(NULL),
        };

        /* A socket, not a pipe: writing to one whose reader is gone must not raise SIGPIPE here. */
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        helper->input = pair[0];
        child_input = pair[1];
        if (pipe2(pair, O_CLOEXEC) < 0)
                return -errno;
        helper->output = pair[0];
        child_output = pair[1];
        if (fcntl(helper->output, F_SETFL, O_NONBLOCK) < 0)
                return -errno;

        r = sources_add(helper, event, deadline_sec);
        if (r >= 0)
                r = process_start(helper, event, argv, child_input, child_output);
        if (r < 0)
                return r;

        *ret = g_steal_pointer(&helper);
        return 0;
}

int helper_send(Helper *helper, const char *text) {
        ssize_t n;

        if (helper->input < 0)
                return -EPIPE;

        n = send(helper->input, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
                return -errno;
        return (size_t)n == strlen(text) ? 0 : -EIO;
}

void helper_set_deadline(Helper *helper, uint64_t usec) {
        int enabled = SD_EVENT_OFF;

        (void)sd_event_source_get_enabled(helper->deadline_source, &enabled);
        if (enabled != SD_EVENT_OFF)
                (void)sd_event_source_set_time_relative(helper->deadline_source, usec);
}

void helper_close_input(Helper *helper) {
        autofd_close(&helper->input);
        helper->input = -1;
}

void helper_kill(Helper *helper) {
        (void)pidfd_send_signal(helper->pidfd, SIGKILL, NULL, 0);
}

void helper_free(Helper *helper) {
        if (!helper)
                return;

        g_clear_pointer(&helper->output_source, sd_event_source_disable_unref);
        g_clear_pointer(&helper->exit_source, sd_event_source_disable_unref);
        g_clear_pointer(&helper->deadline_source, sd_event_source_disable_unref);
        autofd_close(&helper->input);
        autofd_close(&helper->output);
        autofd_close(&helper->pidfd);
        g_string_free(helper->partial, TRUE);
        g_free(helper);
}
