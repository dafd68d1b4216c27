/* One PCI function's attributes in sysfs. The only file that writes to /sys, one value at a time;
 * it refuses to know in what order, and why. */
#include "handover-function.h"

#include "reading.h"

#include "autoptr.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define SYS_PCI "/sys/bus/pci"

#define RETRY_USEC         (100 * 1000)
#define PROBE_TRIES        10 /* while a probe is accepted and no driver appears */
#define PROBE_TRIES_LOCKED 50 /* while a probe is refused because VFIO still owns the group */

#define D3COLD_ALLOWED "d3cold_allowed"
#define POWER_CONTROL  "power/control"

static char *device_path(const char *address, const char *attribute) {
        return g_strdup_printf(SYS_PCI "/devices/%s/%s", address, attribute);
}

/* Writes the whole of @value at once. 0 or a negative errno, of which the journal is told. */
static int value_write(const char *path, const char *value) {
        g_autofd int fd = open(path, O_WRONLY | O_CLOEXEC);
        ssize_t n;
        int r;

        if (fd < 0) {
                r = -errno;
        } else {
                do
                        n = write(fd, value, strlen(value));
                while (n < 0 && errno == EINTR);
                r = n < 0 ? -errno : (size_t)n == strlen(value) ? 0 : -EIO;
        }

        if (r < 0)
                fprintf(stderr, "%s: %s\n", path, g_strerror(-r));
        return r;
}

/* Tells the journal of @error, a negative errno, and returns it. */
static int unreadable(const char *path, int error) {
        fprintf(stderr, "%s: %s\n", path, g_strerror(-error));
        return error;
}

/* The last part of where a link of the function's leads, "" when there is no such link. 0 or a
 * negative errno. */
static int link_read(const char *address, const char *attribute,
                     char ret[static FUNCTION_NAME_BYTES]) {
        g_autofree char *path = device_path(address, attribute);
        g_autofree char *name = NULL;
        int r = reading_link_name(AT_FDCWD, path, &name);

        g_strlcpy(ret, name ?: "", FUNCTION_NAME_BYTES);
        return r < 0 ? unreadable(path, r) : 0;
}

/* As reading_text(); the journal is told of an error. */
static int text_read(const char *path, char **ret) {
        int r = reading_text(AT_FDCWD, path, ret);

        return r < 0 ? unreadable(path, r) : r;
}

int function_driver_read(const char *address, char ret[static FUNCTION_NAME_BYTES]) {
        return link_read(address, "driver", ret);
}

int function_group_read(const char *address, char ret[static FUNCTION_NAME_BYTES]) {
        return link_read(address, "iommu_group", ret);
}

int function_driver_unbind(const char *address, const char *driver) {
        g_autofree char *path = g_strdup_printf(SYS_PCI "/drivers/%s/unbind", driver);
        int r = value_write(path, address);

        return r == -ENODEV || r == -ENOENT ? 0 : r;
}

/* A write that succeeds proves nothing, so the link is asked. While VFIO's hold on the group is
 * just being let go the probe is refused with EBUSY or EINVAL (drivers/base/dd.c,
 * drivers/iommu/iommu.c).
 */
bool function_driver_probe(const char *address, const char *wanted) {
        unsigned tries = 0, tries_locked = 0;

        for (;;) {
                char driver[FUNCTION_NAME_BYTES];
                int r = value_write(SYS_PCI "/drivers_probe", address);

                bool known = function_driver_read(address, driver) == 0;

                if (known && driver[0])
                        return wanted ? strcmp(driver, wanted) == 0 : strcmp(driver, VFIO_PCI) != 0;
                if (known && r == 0 && !wanted)
                        return true;

                if (r == 0) {
                        if (++tries >= PROBE_TRIES)
                                return false;
                } else if ((r != -EBUSY && r != -EINVAL) || ++tries_locked >= PROBE_TRIES_LOCKED)
                        return false;
                g_usleep(RETRY_USEC);
        }
}

/* snd_hda_intel looks for its codecs in the background, registers its sound card, and lets the
 * device sleep next (sound/pci/hda/hda_intel.c, azx_probe_continue()). It may find none. */
void function_probe_await(const char *address) {
        g_autofree char *cards = device_path(address, "sound");
        char driver[FUNCTION_NAME_BYTES];

        if (function_driver_read(address, driver) < 0 || strcmp(driver, "snd_hda_intel") != 0)
                return;
        for (unsigned i = 0; i < PROBE_TRIES && reading_exists(AT_FDCWD, cards) <= 0; i++)
                g_usleep(RETRY_USEC);
        g_usleep(RETRY_USEC);
}

