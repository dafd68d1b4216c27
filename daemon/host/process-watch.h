/* Tells when a process that is not our child is dead, by its pidfd. */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <systemd/sd-event.h>

typedef struct ProcessWatches ProcessWatches;

ProcessWatches *process_watches_new(sd_event *event);
void process_watches_free(ProcessWatches *watches);

/* Calls @died once, from the event loop, when the process behind @pidfd is dead. The descriptor is
 * duplicated and stays the caller's. Returns a ticket, 0 when it cannot be watched. */
uint64_t process_watches_add(ProcessWatches *watches, int pidfd, void (*died)(void *userdata),
                             void *userdata);

/* Forgets the watch; one that has fired is forgotten already. */
void process_watches_remove(ProcessWatches *watches, uint64_t ticket);
