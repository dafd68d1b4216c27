/* The only reader of /sys in the daemon's process, and of /proc/iomem, which tells of the same. It
 * refuses to know the attributes whose reading
 * can wait for the device lock or touch the hardware, for an unbind that never ends holds that lock
 * for ever: uevent and driver_override (drivers/base/core.c, drivers/pci/pci-sysfs.c), sriov_numvfs
 * (drivers/pci/iov.c of Linux 6.1), config, current_link_* and rom. What is left are values
 * that the kernel keeps in memory, links and folders. */
#include "pci-facts.h"

#include "reading.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SYS_PCI_DEVICES  "/sys/bus/pci/devices"
#define SYS_IOMMU_GROUPS "/sys/kernel/iommu_groups"
#define SYS_VFIO_PCI     "/sys/bus/pci/drivers/vfio-pci"

#define SYS_IRQ          "/sys/kernel/irq"
#define SYS_ALLOW_UNSAFE "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"

#define IO_APIC_INTERRUPTS 256 /* one of the first ones is at an IO-APIC where there is any */

#define PROC_IOMEM "/proc/iomem"

#define BARS         6
#define RESOURCE_MEM 0x200 /* IORESOURCE_MEM, include/linux/ioport.h */

static char *device_path(PciAddress address, const char *attribute) {
        char text[PCI_ADDRESS_BUFFER];

        return g_strdup_printf(SYS_PCI_DEVICES "/%s/%s", pci_address_print(address, text),
                               attribute);
}

/* The value without the white space around it, a new string; NULL when there is no such file. 0 or
 * a negative errno. */
static int file_read(const char *path, char **ret) {
        return reading_error(reading_text(AT_FDCWD, path, ret));
}

static int attribute_read(PciAddress address, const char *attribute, char **ret) {
        g_autofree char *path = device_path(address, attribute);

        return file_read(path, ret);
}

/* The last part of where a link of the device points to, a new string; NULL without such a link. 0
 * or a negative errno. */
static int link_read_name(PciAddress address, const char *link, char **ret) {
        g_autofree char *path = device_path(address, link);

        return reading_error(reading_link_name(AT_FDCWD, path, ret));
}

/* The names in a folder, none where there is no folder. 0 or a negative errno; @ret is set in any
 * case. */
static int folder_read(const char *path, GPtrArray **ret) {
        int r = reading_folder(AT_FDCWD, path, ret);

        if (!*ret)
                *ret = g_ptr_array_new();
        return MIN(r, 0);
}

/* A number as the kernel prints it, "0x10de" or "-1"; @fallback when it is not there or none. 0 or
 * a negative errno. */
static int number_read(PciAddress address, const char *attribute, int64_t fallback, int64_t *ret) {
        g_autofree char *text = NULL;
        char *end;
        int r = attribute_read(address, attribute, &text);

        *ret = fallback;
        if (r == 0 && text && *text) {
                int64_t value = g_ascii_strtoll(text, &end, 0);

                if (*end == '\0')
                        *ret = value;
        }
        return r;
}

/* Counts the virtfn links, one for each virtual function that is switched on: the number in
 * sriov_numvfs would cost the device lock. */
static int virtual_functions_count(PciAddress address, unsigned *ret) {
        g_autofree char *path = device_path(address, "");
        g_autoptr(GPtrArray) names = NULL;
        int r = folder_read(path, &names);

        *ret = 0;
        for (guint i = 0; i < names->len; i++)
                if (g_str_has_prefix(g_ptr_array_index(names, i), "virtfn"))
                        (*ret)++;
        return r;
}

/* 0, -ENODEV or another negative errno. */
static int device_is_there(PciAddress address) {
        g_autofree char *path = device_path(address, "");
        int r = reading_exists(AT_FDCWD, path);

        return r > 0 ? 0 : r == 0 ? -ENODEV : r;
}

/* What lacks one of the numbers that every device has is none; unless it is there, and then nobody
 * knows. A negative errno. */
static int numberless(PciAddress address) {
        int r = device_is_there(address);

        return r < 0 ? r : -EIO;
}

