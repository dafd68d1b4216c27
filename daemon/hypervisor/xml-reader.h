/* What everybody needs who reads libvirt's XML: a document, a way to find elements in it, and
 * attributes as values. It takes every text as it comes and fetches nothing: no network, no
 * entities, no document type. */
#pragma once

#include "core/pci-address.h"

#include <glib.h>
#include <libxml/tree.h>
#include <libxml/xpath.h>
#include <stdbool.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlXPathContext, xmlXPathFreeContext)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlXPathObject, xmlXPathFreeObject)

/* The addresses of the host's PCI functions that a domain has. Not <hostdev> alone: <interface
 * type='hostdev'> and an NVMe <disk> take them too. What has a slot and a function is a PCI
 * address; USB and SCSI have other attributes. */
#define XML_HOST_FUNCTIONS "/domain/devices/*/source/address[@bus and @slot and @function]"

/* A new document (xmlFreeDoc()) whose outermost element is @root; NULL when @xml is none such. */
xmlDoc *xml_open(const char *xml, const char *root);

/* What finds elements in @document (xmlXPathFreeContext()); it knows the prefix of our metadata. */
xmlXPathContext *xml_context(xmlDoc *document);

/* The elements that @path finds (xmlXPathFreeObject()), NULL when there are none. */
xmlXPathObject *xml_find(xmlXPathContext *context, const char *path);

/* The text that @path, of one element or attribute, finds: a new string (g_free()), NULL = none. */
char *xml_find_text(xmlXPathContext *context, const char *path);

/* The first element in @element that has this name, NULL = none; and an attribute of that. */
xmlNode *xml_child(xmlNode *element, const char *name);
char *xml_child_attribute(xmlNode *element, const char *name, const char *attribute);

/* A new string (g_free()), NULL when @element has no such attribute. */
char *xml_attribute(xmlNode *element, const char *name);

/* A number as libvirt writes it, "0x1f", or as a person may, "31". */
bool xml_number(xmlNode *element, const char *name, guint64 max, guint64 *ret);

/* A PCI address as libvirt writes it: domain, bus, slot and function. */
bool xml_address(xmlNode *element, PciAddress *ret);
