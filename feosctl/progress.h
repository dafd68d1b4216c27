/* What goes on while a call waits for its answer, on one line of a terminal. */
#pragma once

#include "ctl.h"

typedef struct Progress Progress;

/* Begins to show what becomes of @machine (a name, or NULL) and of the GPUs at @gpus (in full,
 * NULL-terminated). NULL where standard error is no terminal that can write a line anew, or the
 * caller wants none. */
Progress *progress_new(Ctl *ctl, const char *machine, const char *const *gpus);

/* Takes the line away; NULL is fine. Nothing is shown from then on. */
void progress_end(Progress *progress);

void progress_free(Progress *progress);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Progress, progress_free)
