/* One run of the program: what the caller wants, and where it is shown. */
#pragma once

#include "agent.h"
#include "cleanup.h"
#include "create-options.h"
#include "terminal.h"

#include <stdbool.h>
#include <stdlib.h>

/* Exit codes beyond EXIT_SUCCESS and EXIT_FAILURE, which is: refused, or failed. */
#define EXIT_USAGE    2 /* the command line is wrong; nothing was asked of the service */
#define EXIT_FINDINGS 3 /* check: something stands in the way */

typedef struct Ctl {
        /* Options of every command. */
        gboolean json;
        gboolean quiet;
        gboolean no_legend;
        gboolean no_ask_password;
        gboolean help;
        gboolean version;
        char *host; /* NULL = this one */

        /* Options of single commands. */
        CreateOptions *create;
        char *lines;
        char *directory;
        gboolean follow;

        Terminal out, err;
        sd_bus *bus; /* NULL until bus_connect() */
        Agent agent;
} Ctl;

void ctl_init(Ctl *ctl);
void ctl_clear(Ctl *ctl);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Ctl, ctl_clear)

/* Tells a person what was done; says nothing with --quiet or --json. */
void ctl_say(const Ctl *ctl, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Prints @object as --json does. */
void ctl_print_json(const Ctl *ctl, json_object *object);