/* The numbers that tell what it is. */
static int identity_read(PciAddress address, PciFunction *ret) {
        static const struct {
                const char *attribute;
                size_t at;
        } numbers[] = {
                { "vendor", offsetof(PciFunction, vendor) },
                { "device", offsetof(PciFunction, device) },
                { "subsystem_vendor", offsetof(PciFunction, subsystem_vendor) },
                { "subsystem_device", offsetof(PciFunction, subsystem_device) },
        };
        int64_t value;
        int r = number_read(address, "class", -1, &value);

        *ret = (PciFunction){ .address = address, .class = (uint32_t)value & 0xffffff };
        if (r < 0 || value < 0)
                return r < 0 ? r : numberless(address);

        for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
                r = number_read(address, numbers[i].attribute, -1, &value);
                if (r < 0 || value < 0)
                        return r < 0 ? r : numberless(address);
                *(uint16_t *)((char *)ret + numbers[i].at) = (uint16_t)value;
        }
        return 0;
}

int pci_facts_read_function(PciAddress address, PciFunction *ret) {
        g_autofree char *driver = NULL;
        g_autofree char *physfn = NULL;
        int r = identity_read(address, ret);

        if (r == 0)
                r = virtual_functions_count(address, &ret->enabled_vfs);
        if (r == 0)
                r = link_read_name(address, "driver", &driver);
        if (r == 0)
                r = link_read_name(address, "physfn", &physfn);
        if (r < 0)
                return r;

        g_strlcpy(ret->driver, driver ?: "", sizeof ret->driver);
        ret->virtual_function = physfn != NULL;
        return 0;
}

/* -1 without a group. The groups that VFIO makes up for devices behind no IOMMU count as none:
 * nothing is isolated there (drivers/vfio, enable_unsafe_noiommu_mode). 0 or a negative errno. */
static int iommu_group_read(PciAddress address, int *ret) {
        g_autofree char *number = NULL;
        g_autofree char *path = NULL;
        g_autofree char *name = NULL;
        guint64 group;
        int r = link_read_name(address, "iommu_group", &number);

        *ret = -1;
        if (r < 0 || !number || !g_ascii_string_to_unsigned(number, 10, 0, INT_MAX, &group, NULL))
                return r;

        path = g_strdup_printf(SYS_IOMMU_GROUPS "/%s/name", number);
        r = file_read(path, &name);
        if (r == 0 && g_strcmp0(name, "vfio-noiommu") != 0)
                *ret = (int)group;
        return r;
}

static int function_compare(gconstpointer a, gconstpointer b) {
        return pci_address_compare(((const PciFunction *)a)->address,
                                   ((const PciFunction *)b)->address);
}

/* Everybody else in @group, sorted into those of the same slot and those of others. One that goes
 * meanwhile is left out. 0 or a negative errno. */
static int group_read(PciAddress address, int group, GArray *companions, GArray *neighbours) {
        g_autofree char *path = g_strdup_printf(SYS_IOMMU_GROUPS "/%d/devices", group);
        g_autoptr(GPtrArray) names = NULL;
        int r = folder_read(path, &names);

        for (guint i = 0; r == 0 && i < names->len; i++) {
                PciAddress other;
                PciFunction function;

                if (!pci_address_parse(g_ptr_array_index(names, i), &other) ||
                    pci_address_equal(other, address))
                        continue;
                r = pci_facts_read_function(other, &function);
                if (r == -ENODEV) {
                        r = 0;
                        continue;
                }
                if (r < 0)
                        break;
                if (pci_address_same_slot(other, address))
                        g_array_append_val(companions, function);
                else
                        g_array_append_val(neighbours, function);
        }

        g_array_sort(companions, function_compare);
        g_array_sort(neighbours, function_compare);
        return r;
}

static bool name_is_firmware_framebuffer(const char *name) {
        /* The names under which sysfb and the drivers of its devices take the memory
         * (drivers/firmware/sysfb_simplefb.c; drivers/video/fbdev/efifb.c, vesafb.c, simplefb.c;
         * drivers/gpu/drm/tiny/simpledrm.c, since 6.16 drivers/gpu/drm/sysfb). */
        static const char *const names[] = {
                "BOOTFB", "efidrm", "efifb", "simpledrm", "simplefb", "vesadrm", "vesafb", NULL,
        };

        return g_strv_contains(names, name) || g_str_has_prefix(name, "simple-framebuffer");
}

