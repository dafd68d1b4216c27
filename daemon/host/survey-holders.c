/* Finds who holds a card: the processes that have one of its nodes open or mapped, and the kernel
 * where it has a disk mounted, swaps to it or has made a device of it. The only reader of other
 * processes' /proc, with survey-mounts.c. Compares device numbers, not names, for a container has
 * nodes of its own. It refuses to judge; that is core's. */
#include "survey-holders.h"

#include "survey-mounts.h"
#include "survey-nodes.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

typedef DIR Dir;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Dir, closedir)

static char *proc_read(unsigned pid, const char *name) {
        g_autofree char *path = g_strdup_printf("/proc/%u/%s", pid, name);
        char *text = NULL;

        return g_file_get_contents(path, &text, NULL, NULL) ? g_strchomp(text) : NULL;
}

/* The number after the line's beginning @word in a file of the process; @fallback without it. */
static unsigned proc_read_number(unsigned pid, const char *name, const char *word,
                                 unsigned fallback) {
        g_autofree char *text = proc_read(pid, name);
        g_autofree char *start = g_strconcat("\n", word, NULL);
        const char *found = text ? strstr(text, start) : NULL;
        unsigned number;

        return found && sscanf(found + strlen(start), "%u", &number) == 1 ? number : fallback;
}

/* Whether a link of /proc/PID that reads @target may be followed. Where a file lies on a server
 * that is dead, following it alone would never end (fs/namei.c, d_weak_revalidate); so it must look
 * like a node, or lie on a mount that is known to ask nobody. */
static bool link_is_safe(const Mounts *mounts, unsigned pid, const char *folder, const char *name,
                         const char *target) {
        g_autofree char *info = NULL;

        if (strstr(target, "/dev/"))
                return true;
        if (target[0] != '/' || strcmp(folder, "fd") != 0)
                return false;
        info = g_build_filename("fdinfo", name, NULL);
        return mounts_is_local(mounts, proc_read_number(pid, info, "mnt_id:", 0));
}

/* The node among @nodes that the link leads to, also by another name; NULL for anything else. */
static const Node *link_find_node(const Mounts *mounts, const GArray *nodes, unsigned pid,
                                  const char *folder, const char *name) {
        g_autofree char *link = g_strdup_printf("/proc/%u/%s/%s", pid, folder, name);
        g_autofree char *target = g_file_read_link(link, NULL);
        struct statx status;

        if (!target || !link_is_safe(mounts, pid, folder, name, target) ||
            statx(AT_FDCWD, link, AT_STATX_DONT_SYNC, STATX_TYPE, &status) < 0 ||
            (!S_ISBLK(status.stx_mode) && !S_ISCHR(status.stx_mode)))
                return NULL;
        return nodes_find(nodes, makedev(status.stx_rdev_major, status.stx_rdev_minor),
                          S_ISBLK(status.stx_mode));
}

/* Adds the nodes that the links in /proc/PID/@folder lead to: "fd" is what is open, "map_files"
 * what is mapped, perhaps long closed. */
static void links_collect(const Mounts *mounts, const GArray *nodes, unsigned pid,
                          const char *folder, GPtrArray *found) {
        g_autofree char *path = g_strdup_printf("/proc/%u/%s", pid, folder);
        g_autoptr(Dir) dir = opendir(path);
        struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                const Node *node = entry->d_type == DT_LNK ? link_find_node(mounts, nodes, pid,
                                                                            folder, entry->d_name)
                                                           : NULL;

                if (node && !g_ptr_array_find(found, node, NULL))
                        g_ptr_array_add(found, (gpointer)node);
        }
}

/* The last service or scope in the process's control group; "" for none. */
static char *process_unit(unsigned pid) {
        g_autofree char *text = proc_read(pid, "cgroup");
        g_auto(GStrv) parts = g_strsplit_set(text ?: "", "/\n", -1);
        const char *unit = "";

        for (char **part = parts; *part; part++)
                if (g_str_has_suffix(*part, ".service") || g_str_has_suffix(*part, ".scope"))
                        unit = *part;
        return g_strdup(unit);
}

