/* The only reader of /sys in the daemon's process. It refuses to know the attributes whose reading
 * can wait for the device lock or touch the hardware, for an unbind that never ends holds that lock
 * for ever: uevent and driver_override (drivers/base/core.c, drivers/pci/pci-sysfs.c), sriov_numvfs
 * (drivers/pci/iov.c of Linux 6.1), config, current_link_* and rom. What is left are values
 * that the kernel keeps in memory, links and folders. */
#include "pci-facts.h"

#include "autoptr.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define SYS_PCI_DEVICES  "/sys/bus/pci/devices"
#define SYS_IOMMU_GROUPS "/sys/kernel/iommu_groups"
#define SYS_VFIO_PCI     "/sys/bus/pci/drivers/vfio-pci"

#define CLASS_HOST_BRIDGE 0x0600
#define CLASS_PCI_BRIDGE  0x0604

#define BARS 6

static char *device_path(PciAddress address, const char *attribute) {
        char text[PCI_ADDRESS_BUFFER];

        return g_strdup_printf(SYS_PCI_DEVICES "/%s/%s", pci_address_print(address, text),
                               attribute);
}

/* The attribute's value without the white space around it; NULL when it cannot be read. */
static char *file_read(const char *path) {
        char buffer[4096];
        size_t length = 0;
        g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

        if (fd < 0)
                return NULL;

        while (length < sizeof buffer - 1) {
                ssize_t n = read(fd, buffer + length, sizeof buffer - 1 - length);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return NULL;
                if (n == 0)
                        break;
                length += (size_t)n;
        }

        buffer[length] = '\0';
        return g_strdup(g_strstrip(buffer));
}

static char *attribute_read(PciAddress address, const char *attribute) {
        g_autofree char *path = device_path(address, attribute);

        return file_read(path);
}

/* The last part of where a link of the device points to; NULL without such a link. */
static char *link_read_name(PciAddress address, const char *link) {
        char target[4096];
        g_autofree char *path = device_path(address, link);
        ssize_t n = readlink(path, target, sizeof target - 1);

        if (n < 0)
                return NULL;

        target[n] = '\0';
        return g_path_get_basename(target);
}

/* A number as the kernel prints it, "0x10de" or "-1"; @fallback when it is not there or none. */
static int64_t number_read(PciAddress address, const char *attribute, int64_t fallback) {
        g_autofree char *text = attribute_read(address, attribute);
        char *end;
        int64_t value;

        if (!text || !*text)
                return fallback;

        value = g_ascii_strtoll(text, &end, 0);
        return *end == '\0' ? value : fallback;
}

/* Counts the virtfn links, one for each virtual function that is switched on: the number in
 * sriov_numvfs would cost the device lock. */
static unsigned virtual_functions_count(PciAddress address) {
        g_autofree char *path = device_path(address, "");
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        const char *name;
        unsigned count = 0;

        while (dir && (name = g_dir_read_name(dir)))
                if (g_str_has_prefix(name, "virtfn"))
                        count++;
        return count;
}

int pci_facts_read_function(PciAddress address, PciFunction *ret) {
        g_autofree char *driver = NULL;
        g_autofree char *physfn = NULL;
        int64_t class = number_read(address, "class", -1);
        int64_t vendor = number_read(address, "vendor", -1);

        if (class < 0 || vendor < 0)
                return -ENODEV;

        *ret = (PciFunction){
                .address = address,
                .class = (uint32_t) class & 0xffffff,
                .vendor = (uint16_t)vendor,
                .device = (uint16_t)number_read(address, "device", 0),
                .subsystem_vendor = (uint16_t)number_read(address, "subsystem_vendor", 0),
                .subsystem_device = (uint16_t)number_read(address, "subsystem_device", 0),
                .enabled_vfs = virtual_functions_count(address),
        };

        driver = link_read_name(address, "driver");
        if (driver)
                g_strlcpy(ret->driver, driver, sizeof ret->driver);
        physfn = link_read_name(address, "physfn");
        ret->virtual_function = physfn != NULL;
        return 0;
}

/* -1 without a group. The groups that VFIO makes up for devices behind no IOMMU count as none:
 * nothing is isolated there (drivers/vfio, enable_unsafe_noiommu_mode). */
static int iommu_group_read(PciAddress address) {
        g_autofree char *number = link_read_name(address, "iommu_group");
        g_autofree char *path = NULL;
        g_autofree char *name = NULL;
        guint64 group;

        if (!number || !g_ascii_string_to_unsigned(number, 10, 0, INT_MAX, &group, NULL))
                return -1;

        path = g_strdup_printf(SYS_IOMMU_GROUPS "/%s/name", number);
        name = file_read(path);
        return g_strcmp0(name, "vfio-noiommu") == 0 ? -1 : (int)group;
}

