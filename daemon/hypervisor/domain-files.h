/* The files and devices that a domain has as its disks. Pure. */
#pragma once

#include "core/hypervisor.h"
#include "hypervisor/domain-xml.h"
#include "hypervisor/xml-reader.h"

/* Adds to @files (DomainFile) what the disks of the domain's XML are made of and is not there yet;
 * @live: it is the XML of a running domain. */
void domain_files_add(xmlXPathContext *context, const VolumeFinder *volumes, bool live,
                      GPtrArray *files);

/* Where the volume that @source names is, as @volumes tells: a new string (g_free()), NULL = it
 * does not tell. */
char *volume_find(xmlNode *source, const VolumeFinder *volumes);
