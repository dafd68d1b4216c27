/* With what a system call is made to fail. */
#pragma once

#include <errno.h>

static const int errors[] = { EINTR, EIO,    ENOSPC, EACCES, ENOMEM, EMFILE,
                              EBUSY, ENODEV, ENOENT, EINVAL, EPERM };
