/* What one process has open and mapped. Part of the survey helper. */
#pragma once

#include "survey-mounts.h"
#include "survey-nodes.h"

/* Adds to @found those of @nodes (Node, lent) that a thread of the process has open, or that the
 * process has mapped, and to @holders (Holder) the mounts that its threads see. 0, also for one
 * that is gone, or a negative errno: not all of it was seen. */
int process_survey(unsigned pid, const GArray *nodes, Mounts *mounts, GPtrArray *found,
                   GPtrArray *holders);

/* What @error, a negative errno with which a look at a process has failed, says of all the others:
 * nothing (0), for whoever it is may bring that about; or itself, where this process has run out of
 * descriptors or memory and so can read nothing of its own either. */
int process_judge_error(int error);

/* Only the mounts, likewise. */
int process_survey_mounts(unsigned pid, const GArray *nodes, Mounts *mounts, GPtrArray *holders);
