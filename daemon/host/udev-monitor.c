/* The only user of libudev. Cold plug and hot plug go through one function, and every event but
 * "remove" means no more than "look again": bind and unbind are events too. It refuses to believe
 * an event's properties; of a message it takes the name and the action, the rest is read fresh by
 * pci-facts.
 *
 * libudev reads a device's uevent file, which can block for ever, for whatever it is asked of a
 * device that did not come in a message; for the name and the action of a message it does not (seen
 * with strace on systemd 252). So that is all that is asked. Its enumeration is not used: a device
 * whose "class" it cannot read, for want of a descriptor, is left out of it without a word. */
#include "udev-monitor.h"

#include "pci-facts.h"

#include "autoptr-bus.h"

#include <errno.h>
#include <libudev.h>
#include <string.h>
#include <systemd/sd-journal.h>
#include <time.h>

/* As udev's own: a flood of events from other subsystems' drivers comes in one burst. */
#define RECEIVE_BUFFER_BYTES (128 * 1024 * 1024)

/* Messages taken before the loop gets its turn again. */
#define MESSAGES_PER_TURN 64

/* After a listing that has failed. */
#define LIST_AGAIN_USEC (500 * 1000)

typedef struct udev_device udev_device;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(udev_device, udev_device_unref)

struct DeviceMonitor {
        sd_event *event;
        const HostEvents *events; /* weak */
        void *userdata;

        struct udev *udev;
        struct udev_monitor *socket;
        struct udev_hwdb *hwdb; /* NULL = there is no database */
        sd_event_source *source;
        sd_event_source *list_again; /* switched on after a listing that has failed */
        bool lost;                   /* events were lost since the last listing */
        bool failing;                /* the last listing has failed */
        GArray *known;               /* PciAddress: GPUs that were told of and not yet gone */
};

static void gpu_changed(DeviceMonitor *monitor, PciAddress address) {
        if (!pci_addresses_find(monitor->known, address, NULL))
                g_array_append_val(monitor->known, address);
        monitor->events->device_changed(monitor->userdata, address);
}

static void gpu_removed(DeviceMonitor *monitor, PciAddress address) {
        guint i;

        if (!pci_addresses_find(monitor->known, address, &i))
                return;

        g_array_remove_index(monitor->known, i);
        monitor->events->device_removed(monitor->userdata, address);
}

/* Whatever happened at @address: every GPU in its slot is to be looked at, for the function is one
 * or travels with one. What cannot be read now is an event lost. */
static void slot_changed(DeviceMonitor *monitor, PciAddress address) {
        g_autoptr(GArray) gpus = NULL;

        if (pci_facts_read_slot_gpus(address, &gpus) < 0) {
                monitor->lost = true;
                return;
        }
        for (guint i = 0; i < gpus->len; i++)
                gpu_changed(monitor, g_array_index(gpus, PciAddress, i));
}

/* A removal may be old news, when the device is back already: then it is a new one all the same, so
 * it is told as gone first and looked at again afterwards. */
static void message_process(DeviceMonitor *monitor, struct udev_device *device) {
        const char *name = udev_device_get_sysname(device);
        const char *action = udev_device_get_action(device);
        PciAddress address;

        if (!name || !action || !pci_address_parse(name, &address))
                return;

        if (strcmp(action, "remove") == 0)
                gpu_removed(monitor, address);
        slot_changed(monitor, address);
}

/* Takes what has arrived. An error is lost events, whichever it is: all that is queued is then
 * older than the loss, so it is taken first, and the listing sees the truth. */
static int on_messages(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        DeviceMonitor *monitor = userdata;

        for (unsigned n = 0; n < MESSAGES_PER_TURN; n++) {
                g_autoptr(udev_device) device = NULL;

                errno = 0;
                device = udev_monitor_receive_device(monitor->socket);
                if (device) {
                        message_process(monitor, device);
                        continue;
                }
                if (errno == EAGAIN || errno == EINTR)
                        break;
                if (!monitor->lost)
                        sd_journal_print(LOG_WARNING,
                                         "udev events were lost, looking at every device: %s",
                                         g_strerror(errno));
                monitor->lost = true;
        }

        /* One that has failed comes again by the clock. */
        if (monitor->lost && !monitor->failing)
                (void)device_monitor_list(monitor);
        return 0;
}

static int on_list_again(sd_event_source *source, uint64_t usec, void *userdata) {
        (void)device_monitor_list(userdata);
        return 0;
}

/* Nothing is told: a GPU that could not be read is not one that is gone. */
static int list_fail(DeviceMonitor *monitor, int error) {
        int r = sd_event_source_set_time_relative(monitor->list_again, LIST_AGAIN_USEC);

        if (r >= 0)
                r = sd_event_source_set_enabled(monitor->list_again, SD_EVENT_ONESHOT);
        if (r < 0 || !monitor->failing)
                sd_journal_print(LOG_ERR, "cannot list the PCI devices, %s: %s",
                                 r < 0 ? "nor try again" : "trying again", g_strerror(-error));
        monitor->failing = r >= 0;
        return error;
}

