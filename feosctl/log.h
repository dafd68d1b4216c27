/* What the journal keeps of a machine or a GPU. */
#pragma once

#include "ctl.h"

/* The command; @arguments as commands.h has it. */
int log_run(Ctl *ctl, char **arguments);
