/* Stands in for the handover helper: runs the real one, $FEOS_CHAOS_HELPER, and has one of its
 * system calls fail. Which one says the file $FEOS_CHAOS_PLAN, "NUMBER ERRNO", the first call after
 * its execve being 1; without the file it is the real helper. How many calls there were is written
 * beside it, to $FEOS_CHAOS_PLAN.calls. */
#include "kernel-shim.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "How a system call is made to fail is known for x86-64 only."
#endif

typedef struct Plan {
        unsigned long number; /* 0 = none fails */
        int error;

        unsigned long count;
        bool has_kernel;
        bool failing;   /* the call under way is the one */
        long long call; /* its number in the kernel's table, -1 = there was none */
} Plan;

static bool plan_read(const char *path, Plan *ret) {
        FILE *file = path ? fopen(path, "re") : NULL;
        bool ok;

        if (!file)
                return false;
        *ret = (Plan){ .call = -1 };
        ok = fscanf(file, "%lu %d", &ret->number, &ret->error) == 2;
        fclose(file);
        return ok;
}

static void plan_report(const Plan *plan, const char *path) {
        char beside[4096];
        FILE *file;

        snprintf(beside, sizeof beside, "%s.calls", path);
        file = fopen(beside, "we");
        if (!file)
                return;
        fprintf(file, "%lu %lld\n", plan->count, plan->call);
        fclose(file);
}

/* A library of its own that cannot be loaded is a real helper's end. Without one of those that are
 * preloaded it would go on, but without the fake kernel: then it ends as well. kernel-shim.c says
 * by a strange call that they are there; the helper's locks are the first thing that it does then.
 */
static void kernel_require(Plan *plan, pid_t pid, uint64_t call, uint64_t argument) {
        if (call == SYS_close && (int)argument == KERNEL_IS_THERE)
                plan->has_kernel = true;
        if (call == SYS_flock && !plan->has_kernel)
                kill(pid, SIGKILL);
}

/* That a link is not there is how the kernel says that no driver is bound: no failure, but an
 * answer, and one that would be a lie. */
static bool can_fail(const Plan *plan, uint64_t call) {
        return (call != SYS_readlink && call != SYS_readlinkat) ||
               (plan->error != ENOENT && plan->error != ENODEV);
}

/* The call is begun as one that does not exist, and what that returns is replaced. */
static void call_changed(Plan *plan, pid_t pid) {
        struct __ptrace_syscall_info info = { 0 };
        struct user_regs_struct registers;

        if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0)
                return;
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
                kernel_require(plan, pid, info.entry.nr, info.entry.args[0]);
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY &&
            (++plan->count != plan->number || !can_fail(plan, info.entry.nr)))
                return;
        if (info.op != PTRACE_SYSCALL_INFO_ENTRY && !plan->failing)
                return;
        ptrace(PTRACE_GETREGS, pid, NULL, &registers);
        plan->failing = info.op == PTRACE_SYSCALL_INFO_ENTRY;
        if (plan->failing) {
                plan->call = (long long)registers.orig_rax;
                registers.orig_rax = (unsigned long long)-1;
        } else
                registers.rax = (unsigned long long)-plan->error;
        ptrace(PTRACE_SETREGS, pid, NULL, &registers);
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