int device_monitor_list(DeviceMonitor *monitor) {
        g_autoptr(GArray) found = NULL;
        int r = pci_facts_read_gpus(&found);

        if (r < 0)
                return list_fail(monitor, r);
        if (monitor->failing)
                sd_journal_print(LOG_NOTICE, "the PCI devices could be listed again");
        sd_event_source_set_enabled(monitor->list_again, SD_EVENT_OFF);
        monitor->failing = false;
        monitor->lost = false;

        g_array_set_size(monitor->known, 0);
        for (guint i = 0; i < found->len; i++)
                gpu_changed(monitor, g_array_index(found, PciAddress, i));
        monitor->events->devices_listed(monitor->userdata, found);
        return 0;
}

int device_monitor_new(sd_event *event, DeviceMonitor **ret) {
        g_autoptr(DeviceMonitor) monitor = g_new0(DeviceMonitor, 1);

        monitor->event = sd_event_ref(event);
        monitor->known = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        monitor->udev = udev_new();
        if (!monitor->udev)
                return -ENOMEM;

        monitor->hwdb = udev_hwdb_new(monitor->udev);
        if (!monitor->hwdb)
                sd_journal_print(LOG_NOTICE,
                                 "no udev hardware database, the GPUs stay without names");

        *ret = g_steal_pointer(&monitor);
        return 0;
}

void device_monitor_free(DeviceMonitor *monitor) {
        if (!monitor)
                return;

        g_clear_pointer(&monitor->source, sd_event_source_disable_unref);
        g_clear_pointer(&monitor->list_again, sd_event_source_disable_unref);
        g_clear_pointer(&monitor->socket, udev_monitor_unref);
        g_clear_pointer(&monitor->hwdb, udev_hwdb_unref);
        g_clear_pointer(&monitor->udev, udev_unref);
        g_clear_pointer(&monitor->known, g_array_unref);
        g_clear_pointer(&monitor->event, sd_event_unref);
        g_free(monitor);
}

int device_monitor_begin(DeviceMonitor *monitor, const HostEvents *events, void *userdata) {
        int r;

        monitor->events = events;
        monitor->userdata = userdata;

        monitor->socket = udev_monitor_new_from_netlink(monitor->udev, "udev");
        if (!monitor->socket)
                return -EIO;
        /* Only root may go beyond the system's limit; a smaller buffer costs a listing now and
         * then. */
        (void)udev_monitor_set_receive_buffer_size(monitor->socket, RECEIVE_BUFFER_BYTES);

        r = udev_monitor_filter_add_match_subsystem_devtype(monitor->socket, "pci", NULL);
        if (r >= 0)
                r = udev_monitor_enable_receiving(monitor->socket);
        if (r >= 0)
                r = sd_event_add_io(monitor->event, &monitor->source,
                                    udev_monitor_get_fd(monitor->socket), EPOLLIN, on_messages,
                                    monitor);
        /* Made now: what it is for is that no descriptors are left. */
        if (r >= 0)
                r = sd_event_add_time_relative(monitor->event, &monitor->list_again,
                                               CLOCK_MONOTONIC, LIST_AGAIN_USEC, 0, on_list_again,
                                               monitor);
        if (r >= 0)
                r = sd_event_source_set_enabled(monitor->list_again, SD_EVENT_OFF);
        if (r < 0)
                return r;

        return device_monitor_list(monitor);
}

/* The same text as the kernel's modalias, made from the numbers at hand (file2alias.c, pci). */
static char *modalias_print(const PciFunction *function) {
        return g_strdup_printf("pci:v%08Xd%08Xsv%08Xsd%08Xbc%02Xsc%02Xi%02X", function->vendor,
                               function->device, function->subsystem_vendor,
                               function->subsystem_device, function->class >> 16 & 0xff,
                               function->class >> 8 & 0xff, function->class & 0xff);
}

void device_monitor_names(DeviceMonitor *monitor, const PciFunction *function, char **ret_vendor,
                          char **ret_model) {
        g_autofree char *modalias = modalias_print(function);
        const char *vendor = NULL, *model = NULL;
        struct udev_list_entry *entry;

        if (monitor->hwdb)
                udev_list_entry_foreach(
                        entry, udev_hwdb_get_properties_list_entry(monitor->hwdb, modalias, 0)) {
                        const char *key = udev_list_entry_get_name(entry);

                        if (strcmp(key, "ID_VENDOR_FROM_DATABASE") == 0)
                                vendor = udev_list_entry_get_value(entry);
                        else if (strcmp(key, "ID_MODEL_FROM_DATABASE") == 0)
                                model = udev_list_entry_get_value(entry);
                }

        *ret_vendor = g_strdup(vendor ?: "");
        *ret_model = g_strdup(model ?: "");
}
