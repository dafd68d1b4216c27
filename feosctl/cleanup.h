/* GLib's cleanup idiom for what does not bring it. */
#pragma once

#include <glib.h>
#include <json-c/json.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(sd_bus, sd_bus_flush_close_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(sd_bus_message, sd_bus_message_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(sd_bus_slot, sd_bus_slot_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(sd_journal, sd_journal_close)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_object, json_object_put)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(sd_bus_error, sd_bus_error_free)

static inline void autofd_close(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

/* A file descriptor that is closed when it goes out of scope; -1 = none. */
#define g_autofd __attribute__((cleanup(autofd_close)))