static int function_compare(gconstpointer a, gconstpointer b) {
        return pci_address_compare(((const PciFunction *)a)->address,
                                   ((const PciFunction *)b)->address);
}

static bool function_is_bridge(const PciFunction *function) {
        return function->class >> 8 == CLASS_PCI_BRIDGE ||
               function->class >> 8 == CLASS_HOST_BRIDGE;
}

/* Everybody else in @group, sorted into those of the same slot and those of others. */
static void group_read(PciAddress address, int group, GArray *companions, GArray *neighbours) {
        g_autofree char *path = g_strdup_printf(SYS_IOMMU_GROUPS "/%d/devices", group);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
                PciAddress other;
                PciFunction function;

                if (!pci_address_parse(name, &other) || pci_address_equal(other, address) ||
                    pci_facts_read_function(other, &function) < 0)
                        continue;
                if (pci_address_same_slot(other, address))
                        g_array_append_val(companions, function);
                else if (!function_is_bridge(&function))
                        g_array_append_val(neighbours, function);
        }

        g_array_sort(companions, function_compare);
        g_array_sort(neighbours, function_compare);
}

/* "resource" has a line "start end flags" for each resource, the BARs first
 * (drivers/pci/pci-sysfs.c); the second half of a 64-bit BAR and a BAR that is not there are zeros.
 */
static void bars_read(PciAddress address, GArray *sizes) {
        g_autofree char *text = attribute_read(address, "resource");
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
}

static char **reset_methods_read(PciAddress address) {
        g_autofree char *text = attribute_read(address, "reset_method");
        g_autoptr(GStrvBuilder) methods = g_strv_builder_new();
        g_auto(GStrv) words = g_strsplit_set(text ?: "", " \t", -1);

        for (char **word = words; *word; word++)
                if (**word)
                        g_strv_builder_add(methods, *word);
        return g_strv_builder_end(methods);
}

int pci_facts_read(PciAddress address, DeviceFacts **ret) {
        g_autoptr(DeviceFacts) facts = device_facts_new();
        int r = pci_facts_read_function(address, &facts->function);

        if (r < 0)
                return r;

        facts->iommu_group = iommu_group_read(address);
        if (facts->iommu_group >= 0)
                group_read(address, facts->iommu_group, facts->companions, facts->neighbours);
        facts->numa_node = (int)number_read(address, "numa_node", -1);
        facts->boot_display = number_read(address, "boot_vga", 0) == 1;
        bars_read(address, facts->bar_sizes);
        g_strfreev(facts->reset_methods);
        facts->reset_methods = reset_methods_read(address);

        *ret = g_steal_pointer(&facts);
        return 0;
}

GArray *pci_facts_read_card(PciAddress address) {
        g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(PciFunction));
        g_autoptr(GArray) neighbours = g_array_new(FALSE, TRUE, sizeof(PciFunction));
        PciFunction function;
        int group;

        if (pci_facts_read_function(address, &function) < 0)
                return g_steal_pointer(&functions);

        group = iommu_group_read(address);
        if (group >= 0)
                group_read(address, group, functions, neighbours);
        g_array_append_val(functions, function);
        g_array_sort(functions, function_compare);
        return g_steal_pointer(&functions);
}

GArray *pci_facts_read_slot_gpus(PciAddress address) {
        GArray *gpus = g_array_new(FALSE, TRUE, sizeof(PciAddress));

        for (uint8_t number = 0; number < 8; number++) {
                PciAddress other = address;
                PciFunction function;

                other.function = number;
                if (pci_facts_read_function(other, &function) == 0 && !function.virtual_function &&
                    pci_function_is_gpu(&function))
                        g_array_append_val(gpus, other);
        }
        return gpus;
}

static bool folder_has_entries(const char *path) {
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);

        return dir && g_dir_read_name(dir);
}

void pci_facts_read_host(HostFacts *ret) {
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        long pages = sysconf(_SC_PHYS_PAGES);
        long page_size = sysconf(_SC_PAGESIZE);

        *ret = (HostFacts){
                .iommu = folder_has_entries(SYS_IOMMU_GROUPS),
                .vfio = access(SYS_VFIO_PCI, F_OK) == 0,
                .cpus = cpus > 0 ? (unsigned)cpus : 1,
                .memory_mib = pages > 0 && page_size > 0
                                      ? (uint64_t)pages * (uint64_t)page_size >> 20
                                      : 0,
        };
}
