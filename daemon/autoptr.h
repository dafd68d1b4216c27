/* GLib's cleanup idiom for what does not bring it. */
#pragma once

#include <glib.h>
#include <unistd.h>

static inline void autofd_close(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

/* A file descriptor that is closed when it goes out of scope; -1 = none. g_steal_fd() is
 * GLib 2.70's. */
#define g_autofd __attribute__((cleanup(autofd_close)))
