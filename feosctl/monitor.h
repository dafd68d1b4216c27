/* Events as they happen. */
#pragma once

#include "ctl.h"

/* An event as a line for a person, without an end of line. Caller frees. */
char *event_format(json_object *event, const Terminal *terminal);

/* The command: it ends only with the bus; @arguments as commands.h has it. */
int monitor_run(Ctl *ctl, char **arguments);