int function_override_read(const char *address, char **ret) {
        g_autofree char *path = device_path(address, "driver_override");
        g_autofree char *text = NULL;
        int r = text_read(path, &text);

        if (r <= 0)
                return r < 0 ? r : -ENODEV;
        if (strcmp(text, "(null)") == 0)
                text[0] = '\0';
        *ret = g_steal_pointer(&text);
        return 0;
}

int function_override_write(const char *address, const char *name) {
        g_autofree char *path = device_path(address, "driver_override");
        g_autofree char *value = g_strconcat(name, "\n", NULL);

        return value_write(path, value);
}

/* @ret holds FUNCTION_POWER_BYTES. A text that does not fit is none that could be put back. */
static int power_value_read(const char *address, const char *attribute, char *ret) {
        g_autofree char *path = device_path(address, attribute);
        g_autofree char *text = NULL;
        int r = text_read(path, &text);

        ret[0] = '\0';
        if (r <= 0)
                return r;
        if (g_strlcpy(ret, text, FUNCTION_POWER_BYTES) >= FUNCTION_POWER_BYTES)
                ret[0] = '\0';
        return 0;
}

int function_power_read(const char *address, FunctionPower *ret) {
        int r = power_value_read(address, D3COLD_ALLOWED, ret->d3cold_allowed);

        return r < 0 ? r : power_value_read(address, POWER_CONTROL, ret->control);
}

/* The kernel may be built without runtime power management, or without ACPI. But an attribute of
 * which nothing could be read could not be put back, either. */
static int power_value_hold(const char *address, const char *attribute, const char *was,
                            const char *value) {
        g_autofree char *path = device_path(address, attribute);
        int r;

        if (was[0])
                return value_write(path, value);
        r = reading_exists(AT_FDCWD, path);
        return r == 0 ? 0 : unreadable(path, r < 0 ? r : -EIO);
}

/* D3cold is out of the question first, so that whatever sleeps meanwhile sleeps lightly. Either
 * write wakes the device before it returns (drivers/pci/pci-sysfs.c, d3cold_allowed_store();
 * drivers/base/power/runtime.c, pm_runtime_forbid()). vfio-pci allows its devices to sleep when it
 * probes them, and forbids it again only when it lets go of them (drivers/vfio/pci/vfio_pci_core.c,
 * vfio_pci_core_register_device() and vfio_pci_core_unregister_device()); d3cold_allowed is
 * nobody's but the user's. */
int function_power_hold(const char *address, const FunctionPower *was) {
        int r = power_value_hold(address, D3COLD_ALLOWED, was->d3cold_allowed, "0");

        return r < 0 ? r : power_value_hold(address, POWER_CONTROL, was->control, "on");
}

static int power_value_restore(const char *address, const char *attribute, const char *was) {
        g_autofree char *path = device_path(address, attribute);

        return was[0] ? value_write(path, was) : 0;
}

int function_power_restore(const char *address, const FunctionPower *was) {
        int r = power_value_restore(address, D3COLD_ALLOWED, was->d3cold_allowed);

        return r < 0 ? r : power_value_restore(address, POWER_CONTROL, was->control);
}

/* A device that has fallen off the bus reads as all ones (drivers/pci, PCI_ERROR_RESPONSE). One
 * that merely sleeps in D3cold is woken by the question (drivers/pci/pci.c,
 * pci_config_pm_runtime_get()).
 */
FunctionPresence function_ask(const char *address) {
        g_autofree char *path = device_path(address, "config");
        g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
        unsigned char id[4];
        ssize_t n;

        if (fd < 0 && reading_is_absence(-errno))
                return FUNCTION_GONE;
        do
                n = fd < 0 ? -1 : pread(fd, id, sizeof id, 0);
        while (fd >= 0 && n < 0 && errno == EINTR);
        if (n != (ssize_t)sizeof id) {
                (void)unreadable(path, n < 0 ? -errno : -EIO);
                return FUNCTION_UNREADABLE;
        }
        return (id[0] & id[1]) == 0xff && (id[2] & id[3]) == 0xff ? FUNCTION_SILENT
                                                                  : FUNCTION_ANSWERS;
}