/* Looks in the kernel's list of who has which memory ("  fd000000-fd2fffff : vesafb"; the numbers
 * are zeros for those without CAP_SYS_ADMIN) for a framebuffer that the firmware has set up and
 * that touches one of the memory BARs, lines of the attribute "resource". A new string, "" for
 * none. */
static char *framebuffer_find(const char *memory, const char *resource) {
        g_auto(GStrv) lines = g_strsplit(memory, "\n", -1);
        g_auto(GStrv) bars = g_strsplit(resource, "\n", BARS + 1);

        for (char **line = lines; *line; line++) {
                const char *name = strstr(*line, " : ");
                unsigned long long from, to, start, end, flags;

                if (!name || !name_is_firmware_framebuffer(name + strlen(" : ")) ||
                    sscanf(*line, "%llx-%llx", &from, &to) != 2 || to == 0)
                        continue;
                for (guint i = 0; i < BARS && bars[i]; i++)
                        if (sscanf(bars[i], "%llx %llx %llx", &start, &end, &flags) == 3 &&
                            (flags & RESOURCE_MEM) && start <= to && from <= end)
                                return g_strdup(name + strlen(" : "));
        }
        return g_strdup("");
}

/* "" where none of its memory is the firmware's framebuffer. 0 or a negative errno. */
static int framebuffer_read(PciAddress address, char **ret) {
        g_autofree char *memory = NULL;
        g_autofree char *resource = NULL;
        int r = file_read(PROC_IOMEM, &memory);

        *ret = NULL;
        if (r == 0)
                r = attribute_read(address, "resource", &resource);
        if (r == 0)
                *ret = framebuffer_find(memory ?: "", resource ?: "");
        return r;
}

/* "resource" has a line "start end flags" for each resource, the BARs first
 * (drivers/pci/pci-sysfs.c); the second half of a 64-bit BAR and a BAR that is not there are zeros.
 */
static int bars_read(PciAddress address, GArray *sizes) {
        g_autofree char *text = NULL;
        int r = attribute_read(address, "resource", &text);
        g_auto(GStrv) lines = g_strsplit(text ?: "", "\n", BARS + 1);
        size_t count = g_strv_length(lines);

        g_array_set_size(sizes, BARS);
        for (size_t i = 0; i < BARS; i++) {
                uint64_t *size = &g_array_index(sizes, uint64_t, i);
                unsigned long long start, end, flags;

                *size = 0;
                if (i < count && sscanf(lines[i], "%llx %llx %llx", &start, &end, &flags) == 3 &&
                    flags != 0 && end >= start)
                        *size = end - start + 1;
        }
        return r;
}

static int reset_methods_read(PciAddress address, char ***ret) {
        g_autofree char *text = NULL;
        int r = attribute_read(address, "reset_method", &text);
        g_autoptr(GStrvBuilder) methods = g_strv_builder_new();
        g_auto(GStrv) words = g_strsplit_set(text ?: "", " \t", -1);

        for (char **word = words; *word; word++)
                if (**word)
                        g_strv_builder_add(methods, *word);
        *ret = g_strv_builder_end(methods);
        return r;
}

static bool card_has(const DeviceFacts *facts, PciAddress address) {
        if (pci_address_equal(facts->function.address, address))
                return true;
        for (guint i = 0; i < facts->companions->len; i++)
                if (pci_address_equal(g_array_index(facts->companions, PciFunction, i).address,
                                      address))
                        return true;
        return false;
}

/* Whether all that is on the card's bus is the card: then whoever has all of it can reset it by the
 * bridge (Linux, VFIO_DEVICE_PCI_HOT_RESET), and QEMU does. False on a root bus, which has none. 0
 * or a negative errno. */
