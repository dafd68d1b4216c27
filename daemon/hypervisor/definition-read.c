/* Reads what a definition says of a machine's next start: the counterpart of what domain-xml.c and
 * device-xml.c write, and of what libvirt and people make of it afterwards. What Create has no word
 * for is left out, for libvirt to judge. */
#include "hypervisor/definition-read.h"

#include "hypervisor/device-xml.h"
#include "hypervisor/domain-files.h"
#include "hypervisor/metadata-read.h"

#include <string.h>

#define BOOT_TARGET "vda"

static uint64_t digits_get(const char *text, uint64_t most) {
        g_autofree char *digits = g_strdup(text ?: "");
        guint64 value;

        return g_ascii_string_to_unsigned(g_strstrip(digits), 10, 0, most, &value, NULL) ? value
                                                                                         : 0;
}

/* libvirt writes sizes in KiB; people may write "GiB" before it has read them. */
static uint64_t unit_in_kib(const char *unit) {
        if (g_strcmp0(unit, "MiB") == 0 || g_strcmp0(unit, "M") == 0)
                return 1024;
        if (g_strcmp0(unit, "GiB") == 0 || g_strcmp0(unit, "G") == 0)
                return 1024 * 1024;
        return 1;
}

static void read_vcpus(xmlXPathContext *context, Request *request) {
        g_autofree char *most = xml_find_text(context, "/domain/vcpu");
        g_autofree char *current = xml_find_text(context, "/domain/vcpu/@current");

        request->max_vcpus = (uint32_t)digits_get(most, UINT32_MAX);
        request->vcpus = current ? (uint32_t)digits_get(current, UINT32_MAX) : request->max_vcpus;
}

static void read_memory(xmlXPathContext *context, Request *request) {
        g_autofree char *memory = xml_find_text(context, "/domain/memory");
        g_autofree char *unit = xml_find_text(context, "/domain/memory/@unit");

        request->memory_mib = digits_get(memory, UINT64_MAX >> 20) * unit_in_kib(unit) / 1024;
}

static RequestHugepages hugepages_get(xmlXPathContext *context) {
        g_autoptr(xmlXPathObject) huge = xml_find(context, "/domain/memoryBacking/hugepages");
        g_autofree char *size =
                xml_find_text(context, "/domain/memoryBacking/hugepages/page[1]/@size");
        g_autofree char *unit =
                xml_find_text(context, "/domain/memoryBacking/hugepages/page[1]/@unit");

        if (!huge)
                return HUGEPAGES_NONE;
        switch (digits_get(size, UINT32_MAX) * unit_in_kib(unit)) {
        case 2048:
                return HUGEPAGES_2M;
        case 1048576:
                return HUGEPAGES_1G;
        default:
                return HUGEPAGES_OTHER;
        }
}

/* Firmware that is named by its file is not libvirt's to choose. */
static RequestFirmware firmware_get(xmlXPathContext *context) {
        g_autofree char *firmware = xml_find_text(context, "/domain/os/@firmware");
        g_autofree char *loader = xml_find_text(context, "/domain/os/loader");

        if (g_strcmp0(firmware, "efi") == 0)
                return FIRMWARE_UEFI;
        return loader ? FIRMWARE_DEFAULT : FIRMWARE_BIOS;
}

static void read_os(xmlXPathContext *context, Request *request) {
        request->firmware = firmware_get(context);
        request->kernel = xml_find_text(context, "/domain/os/kernel");
        request->initrd = xml_find_text(context, "/domain/os/initrd");
        request->cmdline = xml_find_text(context, "/domain/os/cmdline");
}

/* The id that we gave the device, NULL when it is somebody else's. */
static char *id_get(xmlNode *element, const char *prefix) {
        g_autofree char *alias = xml_child_attribute(element, "alias", "name");

        return alias && g_str_has_prefix(alias, prefix) ? g_strdup(alias + strlen(prefix)) : NULL;
}

/* The name of what the disk is made of, NULL when it has none in this host's file systems. */
static char *disk_path(xmlNode *element, const VolumeFinder *volumes, bool *ret_unknown) {
        xmlNode *source = xml_child(element, "source");
        g_autofree char *path = NULL, *pool = NULL, *volume = NULL;

        *ret_unknown = false;
        if (!source)
                return NULL;
        path = xml_attribute(source, "file") ?: xml_attribute(source, "dev");
        pool = xml_attribute(source, "pool");
        volume = xml_attribute(source, "volume");
        if (path || !pool || !volume)
                return g_steal_pointer(&path);
        path = volume_find(source, volumes);
        *ret_unknown = !path;
        if (!path)
                return g_strconcat(pool, "/", volume, NULL);
        return path[0] == '/' ? g_steal_pointer(&path) : NULL;
}

