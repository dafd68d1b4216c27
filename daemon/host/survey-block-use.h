/* What the host itself does with a block device or a disk's file. Part of the survey helper: all of
 * this can block.
 */
#pragma once

#include <sys/types.h>

/* That the host uses the block device, a partition of it or the disk that it is a partition of: a
 * clause that continues "The image … ", new; NULL when nothing is known of. */
char *block_use_survey(dev_t number);

/* The same of the file with that name, which is free of links: that a loop device writes to it. */
char *file_use_survey(const char *path);
