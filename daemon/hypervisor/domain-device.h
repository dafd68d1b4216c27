/* What is done to single devices of domains. All of it blocks: for worker threads. The domain with
 * @uuid must be ours and called @name (its UUID: not known); else NoSuchMachine or InvalidState. */
#pragma once

#include "core/hypervisor.h"
#include "hypervisor/link.h"

/* How long a guest has to let go of a device. */
#define DETACH_TIMEOUT_SEC 10

/* Gives the domain with @uuid the device, for good, and at once where it runs: both or neither.
 * Returns NULL when done, or why not (refusal_free()): NoSuchMachine, InvalidOption (the id is in
 * use), HypervisorUnavailable, HypervisorFailed. */
Refusal *domain_attach(Link *link, const char *uuid, const char *name, const DeviceRequest *device);

/* Takes the device with @id away, likewise. Where the domain runs this waits until the guest has
 * let go, and is refused when that takes longer than DETACH_TIMEOUT_SEC; the definition is then as
 * it was. InvalidOption: there is no such device. */
Refusal *domain_detach(Link *link, const char *uuid, const char *name, DeviceKind kind,
                       const char *id);

/* The domain's XML in @ret, new string (g_free()). Returns NULL when done, or why not as above. */
Refusal *domain_get_xml(Link *link, const char *uuid, const char *name, char **ret);

/* Opens @terminal and makes sure that it is the console of the running domain with @uuid: its
 * number may have gone to somebody else's terminal since it was looked at. @ret is the caller's. */
Refusal *domain_open_console(Link *link, const char *uuid, const char *name, const char *terminal,
                             int *ret);

/* "attach disk data to machine" and its like, for messages. New string (g_free()). */
char *device_doing(bool attach, DeviceKind kind, const char *id);
