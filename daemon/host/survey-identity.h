/* What a file or block device is, whatever it is called. Part of the survey helper: all of this can
 * block. */
#pragma once

#include "core/host.h"

#include <sys/stat.h>

/* Adds to @identities (FileIdentity) the thing with that @status and all that it is made of, unless
 * they are there already: what device mapper and RAID have put together, a partition's disk, a loop
 * device's file. 0, or a negative errno when not all of it could be found out. */
int identities_survey(const struct stat *status, GArray *identities);

/* What @path leads to, which some domain has as a disk; @qcow2: with the files that its header
 * names, and those that theirs do. A new answer. */
FileAnswer *file_survey(const char *path, bool qcow2);
