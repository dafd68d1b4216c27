/* Resolves the paths that a request names, as root on behalf of somebody who is not: what may be
 * used lies in one of the administrator's directories, links followed, or is one of the block
 * devices that were listed. A path that cannot be allowed is refused by its text alone, before the
 * file system is asked, so that the answers tell nobody what lies elsewhere. Knows neither machines
 * nor libvirt. */
#include "survey-images.h"

#include "autoptr.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The qcow2 header (QEMU, docs/interop/qcow2.txt): magic, version, offset of the backing file's
 * name, and from version 3 on the features that a reader must know; all big-endian. */
#define QCOW2_MAGIC           0x514649fbu
#define QCOW2_HEADER_BYTES    80
#define QCOW2_AT_VERSION      4
#define QCOW2_AT_BACKING_FILE 8
#define QCOW2_AT_INCOMPATIBLE 72
#define QCOW2_HEADER_BYTES_V2 72
#define QCOW2_EXTERNAL_DATA   (UINT64_C(1) << 2)

static ImageAnswer *answer_new(ImageVerdict verdict, const char *path, char *resolved,
                               const char *why) {
        ImageAnswer *answer = g_new0(ImageAnswer, 1);

        answer->verdict = verdict;
        answer->path = g_strdup(path);
        answer->resolved = resolved;
        answer->why = g_strdup(why);
        return answer;
}

static ImageAnswer *answer_refuse(const char *path, const char *why) {
        return answer_new(IMAGE_NOT_ALLOWED, path, NULL, why);
}

static bool path_climbs(const char *path) {
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);

        return g_strv_contains((const char *const *)parts, "..");
}

/* Whether @path is something in @directory or deeper, by its text. */
static bool path_is_beneath(const char *path, const char *directory) {
        size_t length = strlen(directory);

        while (length > 0 && directory[length - 1] == '/')
                length--;
        return strncmp(path, directory, length) == 0 && path[length] == '/' &&
               path[length + strspn(path + length, "/")] != '\0';
}

/* Beneath a directory as the administrator named it, or as it is with links followed. */
static bool path_is_in_directories(const ImageRules *rules, const char *path, bool named_too) {
        for (char *const *directory = rules->directories; *directory; directory++) {
                g_autofree char *real = realpath(*directory, NULL);

                if ((named_too && path_is_beneath(path, *directory)) ||
                    (real && path_is_beneath(path, real)))
                        return true;
        }
        return false;
}

static bool path_is_listed_device(const ImageRules *rules, const char *path) {
        for (char *const *glob = rules->block_devices; *glob; glob++)
                if (fnmatch(*glob, path, FNM_PATHNAME | FNM_PERIOD) == 0)
                        return true;
        return false;
}

/* The links beneath /dev are udev's, so a name there that was listed stands for what it leads to;
 * anywhere else somebody who may write there could bend it. */
static bool device_is_allowed(const ImageRules *rules, const char *path, const char *resolved) {
        return (g_str_has_prefix(path, "/dev/") && path_is_listed_device(rules, path)) ||
               path_is_listed_device(rules, resolved);
}

static uint64_t big_endian_read(const unsigned char *bytes, size_t count) {
        uint64_t value = 0;

        for (size_t i = 0; i < count; i++)
                value = value << 8 | bytes[i];
        return value;
}

/* Why the file is not to be opened as qcow2, NULL when it is. Such a header may name other files,
 * which QEMU would open as well. */
static const char *qcow2_survey(const char *resolved) {
        g_autofd int fd = open(resolved, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        unsigned char header[QCOW2_HEADER_BYTES] = { 0 };
        ssize_t n = fd < 0 ? -1 : pread(fd, header, sizeof header, 0);
        uint64_t version;

        if (n < 0)
                return "could not be read";
        if (n < QCOW2_HEADER_BYTES_V2 || big_endian_read(header, 4) != QCOW2_MAGIC)
                return "is not in the format qcow2";

        version = big_endian_read(header + QCOW2_AT_VERSION, 4);
        if (version != 2 && (version != 3 || n < QCOW2_HEADER_BYTES))
                return "is of an unknown version of the format qcow2";
        if (big_endian_read(header + QCOW2_AT_BACKING_FILE, 8) != 0)
                return "has a backing file; flatten it with qemu-img convert";
        if (version == 3 &&
            (big_endian_read(header + QCOW2_AT_INCOMPATIBLE, 8) & QCOW2_EXTERNAL_DATA) != 0)
                return "keeps its data in another file; make one of them with qemu-img convert";
        return NULL;
}

static ImageAnswer *error_answer(const char *path, int error) {
        switch (error) {
        case ENOENT:
        case ENOTDIR:
                return answer_new(IMAGE_NOT_FOUND, path, NULL, "does not exist");
        case ELOOP:
                return answer_refuse(path, "leads through too many symbolic links");
        case ENAMETOOLONG:
                return answer_refuse(path, "has too long a name");
        default:
                return answer_new(IMAGE_NOT_FOUND, path, NULL, "cannot be reached");
        }
}

/* @candidate is absolute and may be looked at. */
static ImageAnswer *candidate_survey(const ImageRules *rules, const char *path,
                                     const char *candidate, bool qcow2) {
        g_autofree char *resolved = realpath(candidate, NULL);
        const char *why = NULL;
        struct stat status;
        ImageAnswer *answer;

        if (!resolved || stat(resolved, &status) < 0)
                return error_answer(path, errno);

        if (S_ISBLK(status.st_mode)) {
                if (!device_is_allowed(rules, candidate, resolved))
                        why = "is a block device that the administrator has not listed";
        } else if (!path_is_in_directories(rules, resolved, false))
                why = "leads out of the image directories by a symbolic link";
        else if (!S_ISREG(status.st_mode))
                why = "is neither a regular file nor a block device";

        if (!why && qcow2)
                why = qcow2_survey(resolved);
        if (why)
                return answer_refuse(path, why);
        answer = answer_new(IMAGE_OK, path, g_steal_pointer(&resolved), NULL);
        answer->block = S_ISBLK(status.st_mode);
        return answer;
}

/* A file name: the first directory that has such an entry decides. */
static ImageAnswer *name_survey(const ImageRules *rules, const char *name, bool qcow2) {
        for (char *const *directory = rules->directories; *directory; directory++) {
                g_autofree char *candidate = g_build_filename(*directory, name, NULL);
                struct stat status;

                if (lstat(candidate, &status) == 0)
                        return candidate_survey(rules, name, candidate, qcow2);
        }
        return answer_new(IMAGE_NOT_FOUND, name, NULL, "is in none of the image directories");
}

ImageAnswer *image_survey(const ImageRules *rules, const char *path, bool qcow2) {
        if (!*path || strcmp(path, ".") == 0)
                return answer_refuse(path, "has no name");
        if (path_climbs(path))
                return answer_refuse(path, "has a \"..\" in its path");
        if (*path != '/')
                return strchr(path, '/')
                               ? answer_refuse(path, "is neither a file name nor an absolute path")
                               : name_survey(rules, path, qcow2);

        if (!path_is_in_directories(rules, path, true) && !path_is_listed_device(rules, path))
                return answer_refuse(path, "lies outside the image directories");
        return candidate_survey(rules, path, path, qcow2);
}
