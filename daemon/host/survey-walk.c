#include "survey-walk.h"

#include "autoptr.h"
#include "core/refusal.h"
#include "reading.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LINKS_MAX 40 /* the kernel's own bound (MAXSYMLINKS) */

#ifndef ZFS_SUPER_MAGIC
#define ZFS_SUPER_MAGIC 0x2fc12fc1
#endif

typedef FILE File;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(File, fclose)

/* From the host's own files: a directory server may be dead, and a message can do without. */
char *walk_user_words(uid_t uid) {
        g_autoptr(File) file = fopen("/etc/passwd", "re");
        const struct passwd *user;

        while (file && (user = fgetpwent(file)))
                if (user->pw_uid == uid)
                        return g_strdup_printf("%s (%u)", user->pw_name, uid);
        return g_strdup_printf("%u", uid);
}

static char *group_words(gid_t gid) {
        g_autoptr(File) file = fopen("/etc/group", "re");
        const struct group *group;

        while (file && (group = fgetgrent(file)))
                if (group->gr_gid == gid)
                        return g_strdup_printf("%s (%u)", group->gr_name, gid);
        return g_strdup_printf("%u", gid);
}

/* Root, and whoever we are, for that is root but in tests. */
static bool uid_is_trusted(uid_t uid) {
        return uid == 0 || uid == geteuid();
}

Walk *walk_new(uid_t qemu_uid) {
        Walk *walk = g_new0(Walk, 1);

        walk->qemu_uid = qemu_uid;
        walk->at = g_string_new("/");
        walk->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (walk->fd < 0 || fstat(walk->fd, &walk->status) < 0)
                walk->error = -errno;
        return walk;
}

void walk_free(Walk *walk) {
        if (!walk)
                return;

        autofd_close(&walk->fd);
        g_string_free(walk->at, TRUE);
        g_free(walk->bent);
        g_free(walk->shut);
        g_free(walk);
}

static void at_push(GString *at, const char *name) {
        if (at->len > 1)
                g_string_append_c(at, '/');
        g_string_append(at, name);
}

static void at_pop(GString *at) {
        const char *slash = strrchr(at->str, '/');

        g_string_truncate(at, MAX((gsize)(slash - at->str), 1));
}

static void walk_move(Walk *walk, int fd, const struct stat *status) {
        autofd_close(&walk->fd);
        walk->fd = fd;
        walk->status = *status;
}

/* Whether @entry is on the file system of the folder, found out without asking that one. */
static bool entry_stays(const Walk *walk, int entry) {
        struct statx status;

        return statx(entry, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) == 0 &&
               makedev(status.stx_dev_major, status.stx_dev_minor) == walk->status.st_dev;
}

/* A folder is opened as such, which mounts what is to be mounted there when it is used. Not by
 * openat2(): where RestrictSUIDSGID= keeps set-user-ID bits from a service there is none (systemd,
 * src/shared/seccomp-util.c). For one name that is not followed it would see no more. */
