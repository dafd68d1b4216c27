/* The service on the bus: connection, object tree, name. */
#pragma once

#include "core/manager.h"

#include <systemd/sd-event.h>

typedef struct Bus Bus;

typedef struct BusConfig {
        const char *version;
        const char *const *image_directories; /* NULL-terminated */
        unsigned pending_per_user;            /* 0 = 16 */
        uint64_t authorize_timeout_usec;      /* 0 = as long as a person needs; for tests */
} BusConfig;

/* Connects to the system bus (or DBUS_SYSTEM_BUS_ADDRESS), shows @manager's GPUs and machines there
 * and becomes the manager's observer. Copies @config; @manager must outlive it. Losing the
 * connection ends the loop of @event with EXIT_FAILURE. 0 or a negative errno. */
int bus_new(sd_event *event, Manager *manager, const BusConfig *config, Bus **ret);

/* Takes what of @config can change while the service is on the bus: its image directories, of which
 * callers are told, and the limit of one user. */
void bus_configure(Bus *bus, const BusConfig *config);

/* Takes the name org.feos.VM1: last, when everything that callers may see is there. Waits for the
 * bus. 0, -EEXIST when another process has it, or another negative errno. */
int bus_take_name(Bus *bus);

/* Answers the calls that still wait with an error, and leaves the bus. To be called before
 * manager_free(). */
void bus_free(Bus *bus);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Bus, bus_free)
