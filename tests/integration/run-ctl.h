/* Runs feosctl against the stage, as a person does on a terminal or a script through pipes. */
#pragma once

#include "stage.h"

#include <sys/types.h>
#include <termios.h>

typedef struct RunSetting {
        const char *program;        /* another one than feosctl; NULL = that */
        bool terminal;              /* on a pseudo-terminal, which has 100 columns and 30 rows */
        uid_t uid;                  /* who runs it, where the test may choose */
        const char *const *setting; /* "NAME=value" for its environment, NULL-terminated */
        const char *input;          /* NULL = none: the pipe stays open */
} RunSetting;

typedef struct Run {
        Stage *stage;
        pid_t pid;
        bool ended;
        int status;         /* its exit code; 128 and the signal's number when it was killed */
        GString *out, *err; /* on a terminal all is in out */
        int input;          /* write end; on a terminal it is the terminal's other side */
        int terminal; /* a descriptor of the terminal itself until the program has ended; else -1 */
        struct termios left; /* how it has left the terminal */
        unsigned open;       /* outputs that have not ended */
        sd_event_source *sources[3];
} Run;

/* Starts it with @arguments (without the program, NULL-terminated). */
Run *run_start(Stage *stage, const RunSetting *setting, const char *const *arguments);

/* Runs the loop until it has ended, or until it has written @text; the test fails when that takes
 * ten seconds. */
void run_end(Run *run);
void run_until(Run *run, const char *text);

/* Writes to it. */
void run_write(Run *run, const char *text);

void run_free(Run *run);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Run, run_free)

/* Runs it through pipes from beginning to end, as root; fails the test unless it ends with
 * @status. */
Run *run(Stage *stage, int status, ...) __attribute__((sentinel));

/* Fail the test unless what it wrote to its output, or error output, has @text. */
void assert_out(const Run *run, const char *text);
void assert_err(const Run *run, const char *text);