static int entry_open(const Walk *walk, const char *name) {
        bool stay =
                walk->in_dev && strcmp(name, "..") != 0 &&
                (strcmp(walk->at->str, "/dev") == 0 || g_str_has_prefix(walk->at->str, "/dev/"));
        g_autofd int fd = openat(walk->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int entry;

        if (fd < 0 && errno == ENOTDIR)
                fd = openat(walk->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && stay && !entry_stays(walk, fd)) {
                errno = EXDEV;
                return -1;
        }
        entry = fd;
        fd = -1;
        return entry;
}

bool walk_modes_decide(int fd) {
        static const unsigned long types[] = {
                BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC,
                RAMFS_MAGIC,       TMPFS_MAGIC,      XFS_SUPER_MAGIC,  ZFS_SUPER_MAGIC,
        };
        struct statfs status;

        if (fstatfs(fd, &status) < 0)
                return false;
        for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
                if ((unsigned long)status.f_type == types[i])
                        return true;
        return false;
}

/* Only what is certain: a user may be in the folder's group, and a list of access rights stands
 * behind the group's bits. libvirt gives QEMU's user the file, and no folder. */
static void folder_look_shut(Walk *walk) {
        mode_t needed = walk->status.st_uid == walk->qemu_uid ? S_IXUSR : S_IXGRP | S_IXOTH;

        if (walk->qemu_uid != 0 && !walk->shut && (walk->status.st_mode & needed) == 0 &&
            walk_modes_decide(walk->fd))
                walk->shut = g_strdup(walk->at->str);
}

static bool walk_fail(Walk *walk, const char *name, int error) {
        walk->error = error;
        if (name)
                at_push(walk->at, name);
        return false;
}

/* Takes @words. */
static bool walk_bend(Walk *walk, char *words) {
        walk->bent = words;
        return false;
}

/* Whether only root can replace the folder's entries. In a folder such as /tmp that depends on the
 * entry. */
static bool folder_is_firm(Walk *walk) {
        g_autofree char *shown = refusal_show(walk->at->str);
        g_autofree char *who = NULL;
        mode_t mode = walk->status.st_mode;

        if (!uid_is_trusted(walk->status.st_uid)) {
                who = walk_user_words(walk->status.st_uid);
                return walk_bend(walk, g_strdup_printf("lies beneath folder %s, which belongs to "
                                                       "user %s",
                                                       shown, who));
        }
        if ((mode & (S_IWGRP | S_IWOTH)) == 0 || (mode & S_ISVTX))
                return true;
        if (mode & S_IWOTH)
                return walk_bend(walk, g_strdup_printf("lies beneath folder %s, to which "
                                                       "everybody may write",
                                                       shown));
        who = group_words(walk->status.st_gid);
        return walk_bend(walk, g_strdup_printf("lies beneath folder %s, to which group %s may "
                                               "write",
                                               shown, who));
}

/* The same for one entry of such a folder. Its owner is found out without asking a file system that
 * somebody may have mounted there. */
static bool entry_is_firm(Walk *walk, int entry, const char *name) {
        g_autofree char *folder = refusal_show(walk->at->str);
        g_autofree char *shown = refusal_show(name);
        g_autofree char *who = NULL;
        struct statx status;

        if ((walk->status.st_mode & (S_IWGRP | S_IWOTH)) == 0 || strcmp(name, "..") == 0)
                return true;
        if (statx(entry, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_UID, &status) < 0)
                return walk_fail(walk, name, -errno);
        if (uid_is_trusted(status.stx_uid))
                return true;
        who = walk_user_words(status.stx_uid);
        return walk_bend(walk, g_strdup_printf("lies in folder %s, to which others may write, and "
                                               "%s there belongs to user %s",
                                               folder, shown, who));
}

/* Puts the components of @path before those that are still to go. */
static void components_push(GQueue *to_go, const char *path) {
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);

        for (guint i = g_strv_length(parts); i-- > 0;)
                /* What follows a slash is in a folder, even where that is nothing. */
                if (*parts[i])
                        g_queue_push_head(to_go, g_strdup(parts[i]));
                else if (i > 0)
                        g_queue_push_head(to_go, g_strdup("."));
}

/* To where an absolute path begins. False and errno. */
static bool walk_to_root(Walk *walk) {
        g_autofd int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct stat status;

        if (fd < 0 || fstat(fd, &status) < 0)
                return false;
        walk_move(walk, fd, &status);
        fd = -1;
        g_string_assign(walk->at, "/");
        return true;
}

static bool walk_follow(Walk *walk, const char *name, int entry, const struct stat *status,
                        GQueue *to_go) {
        g_autofree char *target = NULL;
        g_autofree char *shown = NULL;
        g_autofree char *who = NULL;
        int r;

        if (!uid_is_trusted(status->st_uid)) {
                at_push(walk->at, name);
                shown = refusal_show(walk->at->str);
                who = walk_user_words(status->st_uid);
                return walk_bend(walk, g_strdup_printf("leads through link %s, which belongs to "
                                                       "user %s",
                                                       shown, who));
        }
        if (++walk->links > LINKS_MAX)
                return walk_fail(walk, name, -ELOOP);
        r = reading_link(entry, "", &target);
        if (r <= 0)
                return walk_fail(walk, name, r < 0 ? r : -ENOENT);
        if (*target == '/' && !walk_to_root(walk))
                return walk_fail(walk, name, -errno);
        components_push(to_go, target);
        return true;
}

static bool walk_step(Walk *walk, const char *name, GQueue *to_go) {
        g_autofd int entry = -1;
        struct stat status;

        if (!S_ISDIR(walk->status.st_mode))
                return walk_fail(walk, NULL, -ENOTDIR);
        folder_look_shut(walk);
        if (strcmp(name, ".") == 0)
                return true;
        if (!folder_is_firm(walk))
                return false;

        entry = entry_open(walk, name);
        if (entry < 0)
                return walk_fail(walk, name, -errno);
        if (!entry_is_firm(walk, entry, name))
                return false;
        if (fstat(entry, &status) < 0)
                return walk_fail(walk, name, -errno);
        if (S_ISLNK(status.st_mode))
                return walk_follow(walk, name, entry, &status, to_go);

        if (strcmp(name, "..") == 0)
                at_pop(walk->at);
        else
                at_push(walk->at, name);
        walk_move(walk, entry, &status);
        entry = -1;
        return true;
}

bool walk_along(Walk *walk, const char *path) {
        g_autoptr(GQueue) to_go = g_queue_new();
        bool going = walk->error == 0 && !walk->bent;

        if (going && *path == '/' && !walk_to_root(walk))
                going = walk_fail(walk, NULL, -errno);
        components_push(to_go, path);
        while (going && !g_queue_is_empty(to_go)) {
                g_autofree char *name = g_queue_pop_head(to_go);

                going = walk_step(walk, name, to_go);
        }
        g_queue_clear_full(to_go, g_free);
        return going;
}

int walk_reopen(int fd) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);

        return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}
