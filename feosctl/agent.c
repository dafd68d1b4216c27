/* pkttyagent(1) as a child: with --fallback it gives way to an agent that is there, and closes the
 * descriptor it is given with --notify-fd when it is registered. */
#include "agent.h"

#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void run_agent(int notify, pid_t parent) {
        g_autofree char *number = g_strdup_printf("%d", notify);

        /* It must not outlive us; we may have ended before this was asked. */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
                _exit(1);
        fcntl(notify, F_SETFD, 0);
        execlp("pkttyagent", "pkttyagent", "--notify-fd", number, "--fallback", NULL);
        _exit(127);
}

void agent_start(Agent *agent) {
        g_autofd int ours = -1;
        pid_t parent = getpid();
        int ends[2];
        char byte;

        if (agent->pid > 0 || geteuid() == 0 || !isatty(STDIN_FILENO))
                return;
        if (pipe2(ends, O_CLOEXEC) < 0)
                return;
        ours = ends[0];
        agent->pid = fork();
        if (agent->pid == 0)
                run_agent(ends[1], parent);
        close(ends[1]);
        if (agent->pid < 0) {
                agent->pid = 0;
                return;
        }
        /* The end of the pipe: it is ready, or it is gone. */
        while (read(ours, &byte, 1) < 0 && errno == EINTR)
                ;
}

void agent_stop(Agent *agent) {
        if (agent->pid <= 0)
                return;
        /* One that was stopped from the terminal has to go on in order to end. */
        kill(agent->pid, SIGTERM);
        kill(agent->pid, SIGCONT);
        while (waitpid(agent->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        agent->pid = 0;
}
