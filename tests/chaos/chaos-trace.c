/* Stands in for the handover helper: runs the real one, $FEOS_CHAOS_HELPER, and has one of its
 * system calls fail. Which one says the file $FEOS_CHAOS_PLAN, "NUMBER ERRNO", the first call after
 * its execve being 1; without the file it is the real helper. How many calls there were is written
 * beside it, to $FEOS_CHAOS_PLAN.calls. */
#include "chaos-plan.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A library of its own that cannot be loaded is a real helper's end. Without one of those that are
 * preloaded it would go on, but without the fake kernel: then it ends as well. kernel-shim.c says
 * by a strange call that they are there; the helper's locks are the first thing that it does then.
 */
static void kernel_require(const Plan *plan, pid_t pid, uint64_t call) {
        if (call == SYS_flock && !plan->has_kernel)
                kill(pid, SIGKILL);
}

/* That a link is not there is how the kernel says that no driver is bound. */
static bool may_fail(unsigned long long call, int error) {
        return (call != SYS_readlink && call != SYS_readlinkat) ||
               (error != ENOENT && error != ENODEV);
}

static void call_changed(Plan *plan, pid_t pid) {
        struct __ptrace_syscall_info info;

        if (plan_call_read(plan, pid, &info) == 0) {
                plan_call_ended(plan, pid);
                return;
        }
        kernel_require(plan, pid, info.entry.nr);
        plan_call_begun(plan, pid, &info);
}

/* How it ended, as waitpid() tells. */
static int helper_trace(Plan *plan, pid_t pid) {
        bool begun = false;
        int status;

        if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
                return -1;
        ptrace(PTRACE_SETOPTIONS, pid, NULL,
               (uintptr_t)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL));
        ptrace(PTRACE_CONT, pid, NULL, NULL);
        while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
                uintptr_t signal_number = (uintptr_t)WSTOPSIG(status);

                if (signal_number == (SIGTRAP | 0x80))
                        call_changed(plan, pid);
                if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8))
                        begun = true;
                if (signal_number == (SIGTRAP | 0x80) || status >> 16 != 0)
                        signal_number = 0;
                ptrace(begun ? PTRACE_SYSCALL : PTRACE_CONT, pid, NULL, signal_number);
        }
        return status;
}

int main(int argc, char *argv[]) {
        const char *plan_path = getenv("FEOS_CHAOS_PLAN");
        Plan plan;
        pid_t pid;
        int status;

        argv[0] = getenv("FEOS_CHAOS_HELPER");
        if (!argv[0])
                return EXIT_FAILURE;
        if (!plan_read(plan_path, &plan)) {
                execv(argv[0], argv);
                return EXIT_FAILURE;
        }

        plan.may_fail = may_fail;
        pid = fork();
        if (pid == 0) {
                ptrace(PTRACE_TRACEME, 0, NULL, NULL);
                raise(SIGSTOP);
                execv(argv[0], argv);
                _exit(127);
        }
        status = pid < 0 ? -1 : helper_trace(&plan, pid);
        plan_report(&plan, plan_path);
        if (WIFSIGNALED(status)) {
                signal(WTERMSIG(status), SIG_DFL);
                raise(WTERMSIG(status));
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}
