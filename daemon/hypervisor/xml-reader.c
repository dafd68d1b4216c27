/* Reads libvirt's XML element by element. What an element means is the business of whoever asks. */
#include "hypervisor/xml-reader.h"

#include "hypervisor/domain-xml.h"

#include <libxml/parser.h>
#include <libxml/xpathInternals.h>
#include <string.h>

xmlDoc *xml_open(const char *xml, const char *root) {
        g_autoptr(xmlDoc) document = NULL;
        xmlNode *element;

        document = xmlReadMemory(xml, strlen(xml), "libvirt.xml", NULL,
                                 XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
        if (!document || document->intSubset)
                return NULL;
        element = xmlDocGetRootElement(document);
        if (!element || strcmp((const char *)element->name, root) != 0)
                return NULL;
        return g_steal_pointer(&document);
}

xmlXPathContext *xml_context(xmlDoc *document) {
        xmlXPathContext *context = xmlXPathNewContext(document);

        if (context)
                xmlXPathRegisterNs(context, BAD_CAST DOMAIN_METADATA_PREFIX,
                                   BAD_CAST DOMAIN_METADATA_URI);
        return context;
}

xmlXPathObject *xml_find(xmlXPathContext *context, const char *path) {
        g_autoptr(xmlXPathObject) found = xmlXPathEvalExpression(BAD_CAST path, context);

        if (!found || xmlXPathNodeSetIsEmpty(found->nodesetval))
                return NULL;
        return g_steal_pointer(&found);
}

char *xml_find_text(xmlXPathContext *context, const char *path) {
        g_autoptr(xmlXPathObject) found = xml_find(context, path);
        xmlChar *text = found ? xmlNodeGetContent(found->nodesetval->nodeTab[0]) : NULL;
        char *copy = g_strdup((const char *)text);

        xmlFree(text);
        return copy;
}

xmlNode *xml_child(xmlNode *element, const char *name) {
        for (xmlNode *child = xmlFirstElementChild(element); child;
             child = xmlNextElementSibling(child))
                if (strcmp((const char *)child->name, name) == 0)
                        return child;
        return NULL;
}

char *xml_child_attribute(xmlNode *element, const char *name, const char *attribute) {
        xmlNode *child = xml_child(element, name);

        return child ? xml_attribute(child, attribute) : NULL;
}

char *xml_attribute(xmlNode *element, const char *name) {
        xmlChar *value = xmlGetNoNsProp(element, BAD_CAST name);
        char *copy = g_strdup((const char *)value);

        xmlFree(value);
        return copy;
}

bool xml_number(xmlNode *element, const char *name, guint64 max, guint64 *ret) {
        g_autofree char *text = xml_attribute(element, name);
        const char *digits = text;
        guint base = 10;

        if (!text)
                return false;
        if (g_str_has_prefix(text, "0x")) {
                digits = text + 2;
                base = 16;
        }
        return g_ascii_string_to_unsigned(digits, base, 0, max, ret, NULL);
}

bool xml_address(xmlNode *element, PciAddress *ret) {
        guint64 domain, bus, slot, function;

        if (!xml_number(element, "domain", UINT32_MAX, &domain))
                domain = 0;
        if (!xml_number(element, "bus", UINT8_MAX, &bus) ||
            !xml_number(element, "slot", 31, &slot) ||
            !xml_number(element, "function", 7, &function))
                return false;
        *ret = (PciAddress){ .domain = domain, .bus = bus, .slot = slot, .function = function };
        return true;
}
