/* The Ignition texts of machines, as files that QEMU reads. All of it blocks: for worker threads.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* Writes @text as the file @path, whole or not at all; its folder is made where it is missing.
 * Readable by root and by @group alone; (gid_t)-1 = by root alone. Returns 0 or a negative errno.
 */
int ignition_write(const char *path, const char *text, gid_t group);

/* Also fine when it is not there. */
void ignition_remove(const char *path);

/* The paths of the texts of all machines in @folder but those whose UUIDs @keep has. New array
 * (g_ptr_array_unref()) of char *. */
GPtrArray *ignition_find_others(const char *folder, GHashTable *keep);

/* Between the text of a machine and its definition there is a moment in which it looks like that of
 * none. Who makes a machine holds this from before the first until after the second; who wants to
 * remove those of none asks for it, and when it is refused tries another time. */
void ignition_begin_making(void);
void ignition_end_making(void);
bool ignition_begin_removing(void);
void ignition_end_removing(void);
