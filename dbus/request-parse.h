/* Reads the arguments of Create and Check. */
#pragma once

#include "core/request.h"

#include <systemd/sd-bus.h>

/* Reads "s as a{sv}" from @m into a new request, *@ret, which the caller frees. Whatever is wrong
 * with it is added to @findings and is no failure; the request is usable for a check all the same.
 * Returns 0, or a negative errno when the message itself cannot be read. */
int request_parse(sd_bus_message *m, GPtrArray *findings, Request **ret);
