/* Reads the arguments of Create and Check, and those of AttachDisk and AttachNIC. */
#pragma once

#include "core/request.h"

#include <systemd/sd-bus.h>

/* Reads "s as a{sv}" from @m into a new request, *@ret, which the caller frees. Whatever is wrong
 * with it is added to @findings and is no failure; the request is usable for a check all the same.
 * What is wrong with one key of one disk or NIC has the subject "disks[0].path", counted from 0.
 * Returns 0, or a negative errno when the message itself cannot be read. */
int request_parse(sd_bus_message *m, GPtrArray *findings, Request **ret);

/* Reads "a{sv}" into a new disk or NIC, in the same way; it is finished, and may be used when
 * @findings has no error. */
int device_parse(sd_bus_message *m, DeviceKind kind, GPtrArray *findings, DeviceRequest **ret);
