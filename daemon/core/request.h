/* A Create request: every option parsed and bounded, nothing looked up yet. */
#pragma once

#include "core/device-request.h"
#include "core/pci-address.h"
#include "core/refusal.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum {
        REQUEST_DEFAULT_VCPUS = 2
};

typedef enum RequestFirmware {
        FIRMWARE_DEFAULT, /* UEFI where the host has it */
        FIRMWARE_BIOS,
        FIRMWARE_UEFI,
} RequestFirmware;

typedef enum RequestHugepages {
        HUGEPAGES_NONE,
        HUGEPAGES_2M,
        HUGEPAGES_1G,
        HUGEPAGES_OTHER, /* of a size that Create does not offer: only in a definition */
} RequestHugepages;

typedef struct Request {
        char *name;
        GArray *gpus; /* PciAddress, in the caller's order, each once */
        char *uuid;   /* lower case, NULL = to be made */
        uint32_t vcpus;
        uint32_t max_vcpus; /* at least vcpus; equal to it where none was given */
        uint64_t memory_mib;
        RequestHugepages hugepages;
        RequestFirmware firmware;
        char *image; /* as the caller wrote it, NULL = none; likewise below */
        ImageFormat image_format;
        bool image_format_given;
        bool image_block; /* in a definition: it is to be opened as a block device */
        char *kernel;
        char *initrd;
        char *cmdline;
        GPtrArray *disks; /* DeviceRequest, owned: the further disks */
        GPtrArray *nics;  /* DeviceRequest, owned */
        char *ignition;   /* JSON text, NULL = none; never to be logged */
        bool autostart;
        bool start;
        bool wait;
        bool allow_boot_display;
} Request;

/* A new request for @name with the @gpus of the caller (a NULL-terminated array of strings, or
 * NULL). What is wrong with either is added to @findings; the request is usable all the same,
 * without the bad addresses. */
Request *request_new(const char *name, const char *const *gpus, GPtrArray *findings);
/* The same with nothing in it but @name and the defaults, for what was judged before. */
Request *request_new_empty(const char *name);
Request *request_copy(const Request *request);
void request_free(Request *request);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Request, request_free)

/* The D-Bus type of option @key, as in "s", or NULL when there is no such option. Of type "aa{sv}"
 * are the lists of devices: each element is made with device_request_new(), filled, finished, and
 * given to request_add_device(). */
const char *request_option_type(const char *key);

/* Sets option @key, which must exist, to @value of its type; adds to @findings what is out of
 * range. */
void request_set_option(Request *request, const char *key, RequestValue value, GPtrArray *findings);

/* Takes @device into the request's disks or NICs; adds to @findings an id that is there twice. */
void request_add_device(Request *request, DeviceRequest *device, GPtrArray *findings);

/* The findings for an option that there is not, and for one whose value has another type. */
void request_refuse_unknown_option(const char *key, GPtrArray *findings);
void request_refuse_option_type(const char *key, const char *got, GPtrArray *findings);

/* What can only be judged when all options are known: one that needs another. */
void request_finish(Request *request, GPtrArray *findings);

/* One file that a request names; lent. */
typedef struct RequestImage {
        const char *path;
        bool disk; /* else a kernel or initrd */
        bool kernel;
        bool qcow2; /* a disk that QEMU opens as qcow2 */
        bool writes;
        bool block;            /* in a definition: to be opened as a block device */
        DeviceRequest *device; /* the further disk that it is; NULL = none */
} RequestImage;

/* Every file that @request names, in the order in which the host is asked about them and answers:
 * boot disk, kernel, initrd, further disks. A volume of which nobody knows where it is is left out.
 * A new array of RequestImage. */
GArray *request_images(const Request *request);

/* PciAddresses as polkit's detail "gpus" wants them: in full, sorted, comma-separated. Caller
 * frees. */
char *addresses_to_string(const GArray *addresses);

/* Whether @name may be a machine's: 1 to 64 of A-Z a-z 0-9 _ . -, beginning with a letter or digit.
 */
bool machine_name_is_valid(const char *name);
