/* One system call that is to fail: which, by its number and errno, stands in a file, and how many
 * there were is written beside it. What the two programs share that trace another: chaos-trace, the
 * handover helper, and chaos-start, the daemon. */
#pragma once

#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/types.h>

#ifndef __x86_64__
#error "How a system call is made to fail is known for x86-64 only."
#endif

typedef struct Plan {
        unsigned long number; /* 0 = none fails */
        int error;
        /* Whether the call, by its number in the kernel's table, may fail so; what it would say
         * might be no failure, but an answer, and one that would be a lie. */
        bool (*may_fail)(unsigned long long call, int error);

        unsigned long count;
        bool has_kernel; /* the fake kernel is there: kernel-shim.c has said so */
        bool has_main;   /* and so has its main() begun */
        bool failing;    /* the call under way is the one */
        long long call;  /* its number in the kernel's table, -1 = there was none */
} Plan;

/* False without a file. */
bool plan_read(const char *path, Plan *ret);
/* Tells to PATH.calls how many calls there were, and which failed. */
void plan_report(const Plan *plan, const char *path);

/* @pid has stopped at the beginning or the end of a call: 1 for the beginning, with what ptrace()
 * says of it in @ret, and 0 for the end. */
int plan_call_read(Plan *plan, pid_t pid, struct __ptrace_syscall_info *ret);
/* The next call has begun, and fails if it is its turn. */
void plan_call_begun(Plan *plan, pid_t pid, const struct __ptrace_syscall_info *info);
void plan_call_ended(Plan *plan, pid_t pid);