/* Who the process behind the entry is. */
static void holder_describe(Holder *holder) {
        unsigned pid = (unsigned)holder->pid;

        holder->uid = proc_read_number(pid, "status", "Uid:", 0);
        g_free(holder->command);
        holder->command = proc_read(pid, "comm") ?: g_strdup("");
        g_free(holder->unit);
        holder->unit = process_unit(pid);
}

static void process_survey(const Mounts *mounts, const GArray *nodes, unsigned pid,
                           GPtrArray *holders) {
        g_autoptr(GPtrArray) found = g_ptr_array_new();

        links_collect(mounts, nodes, pid, "fd", found);
        links_collect(mounts, nodes, pid, "map_files", found);

        for (guint i = 0; i < found->len; i++) {
                const Node *node = g_ptr_array_index(found, i);
                Holder *holder = holder_new(HOLDER_PROCESS, node->path);

                holder->pid = (pid_t)pid;
                g_ptr_array_add(holders, holder);
        }
}

/* The block devices that are made of one of @nodes: whatever is done with them is done with it. */
static void devices_survey(const GArray *nodes, GPtrArray *holders) {
        for (guint i = 0; i < nodes->len; i++) {
                const Node *node = &g_array_index(nodes, Node, i);
                g_autoptr(GPtrArray) made = nodes_made_of(nodes, node);

                for (guint j = 0; j < made->len; j++) {
                        const Node *other = g_ptr_array_index(made, j);
                        Holder *holder = holder_new(HOLDER_DEVICE, node->path);

                        g_free(holder->at);
                        holder->at = g_strdup(other->path);
                        g_ptr_array_add(holders, holder);
                }
        }
}

/* A line for each area after the first, which says what is what; the path comes first, escaped as
 * in a mount table. Areas in files are the file system's, which is mounted. */
void holders_survey_swaps(const GArray *nodes, GPtrArray *holders) {
        g_autofree char *text = NULL;
        g_auto(GStrv) lines = NULL;

        if (g_file_get_contents("/proc/swaps", &text, NULL, NULL))
                lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; line && *line; line++) {
                g_auto(GStrv) words = g_strsplit_set(*line, " \t", 2);
                g_autofree char *path = words[0] ? g_strcompress(words[0]) : NULL;
                const Node *node = NULL;
                struct stat status;

                if (path && g_str_has_prefix(path, "/dev/") && stat(path, &status) == 0 &&
                    S_ISBLK(status.st_mode))
                        node = nodes_find(nodes, status.st_rdev, true);
                if (node)
                        g_ptr_array_add(holders, holder_new(HOLDER_SWAP, node->path));
        }
}

GPtrArray *holders_survey(const GArray *functions) {
        g_autoptr(GArray) nodes = nodes_survey(functions);
        GPtrArray *holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        g_autoptr(Mounts) mounts = mounts_new();
        g_autoptr(Dir) dir = opendir("/proc");
        struct dirent *entry;

        if (nodes->len == 0)
                return holders;

        devices_survey(nodes, holders);
        holders_survey_swaps(nodes, holders);
        mounts_look(mounts, MOUNTS_HOST_PID, nodes, holders);
        while (dir && (entry = readdir(dir))) {
                guint64 pid;

                if (!g_ascii_string_to_unsigned(entry->d_name, 10, 1, INT_MAX, &pid, NULL))
                        continue;
                mounts_look(mounts, (unsigned)pid, nodes, holders);
                if (pid != (guint64)getpid() && pid != (guint64)getppid())
                        process_survey(mounts, nodes, (unsigned)pid, holders);
        }
        for (guint i = 0; i < holders->len; i++) {
                Holder *holder = g_ptr_array_index(holders, i);

                if (holder->pid > 0)
                        holder_describe(holder);
        }
        return holders;
}
