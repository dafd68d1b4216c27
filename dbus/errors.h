/* How a no is said on the bus: the one place where refusals and failures get D-Bus error names. */
#pragma once

#include "core/refusal.h"

#include <systemd/sd-bus.h>

#define ERROR_PREFIX "org.feos.VM1.Error."

/* Fills @error with @refusal's name and its two sentences. Returns a negative errno, for a handler
 * to return; sd-bus then sends @error and not the number. */
int error_set_refusal(sd_bus_error *error, const Refusal *refusal);

/* Fills @error, unless it is set already, with @what: a whole sentence about what the service could
 * not do because of @r, a negative errno, which goes to the journal and not to the caller. Returns
 * @r. */
int error_set_failed(sd_bus_error *error, int r, const char *what);

/* The same for arguments that could not be read. */
int error_set_arguments(sd_bus_error *error, int r);

/* For the object that has gone between the look-up and now. */
int error_set_no_object(sd_bus_error *error, const char *path);
