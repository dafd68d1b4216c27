/* Tells which GPUs come, go and may have changed, and what udev's hardware database calls them. */
#pragma once

#include "core/host.h"

#include <systemd/sd-event.h>

typedef struct DeviceMonitor DeviceMonitor;

/* Watches nothing yet. 0 or a negative errno. */
int device_monitor_new(sd_event *event, DeviceMonitor **ret);
void device_monitor_free(DeviceMonitor *monitor);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeviceMonitor, device_monitor_free)

/* Begins to listen and then lists what is there, so that nothing is missed in between.
 * device_changed for every GPU and devices_listed are sent from within this call; later ones, and
 * device_removed, from the loop. @events must outlive the monitor. 0 or a negative errno; after
 * that of the listing the monitor listens and tries again, as device_monitor_list() does. */
int device_monitor_begin(DeviceMonitor *monitor, const HostEvents *events, void *userdata);

/* Looks at every device again, as after lost events. 0, or a negative errno when a device could not
 * be read: then nothing is told, and it is tried again from the loop until it can be. */
int device_monitor_list(DeviceMonitor *monitor);

/* What the hardware database calls the function; new strings, "" when it does not know. */
void device_monitor_names(DeviceMonitor *monitor, const PciFunction *function, char **ret_vendor,
                          char **ret_model);
