/* Reads mount tables: a mounted block device is held by no process, and a container's mounts are in
 * no table but its own. One table for each mount namespace and root folder, for a process sees only
 * what lies beneath its root. */
#include "survey-mounts.h"

#include "autoptr.h"
#include "reading.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

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
 * own making, and names one of them. Of other types, any user may write what they like there: the
 * name of a disk, or one that leads into a file system of their own. */
static const Node *mount_find_node(const Mount *mount, const GArray *nodes) {
        g_autofree char *source = NULL;
        struct statx status;

        if (major(mount->device) != 0)
                return nodes_find(nodes, mount->device, true);
        if ((strcmp(mount->type, "btrfs") != 0 && strcmp(mount->type, "bcachefs") != 0) ||
            !g_str_has_prefix(mount->source, "/dev/"))
                return NULL;

        source = g_strcompress(mount->source);
        if (statx(AT_FDCWD, source, AT_STATX_DONT_SYNC, STATX_TYPE, &status) < 0 ||
            !S_ISBLK(status.stx_mode))
                return NULL;
        return nodes_find(nodes, makedev(status.stx_rdev_major, status.stx_rdev_minor), true);
}

/* Most namespaces are copies of the host's. What a process has in its own is told once, for it may
 * have put it in any number of places. */
static bool is_told(const GPtrArray *holders, const Node *node, const char *at, pid_t pid) {
        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);

                if (holder->kind == HOLDER_MOUNT && strcmp(holder->node, node->path) == 0 &&
                    (strcmp(holder->at, at) == 0 || (pid > 0 && holder->pid == pid)))
                        return true;
        }
        return false;
}

static void mount_tell(const Mount *mount, unsigned pid, const GArray *nodes, GPtrArray *holders) {
        const Node *node = mount_find_node(mount, nodes);
        g_autofree char *at = node ? g_strcompress(mount->at) : NULL;
        pid_t seen_by = pid == MOUNTS_HOST_PID ? 0 : (pid_t)pid;
        Holder *holder;

        if (!node || is_told(holders, node, at, seen_by))
                return;

        holder = holder_new(HOLDER_MOUNT, node->path);
        holder->pid = seen_by;
        g_free(holder->at);
        holder->at = g_steal_pointer(&at);
        g_ptr_array_add(holders, holder);
}

/* Where /proc has the thread's file; the first one's are the process's. A new string. */
static char *thread_path(unsigned pid, unsigned tid, const char *name) {
        return pid == tid ? g_strdup_printf("/proc/%u/%s", pid, name)
                          : g_strdup_printf("/proc/%u/task/%u/%s", pid, tid, name);
}

/* A new string that names the table; NULL for a thread that is gone. 0 or a negative errno. The
 * root folder is known by its mount and numbers: its name anybody can make too long for readlink(),
 * and several can have the same. No file system is asked for them. */
static int table_name(unsigned pid, unsigned tid, char **ret) {
        g_autofree char *namespace_path = thread_path(pid, tid, "ns/mnt");
        g_autofree char *root_path = thread_path(pid, tid, "root");
        g_autofree char *namespace = NULL;
        g_autofd int root = -1;
        struct statx status;
        int r = reading_link(AT_FDCWD, namespace_path, &namespace);

        *ret = NULL;
        if (r <= 0)
                return r;
        root = open(root_path, O_PATH | O_CLOEXEC);
        if (root < 0 || statx(root, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
                              STATX_INO | STATX_MNT_ID, &status) < 0)
                return reading_is_absence(-errno) ? 0 : -errno;
        *ret = g_strdup_printf("%s %llu %u:%u %llu", namespace,
                               (unsigned long long)status.stx_mnt_id, status.stx_dev_major,
                               status.stx_dev_minor, (unsigned long long)status.stx_ino);
        return 0;
}

typedef struct Look {
        Mounts *mounts;
        unsigned pid;
        const GArray *nodes;
        GPtrArray *holders;
} Look;

static void line_take(const char *line, void *userdata) {
        const Look *look = userdata;
        g_auto(GStrv) words = NULL;
        Mount mount;

        if (!mount_parse(line, &words, &mount))
                return;
        if (type_is_local(mount.type))
                g_hash_table_add(look->mounts->local, GUINT_TO_POINTER(mount.id));
        mount_tell(&mount, look->pid, look->nodes, look->holders);
}

int mounts_look(Mounts *mounts, unsigned pid, unsigned tid, const GArray *nodes,
                GPtrArray *holders) {
        g_autofree char *path = thread_path(pid, tid, "mountinfo");
        g_autofree char *table = NULL;
        Look look = { mounts, pid, nodes, holders };
        int r = table_name(pid, tid, &table);

        if (r < 0 || !table || g_hash_table_contains(mounts->tables, table))
                return r;
        r = reading_lines(AT_FDCWD, path, line_take, &look);
        if (r == -EINVAL)
                return 0; /* it has ended meanwhile (fs/proc_namespace.c, mounts_open_common()) */
        if (r > 0)
                g_hash_table_add(mounts->tables, g_steal_pointer(&table));
        return MIN(r, 0);
}

int mounts_look_at_host(Mounts *mounts, const GArray *nodes, GPtrArray *holders) {
        unsigned self = (unsigned)getpid();
        int r = mounts_look(mounts, MOUNTS_HOST_PID, MOUNTS_HOST_PID, nodes, holders);

        return r < 0 ? mounts_look(mounts, self, self, nodes, holders) : r;
}
