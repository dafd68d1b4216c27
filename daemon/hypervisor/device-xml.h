/* One disk or NIC in libvirt's XML: the same text whether it comes with the machine or later. Pure.
 */
#pragma once

#include "core/device-request.h"
#include "hypervisor/xml-writer.h"

/* By its alias a device is found again. libvirt keeps those of others only where they begin so. */
#define DEVICE_ALIAS_DISK "ua-disk-"
#define DEVICE_ALIAS_NIC  "ua-nic-"

/* The alias of the device with @id. New string (g_free()). */
char *device_alias(DeviceKind kind, const char *id);

/* The guest's name for disk number @index, as libvirt wants it: vda for 0, vdz for 25, vdaa for 26.
 * New string (g_free()). */
char *disk_target(unsigned index);

/* Writes a disk that is the image at @path. With @boot it is what the machine boots from, and @id
 * is NULL; else the guest sees the id as the disk's serial number, as far as a virtio disk has room
 * for it: 20 bytes (VIRTIO_BLK_ID_BYTES of the virtio specification). */
void disk_write(Writer *writer, const char *path, bool block, ImageFormat format, bool read_only,
                const char *target, const char *id, bool boot);

/* Writes @device, which has its id and, a disk, the name of its file. @target is a disk's, see
 * disk_target(); a NIC has none. */
void device_write(Writer *writer, const DeviceRequest *device, const char *target);

/* The same as a text of its own: @ret is a new string (g_free()). -EINVAL when a text of the device
 * cannot be said in XML. */
int device_xml_write(const DeviceRequest *device, const char *target, char **ret);

/* Whether all of the device's texts can be said in XML. */
bool device_can_be_said(const DeviceRequest *device);
