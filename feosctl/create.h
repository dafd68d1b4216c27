/* create and check: one request, made or only judged; and a machine that is there, only judged. */
#pragma once

#include "ctl.h"

/* What check has found, in words; @name is the machine's. Caller frees. */
char *findings_format(json_object *findings, const char *name, const Terminal *terminal);

/* The commands; @arguments as commands.h has it. */
int create_run(Ctl *ctl, char **arguments);
int check_run(Ctl *ctl, char **arguments);
int check_start_run(Ctl *ctl, char **arguments);