static int bus_reset_read(const DeviceFacts *facts, bool *ret) {
        char shown[PCI_ADDRESS_BUFFER];
        g_autofree char *link = g_strdup_printf(SYS_PCI_DEVICES "/%s",
                                                pci_address_print(facts->function.address, shown));
        g_autofree char *target = NULL;
        g_autofree char *above = NULL;
        g_autofree char *bridge = NULL;
        g_autofree char *path = NULL;
        g_autoptr(GPtrArray) names = NULL;
        PciAddress address;
        int r = reading_link(AT_FDCWD, link, &target);

        *ret = false;
        if (r <= 0)
                return r;
        above = g_path_get_dirname(target);
        bridge = g_path_get_basename(above);
        if (!pci_address_parse(bridge, &address))
                return 0;

        path = device_path(address, "");
        r = reading_folder(AT_FDCWD, path, &names);
        *ret = r > 0;
        for (guint i = 0; r > 0 && i < names->len; i++)
                if (pci_address_parse(g_ptr_array_index(names, i), &address) &&
                    !card_has(facts, address))
                        *ret = false;
        return MIN(r, 0);
}

/* The attribute "reset" is there where the kernel has found a way, on every kernel; "reset_method"
 * since 5.15, and an administrator may have emptied it (drivers/pci/pci-sysfs.c, pci.c). 0 or a
 * negative errno. */
static int no_reset_read(const DeviceFacts *facts, bool *ret) {
        g_autofree char *reset = device_path(facts->function.address, "reset");
        g_autofree char *methods = NULL;
        bool by_bus = false;
        int there, r = attribute_read(facts->function.address, "reset_method", &methods);

        if (r == 0)
                r = bus_reset_read(facts, &by_bus);
        there = reading_exists(AT_FDCWD, reset);
        *ret = !by_bus && (there == 0 || (methods && !*methods));
        return r < 0 ? r : MIN(there, 0);
}

/* Both attributes are what the kernel remembers; the device is not asked. 0 or a negative errno. */
static int power_read(PciAddress address, DevicePower *ret) {
        static const char *const slept[] = { "suspended", "suspending", "resuming", NULL };
        g_autofree char *state = NULL;
        g_autofree char *status = NULL;
        int r = attribute_read(address, "power_state", &state);

        if (r == 0)
                r = attribute_read(address, "power/runtime_status", &status);
        if (g_strcmp0(state, "D3cold") != 0)
                *ret = POWER_ON;
        else
                *ret = status && g_strv_contains(slept, status) ? POWER_ASLEEP : POWER_OFF;
        return r;
}

int pci_facts_read(PciAddress address, DeviceFacts **ret) {
        g_autoptr(DeviceFacts) facts = device_facts_new();
        int64_t numa_node = -1, boot_vga = 0;
        int r = pci_facts_read_function(address, &facts->function);

        if (r == 0)
                r = iommu_group_read(address, &facts->iommu_group);
        if (r == 0 && facts->iommu_group >= 0)
                r = group_read(address, facts->iommu_group, facts->companions, facts->neighbours);
        if (r == 0)
                r = number_read(address, "numa_node", -1, &numa_node);
        if (r == 0)
                r = number_read(address, "boot_vga", 0, &boot_vga);
        if (r == 0)
                r = bars_read(address, facts->bar_sizes);
        if (r == 0) {
                g_strfreev(facts->reset_methods);
                r = reset_methods_read(address, &facts->reset_methods);
        }
        if (r == 0)
                r = no_reset_read(facts, &facts->no_reset);
        if (r == 0)
                r = power_read(address, &facts->power);
        if (r == 0) {
                g_clear_pointer(&facts->boot_framebuffer, g_free);
                r = framebuffer_read(address, &facts->boot_framebuffer);
        }
        /* What it seemed to lack may have gone with it meanwhile. */
        if (r == 0)
                r = device_is_there(address);
        if (r < 0)
                return r;

        facts->numa_node = (int)numa_node;
        facts->boot_display = boot_vga == 1 || facts->boot_framebuffer[0];
        *ret = g_steal_pointer(&facts);
        return 0;
}

int pci_facts_read_card(PciAddress address, GArray **ret) {
        g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(PciFunction));
        g_autoptr(GArray) neighbours = g_array_new(FALSE, TRUE, sizeof(PciFunction));
        PciFunction function;
        int group = -1;
        int r = pci_facts_read_function(address, &function);

        if (r == 0)
                r = iommu_group_read(address, &group);
        if (r == 0 && group >= 0)
                r = group_read(address, group, functions, neighbours);
        if (r < 0)
                return r;

        g_array_append_val(functions, function);
        g_array_sort(functions, function_compare);
        *ret = g_steal_pointer(&functions);
        return 0;
}

