/* Reads what a process has open and mapped, thread by thread: a thread may have its own table of
 * descriptors, and once the first thread has ended only the others tell. Compares device numbers,
 * not names, because a container has nodes of its own. */
#include "survey-process.h"

#include "reading.h"

#include "autoptr.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

typedef DIR Dir;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Dir, closedir)

typedef struct Look {
        const GArray *nodes;
        const Mounts *mounts;
        GPtrArray *found; /* const Node *, lent */
} Look;

/* A folder of links in /proc: what is open, or what is mapped, perhaps long closed. */
typedef struct Links {
        int dir;
        int fdinfo; /* -1 = what is mapped has none */
} Links;

/* The number of the mount that an open file is on, which stands among the first lines; 0 = unknown.
 * 0 or a negative errno. One read, for there may be very many. */
static int link_read_mount(const Links *links, const char *name, unsigned *ret) {
        g_autofd int fd =
                links->fdinfo < 0 ? -1 : openat(links->fdinfo, name, O_RDONLY | O_CLOEXEC);
        char text[512];
        const char *found;
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

        *ret = 0;
        if (n < 0)
                return links->fdinfo < 0 || reading_is_absence(-errno) ? 0 : -errno;
        text[n] = '\0';
        found = strstr(text, "\nmnt_id:");
        if (found && sscanf(found + strlen("\nmnt_id:"), "%u", ret) != 1)
                *ret = 0;
        return 0;
}

/* Whether a link may be followed. Where a file lies on a server that is dead, following it alone
 * would never end (fs/namei.c, d_weak_revalidate); so it must look like a node, or lie on a mount
 * that is known to ask nobody. 1 or 0, or a negative errno. */
static int link_is_safe(const Look *look, const Links *links, const char *name) {
        char target[4096];
        ssize_t n = readlinkat(links->dir, name, target, sizeof target - 1);
        unsigned mount;
        int r;

        if (n < 0 && errno != ENAMETOOLONG)
                return reading_is_absence(-errno) ? 0 : -errno;
        target[MAX(n, 0)] = '\0';
        if (strstr(target, "/dev/"))
                return 1;
        if (n >= 0 && target[0] != '/')
                return 0; /* a socket, a pipe */
        r = link_read_mount(links, name, &mount);
        return r < 0 ? r : mounts_is_local(look->mounts, mount);
}

/* A file whose status cannot be read is not a device: the status of a device comes from memory. */
static int link_look(const Look *look, const Links *links, const char *name) {
        struct statx status;
        const Node *node;
        int r = link_is_safe(look, links, name);

        if (r <= 0)
                return r;
        if (statx(links->dir, name, AT_STATX_DONT_SYNC, STATX_TYPE, &status) < 0)
                return errno == ENOMEM ? -errno : 0;
        if (!S_ISBLK(status.stx_mode) && !S_ISCHR(status.stx_mode))
                return 0;
        node = nodes_find(look->nodes, makedev(status.stx_rdev_major, status.stx_rdev_minor),
                          S_ISBLK(status.stx_mode));
        if (node && !g_ptr_array_find(look->found, node, NULL))
                g_ptr_array_add(look->found, (gpointer)node);
        return 0;
}

/* The first of several errors: what else there is to see is looked at all the same. */
static int first_error(int one, int other) {
        return one < 0 ? one : MIN(other, 0);
}

/* Looks at every link in the folder; their number, or a negative errno. One that is gone has none.
 */
