/* GPUs as people see them, and the commands about them. */
#pragma once

#include "ctl.h"
#include "table.h"

/* How a GPU's dot and state are to look. */
Style gpu_style(json_object *gpu);

/* A table of @gpus, a row a card, faults in words beneath. Caller frees. */
Table *gpus_table(json_object *gpus, const Terminal *terminal);

/* Everything that is known of one. Caller frees. */
char *gpu_format(json_object *gpu, const Terminal *terminal);

/* The commands; @arguments as commands.h has it. */
int gpus_list(Ctl *ctl, char **arguments);
int gpus_show(Ctl *ctl, char **arguments);
int gpus_bind(Ctl *ctl, char **arguments);
int gpus_release(Ctl *ctl, char **arguments);
int gpus_recover(Ctl *ctl, char **arguments);
int gpus_holders(Ctl *ctl, char **arguments);
