#include "chaos-plan.h"

#include "kernel-shim.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/user.h>

bool plan_read(const char *path, Plan *ret) {
        FILE *file = path ? fopen(path, "re") : NULL;
        bool ok;

        if (!file)
                return false;
        *ret = (Plan){ .call = -1 };
        ok = fscanf(file, "%lu %d", &ret->number, &ret->error) == 2;
        fclose(file);
        return ok;
}

void plan_report(const Plan *plan, const char *path) {
        char beside[4096];
        FILE *file;

        snprintf(beside, sizeof beside, "%s.calls", path);
        file = fopen(beside, "we");
        if (!file)
                return;
        fprintf(file, "%lu %lld\n", plan->count, plan->call);
        fclose(file);
}

int plan_call_read(Plan *plan, pid_t pid, struct __ptrace_syscall_info *ret) {
        *ret = (struct __ptrace_syscall_info){ 0 };
        if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof *ret, ret) <= 0 ||
            ret->op != PTRACE_SYSCALL_INFO_ENTRY)
                return 0;
        if (ret->entry.nr == SYS_close && (int)ret->entry.args[0] == KERNEL_IS_THERE)
                plan->has_kernel = true;
        if (ret->entry.nr == SYS_close && (int)ret->entry.args[0] == KERNEL_MAIN_BEGINS)
                plan->has_main = true;
        return 1;
}

/* The call is begun as one that does not exist, and what that returns is replaced. close() closes
 * whatever it returns (Linux, fs/open.c, close_fd()). */
void plan_call_begun(Plan *plan, pid_t pid, const struct __ptrace_syscall_info *info) {
        struct user_regs_struct registers;

        if (++plan->count != plan->number || !plan->may_fail(info->entry.nr, plan->error))
                return;
        ptrace(PTRACE_GETREGS, pid, NULL, &registers);
        plan->failing = true;
        plan->call = (long long)registers.orig_rax;
        if (info->entry.nr != SYS_close)
                registers.orig_rax = (unsigned long long)-1;
        ptrace(PTRACE_SETREGS, pid, NULL, &registers);
}

void plan_call_ended(Plan *plan, pid_t pid) {
        struct user_regs_struct registers;

        if (!plan->failing)
                return;
        plan->failing = false;
        ptrace(PTRACE_GETREGS, pid, NULL, &registers);
        registers.rax = (unsigned long long)-plan->error;
        ptrace(PTRACE_SETREGS, pid, NULL, &registers);
}
