/* Reads mount tables: a mounted block device is held by no process, and a container's mounts are in
 * no table but its own. One table for each mount namespace and root folder, for a process sees only
 * what lies beneath its root. */
#include "survey-mounts.h"

#include "reading.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct Mounts {
        GHashTable *tables; /* char *: namespace and root of those that were read */
        GHashTable *local;  /* mount number as pointer: a set */
};

/* A line of /proc/PID/mountinfo (Linux, Documentation/filesystems/proc.rst); lent. */
typedef struct Mount {
        unsigned id;
        dev_t device;
        const char *at;
        const char *type;
        const char *source;
} Mount;

Mounts *mounts_new(void) {
        Mounts *mounts = g_new0(Mounts, 1);

        mounts->tables = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        mounts->local = g_hash_table_new(NULL, NULL);
        return mounts;
}

void mounts_free(Mounts *mounts) {
        if (!mounts)
                return;

        g_hash_table_unref(mounts->tables);
        g_hash_table_unref(mounts->local);
        g_free(mounts);
}

bool mounts_is_local(const Mounts *mounts, unsigned id) {
        return g_hash_table_contains(mounts->local, GUINT_TO_POINTER(id));
}

/* Those of which it is known; a device node is hardly elsewhere. */
static bool type_is_local(const char *type) {
        static const char *const types[] = {
                "bcachefs", "btrfs", "devtmpfs", "ext2", "ext3", "ext4",
                "f2fs",     "ramfs", "tmpfs",    "xfs",  "zfs",  NULL,
        };

        return g_strv_contains(types, type);
}

/* "36 35 98:0 /folder /mnt rw,noatime master:1 - ext4 /dev/sdb1 rw", with any number of words
 * before the dash. Splits @line; @words keeps what @ret points to. */
static bool mount_parse(const char *line, GStrv *words, Mount *ret) {
        unsigned major_number, minor_number;
        guint count, dash = 6;

        *words = g_strsplit(line, " ", -1);
        count = g_strv_length(*words);
        while (dash < count && strcmp((*words)[dash], "-") != 0)
                dash++;
        if (dash + 2 >= count || sscanf((*words)[0], "%u", &ret->id) != 1 ||
            sscanf((*words)[2], "%u:%u", &major_number, &minor_number) != 2)
                return false;

        ret->device = makedev(major_number, minor_number);
        ret->at = (*words)[4];
        ret->type = (*words)[dash + 1];
        ret->source = (*words)[dash + 2];
        return true;
}

/* The block device that is mounted. A file system over several devices (btrfs) has a number of its
 * own making, and names one of them. */
static const Node *mount_find_node(const Mount *mount, const GArray *nodes) {
        g_autofree char *source = NULL;
        struct statx status;

        if (major(mount->device) != 0)
                return nodes_find(nodes, mount->device, true);
        if (!g_str_has_prefix(mount->source, "/dev/"))
                return NULL;

        source = g_strcompress(mount->source);
        if (statx(AT_FDCWD, source, AT_STATX_DONT_SYNC, STATX_TYPE, &status) < 0 ||
            !S_ISBLK(status.stx_mode))
                return NULL;
        return nodes_find(nodes, makedev(status.stx_rdev_major, status.stx_rdev_minor), true);
}

/* Most namespaces are copies of the host's. */
static bool is_told(const GPtrArray *holders, const Node *node, const char *at) {
        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);

                if (holder->kind == HOLDER_MOUNT && strcmp(holder->node, node->path) == 0 &&
                    strcmp(holder->at, at) == 0)
                        return true;
        }
        return false;
}

static void mount_tell(const Mount *mount, unsigned pid, const GArray *nodes, GPtrArray *holders) {
        const Node *node = mount_find_node(mount, nodes);
        g_autofree char *at = node ? g_strcompress(mount->at) : NULL;
        Holder *holder;

        if (!node || is_told(holders, node, at))
                return;

        holder = holder_new(HOLDER_MOUNT, node->path);
        holder->pid = pid == MOUNTS_HOST_PID ? 0 : (pid_t)pid;
        g_free(holder->at);
        holder->at = g_steal_pointer(&at);
        g_ptr_array_add(holders, holder);
}

/* Where /proc has the thread's file; the first one's are the process's. A new string. */
static char *thread_path(unsigned pid, unsigned tid, const char *name) {
        return pid == tid ? g_strdup_printf("/proc/%u/%s", pid, name)
                          : g_strdup_printf("/proc/%u/task/%u/%s", pid, tid, name);
}

/* Reads a link of the thread; NULL where it is gone. 0 or a negative errno. */
static int thread_read_link(unsigned pid, unsigned tid, const char *name, char **ret) {
        g_autofree char *path = thread_path(pid, tid, name);

        return reading_error(reading_link(AT_FDCWD, path, ret));
}

/* A new string that names the table; NULL for a thread that is gone. 0 or a negative errno. */
static int table_name(unsigned pid, unsigned tid, char **ret) {
        g_autofree char *namespace = NULL;
        g_autofree char *root = NULL;
        int r = thread_read_link(pid, tid, "ns/mnt", &namespace);

        if (r == 0)
                r = thread_read_link(pid, tid, "root", &root);
        *ret = namespace && root ? g_strconcat(namespace, " ", root, NULL) : NULL;
        return r;
}

int mounts_look(Mounts *mounts, unsigned pid, unsigned tid, const GArray *nodes,
                GPtrArray *holders) {
        g_autofree char *path = thread_path(pid, tid, "mountinfo");
        g_autofree char *table = NULL;
        g_autofree char *text = NULL;
        g_auto(GStrv) lines = NULL;
        int r = table_name(pid, tid, &table);

        if (r < 0 || !table || g_hash_table_contains(mounts->tables, table))
                return r;
        r = reading_text(AT_FDCWD, path, &text);
        if (r <= 0)
                return r;

        g_hash_table_add(mounts->tables, g_steal_pointer(&table));
        lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line; line++) {
                g_auto(GStrv) words = NULL;
                Mount mount;

                if (!mount_parse(*line, &words, &mount))
                        continue;
                if (type_is_local(mount.type))
                        g_hash_table_add(mounts->local, GUINT_TO_POINTER(mount.id));
                mount_tell(&mount, pid, nodes, holders);
        }
        return 0;
}
