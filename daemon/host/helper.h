/* One helper process: started, spoken to in lines, watched with a deadline, never waited for. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

typedef struct Helper Helper;

/* All come from the loop, never from within helper_start(). Only from within ended may the helper
 * be freed. */
typedef struct HelperEvents {
        /* A whole line of the helper's standard output, without its end; lent. */
        void (*line)(void *userdata, char *line);
        /* The deadline has passed and the process is still there; told once. What to do about it is
         * the owner's decision: helper_kill(), or leave it alone. */
        void (*overdue)(void *userdata);
        /* The process is gone, every line was told. @status is its exit status, or the negative
         * number of the signal that ended it. */
        void (*ended)(void *userdata, int status);
} HelperEvents;

/* Runs the program @argv[0] (a path) in a session of its own, without any file descriptor of ours
 * but its standard input and output, which speak to us, and standard error, which it shares.
 * @events must outlive the helper. 0 or a negative errno. */
int helper_start(sd_event *event, char *const argv[], unsigned deadline_sec,
                 const HelperEvents *events, void *userdata, Helper **ret);

/* Sends @text to its standard input. 0, or a negative errno when it does not listen any more. */
int helper_send(Helper *helper, const char *text);

/* Has the deadline pass @usec from now, 0 = at once, unless it has passed already. */
void helper_set_deadline(Helper *helper, uint64_t usec);

/* Closes its standard input: it reads an end of file. */
void helper_close_input(Helper *helper);

/* Sends SIGKILL. It may live on in the kernel all the same, and what it was writing may still be
 * written: until ended is told, it is there. */
void helper_kill(Helper *helper);

/* Forgets the helper; a process that still runs is left alone, with its input and output closed. */
void helper_free(Helper *helper);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Helper, helper_free)
