/* QEMU locks single bytes of an image: from byte 100 on one for each thing that it does with the
 * image, and from byte 200 on one for each thing that nobody else may do. The second of each kind
 * is writing. The next QEMU to open the image checks these locks and gives up (block/file-posix.c,
 * raw_apply_lock_bytes() and raw_check_lock_bytes(); BLK_PERM_WRITE in block/block-common.h). */
#include "survey-locks.h"

#include <fcntl.h>
#include <unistd.h>

#define BYTE_WRITES 101
#define BYTE_ALONE  201

static bool byte_is_locked(int fd, off_t byte) {
        struct flock lock = {
                .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1
        };

        return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

void locks_survey(int fd, ImageAnswer *answer) {
        answer->written = byte_is_locked(fd, BYTE_WRITES);
        answer->kept = answer->written || byte_is_locked(fd, BYTE_ALONE);
}
