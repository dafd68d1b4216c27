#include "reading.h"

#include "autoptr.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TEXT_BYTES_MAX   (16u * 1024 * 1024)
#define TARGET_BYTES_MAX 4096 /* PATH_MAX: no link points farther */

typedef DIR Dir;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Dir, closedir)
typedef FILE File;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(File, fclose)

/* ENODEV is a device that goes while its attribute is read, ESRCH a process (fs/proc). */
bool reading_is_absence(int error) {
        return error == -ENOENT || error == -ENOTDIR || error == -ENODEV || error == -ESRCH;
}

static int unread(int error) {
        return reading_is_absence(error) ? 0 : error;
}

/* Appends what is left to read. 0 or a negative errno. */
static int bytes_take(int fd, size_t max, GString *bytes) {
        char buffer[4096];

        for (;;) {
                ssize_t n = read(fd, buffer, sizeof buffer);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : 0;
                if ((size_t)n > max - bytes->len)
                        return -EFBIG;
                g_string_append_len(bytes, buffer, n);
        }
}

/* A file that is none, such as a pipe, is not waited for. */
static int file_read(int dir, const char *path, int flags, size_t max, GString **ret) {
        g_autofd int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags);
        GString *bytes;
        int r;

        if (fd < 0)
                return unread(-errno);

        bytes = g_string_new(NULL);
        r = bytes_take(fd, max, bytes);
        if (r < 0) {
                g_string_free(bytes, TRUE);
                return unread(r);
        }
        *ret = bytes;
        return 1;
}

int reading_bytes(int dir, const char *path, size_t max, char **ret, size_t *ret_length) {
        GString *bytes;
        int r = file_read(dir, path, O_NOFOLLOW, max, &bytes);

        *ret = NULL;
        if (r <= 0)
                return r;
        if (ret_length)
                *ret_length = bytes->len;
        *ret = g_string_free(bytes, FALSE);
        return r;
}

int reading_text(int dir, const char *path, char **ret) {
        GString *bytes;
        int r = file_read(dir, path, 0, TEXT_BYTES_MAX, &bytes);

        *ret = r > 0 ? g_strstrip(g_string_free(bytes, FALSE)) : NULL;
        return r;
}

int reading_lines(int dir, const char *path, ReadingLine take, void *userdata) {
        g_autofd int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        g_autoptr(File) file = fd < 0 ? NULL : fdopen(fd, "r");
        char *line = NULL;
        size_t size = 0;
        ssize_t length;
        int r;

        if (!file)
                return unread(-errno);
        fd = -1; /* the file's now */

        errno = 0;
        while ((length = getline(&line, &size, file)) >= 0) {
                if (length > 0 && line[length - 1] == '\n')
                        line[length - 1] = '\0';
                take(line, userdata);
                errno = 0;
        }
        r = feof(file) ? 1 : unread(-errno);
        free(line);
        return r;
}

int reading_link(int dir, const char *path, char **ret) {
        char target[TARGET_BYTES_MAX];
        ssize_t n = readlinkat(dir, path, target, sizeof target);
        int r = n < 0 ? -errno : 0;

        *ret = NULL;
        if (r < 0)
                return unread(r);
        if ((size_t)n == sizeof target)
                return -ENAMETOOLONG; /* it may have been cut */
        *ret = g_strndup(target, (gsize)n);
        return 1;
}

int reading_link_name(int dir, const char *path, char **ret) {
        g_autofree char *target = NULL;
        int r = reading_link(dir, path, &target);

        *ret = r > 0 ? g_path_get_basename(target) : NULL;
        return r;
}

int reading_folder(int dir, const char *path, GPtrArray **ret) {
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        g_autofd int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_autoptr(Dir) folder = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry;

        *ret = NULL;
        if (fd < 0)
                return unread(-errno);
        if (!folder)
                return reading_is_absence(-errno) ? -EIO : -errno; /* it is there */
        fd = -1;                                                   /* the folder's now */

        for (;;) {
                errno = 0;
                entry = readdir(folder);
                if (!entry)
                        break;
                if (entry->d_name[0] != '.')
                        g_ptr_array_add(names, g_strdup(entry->d_name));
        }
        if (errno != 0)
                return unread(-errno);
        *ret = g_steal_pointer(&names);
        return 1;
}

int reading_exists(int dir, const char *path) {
        struct stat status;

        return fstatat(dir, path, &status, 0) < 0 ? unread(-errno) : 1;
}
