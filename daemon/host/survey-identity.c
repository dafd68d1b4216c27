/* Tells files and devices apart by the kernel's numbers. It judges nothing, and follows the names
 * of other domains' files wherever they lead: what it finds stays here. */
#include "survey-identity.h"

#include "autoptr.h"
#include "reading.h"
#include "survey-qcow2.h"
#include "survey-walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

/* libvirt and QEMU end a chain of backing files at 200. */
#define CHAIN_MAX 200

static int device_survey(dev_t number, bool read, GArray *identities);
static int thing_survey(const struct stat *status, bool read, GArray *identities);

/* False when it was there already, and nothing new is known of it: one that was only read may be
 * written to as another part. */
static bool identity_add(GArray *identities, const FileIdentity *identity) {
        for (guint i = 0; i < identities->len; i++) {
                FileIdentity *known = &g_array_index(identities, FileIdentity, i);

                if (!file_identity_equal(known, identity))
                        continue;
                if (!known->read || identity->read)
                        return false;
                known->read = false;
                return true;
        }
        g_array_append_val(identities, *identity);
        return true;
}

/* The device whose number the file says. A device that is gone meanwhile no longer counts. */
static int number_survey(const char *path, bool read, GArray *identities) {
        unsigned major_number, minor_number;
        g_autofree char *text = NULL;
        int r = reading_text(AT_FDCWD, path, &text);

        if (r <= 0)
                return r;
        if (sscanf(text, "%u:%u", &major_number, &minor_number) != 2)
                return -EIO;
        return device_survey(makedev(major_number, minor_number), read, identities);
}

static int slaves_survey(const char *folder, bool read, GArray *identities) {
        g_autofree char *path = g_build_filename(folder, "slaves", NULL);
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_folder(AT_FDCWD, path, &names);

        for (guint i = 0; r >= 0 && names && i < names->len; i++) {
                g_autofree char *number = g_build_filename(
                        path, (const char *)g_ptr_array_index(names, i), "dev", NULL);

                r = number_survey(number, read, identities);
        }
        return r;
}

/* The file's name as it was when the device was set up. One that is gone has no other user. */
static int loop_survey(const char *folder, bool read, GArray *identities) {
        g_autofree char *path = g_build_filename(folder, "loop/backing_file", NULL);
        g_autofree char *file = NULL;
        struct stat status;
        int r = reading_bytes(AT_FDCWD, path, PATH_MAX, &file, NULL);

        if (r <= 0)
                return r;
        if (stat(g_strchomp(file), &status) < 0)
                return reading_is_absence(-errno) ? 0 : -errno;
        return thing_survey(&status, read, identities);
}

/* 1, 0 when it was known already, or a negative errno; as the next. */
static int device_survey(dev_t number, bool read, GArray *identities) {
        FileIdentity identity = { .block = true, .device = number, .read = read };
        g_autofree char *folder =
                g_strdup_printf("/sys/dev/block/%u:%u", major(number), minor(number));
        g_autofree char *partition = g_build_filename(folder, "partition", NULL);
        g_autofree char *disk = g_build_filename(folder, "../dev", NULL);
        int r;

        if (!identity_add(identities, &identity))
                return 0;
        r = slaves_survey(folder, read, identities);
        if (r >= 0)
                r = loop_survey(folder, read, identities);
        if (r >= 0)
                r = reading_exists(AT_FDCWD, partition);
        if (r > 0)
                r = number_survey(disk, read, identities);
        return r < 0 ? r : 1;
}

static int thing_survey(const struct stat *status, bool read, GArray *identities) {
        FileIdentity identity = { .device = status->st_dev, .inode = status->st_ino, .read = read };

        if (S_ISBLK(status->st_mode))
                return device_survey(status->st_rdev, read, identities);
        return identity_add(identities, &identity) ? 1 : 0;
}

int identities_survey(const struct stat *status, GArray *identities) {
        int r = thing_survey(status, false, identities);

        return MIN(r, 0);
}

/* As QEMU completes it (block.c, path_combine()): beside the file that names it. NULL when it is in
 * no file system of this host. */
static char *name_complete(const char *file, const char *name) {
        g_autofree char *folder = g_path_get_dirname(file);
        const char *colon;

        if (g_str_has_prefix(name, "file:"))
                name += strlen("file:");
        colon = strchr(name, ':');
        if (colon && strcspn(name, "/") > (size_t)(colon - name))
                return NULL;
        return *name == '/' ? g_strdup(name) : g_build_filename(folder, name, NULL);
}

/* How a file that another one names is opened: with the format of qcow2, and not to be written. */
typedef struct Opening {
        bool qcow2;
        bool read;
        unsigned depth; /* how many files lie above it */
} Opening;

static int path_survey(const char *path, Opening how, GArray *identities);

/* @file is open with O_PATH, and its name @path. */
static int names_survey(int file, const char *path, Opening how, GArray *identities) {
        g_autofd int fd = walk_reopen(file);
        g_autoptr(GPtrArray) names = NULL;
        bool backed, backing_qcow2;
        int r = 0;

        names = fd < 0 ? NULL : qcow2_read_names(fd, &backed, &backing_qcow2);
        if (!names)
                return -errno;
        for (guint i = 0; r >= 0 && i < names->len; i++) {
                g_autofree char *name = name_complete(path, g_ptr_array_index(names, i));
                bool backing = backed && i == 0;

                /* A data file is raw, and written to as what names it. */
                if (name)
                        r = path_survey(name,
                                        (Opening){ .qcow2 = backing && backing_qcow2,
                                                   .read = how.read || backing,
                                                   .depth = how.depth + 1 },
                                        identities);
        }
        return MIN(r, 0);
}

/* 1, 0 when there is nothing, or a negative errno. */
static int path_survey(const char *path, Opening how, GArray *identities) {
        g_autofd int fd = open(path, O_PATH | O_CLOEXEC);
        struct stat status;
        int r;

        if (fd < 0 || fstat(fd, &status) < 0)
                return reading_is_absence(-errno) ? 0 : -errno;
        r = thing_survey(&status, how.read, identities);
        /* What was known already has told its names. */
        if (r > 0 && how.qcow2 && how.depth < CHAIN_MAX &&
            (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode)))
                r = names_survey(fd, path, how, identities);
        return r < 0 ? r : 1;
}

FileAnswer *file_survey(const char *path, bool qcow2) {
        FileAnswer *answer = file_answer_new(path);

        answer->found = path_survey(path, (Opening){ .qcow2 = qcow2 }, answer->identities);
        if (answer->found <= 0)
                g_array_set_size(answer->identities, 0);
        return answer;
}
