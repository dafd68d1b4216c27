/* Serial consoles shared out: one terminal per domain, as many two-way streams to it as are asked
 * for. All on the thread that runs the sd_event loop; nothing blocks. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

/* So much of what a guest says is kept for a reader who has not read it yet. One that is further
 * behind loses what does not fit; the guest, the daemon and the other readers notice nothing. */
#define CONSOLE_BACKLOG_MAX (4 * 1024 * 1024)

/* So many streams one owner may have open: each costs descriptors, and its backlog. */
#define CONSOLES_PER_OWNER 64

typedef struct Consoles Consoles;

Consoles *consoles_new(sd_event *event);
/* Ends all streams; what has not been read yet is lost. */
void consoles_free(Consoles *consoles);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Consoles, consoles_free)

/* Whether the terminal of the domain with @uuid is open, so that a stream can be had at once. */
bool consoles_are_open(Consoles *consoles, const char *uuid);

/* A new stream for @owner to the terminal of the domain with @uuid: a socket, non-blocking and
 * close-on-exec, the caller's. Every stream reads all that the guest says from now on; what is
 * written to any of them goes to the guest, and a writer waits while the guest does not take it.
 * @terminal is taken in any case: where the domain's is open already it is not needed, otherwise it
 * must be an open terminal. It stays open as long as there are streams.
 *
 * QEMU looks about once a second whether somebody has opened the terminal: what is written before
 * is kept for the guest, but what the guest says before is not heard. Returns 0 or a negative
 * errno, -ENOTCONN when there is no terminal, -EDQUOT when @owner has too many streams. */
int consoles_open(Consoles *consoles, const char *uuid, uid_t owner, int terminal, int *ret);

/* The domain with @uuid is off: its streams end, after what is still to be read. The same happens
 * by itself when the terminal hangs up. */
void consoles_end(Consoles *consoles, const char *uuid);
