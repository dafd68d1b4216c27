/* Goes along a path as the kernel will when QEMU opens it, one component after the other, and looks
 * at who could change the way. What was come to is held open, so that it is what was looked at.
 * Part of the survey helper: all of this can block. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

typedef struct Walk {
        uid_t qemu_uid;     /* whose QEMU is, 0 = root's or not known */
        int fd;             /* where it is, open with O_PATH; -1 = the walk could not begin */
        struct stat status; /* of that */
        GString *at;        /* its name, absolute and without links; where the walk has failed, that
                             * of what could not be passed */
        unsigned links;     /* how many were followed */
        bool in_dev;        /* not to go from /dev into a file system that is mounted beneath it */
        int error;          /* the walk has failed: a negative errno */
        char *bent; /* it has ended where somebody but root may change the way: a clause that
                     * continues "The image … " */
        char *shut; /* the first folder on the way that QEMU's user may not enter */
} Walk;

/* At the root folder. */
Walk *walk_new(uid_t qemu_uid);
void walk_free(Walk *walk);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Walk, walk_free)

/* Goes on along @path, from the root folder when it is absolute, and through links. False: it has
 * failed or ended, and goes no farther; @at says where. */
bool walk_along(Walk *walk, const char *path);

/* Whether @fd is on a file system whose modes say by themselves who may pass, as those of this
 * host's own disks do; elsewhere a server decides, or has more to say. */
bool walk_modes_decide(int fd);

/* Opens for reading what a descriptor with O_PATH stands for, which is known to be a regular file
 * or a block device that may be read: whatever has its name by now. A descriptor, or -1 and errno.
 */
int walk_reopen(int fd);

/* "alice (1000)", for a message; of a user who is not this host's own, the number alone. */
char *walk_user_words(uid_t uid);
