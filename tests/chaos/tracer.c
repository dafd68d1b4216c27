#include "tracer.h"

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

struct Tracer {
        pid_t pid;
        unsigned kill_at;
        int ended_fd;
        unsigned count;
        GThread *thread;
        GMutex mutex;
        GCond changed;
        bool holds; /* under the mutex: every thread was taken hold of */
};

static long trace(enum __ptrace_request request, pid_t pid, uintptr_t address, uintptr_t data) {
        return ptrace(request, pid, (void *)address, (void *)data);
}

static void threads_seize(Tracer *tracer) {
        g_autofree char *path = g_strdup_printf("/proc/%d/task", tracer->pid);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
                pid_t thread = (pid_t)g_ascii_strtoll(name, NULL, 10);

                /* One that is just ending, or came from one that we have already. */
                if (trace(PTRACE_SEIZE, thread, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE) < 0)
                        continue;
                (void)trace(PTRACE_INTERRUPT, thread, 0, 0);
        }
}

static bool is_entry(pid_t thread) {
        struct __ptrace_syscall_info info = { 0 };

        return trace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, (uintptr_t)&info) > 0 &&
               info.op == PTRACE_SYSCALL_INFO_ENTRY;
}

/* A thread has stopped, and goes on. */
static void thread_stopped(Tracer *tracer, pid_t thread, int status) {
        int signal_number = WSTOPSIG(status);

        if (signal_number == (SIGTRAP | 0x80)) {
                if (is_entry(thread) && ++tracer->count == tracer->kill_at) {
                        kill(tracer->pid, SIGKILL);
                        return;
                }
                signal_number = 0;
        } else if (status >> 16 != 0)
                signal_number = 0; /* an event of ptrace's own, no signal */
        (void)trace(PTRACE_SYSCALL, thread, 0, (uintptr_t)signal_number);
}

static void *tracer_run(void *data) {
        Tracer *tracer = data;
        const uint64_t one = 1;
        int status;
        pid_t thread;

        threads_seize(tracer);
        g_mutex_lock(&tracer->mutex);
        tracer->holds = true;
        g_cond_signal(&tracer->changed);
        g_mutex_unlock(&tracer->mutex);

        for (;;) {
                thread = waitpid(-1, &status, __WALL | __WNOTHREAD);
                if (thread < 0 && errno == EINTR)
                        continue;
                if (thread < 0)
                        break; /* none is left */
                if (WIFSTOPPED(status))
                        thread_stopped(tracer, thread, status);
        }
        g_assert_cmpint(write(tracer->ended_fd, &one, sizeof one), ==, sizeof one);
        return NULL;
}

Tracer *tracer_new(pid_t pid, unsigned kill_at, int ended_fd) {
        Tracer *tracer = g_new0(Tracer, 1);

        tracer->pid = pid;
        tracer->kill_at = kill_at;
        tracer->ended_fd = ended_fd;
        g_mutex_init(&tracer->mutex);
        g_cond_init(&tracer->changed);
        tracer->thread = g_thread_new("tracer", tracer_run, tracer);
        g_mutex_lock(&tracer->mutex);
        while (!tracer->holds)
                g_cond_wait(&tracer->changed, &tracer->mutex);
        g_mutex_unlock(&tracer->mutex);
        return tracer;
}

unsigned tracer_free(Tracer *tracer) {
        unsigned count;

        g_thread_join(tracer->thread);
        count = tracer->count;
        g_mutex_clear(&tracer->mutex);
        g_cond_clear(&tracer->changed);
        g_free(tracer);
        return count;
}