/* Appends @address when it is a GPU, or may be one: a device that fails to say what it is must not
 * hide all others. That there is nothing is fine. 0 or a negative errno. */
static int gpu_add(PciAddress address, GArray *gpus) {
        PciFunction function;
        int r = pci_facts_read_function(address, &function);

        if (r == -EIO || (r == 0 && !function.virtual_function && pci_function_is_gpu(&function)))
                g_array_append_val(gpus, address);
        return r == -ENODEV || r == -EIO ? 0 : r;
}

int pci_facts_read_slot_gpus(PciAddress address, GArray **ret) {
        g_autoptr(GArray) gpus = g_array_new(FALSE, TRUE, sizeof(PciAddress));

        for (uint8_t number = 0; number < 8; number++) {
                PciAddress other = address;
                int r;

                other.function = number;
                r = gpu_add(other, gpus);
                if (r < 0)
                        return r;
        }
        *ret = g_steal_pointer(&gpus);
        return 0;
}

static int address_compare(gconstpointer a, gconstpointer b) {
        return pci_address_compare(*(const PciAddress *)a, *(const PciAddress *)b);
}

int pci_facts_read_gpus(GArray **ret) {
        g_autoptr(GArray) gpus = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_autoptr(GPtrArray) names = NULL;
        int r = folder_read(SYS_PCI_DEVICES, &names);

        for (guint i = 0; r == 0 && i < names->len; i++) {
                PciAddress address;

                if (pci_address_parse(g_ptr_array_index(names, i), &address))
                        r = gpu_add(address, gpus);
        }
        if (r < 0)
                return r;

        g_array_sort(gpus, address_compare);
        *ret = g_steal_pointer(&gpus);
        return 0;
}

/* 1, 0 or a negative errno. */
static int folder_has_entries(const char *path) {
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_folder(AT_FDCWD, path, &names);

        return r > 0 ? names->len > 0 : r;
}

/* Whether the host's own interrupts reach the processors without the IOMMU, which says of all that
 * they do: remapping is on for the whole host or not at all (x86; irq_remapping_enabled in
 * drivers/iommu/irq_remapping.c). Where it is on, the chip's name is IR-IO-APIC
 * (arch/x86/kernel/apic/io_apic.c). False where that is not known, as where there is no such chip.
 */
static bool interrupts_are_direct(void) {
        for (unsigned i = 0; i < IO_APIC_INTERRUPTS; i++) {
                g_autofree char *path = g_strdup_printf(SYS_IRQ "/%u/chip_name", i);
                g_autofree char *chip = NULL;
                int r = reading_text(AT_FDCWD, path, &chip);

                if (r < 0)
                        return false;
                if (r > 0 && g_str_has_suffix(chip, "IO-APIC"))
                        return strcmp(chip, "IO-APIC") == 0;
        }
        return false;
}

/* VFIO refuses then, unless the administrator takes the risk; unknown is not refused. */
static bool interrupts_are_unsafe(void) {
        g_autofree char *allowed = NULL;

        return interrupts_are_direct() && reading_text(AT_FDCWD, SYS_ALLOW_UNSAFE, &allowed) > 0 &&
               strcmp(allowed, "N") == 0;
}

void pci_facts_read_host(HostFacts *ret) {
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        long pages = sysconf(_SC_PHYS_PAGES);
        long page_size = sysconf(_SC_PAGESIZE);
        int iommu = folder_has_entries(SYS_IOMMU_GROUPS);
        int vfio = reading_exists(AT_FDCWD, SYS_VFIO_PCI);

        *ret = (HostFacts){
                .unread = iommu < 0 || vfio<0, .iommu = iommu> 0,
                .vfio = vfio > 0,
                .unsafe_interrupts = interrupts_are_unsafe(),
                .cpus = cpus > 0 ? (unsigned)cpus : 1,
                .memory_mib = pages > 0 && page_size > 0
                                      ? (uint64_t)pages * (uint64_t)page_size >> 20
                                      : 0,
        };
}
