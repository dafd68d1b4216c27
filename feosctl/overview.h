/* The host at a glance. */
#pragma once

#include "ctl.h"

/* What host_read() has read, in words; @name is the host's. Caller frees. */
char *overview_format(json_object *host, const char *name, const Terminal *terminal);

/* The command. */
int overview_run(Ctl *ctl, char **arguments);
