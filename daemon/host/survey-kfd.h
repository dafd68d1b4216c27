/* Which GPUs a process computes on, as AMD's driver tells. Part of the survey helper. */
#pragma once

#include <glib.h>

typedef enum KfdUse {
        KFD_UNTOLD, /* the kernel does not say, or not of this process */
        KFD_NOT,    /* it may not use any of them */
        KFD_IDLE,   /* it may, and has neither memory nor a queue on them */
        KFD_USES,
} KfdUse;

/* What the process, which has /dev/kfd open, has of the GPUs whose functions are among @functions
 * (PciAddress). 0 or a negative errno. */
int kfd_read_use(unsigned pid, const GArray *functions, KfdUse *ret);
