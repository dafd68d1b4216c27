/* Disks and NICs as libvirt knows them. It decides what they look like to the guest, and refuses to
 * know whether their files and networks exist. */
#include "hypervisor/device-xml.h"

#include <errno.h>
#include <string.h>

#define SERIAL_BYTES 20

char *device_alias(DeviceKind kind, const char *id) {
        return g_strconcat(kind == DEVICE_DISK ? DEVICE_ALIAS_DISK : DEVICE_ALIAS_NIC, id, NULL);
}

char *disk_target(unsigned index) {
        GString *target = g_string_new(NULL);

        /* Counting without a zero: after z comes aa. */
        for (unsigned n = index + 1; n > 0; n = (n - 1) / 26)
                g_string_prepend_c(target, (char)('a' + (n - 1) % 26));
        g_string_prepend(target, "vd");
        return g_string_free(target, FALSE);
}

void disk_write(Writer *writer, const char *path, bool block, ImageFormat format, bool read_only,
                const char *target, const char *id, bool boot) {
        g_autofree char *alias = id ? device_alias(DEVICE_DISK, id) : NULL;
        g_autofree char *serial = id ? g_strndup(id, SERIAL_BYTES) : NULL;

        /* QEMU opens a block device and a file with different drivers and refuses the wrong one. */
        writer_open(writer, "disk", "type", block ? "block" : "file", "device", "disk", NULL);
        writer_leaf(writer, "driver", "name", "qemu", "type",
                    format == IMAGE_QCOW2 ? "qcow2" : "raw", NULL);
        writer_leaf(writer, "source", block ? "dev" : "file", path, NULL);
        /* Ends the chain here: a qcow2 that names another file as its backing does not get it. */
        writer_leaf(writer, "backingStore", NULL);
        writer_leaf(writer, "target", "dev", target, "bus", "virtio", NULL);
        if (read_only)
                writer_leaf(writer, "readonly", NULL);
        if (serial)
                writer_text(writer, "serial", serial);
        if (boot)
                writer_leaf(writer, "boot", "order", "1", NULL);
        if (alias)
                writer_leaf(writer, "alias", "name", alias, NULL);
        writer_close(writer);
}

static void nic_write(Writer *writer, const DeviceRequest *nic) {
        g_autofree char *alias = device_alias(DEVICE_NIC, nic->id);
        static const char *const types[] = {
                [NIC_NETWORK] = "network",
                [NIC_BRIDGE] = "bridge",
                [NIC_TAP] = "ethernet",
        };

        writer_open(writer, "interface", "type", types[nic->type], NULL);
        if (nic->mac)
                writer_leaf(writer, "mac", "address", nic->mac, NULL);
        /* A tap device that is there already: libvirt is to use it as it is, and to leave it. */
        if (nic->type == NIC_TAP)
                writer_leaf(writer, "target", "dev", nic->source, "managed", "no", NULL);
        else
                writer_leaf(writer, "source", types[nic->type], nic->source, NULL);
        writer_leaf(writer, "model", "type", "virtio", NULL);
        writer_leaf(writer, "alias", "name", alias, NULL);
        writer_close(writer);
}

void device_write(Writer *writer, const DeviceRequest *device, const char *target) {
        if (device->kind == DEVICE_DISK)
                disk_write(writer, device->name, device->block, device->format, device->read_only,
                           target, device->id, false);
        else
                nic_write(writer, device);
}

bool device_can_be_said(const DeviceRequest *device) {
        return writer_can_say(device->id) && writer_can_say(device->name) &&
               writer_can_say(device->source) && writer_can_say(device->mac);
}

int device_xml_write(const DeviceRequest *device, const char *target, char **ret) {
        g_autoptr(Writer) writer = writer_new(true);

        if (!device_can_be_said(device))
                return -EINVAL;
        device_write(writer, device, target);
        return writer_finish(writer, ret);
}
