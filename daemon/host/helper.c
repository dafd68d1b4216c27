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
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

/* Longer lines are dropped: no helper has cause for them. */
#define LINE_BYTES_MAX (128 * 1024)

#define USEC_PER_SEC UINT64_C(1000000)

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

/* Takes what there is. Returns false when nothing will come any more. */
static bool output_drain(Helper *helper) {
        char buffer[4096];

        for (;;) {
                ssize_t n = read(helper->output, buffer, sizeof buffer);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN;
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
        int status;

        if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0)
                status = -SIGKILL; /* somebody else has reaped it, how it ended is not known */
        else if (info.si_pid == 0)
                return 0;
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
static int attributes_set(posix_spawnattr_t *attributes) {
        sigset_t none, all;
        int r;

        sigemptyset(&none);
        sigfillset(&all);
        r = posix_spawnattr_setsigmask(attributes, &none);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(attributes, &all);
        if (r == 0)
                r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID |
                                                                 POSIX_SPAWN_SETSIGMASK |
                                                                 POSIX_SPAWN_SETSIGDEF);
        return r;
}

static int actions_set(posix_spawn_file_actions_t *actions, int input, int output) {
        int r = posix_spawn_file_actions_adddup2(actions, input, STDIN_FILENO);

        if (r == 0)
                r = posix_spawn_file_actions_adddup2(actions, output, STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
        return r;
}

static int process_spawn(char *const argv[], int input, int output, pid_t *ret) {
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        int r = posix_spawn_file_actions_init(&actions);

        if (r != 0)
                return -r;
        r = posix_spawnattr_init(&attributes);
        if (r != 0) {
                posix_spawn_file_actions_destroy(&actions);
                return -r;
        }

        r = attributes_set(&attributes);
        if (r == 0)
                r = actions_set(&actions, input, output);
        if (r == 0)
                r = posix_spawn(ret, argv[0], &actions, &attributes, argv, environ);

        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        return -r;
}

/* Makes the sources before the process, so that after it is there nothing can fail but the pidfd.
 */
static int sources_add(Helper *helper, sd_event *event, unsigned deadline_sec) {
        int r = sd_event_add_io(event, &helper->output_source, helper->output, EPOLLIN, on_output,
                                helper);

        if (r >= 0)
                r = sd_event_add_time_relative(event, &helper->deadline_source, CLOCK_MONOTONIC,
                                               deadline_sec * USEC_PER_SEC, 0, on_deadline, helper);
        return r;
}

static int process_watch(Helper *helper, sd_event *event, pid_t pid) {
        int r;

        helper->pidfd = pidfd_open(pid, 0);
        r = helper->pidfd < 0 ? -errno
                              : sd_event_add_io(event, &helper->exit_source, helper->pidfd, EPOLLIN,
                                                on_process_exit, helper);
        if (r < 0) {
                /* It stays a zombie until we end: waiting for it here could take for ever. */
                kill(pid, SIGKILL);
        }
        return r;
}

int helper_start(sd_event *event, char *const argv[], unsigned deadline_sec,
                 const HelperEvents *events, void *userdata, Helper **ret) {
        g_autoptr(Helper) helper = g_new0(Helper, 1);
        g_autofd int child_input = -1;
        g_autofd int child_output = -1;
        int pair[2];
        pid_t pid;
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
                r = process_spawn(argv, child_input, child_output, &pid);
        if (r >= 0)
                r = process_watch(helper, event, pid);
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
