/* Whether a file is open in a QEMU, or in what is made of it, such as qemu-nbd. Part of the survey
 * helper: all of this can block. */
#pragma once

#include "core/host.h"

/* Adds to @answer whether some process keeps others from writing to the file open as @fd, and
 * whether one writes to it. */
void locks_survey(int fd, ImageAnswer *answer);