static DeviceRequest *disk_read(xmlNode *element, const VolumeFinder *volumes) {
        g_autofree char *type = xml_child_attribute(element, "driver", "type");
        g_autofree char *kind = xml_attribute(element, "type");
        bool unknown;
        g_autofree char *path = disk_path(element, volumes, &unknown);
        DeviceRequest *disk;

        if (!path)
                return NULL;
        disk = device_request_new(DEVICE_DISK);
        disk->id = id_get(element, DEVICE_ALIAS_DISK);
        disk->path = g_steal_pointer(&path);
        disk->volume_unknown = unknown;
        disk->block = g_strcmp0(kind, "block") == 0;
        disk->format = g_strcmp0(type, "qcow2") == 0 ? IMAGE_QCOW2 : IMAGE_RAW;
        disk->format_given = true;
        disk->read_only = xml_child(element, "readonly") != NULL;
        return disk;
}

/* The boot disk has no id of ours, as nobody can ask for it. */
static bool disk_is_boot(xmlNode *element, const Request *request, const DeviceRequest *disk) {
        g_autofree char *target = xml_child_attribute(element, "target", "dev");

        return !request->image && !disk->id && !disk->read_only && !disk->volume_unknown &&
               g_strcmp0(target, BOOT_TARGET) == 0;
}

static void read_disk(xmlNode *element, const VolumeFinder *volumes, Request *request) {
        g_autoptr(DeviceRequest) disk = disk_read(element, volumes);

        if (disk && disk_is_boot(element, request, disk)) {
                request->image = g_steal_pointer(&disk->path);
                request->image_format = disk->format;
                request->image_format_given = true;
                request->image_block = disk->block;
        } else if (disk)
                g_ptr_array_add(request->disks, g_steal_pointer(&disk));
}

/* What is the source of each type of interface that Create knows, and where it is said. A bridge
 * of another kind than the kernel's, and a tap device that libvirt makes, are not for us to find.
 */
static char *nic_source(xmlNode *element, NicType *ret) {
        g_autofree char *type = xml_attribute(element, "type");
        g_autofree char *managed = xml_child_attribute(element, "target", "managed");

        if (g_strcmp0(type, "network") == 0) {
                *ret = NIC_NETWORK;
                return xml_child_attribute(element, "source", "network");
        }
        if (g_strcmp0(type, "bridge") == 0 && !xml_child(element, "virtualport")) {
                *ret = NIC_BRIDGE;
                return xml_child_attribute(element, "source", "bridge");
        }
        if (g_strcmp0(type, "ethernet") == 0 && g_strcmp0(managed, "no") == 0) {
                *ret = NIC_TAP;
                return xml_child_attribute(element, "target", "dev");
        }
        return NULL;
}

static void read_nic(xmlNode *element, Request *request) {
        NicType type = NIC_NETWORK;
        g_autofree char *source = nic_source(element, &type);
        DeviceRequest *nic;

        if (!source)
                return;
        nic = device_request_new(DEVICE_NIC);
        nic->id = id_get(element, DEVICE_ALIAS_NIC);
        nic->type = type;
        nic->source = g_steal_pointer(&source);
        nic->mac = xml_child_attribute(element, "mac", "address");
        g_ptr_array_add(request->nics, nic);
}

static void read_disks(xmlXPathContext *context, const VolumeFinder *volumes, Request *request) {
        g_autoptr(xmlXPathObject) found = xml_find(context, "/domain/devices/disk");

        for (int i = 0; found && i < found->nodesetval->nodeNr; i++)
                read_disk(found->nodesetval->nodeTab[i], volumes, request);
}

static void read_nics(xmlXPathContext *context, Request *request) {
        g_autoptr(xmlXPathObject) found = xml_find(context, "/domain/devices/interface");

        for (int i = 0; found && i < found->nodesetval->nodeNr; i++)
                read_nic(found->nodesetval->nodeTab[i], request);
}

/* Wherever there is a PCI function of the host; "managed" stands at the
 * device, and of an NVMe disk at its source. */
static void read_hostdevs(xmlXPathContext *context, GArray *hostdevs) {
        g_autoptr(xmlXPathObject) found = xml_find(context, XML_HOST_FUNCTIONS);

        for (int i = 0; found && i < found->nodesetval->nodeNr; i++) {
                xmlNode *address = found->nodesetval->nodeTab[i];
                g_autofree char *of_source = xml_attribute(address->parent, "managed");
                g_autofree char *of_device = xml_attribute(address->parent->parent, "managed");
                DefinedHostdev hostdev = {
                        .managed = g_strcmp0(of_source ?: of_device, "yes") == 0,
                };

                if (xml_address(address, &hostdev.address))
                        g_array_append_val(hostdevs, hostdev);
        }
}

Request *definition_read(xmlXPathContext *context, const VolumeFinder *volumes, GArray *hostdevs) {
        g_autofree char *name = xml_find_text(context, "/domain/name");
        Request *request = request_new_empty(name ?: "");

        /* Create has asked about the host's console; the machine that it made may have it. */
        request->allow_boot_display = true;
        request->uuid = xml_find_text(context, "/domain/uuid");
        metadata_read_gpus(context, request->gpus, NULL);
        read_vcpus(context, request);
        read_memory(context, request);
        request->hugepages = hugepages_get(context);
        read_os(context, request);
        read_disks(context, volumes, request);
        read_nics(context, request);
        read_hostdevs(context, hostdevs);
        return request;
}
