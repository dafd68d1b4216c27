/* The one way in which this side reads what the kernel and our own folders say: a value, its
 * absence, or neither of the two. For whoever may wait: none of these can block longer than what is
 * beneath @path, so the daemon itself reads nothing with them but what pci-facts.c has found
 * harmless. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* All return 1 for a value; 0 where there is none; or a negative errno when that could not be found
 * out, as without descriptors or memory: then nothing is known, and it must be taken for neither.
 * @ret is the caller's and set with 1 only; else it is NULL. @dir is an open folder that a relative
 * @path begins in, or AT_FDCWD. */

/* What is left of @r for who wants to know no more than whether it is known: 0 or a negative errno.
 * GLib's MIN() would call what it is given once more. */
static inline int reading_error(int r) {
        return r < 0 ? r : 0;
}

/* Whether @error, a negative errno, says that the thing, or the process or device that it tells of,
 * is not there. */
bool reading_is_absence(int error);

/* The text of a file without the white space around it; -EFBIG beyond 16 MiB. */
int reading_text(int dir, const char *path, char **ret);

/* All of a file's bytes, with a NUL behind them that @ret_length (NULL = not wanted) does not
 * count. -EFBIG when there are more than @max, -ELOOP when it is a link. */
int reading_bytes(int dir, const char *path, size_t max, char **ret, size_t *ret_length);

/* Where a link points to, as it says; and the last component of that. */
int reading_link(int dir, const char *path, char **ret);
int reading_link_name(int dir, const char *path, char **ret);

/* The names in a folder but those that begin with a dot, in no order: a new array that owns them.
 * All of them: a folder that could not be read to its end is not known. */
int reading_folder(int dir, const char *path, GPtrArray **ret);

/* Whether there is anything at @path, links followed. */
int reading_exists(int dir, const char *path);
