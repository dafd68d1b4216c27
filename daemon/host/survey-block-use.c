/* Looks for mounts, swap, and block devices that are made of a device. It opens nothing, because
 * that could wake a disk or hinder a mount. So it does not know of uses that the kernel does not
 * show (ZFS, DRBD, targets that are served to others). */
#include "survey-block-use.h"

#include "core/refusal.h"
#include "reading.h"
#include "survey-kernel.h"
#include "survey-mounts.h"
#include "survey-nodes.h"
#include "survey-process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

/* "/dev/sda1", for a message, where @what is done with it. */
static char *use_words(const Node *node, const char *what, const char *with) {
        g_autofree char *path = refusal_show(node->path);
        g_autofree char *other = refusal_show(with);

        return g_strdup_printf("is used by the host: %s is %s %s", path, what, other);
}

/* multipath and kpartx map the partitions of every disk, whether or not anybody uses them; that is
 * seen with the mapped ones. */
static bool node_is_mapped_partition(const Node *node) {
        g_autofree char *path = g_build_filename(node->folder, "dm/uuid", NULL);
        g_autofree char *uuid = NULL;

        return reading_text(AT_FDCWD, path, &uuid) > 0 && g_str_has_prefix(uuid, "part");
}

/* What could not be read may say that the device is in use. */
static char *unknown_words(int error) {
        return g_strdup_printf("may be used by the host; it could not be found out: %s",
                               g_strerror(-error));
}

static int devices_survey(const GArray *nodes, char **ret) {
        int r = 0;

        for (guint i = 0; r == 0 && i < nodes->len; i++) {
                const Node *node = &g_array_index(nodes, Node, i);
                g_autoptr(GPtrArray) made = NULL;

                r = nodes_made_of(nodes, node, &made);
                for (guint j = 0; r == 0 && !*ret && j < made->len; j++) {
                        const Node *other = g_ptr_array_index(made, j);

                        if (!node_is_mapped_partition(other))
                                *ret = use_words(node, "part of", other->path);
                }
        }
        return r;
}

/* Of the host, and of every namespace that a process is in. One that could not be looked at says
 * nothing of the others: any user could bring that about. */
static int mounts_survey(const GArray *nodes, GPtrArray *holders) {
        g_autoptr(Mounts) mounts = mounts_new();
        g_autoptr(GPtrArray) names = NULL;
        int r = mounts_look_at_host(mounts, nodes, holders);

        if (r == 0)
                r = reading_error(reading_folder(AT_FDCWD, "/proc", &names));
        for (guint i = 0; r == 0 && names && i < names->len; i++) {
                guint64 pid;

                if (g_ascii_string_to_unsigned(g_ptr_array_index(names, i), 10, 1, INT_MAX, &pid,
                                               NULL))
                        r = process_survey_mounts((unsigned)pid, nodes, mounts, holders);
                if (r < 0)
                        r = process_judge_error(r);
        }
        return r;
}

static char *holder_describe(const Holder *holder) {
        g_autofree char *node = refusal_show(holder->node);
        g_autofree char *words = holder_words(holder);
        g_autofree char *shown = refusal_show(words);

        if (holder->kind == HOLDER_SWAP)
                return g_strdup_printf("is used by the host: it swaps to %s", node);
        if (holder->pid > 0)
                return g_strdup_printf("is used by the host: %s is %s for process %d", node, shown,
                                       holder->pid);
        return g_strdup_printf("is used by the host: %s is %s", node, shown);
}

char *block_use_survey(dev_t number) {
        g_autoptr(GArray) nodes = NULL;
        g_autoptr(GPtrArray) holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        g_autofree char *use = NULL;
        int r = nodes_survey_block(number, &nodes);

        if (r == 0)
                r = devices_survey(nodes, &use);
        if (r == 0 && !use)
                r = kernel_survey_swaps(nodes, holders);
        if (r == 0 && !use)
                r = mounts_survey(nodes, holders);
        if (r == 0 && !use)
                r = kernel_survey_members(nodes, holders);
        if (use)
                return g_steal_pointer(&use);
        if (holders->len > 0)
                return holder_describe(g_ptr_array_index(holders, 0));
        return r < 0 ? unknown_words(r) : NULL;
}

/* Whether the loop device @name is made of the file, and may write to it. 1, 0 or a negative errno.
 * The names are compared, for to look at another device's file could hang. */
static int loop_writes_to(const char *name, const char *path) {
        g_autofree char *backing_path =
                g_build_filename("/sys/block", name, "loop/backing_file", NULL);
        g_autofree char *read_only_path = g_build_filename("/sys/block", name, "ro", NULL);
        g_autofree char *backing = NULL;
        g_autofree char *read_only = NULL;
        int r = reading_bytes(AT_FDCWD, backing_path, PATH_MAX, &backing, NULL);

        if (r <= 0 || strcmp(g_strchomp(backing), path) != 0)
                return MIN(r, 0);
        r = reading_text(AT_FDCWD, read_only_path, &read_only);
        return r > 0 ? strcmp(read_only, "1") != 0 : r;
}

char *file_use_survey(const char *path) {
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_folder(AT_FDCWD, "/sys/block", &names);

        for (guint i = 0; r >= 0 && names && i < names->len; i++) {
                const char *name = g_ptr_array_index(names, i);

                if (!g_str_has_prefix(name, "loop"))
                        continue;
                r = loop_writes_to(name, path);
                if (r > 0)
                        return g_strdup_printf("is used by the host: /dev/%s is made of it", name);
        }
        return r < 0 ? unknown_words(r) : NULL;
}
