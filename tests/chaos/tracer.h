/* Counts the system calls of a running process, all its threads together, and kills it at the
 * beginning of one of them: a call that is killed then has not happened. Needs Linux 5.3. */
#pragma once

#include <sys/types.h>

typedef struct Tracer Tracer;

/* Takes hold of @pid, a child of this process, from a thread of its own. @kill_at: the first is 1;
 * 0 = none. @ended_fd, an eventfd, is written to when the process is gone, by whatever. */
Tracer *tracer_new(pid_t pid, unsigned kill_at, int ended_fd);

/* Waits until the process is gone, which somebody must have seen to. The number of calls that were
 * begun. */
unsigned tracer_free(Tracer *tracer);
