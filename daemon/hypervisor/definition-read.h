/* A machine's definition, read back in the words of Create. Pure. */
#pragma once

#include "core/hypervisor.h"
#include "hypervisor/domain-xml.h"
#include "hypervisor/xml-reader.h"

/* What the definition of a domain of ours asks for: a new request (request_free()). Disks and NICs
 * that somebody else has added are in it where Create has a word for them; their ids are then NULL.
 * Adds every PCI function of the host that it has to @hostdevs (DefinedHostdev). */
Request *definition_read(xmlXPathContext *context, const VolumeFinder *volumes, GArray *hostdevs);
