/* What a qcow2 file's header says. Part of the survey helper: reading a file can block. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* Why QEMU must not or will not open @fd as qcow2, by its header alone: a clause that continues
 * "The image … ", constant; @ret_remedy is a sentence that says what would help, or NULL. NULL when
 * nothing speaks against it. */
const char *qcow2_survey(int fd, const char **ret_remedy);

/* The further files that it is made of, as its header names them: the backing file first; new
 * strings in a new array. Empty when there are none or @fd is no qcow2. NULL and errno when it
 * could not be read. @ret_backed: the first is a backing file, which is only read, not a data file;
 * @ret_backing_qcow2: and is qcow2 itself. */
GPtrArray *qcow2_read_names(int fd, bool *ret_backed, bool *ret_backing_qcow2);
