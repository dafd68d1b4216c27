/* Files that hold secrets: passwords, keys. Nobody but root and QEMU's group reads them, nothing of
 * them is logged, and they go with their machine, also when somebody else has removed it; not while
 * a clone of it still has them. What is in them, nobody here looks at. */
#include "hypervisor/ignition.h"

#include "autoptr.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>

#define SUFFIX ".ign"

static GRWLock making;

static int text_write(int fd, const char *text) {
        size_t left = strlen(text);

        while (left > 0) {
                ssize_t n = write(fd, text, left);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0) {
                        text += n;
                        left -= n;
                }
        }
        return 0;
}

/* Machines are started after a reboot too, so the text must be on the disk. */
static int file_fill(int fd, const char *text, gid_t group) {
        int r;

        if (group != (gid_t)-1 && (fchown(fd, (uid_t)-1, group) < 0 || fchmod(fd, 0640) < 0))
                return -errno;
        r = text_write(fd, text);
        if (r < 0)
                return r;
        return fsync(fd) < 0 ? -errno : 0;
}

int ignition_write(const char *path, const char *text, gid_t group) {
        g_autofree char *folder = g_path_get_dirname(path);
        g_autofree char *part = g_strconcat(path, ".part", NULL);
        g_autofd int fd = -1;
        int r;

        /* QEMU has to get through it, and nobody has to see what is in it. The folder above holds
         * the images and may be there with any mode. */
        if (g_mkdir_with_parents(folder, 0755) < 0 || chmod(folder, 0711) < 0)
                return -errno;
        /* Left behind by a crash, and nobody's now. */
        (void)unlink(part);
        fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = file_fill(fd, text, group);
        if (r >= 0 && rename(part, path) < 0)
                r = -errno;
        if (r < 0)
                (void)unlink(part);
        return r;
}

void ignition_remove(const char *path) {
        if (unlink(path) < 0 && errno != ENOENT)
                sd_journal_print(LOG_WARNING, "Could not remove %s: %s", path, g_strerror(errno));
}

/* What has another name is not ours. */
static bool is_of_another(const char *file, GHashTable *keep) {
        g_autofree char *uuid = NULL;

        if (g_str_has_suffix(file, SUFFIX ".part"))
                uuid = g_strndup(file, strlen(file) - strlen(SUFFIX ".part"));
        else if (g_str_has_suffix(file, SUFFIX))
                uuid = g_strndup(file, strlen(file) - strlen(SUFFIX));
        return uuid && g_uuid_string_is_valid(uuid) && !g_hash_table_contains(keep, uuid);
}

GPtrArray *ignition_find_others(const char *folder, GHashTable *keep) {
        GPtrArray *others = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
        const char *file;

        while (dir && (file = g_dir_read_name(dir)))
                if (is_of_another(file, keep))
                        g_ptr_array_add(others, g_build_filename(folder, file, NULL));
        return others;
}

void ignition_begin_making(void) {
        g_rw_lock_reader_lock(&making);
}

void ignition_end_making(void) {
        g_rw_lock_reader_unlock(&making);
}

bool ignition_begin_removing(void) {
        return g_rw_lock_writer_trylock(&making);
}

void ignition_end_removing(void) {
        g_rw_lock_writer_unlock(&making);
}