static int links_look(const Look *look, const char *path, const char *fdinfo_path) {
        g_autofd int fdinfo = -1;
        g_autoptr(Dir) dir = opendir(path);
        int r = dir ? 0 : -errno, count = 0;
        Links links = { .fdinfo = -1 };

        if (dir && fdinfo_path) {
                fdinfo = open(fdinfo_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
                r = fdinfo < 0 ? -errno : 0;
        }
        if (r < 0)
                return reading_is_absence(r) ? 0 : r;
        links = (Links){ dirfd(dir), fdinfo };
        for (;;) {
                struct dirent *entry;

                errno = 0;
                entry = readdir(dir);
                if (!entry && errno != 0 && !reading_is_absence(-errno))
                        return first_error(r, -errno);
                if (!entry)
                        return r < 0 ? r : count;
                if (entry->d_type != DT_LNK)
                        continue;
                count++;
                r = first_error(r, link_look(look, &links, entry->d_name));
        }
}

static int table_look(const Look *look, unsigned pid, unsigned tid) {
        g_autofree char *path = g_strdup_printf("/proc/%u/task/%u/fd", pid, tid);
        g_autofree char *fdinfo = g_strdup_printf("/proc/%u/task/%u/fdinfo", pid, tid);

        return reading_error(links_look(look, path, fdinfo));
}

/* Threads have the same memory; but the first one, once it has ended, has none. Each of them can be
 * named like a process. */
static int maps_look(const Look *look, const GArray *threads) {
        int r = 0;

        for (guint i = 0; r == 0 && i < threads->len; i++) {
                g_autofree char *path =
                        g_strdup_printf("/proc/%u/map_files", g_array_index(threads, unsigned, i));

                r = links_look(look, path, NULL);
        }
        return MIN(r, 0);
}

/* Whether the two threads have the same root folder and mounts: what is shared as one
 * (Linux, fs_struct) cannot be in two mount namespaces. */
static bool mounts_are_shared(unsigned one, unsigned other) {
        return one != other && syscall(SYS_kcmp, one, other, KCMP_FS, 0, 0) == 0;
}

/* Whether the thread's table of descriptors is one of @tables (unsigned: threads, in the kernel's
 * order of their tables), and else where it belongs among them. Where that cannot be told, it is
 * looked at. */
static bool tables_have(const GArray *tables, unsigned tid, guint *ret) {
        guint low = 0, high = tables->len;

        while (low < high) {
                guint middle = low + (high - low) / 2;
                long order = syscall(SYS_kcmp, tid, g_array_index(tables, unsigned, middle),
                                     KCMP_FILES, 0, 0);

                if (order == 0)
                        return true;
                if (order == 1)
                        high = middle;
                else if (order == 2)
                        low = middle + 1;
                else
                        break;
        }
        *ret = low;
        return false;
}

/* The process's threads, the first one first. 0 or a negative errno. */
static int threads_read(unsigned pid, GArray *threads) {
        g_autofree char *path = g_strdup_printf("/proc/%u/task", pid);
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_folder(AT_FDCWD, path, &names);

        for (guint i = 0; names && i < names->len; i++) {
                guint64 tid;

                if (!g_ascii_string_to_unsigned(g_ptr_array_index(names, i), 10, 1, INT_MAX, &tid,
                                                NULL))
                        continue;
                g_array_append_vals(threads, &(unsigned){ (unsigned)tid }, 1);
        }
        return MIN(r, 0);
}

/* Those that the thread @index sees, unless the first one sees them as well. */
static int thread_look_at_mounts(unsigned pid, const GArray *threads, guint index,
                                 const GArray *nodes, Mounts *mounts, GPtrArray *holders) {
        unsigned first = g_array_index(threads, unsigned, 0);
        unsigned tid = g_array_index(threads, unsigned, index);

        return mounts_are_shared(tid, first) ? 0 : mounts_look(mounts, pid, tid, nodes, holders);
}

int process_judge_error(int error) {
        g_autofree char *own = NULL;
        int r = 0;

        if (error == -EMFILE || error == -ENFILE || error == -ENOMEM)
                r = reading_text(AT_FDCWD, "/proc/self/stat", &own);
        return r < 0 ? error : 0;
}

int process_survey_mounts(unsigned pid, const GArray *nodes, Mounts *mounts, GPtrArray *holders) {
        g_autoptr(GArray) threads = g_array_new(FALSE, FALSE, sizeof(unsigned));
        int r = threads_read(pid, threads);

        for (guint i = 0; i < threads->len; i++)
                r = first_error(r, thread_look_at_mounts(pid, threads, i, nodes, mounts, holders));
        return r;
}

int process_survey(unsigned pid, const GArray *nodes, Mounts *mounts, GPtrArray *found,
                   GPtrArray *holders) {
        g_autoptr(GArray) threads = g_array_new(FALSE, FALSE, sizeof(unsigned));
        g_autoptr(GArray) tables = g_array_new(FALSE, FALSE, sizeof(unsigned));
        Look look = { nodes, mounts, found };
        int r = threads_read(pid, threads);

        for (guint i = 0; i < threads->len; i++) {
                unsigned tid = g_array_index(threads, unsigned, i);
                guint at;

                r = first_error(r, thread_look_at_mounts(pid, threads, i, nodes, mounts, holders));
                if (tables_have(tables, tid, &at))
                        continue;
                g_array_insert_val(tables, at, tid);
                r = first_error(r, table_look(&look, pid, tid));
        }
        return first_error(r, maps_look(&look, threads));
}
