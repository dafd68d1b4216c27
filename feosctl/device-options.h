/* A disk or NIC as it is written on a command line: key=value,key=value. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>

typedef enum DeviceKind {
        DEVICE_DISK,
        DEVICE_NIC,
} DeviceKind;

/* One disk or NIC: keys of the API and their values, in the order in which they were written. */
typedef struct DeviceOptions DeviceOptions;

/* Reads @text: "path=data.raw,read-only=yes", or "type=bridge,source=br0". What stands first may be
 * the path, or the source, alone; a switch may stand without a value; a comma of a value is written
 * twice. NULL, with a sentence in @ret_wrong that the caller frees, when it is none. */
DeviceOptions *device_options_parse(DeviceKind kind, const char *text, char **ret_wrong);
void device_options_free(DeviceOptions *device);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeviceOptions, device_options_free)

/* Appends it to @m as a{sv}. 0 or a negative errno. */
int device_options_append(const DeviceOptions *device, sd_bus_message *m);

/* The D-Bus type of key @key; NULL = there is none. */
const char *device_options_type(DeviceKind kind, const char *key);
