/* A machine as libvirt's XML, and back. Pure: text in, text out. */
#pragma once

#include "core/hypervisor.h"

#include <stdbool.h>

/* Our element in libvirt's <metadata>: <feos:machine first-start="later|pending|done">,
 * with autostart="yes" where this service is to start it at boot and, in the running domain alone,
 * stopping="yes" where its guest was asked to shut down, and in it one <feos:gpu
 * address="0000:01:00.0"> for each GPU that Create was asked for. That has a <feos:function
 * address="0000:01:00.0" vendor="0x10de" device="0x20b0" subsystem-vendor="0x10de"
 * subsystem-device="0x1463" serial="00-1b-21-ff-ff-12-34-56"/> for each function of the card, the
 * GPU's own first, or none where an earlier version has written it; serial is left out where there
 * is none. A domain that has the element is ours. */
#define DOMAIN_METADATA_URI    "https://feos.org/xmlns/vm1/1.0"
#define DOMAIN_METADATA_PREFIX "feos"

/* Where the output of a machine's serial console is kept: <this>/<name>/console.log. */
#define DOMAIN_CONSOLE_DIRECTORY "/var/log/feos"

/* Where a machine's Ignition text is kept, for QEMU to read: <this>/<UUID>.ign. */
#define DOMAIN_IGNITION_DIRECTORY "/var/lib/feos/ignition"

/* The file of the machine with @uuid there. New string (g_free()). */
char *domain_ignition_path(const char *uuid);

/* Writes the libvirt domain for @spec into @ret, a new string (g_free()). @type is libvirt's domain
 * type, or NULL for what the spec says ("kvm" or "qemu"). -EINVAL when a text of the spec cannot be
 * said in XML (not UTF-8, or a control character). */
int domain_xml_write(const DomainSpec *spec, const char *type, char **ret);

/* Our metadata element without its namespace, as virDomainSetMetadata() wants it: libvirt adds the
 * namespace itself and refuses an element that has it already. Of @facts it takes gpus, cards (of
 * all GPUs, some or none), first_start, autostart and stop_asked. New string (g_free()). */
char *domain_metadata_write(const DomainFacts *facts);

/* Where libvirt has the volume of a storage pool: find() returns a new string (g_free()), NULL when
 * it does not tell. */
typedef struct VolumeFinder {
        char *(*find)(void *userdata, const char *pool, const char *volume);
        void *userdata;
} VolumeFinder;

/* Reads a domain's XML, that of the running domain where @facts says that it is active, into
 * @facts: ours, first_start, autostart, stop_asked, gpus, cards, hostdevs, disks, nics, files,
 * hugepages, balloon and console; every other field is left alone. @volumes NULL: nobody tells
 * where volumes are. -EBADMSG when @xml is no libvirt domain; @facts is then unchanged. */
int domain_xml_parse(const char *xml, const VolumeFinder *volumes, DomainFacts *facts);

/* Reads in the XML of the same domain's definition what its next start will have: adds to @facts
 * the ids of disks and NICs, and the files, that it does not have yet, and fills definition,
 * defined_hostdevs and needs_kvm where it is ours. A domain whose definition is not ours is not,
 * whatever runs; and autostart is the definition's. -EBADMSG as above. */
int domain_xml_add_definition(const char *xml, const VolumeFinder *volumes, DomainFacts *facts);

/* Whether the domain @xml has our element. */
bool domain_xml_is_ours(const char *xml);

/* Whether the domain @xml has a disk or NIC of ours with @id. */
bool domain_xml_has_device(const char *xml, DeviceKind kind, const char *id);

/* The first disk_target() from vdb on that neither domain's XML has; @other may be NULL. New string
 * (g_free()). */
char *domain_xml_free_target(const char *xml, const char *other);

/* Whether libvirt can choose a UEFI firmware by itself (<os firmware='efi'>), by the XML of
 * virConnectGetDomainCapabilities(). */
bool domain_capabilities_have_uefi(const char *xml);

/* The user and the group that QEMU's processes have, by the XML of virConnectGetCapabilities().
 * False: it does not say. */
bool capabilities_get_owner(const char *xml, uid_t *ret_uid, gid_t *ret_gid);

/* Whether libvirt confines them by AppArmor, by the same. */
bool capabilities_have_apparmor(const char *xml);
