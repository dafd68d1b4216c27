/* Stands in for the daemon: is it, $FEOS_CHAOS_DAEMON, and has one of the system calls of its main
 * thread fail, from main() until it says READY=1. Which one says the file $FEOS_CHAOS_PLAN, as
 * chaos-trace has it; without the file it is the daemon alone. The one who traces is a process of
 * its own, for whoever has started us waits for, and signals, the daemon. */
#include "chaos-plan.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* That something is not there is no failure of most of these, but an answer. brk knows no errors:
 * it says where the break is; and a futex none but those that libc expects. */
static bool may_fail(unsigned long long call, int error) {
        switch (call) {
        case SYS_brk:
        case SYS_futex:
                return false;
        case SYS_open:
        case SYS_openat:
        case SYS_read:
        case SYS_pread64:
        case SYS_getdents64:
        case SYS_readlink:
        case SYS_readlinkat:
        case SYS_stat:
        case SYS_newfstatat:
        case SYS_statx:
        case SYS_access:
        case SYS_faccessat:
                return error != ENOENT && error != ENODEV;
        default:
                return true;
        }
}

static bool memory_read(pid_t pid, uintptr_t at, void *ret, size_t size) {
        struct iovec here = { ret, size }, there = { (void *)at, size };

        return process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

/* Whether the call is sd_notify()'s, with READY=1. */
static bool is_ready(pid_t pid, const struct __ptrace_syscall_info *info) {
        static const char word[] = "READY=1";
        char text[sizeof word - 1];
        struct msghdr message;
        struct iovec part;

        return info->entry.nr == SYS_sendmsg &&
               memory_read(pid, info->entry.args[1], &message, sizeof message) &&
               message.msg_iovlen > 0 &&
               memory_read(pid, (uintptr_t)message.msg_iov, &part, sizeof part) &&
               part.iov_len >= sizeof text &&
               memory_read(pid, (uintptr_t)part.iov_base, text, sizeof text) &&
               memcmp(text, word, sizeof text) == 0;
}

/* False when it is ready. */
static bool call_changed(Plan *plan, pid_t pid) {
        struct __ptrace_syscall_info info;
        bool had_main = plan->has_main;

        if (plan_call_read(plan, pid, &info) == 0) {
                plan_call_ended(plan, pid);
                return true;
        }
        if (!had_main)
                return true;
        if (is_ready(pid, &info))
                return false;
        plan_call_begun(plan, pid, &info);
        return true;
}

/* Begins when @pid has stopped, and ends with the daemon's start, or with the daemon. */
static void daemon_trace(Plan *plan, pid_t pid) {
        int status;

        while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
                uintptr_t signal_number = (uintptr_t)WSTOPSIG(status);

                if (signal_number == (SIGTRAP | 0x80) && !call_changed(plan, pid)) {
                        ptrace(PTRACE_DETACH, pid, NULL, NULL);
                        return;
                }
                if (signal_number == (SIGTRAP | 0x80) || status >> 16 != 0)
                        signal_number = 0;
                ptrace(PTRACE_SYSCALL, pid, NULL, signal_number);
        }
}

/* The tracer's whole life. */
static void tracer_run(Plan *plan, const char *path, pid_t pid, int go) {
        uintptr_t options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC;

        /* Nobody is to take what it says for the daemon's. */
        unsetenv("NOTIFY_SOCKET");
        if (ptrace(PTRACE_SEIZE, pid, NULL, options) < 0 ||
            ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0 || write(go, "1", 1) != 1)
                _exit(EXIT_FAILURE);
        close(go);
        daemon_trace(plan, pid);
        plan_report(plan, path);
        _exit(EXIT_SUCCESS);
}

/* Whether we are traced from now on, by a process that is nobody's child here. */
static bool tracer_start(Plan *plan, const char *path) {
        pid_t pid = getpid(), child;
        int go[2];
        char byte;
        bool traced;

        if (pipe(go) < 0)
                return false;
        child = fork();
        if (child == 0) {
                close(go[0]);
                if (fork() == 0)
                        tracer_run(plan, path, pid, go[1]);
                _exit(EXIT_SUCCESS);
        }
        close(go[1]);
        traced = child > 0 && waitpid(child, NULL, 0) == child && read(go[0], &byte, 1) == 1;
        close(go[0]);
        return traced;
}

int main(int argc, char *argv[]) {
        const char *path = getenv("FEOS_CHAOS_PLAN");
        Plan plan;

        argv[0] = getenv("FEOS_CHAOS_DAEMON");
        if (!argv[0])
                return EXIT_FAILURE;
        if (plan_read(path, &plan)) {
                plan.may_fail = may_fail;
                if (!tracer_start(&plan, path))
                        return EXIT_FAILURE;
        }
        execv(argv[0], argv);
        return EXIT_FAILURE;
}
