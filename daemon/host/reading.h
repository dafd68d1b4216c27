/* The one way in which this side reads the kernel's files and our own folders: the result is a
 * value, its absence, or an error. Only callers that may wait use it: each function blocks as long
 * as the file system beneath @path does, so the daemon itself reads only what pci-facts.c has found
 * harmless. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* All return 1 for a value, 0 for its absence, or a negative errno when that could not be found
 * out, for lack of descriptors or memory, say: then nothing is known, neither value nor absence.
 * @ret belongs to the caller and is set with 1 only; otherwise it is NULL. A relative @path begins
 * in the open folder @dir, or AT_FDCWD. */

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

/* Hands the file's lines to @take, lent and without their ends, however many there are: only one is
 * in memory. Where it fails, some may have been handed over. */
typedef void (*ReadingLine)(const char *line, void *userdata);
int reading_lines(int dir, const char *path, ReadingLine take, void *userdata);

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
