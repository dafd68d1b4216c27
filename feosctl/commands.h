/* The commands there are. */
#pragma once

#include "ctl.h"

typedef struct Command {
        const char *name; /* NULL = what is done without a command */
        const char *group;
        const char *arguments; /* as usage shows them; "" = none */
        unsigned min, max;     /* of how many of them; UINT_MAX = any */
        const char *help;
        void (*add_options)(GOptionGroup *group, Ctl *ctl); /* beyond those of all; NULL = none */
        int (*run)(Ctl *ctl, char **arguments);             /* NULL-terminated; the exit code */
} Command;

/* The command @name, or, for NULL, what is done without one; NULL = there is none. Constant. */
const Command *command_find(const char *name);

/* The one that @name was meant for; NULL = nobody can tell. Constant. */
const char *command_nearest(const char *name);

/* All of them by group, a line each: two spaces, the name, its arguments, at least two spaces, what
 * it does. The completions read these lines. Caller frees. */
char *commands_format(void);
