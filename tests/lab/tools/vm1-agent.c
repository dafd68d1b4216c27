/* vm1-agent ANSWER PASSWORD COMMAND...: runs COMMAND, and is the polkit agent that asks its user.
 *
 * ANSWER is what the user does: "yes" types PASSWORD, "no" dismisses the question, "never" does
 * nothing, "leave" takes the agent away. Says on standard output what was asked and, with "never",
 * that the question was withdrawn; the exit status is COMMAND's, or 99 where that did not happen.
 *
 * The password goes the way that a desktop's does: to polkit-agent-helper-1, which asks PAM. */
#include "autoptr-bus.h"
#include "autoptr.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#define HELPER "/usr/lib/polkit-1/polkit-agent-helper-1"
#define PATH   "/org/feos/Lab/Agent"

#define WITHDRAWAL_USEC (15 * UINT64_C(1000000))

typedef struct Agent {
        const char *answer;
        const char *password;
        pid_t command;
        int status; /* the command's; -1 while it runs */
        bool withdrawn;
} Agent;

static void die(const char *what, int error) {
        fprintf(stderr, "vm1-agent: %s: %s\n", what, strerror(error));
        exit(99);
}

static void must(int r, const char *what) {
        if (r < 0)
                die(what, -r);
}

/* Talks with the helper as libpolkit-agent does. Returns whether PAM was content. */
static bool authenticate(const char *cookie, const char *password) {
        int in[2], out[2];
        FILE *from, *to;
        char line[1024];
        bool success = false;
        pid_t pid;

        if (pipe(in) < 0 || pipe(out) < 0)
                die("pipe", errno);
        pid = fork();
        if (pid == 0) {
                dup2(in[0], STDIN_FILENO);
                dup2(out[1], STDOUT_FILENO);
                close(in[1]);
                close(out[0]);
                execl(HELPER, HELPER, "root", NULL);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        to = fdopen(in[1], "w");
        from = fdopen(out[0], "r");
        if (pid < 0 || !to || !from)
                die(HELPER, errno);
        fprintf(to, "%s\n", cookie);
        fflush(to);
        while (fgets(line, sizeof line, from)) {
                if (strncmp(line, "PAM_PROMPT_ECHO_OFF", strlen("PAM_PROMPT_ECHO_OFF")) == 0) {
                        fprintf(to, "%s\n", password);
                        fflush(to);
                } else if (strncmp(line, "SUCCESS", strlen("SUCCESS")) == 0)
                        success = true;
        }
        fclose(to);
        fclose(from);
        waitpid(pid, NULL, 0);
        return success;
}

static int begin_authentication(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Agent *agent = userdata;
        const char *action, *message, *icon, *cookie;

        must(sd_bus_message_read(m, "sss", &action, &message, &icon), "BeginAuthentication");
        must(sd_bus_message_skip(m, "a{ss}"), "BeginAuthentication");
        must(sd_bus_message_read(m, "s", &cookie), "BeginAuthentication");
        printf("asked %s: %s\n", action, message);
        fflush(stdout);
        if (strcmp(agent->answer, "leave") == 0) {
                sd_bus_close(sd_bus_message_get_bus(m));
                return 1;
        }
        if (strcmp(agent->answer, "never") == 0)
                return 1;
        if (strcmp(agent->answer, "no") == 0)
                return sd_bus_reply_method_errorf(m, "org.freedesktop.PolicyKit1.Error.Cancelled",
                                                  "Dismissed");
        if (!authenticate(cookie, agent->password))
                return sd_bus_reply_method_errorf(m, "org.freedesktop.PolicyKit1.Error.Failed",
                                                  "Wrong");
        return sd_bus_reply_method_return(m, "");
}

static void end_when_done(Agent *agent, sd_event *event) {
        if (agent->status >= 0 && (strcmp(agent->answer, "never") != 0 || agent->withdrawn))
                sd_event_exit(event, agent->status);
}

static int cancel_authentication(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Agent *agent = userdata;

        printf("withdrawn\n");
        agent->withdrawn = true;
        end_when_done(agent, sd_bus_get_event(sd_bus_message_get_bus(m)));
        return sd_bus_reply_method_return(m, "");
}

static const sd_bus_vtable agent_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("BeginAuthentication", "sssa{ss}sa(sa{sv})", "", begin_authentication,
                      SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("CancelAuthentication", "s", "", cancel_authentication,
                      SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

/* The agent is process @pid's, and stays that when it becomes another program. */
static void register_for(sd_bus *bus, pid_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
        g_autofree char *text = NULL;
        g_auto(GStrv) fields = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;

        if (!g_file_get_contents(path, &text, NULL, NULL))
                die(path, errno);
        /* Field 22, the start time; the second, in brackets, may have blanks. */
        fields = g_strsplit(strrchr(text, ')') + 2, " ", -1);
        if (sd_bus_call_method(
                    bus, "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority",
                    "org.freedesktop.PolicyKit1.Authority", "RegisterAuthenticationAgent", &error,
                    NULL, "(sa{sv})ss", "unix-process", 2, "pid", "u", (uint32_t)pid, "start-time",
                    "t", g_ascii_strtoull(fields[19], NULL, 10), "C", PATH) < 0) {
                fprintf(stderr, "vm1-agent: %s\n", error.message);
                exit(99);
        }
}

static int on_command_exit(sd_event_source *source, const siginfo_t *info, void *userdata) {
        Agent *agent = userdata;

        agent->status = info->si_code == CLD_EXITED ? info->si_status : 99;
        end_when_done(agent, sd_event_source_get_event(source));
        return 0;
}

static int on_no_withdrawal(sd_event_source *source, uint64_t usec, void *userdata) {
        return sd_event_exit(sd_event_source_get_event(source), 99);
}

/* The command waits until something can be read from @go. */
static pid_t command_start(char *argv[], int go[2]) {
        pid_t pid = fork();
        char byte;

        if (pid < 0)
                die("fork", errno);
        if (pid > 0)
                return pid;
        close(go[1]);
        if (read(go[0], &byte, 1) != 1)
                _exit(99);
        execvp(argv[0], argv);
        _exit(127);
}

int main(int argc, char *argv[]) {
        g_autoptr(sd_event) event = NULL;
        g_autoptr(sd_bus) bus = NULL;
        Agent agent = { .status = -1 };
        sigset_t signals;
        int go[2], r;

        if (argc < 4) {
                fprintf(stderr, "usage: vm1-agent yes|no|never|leave PASSWORD COMMAND...\n");
                return 99;
        }
        agent.answer = argv[1];
        agent.password = argv[2];
        if (pipe(go) < 0)
                die("pipe", errno);
        agent.command = command_start(argv + 3, go);

        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        must(sd_event_default(&event), "event loop");
        must(sd_bus_open_system(&bus), "system bus");
        must(sd_bus_add_object_vtable(bus, NULL, PATH,
                                      "org.freedesktop.PolicyKit1.AuthenticationAgent",
                                      agent_vtable, &agent),
             "agent");
        must(sd_bus_attach_event(bus, event, 0), "event loop");
        must(sd_event_add_child(event, NULL, agent.command, WEXITED, on_command_exit, &agent),
             "command");
        if (strcmp(agent.answer, "never") == 0)
                must(sd_event_add_time_relative(event, NULL, CLOCK_MONOTONIC, WITHDRAWAL_USEC, 0,
                                                on_no_withdrawal, NULL),
                     "clock");
        register_for(bus, agent.command);
        if (write(go[1], "", 1) != 1)
                die("command", errno);
        r = sd_event_loop(event);
        must(r, "event loop");
        return r;
}
