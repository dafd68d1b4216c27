/* A machine as libvirt's XML, and back. Pure: text in, text out. */
#pragma once

#include "core/hypervisor.h"

#include <stdbool.h>

/* Our element in libvirt's <metadata>: <feos:machine first-start="later|pending|done"> with one
 * <feos:gpu address="0000:01:00.0"/> for each GPU that Create was asked for. A domain that has it
 * is ours. */
#define DOMAIN_METADATA_URI    "https://feos.org/xmlns/vm1/1.0"
#define DOMAIN_METADATA_PREFIX "feos"

/* Where the output of a machine's serial console is kept: <this>/<name>/console.log. */
#define DOMAIN_CONSOLE_DIRECTORY "/var/log/feos"

/* Writes the libvirt domain for @spec into @ret, a new string (g_free()). @type is libvirt's domain
 * type, or NULL for what the spec says ("kvm" or "qemu"). -EINVAL when a text of the spec cannot be
 * said in XML (not UTF-8, or a control character). */
int domain_xml_write(const DomainSpec *spec, const char *type, char **ret);

/* Our metadata element without its namespace, as virDomainSetMetadata() wants it: libvirt adds the
 * namespace itself and refuses an element that has it already. @gpus is of PciAddress. New string
 * (g_free()). */
char *domain_metadata_write(const GArray *gpus, FirstStart first_start);

/* Reads a domain's XML into @facts: ours, first_start, gpus and hostdevs; every other field is left
 * alone. -EBADMSG when @xml is no libvirt domain; @facts is then unchanged. */
int domain_xml_parse(const char *xml, DomainFacts *facts);

/* Whether libvirt can choose a UEFI firmware by itself (<os firmware='efi'>), by the XML of
 * virConnectGetDomainCapabilities(). */
bool domain_capabilities_have_uefi(const char *xml);
