/* One further disk or network interface of a machine, as a caller asks for it: in Create's lists,
 * or with AttachDisk and AttachNIC. Parsed and bounded, nothing looked up yet. */
#pragma once

#include "core/refusal.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum ImageFormat {
        IMAGE_RAW,
        IMAGE_QCOW2,
} ImageFormat;

typedef enum DeviceKind {
        DEVICE_DISK,
        DEVICE_NIC,
} DeviceKind;

typedef enum NicType {
        NIC_NETWORK, /* a libvirt network, by name */
        NIC_BRIDGE,  /* a bridge of the host, by interface name */
        NIC_TAP,     /* a tap device of the host that is there already, by interface name */
} NicType;

typedef struct DeviceRequest {
        DeviceKind kind;
        char *id; /* 1 to 32 of A-Z a-z 0-9 _ -, unique among the machine's disks, or its NICs; NULL
                   * until device_request_name() */
        /* A disk. */
        char *path; /* as the caller wrote it */
        ImageFormat format;
        bool format_given;
        bool read_only;
        char *name; /* as a definition has it, see ImageAnswer; NULL until the host has answered */
        bool volume_unknown; /* in a definition: a storage pool's volume, and libvirt does not tell
                              * where it is; path is then "POOL/VOLUME" */
        bool block; /* that is a block device, and no file; in a definition: is to be one */
        /* A NIC. */
        NicType type;
        char *source;
        char *mac; /* lower case, with colons; NULL = libvirt's choice */
} DeviceRequest;

/* The value of one option; which member counts follows from the option's type. */
typedef union RequestValue {
        const char *s;
        uint32_t u;
        uint64_t t;
        bool b;
} RequestValue;

DeviceRequest *device_request_new(DeviceKind kind);
DeviceRequest *device_request_copy(const DeviceRequest *device);
void device_request_free(DeviceRequest *device);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeviceRequest, device_request_free)

/* As request_option_type() and its like, for the keys of one disk or NIC. */
const char *device_option_type(DeviceKind kind, const char *key);
void device_set_option(DeviceRequest *device, const char *key, RequestValue value,
                       GPtrArray *findings);
void device_refuse_unknown_option(DeviceKind kind, const char *key, GPtrArray *findings);

/* What must be there is there; the format follows the name where none was given. */
void device_request_finish(DeviceRequest *device, GPtrArray *findings);

/* Whether @id may be a device's. */
bool device_id_is_valid(const char *id);

/* Gives the device the first free of disk1, disk2, ... (nic1, ...) when it has no id yet; @taken is
 * an array of char *, lent. */
void device_request_name(DeviceRequest *device, const GPtrArray *taken);

/* "disk" and "NIC", for messages. Constant. */
const char *device_kind_to_string(DeviceKind kind);
