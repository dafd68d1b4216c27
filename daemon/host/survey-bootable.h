/* Whether QEMU can boot a file as a kernel. Part of the survey helper: all of this can block. */
#pragma once

/* Why the file open as @fd is not booted, a clause that continues "The image … ", and in
 * @ret_remedy what would help; NULL when nothing known is against it. */
const char *bootable_survey(int fd, const char **ret_remedy);
