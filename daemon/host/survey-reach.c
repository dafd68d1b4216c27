/* Foresees what libvirt, AppArmor or the kernel would refuse to QEMU when the cards have been
 * moved. It says nothing of what is not certain: libvirt gives QEMU's user the file, where the file
 * system takes that, but never a folder. */
#include "survey-reach.h"

#include "autoptr.h"
#include "core/refusal.h"
#include "reading.h"
#include "survey-bootable.h"
#include "survey-locks.h"
#include "survey-qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

void image_answer_refuse(ImageAnswer *answer, const char *why, const char *remedy) {
        g_free(answer->why);
        g_free(answer->remedy);
        answer->verdict = IMAGE_NOT_ALLOWED;
        answer->why = g_strdup(why);
        answer->remedy = g_strdup(remedy);
}

/* libvirt's helper writes the resolved path into a rule as it is (src/security/virt-aa-helper.c,
 * vah_add_path() in 9.0), and AppArmor reads these as a pattern: "*" would open every file there,
 * "disk[1].img" not even itself. A quote, or the end of a line, ends the start. */
static bool path_is_pattern(const char *path) {
        for (const char *at = path; *at; at++)
                if (strchr("[]*?{}^\"\\", *at) || g_ascii_iscntrl(*at))
                        return true;
        return false;
}

/* The same helper's list of what no machine may have (valid_path() there), but for what it lets be
 * read. Some are beginnings of names, and meant so there. */
static bool path_is_restricted(const char *path) {
        static const char *const restricted[] = {
                "/bin/",           "/etc/",           "/lib",           "/lost+found/",
                "/proc/",          "/sbin/",          "/selinux/",      "/sys/",
                "/usr/bin/",       "/usr/lib",        "/usr/sbin/",     "/usr/share/",
                "/usr/local/bin/", "/usr/local/etc/", "/usr/local/lib", "/usr/local/sbin/",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(restricted); i++)
                if (g_str_has_prefix(path, restricted[i]))
                        return true;
        return false;
}

static void confinement_survey(const char *path, ImageAnswer *answer) {
        if (path_is_pattern(path))
                image_answer_refuse(
                        answer, "has a character in its path that AppArmor takes for a pattern",
                        "Rename it without any of [ ] * ? { } ^ \" and the backslash, and "
                        "without control characters.");
        else if (path_is_restricted(path))
                image_answer_refuse(
                        answer,
                        "lies where libvirt's rules for AppArmor let no machine's files "
                        "be",
                        "Put it into a folder beneath /var/lib or /srv.");
}

static void shut_survey(const Walk *walk, ImageAnswer *answer) {
        g_autofree char *folder = refusal_show(walk->shut);
        g_autofree char *who = walk_user_words(walk->qemu_uid);
        g_autofree char *why = g_strdup_printf("lies beneath folder %s, which QEMU's user %s may "
                                               "not enter",
                                               folder, who);

        image_answer_refuse(answer, why,
                            "Let others enter that folder (chmod o+x), or use another one.");
}

/* A server that maps root to nobody does not let libvirt change the file's owner either. @error is
 * the result of reading it as root. */
static void squashed_survey(const Walk *walk, bool qcow2, int error, ImageAnswer *answer) {
        mode_t needed = walk->status.st_uid == walk->qemu_uid ? S_IRUSR : S_IRGRP | S_IROTH;
        g_autofree char *why = NULL;

        if (!qcow2 && (walk->qemu_uid == 0 || (walk->status.st_mode & needed) != 0))
                return;
        why = g_strdup_printf("could not be read by root%s: %s",
                              qcow2 ? "" : ", nor by QEMU's user", g_strerror(error));
        image_answer_refuse(answer, why,
                            qcow2 ? "Let root read it: export it with no_root_squash on a file "
                                    "server, or change the file's mode (chmod o+r). Or convert it "
                                    "to raw, which is not looked into."
                                  : "Give it to QEMU's user on the server, or export the folder "
                                    "with no_root_squash.");
}

/* Whether it can be read as root, asked without opening it. */
static int file_read_error(const Walk *walk) {
        g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", walk->fd);

        return access(path, R_OK) < 0 ? errno : 0;
}

static void unread_survey(int error, ImageAnswer *answer) {
        g_autofree char *why = g_strdup_printf("could not be read: %s", g_strerror(error));

        image_answer_refuse(answer, why, "See whether its file system or disk is in order.");
}

static void content_survey(const Walk *walk, ImageUse use, ImageAnswer *answer) {
        g_autofd int fd = walk_reopen(walk->fd);
        const char *why, *remedy;

        if (fd < 0) {
                unread_survey(errno, answer);
                return;
        }
        why = use == IMAGE_AS_KERNEL ? bootable_survey(fd, &remedy) : qcow2_survey(fd, &remedy);
        if (why)
                image_answer_refuse(answer, why, remedy);
}

/* QEMU does not lock devices, and on a file server a lock is one more question that may never be
 * answered. */
static void use_survey(const Walk *walk, ImageAnswer *answer) {
        g_autofd int fd =
                answer->block || !walk_modes_decide(walk->fd) ? -1 : walk_reopen(walk->fd);

        if (fd >= 0)
                locks_survey(fd, answer);
}

/* As reading_text() does. */
static int device_read(const Walk *walk, const char *attribute, char **ret) {
        dev_t number = walk->status.st_rdev;
        g_autofree char *path =
                g_strdup_printf("/sys/dev/block/%u:%u/%s", major(number), minor(number), attribute);

        return reading_text(AT_FDCWD, path, ret);
}

static bool device_is_read_only(const Walk *walk) {
        g_autofree char *text = NULL;

        return device_read(walk, "ro", &text) > 0 && strcmp(text, "1") == 0;
}

/* A drive without a medium, a loop device without a file, or a node of what is there no more. */
static void device_survey(const Walk *walk, ImageAnswer *answer) {
        g_autofree char *size = NULL;
        int r = device_read(walk, "size", &size);

        if (r < 0)
                unread_survey(-r, answer);
        else if (r == 0 || strcmp(size, "0") == 0)
                image_answer_refuse(answer,
                                    r == 0 ? "is the node of a block device that does not exist"
                                           : "is a block device of size 0",
                                    "See whether the device has its medium or backing file.");
}

static bool file_is_read_only(int fd) {
        struct statvfs system;
        struct statx file;

        return (fstatvfs(fd, &system) == 0 && (system.f_flag & ST_RDONLY)) ||
               (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &file) == 0 &&
                (file.stx_attributes & STATX_ATTR_IMMUTABLE));
}

void reach_survey(const Walk *walk, bool apparmor, ImageUse use, ImageAnswer *answer) {
        int error = answer->block ? 0 : file_read_error(walk);

        answer->read_only = answer->block ? device_is_read_only(walk) : file_is_read_only(walk->fd);
        if (walk->shut)
                shut_survey(walk, answer);
        else if (apparmor)
                confinement_survey(walk->at->str, answer);
        if (answer->verdict == IMAGE_OK && answer->block)
                device_survey(walk, answer);
        if (answer->verdict != IMAGE_OK)
                return;
        if (error == EACCES || error == EPERM)
                squashed_survey(walk, use == IMAGE_AS_QCOW2, error, answer);
        else if (error != 0)
                unread_survey(error, answer);
        else if (use != IMAGE_AS_FILE)
                content_survey(walk, use, answer);
        if (answer->verdict == IMAGE_OK && use != IMAGE_AS_KERNEL)
                use_survey(walk, answer);
}
