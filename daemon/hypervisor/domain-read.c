/* Reads what libvirt says in XML: whether a domain is ours, which devices it has, where its console
 * is. It takes every domain of the host as it comes, foreign ones with devices it has never heard
 * of included, and fetches nothing: no network, no entities, no document type. */
#include "hypervisor/domain-xml.h"

#include "hypervisor/device-xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>
#include <string.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlXPathContext, xmlXPathFreeContext)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlXPathObject, xmlXPathFreeObject)

#define OUR_ELEMENT "/domain/metadata/" DOMAIN_METADATA_PREFIX ":machine"

static xmlDoc *document_read(const char *xml, const char *root) {
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

static xmlXPathContext *context_new(xmlDoc *document) {
        xmlXPathContext *context = xmlXPathNewContext(document);

        if (context)
                xmlXPathRegisterNs(context, BAD_CAST DOMAIN_METADATA_PREFIX,
                                   BAD_CAST DOMAIN_METADATA_URI);
        return context;
}

/* The elements that @path finds, NULL when there are none. */
static xmlXPathObject *elements_find(xmlXPathContext *context, const char *path) {
        g_autoptr(xmlXPathObject) found = xmlXPathEvalExpression(BAD_CAST path, context);

        if (!found || xmlXPathNodeSetIsEmpty(found->nodesetval))
                return NULL;
        return g_steal_pointer(&found);
}

static char *attribute_get(xmlNode *element, const char *name) {
        xmlChar *value = xmlGetNoNsProp(element, BAD_CAST name);
        char *copy = g_strdup((const char *)value);

        xmlFree(value);
        return copy;
}

/* A number as libvirt writes it, "0x1f", or as a person may, "31". */
static bool number_get(xmlNode *element, const char *name, guint64 max, guint64 *ret) {
        g_autofree char *text = attribute_get(element, name);
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

static bool address_get(xmlNode *element, PciAddress *ret) {
        guint64 domain, bus, slot, function;

        if (!number_get(element, "domain", UINT32_MAX, &domain))
                domain = 0;
        if (!number_get(element, "bus", UINT8_MAX, &bus) ||
            !number_get(element, "slot", 31, &slot) ||
            !number_get(element, "function", 7, &function))
                return false;
        *ret = (PciAddress){ .domain = domain, .bus = bus, .slot = slot, .function = function };
        return true;
}

/* Not <hostdev> alone: <interface type='hostdev'> and an NVMe <disk> take PCI functions too. What
 * has a slot and a function is a PCI address; USB and SCSI have other attributes. */
static void read_hostdevs(xmlXPathContext *context, DomainFacts *facts) {
        g_autoptr(xmlXPathObject) found = elements_find(
                context, "/domain/devices/*/source/address[@bus and @slot and @function]");

        g_array_set_size(facts->hostdevs, 0);
        for (int i = 0; found && i < found->nodesetval->nodeNr; i++) {
                PciAddress address;

                if (address_get(found->nodesetval->nodeTab[i], &address))
                        g_array_append_val(facts->hostdevs, address);
        }
}

/* What cannot be understood is done: an odd element is no reason to undo somebody's machine. */
static FirstStart first_start_get(xmlNode *element) {
        g_autofree char *text = attribute_get(element, "first-start");

        if (g_strcmp0(text, "later") == 0)
                return FIRST_START_LATER;
        if (g_strcmp0(text, "pending") == 0)
                return FIRST_START_PENDING;
        return FIRST_START_DONE;
}

static bool autostart_get(xmlNode *element) {
        g_autofree char *text = attribute_get(element, "autostart");

        return g_strcmp0(text, "yes") == 0;
}

static bool function_identity_get(xmlNode *element, FunctionIdentity *ret) {
        g_autofree char *address = attribute_get(element, "address");
        g_autofree char *serial = attribute_get(element, "serial");
        guint64 vendor, device, subsystem_vendor, subsystem_device;

        *ret = (FunctionIdentity){ 0 };
        if (!address || !pci_address_parse(address, &ret->address) ||
            !number_get(element, "vendor", UINT16_MAX, &vendor) ||
            !number_get(element, "device", UINT16_MAX, &device) ||
            !number_get(element, "subsystem-vendor", UINT16_MAX, &subsystem_vendor) ||
            !number_get(element, "subsystem-device", UINT16_MAX, &subsystem_device))
                return false;
        ret->vendor = (uint16_t)vendor;
        ret->device = (uint16_t)device;
        ret->subsystem_vendor = (uint16_t)subsystem_vendor;
        ret->subsystem_device = (uint16_t)subsystem_device;
        return g_strlcpy(ret->serial, serial ?: "", sizeof(ret->serial)) < sizeof(ret->serial);
}

/* False when @gpu does not say which card it is, as in an earlier version's definition, or says it
 * in a way that cannot be understood: then there is nothing to compare with. */
static bool card_get(xmlNode *gpu, PciAddress address, CardIdentity *ret) {
        *ret = (CardIdentity){ 0 };
        for (xmlNode *child = xmlFirstElementChild(gpu); child;
             child = xmlNextElementSibling(child)) {
                if (strcmp((const char *)child->name, "function") != 0)
                        continue;
                if (ret->n_functions == G_N_ELEMENTS(ret->functions) ||
                    !function_identity_get(child, &ret->functions[ret->n_functions]))
                        return false;
                ret->n_functions++;
        }
        return ret->n_functions > 0 && pci_address_equal(ret->functions[0].address, address);
}

static void read_gpu(xmlNode *gpu, DomainFacts *facts) {
        g_autofree char *text = attribute_get(gpu, "address");
        PciAddress address;
        CardIdentity card;

        if (!text || !pci_address_parse(text, &address))
                return;
        g_array_append_val(facts->gpus, address);
        if (card_get(gpu, address, &card))
                g_array_append_val(facts->cards, card);
}

static void read_metadata(xmlXPathContext *context, DomainFacts *facts) {
        g_autoptr(xmlXPathObject) ours = elements_find(context, OUR_ELEMENT);
        g_autoptr(xmlXPathObject) gpus = NULL;

        facts->ours = ours != NULL;
        facts->autostart = false;
        g_array_set_size(facts->gpus, 0);
        g_array_set_size(facts->cards, 0);
        if (!ours)
                return;

        facts->first_start = first_start_get(ours->nodesetval->nodeTab[0]);
        facts->autostart = autostart_get(ours->nodesetval->nodeTab[0]);
        gpus = elements_find(context, OUR_ELEMENT "/*[local-name() = 'gpu']");
        for (int i = 0; gpus && i < gpus->nodesetval->nodeNr; i++)
                read_gpu(gpus->nodesetval->nodeTab[i], facts);
}

static bool ids_have(const GPtrArray *ids, const char *id) {
        for (unsigned i = 0; i < ids->len; i++)
                if (strcmp(g_ptr_array_index(ids, i), id) == 0)
                        return true;
        return false;
}

/* Adds the ids of the devices that @path finds the aliases of. */
static void add_ids(xmlXPathContext *context, const char *path, const char *prefix,
                    GPtrArray *ids) {
        g_autoptr(xmlXPathObject) found = elements_find(context, path);

        for (int i = 0; found && i < found->nodesetval->nodeNr; i++) {
                g_autofree char *alias = attribute_get(found->nodesetval->nodeTab[i], "name");
                const char *id;

                if (!alias || !g_str_has_prefix(alias, prefix))
                        continue;
                id = alias + strlen(prefix);
                if (!ids_have(ids, id))
                        g_ptr_array_add(ids, g_strdup(id));
        }
}

static void add_devices(xmlXPathContext *context, DomainFacts *facts) {
        if (!facts->ours)
                return;
        add_ids(context, "/domain/devices/disk/alias", DEVICE_ALIAS_DISK, facts->disks);
        add_ids(context, "/domain/devices/interface/alias", DEVICE_ALIAS_NIC, facts->nics);
}

/* Everything that the domain may write to, its boot disk included. */
static void read_files(xmlXPathContext *context, DomainFacts *facts) {
        g_autoptr(xmlXPathObject) found =
                elements_find(context, "/domain/devices/disk[not(readonly)]/source[@file or @dev]");

        g_ptr_array_set_size(facts->files, 0);
        for (int i = 0; found && i < found->nodesetval->nodeNr; i++) {
                xmlNode *source = found->nodesetval->nodeTab[i];
                char *file = attribute_get(source, "file");

                g_ptr_array_add(facts->files, file ?: attribute_get(source, "dev"));
        }
}

/* Only a running domain's first serial port has a terminal. */
static void read_console(xmlXPathContext *context, DomainFacts *facts) {
        g_autoptr(xmlXPathObject) found = elements_find(
                context, "/domain/devices/serial[@type = 'pty'][target/@port = '0']/source[@path]");

        g_clear_pointer(&facts->console, g_free);
        if (found)
                facts->console = attribute_get(found->nodesetval->nodeTab[0], "path");
}

static bool has_hugepages(xmlXPathContext *context) {
        g_autoptr(xmlXPathObject) found = elements_find(context, "/domain/memoryBacking/hugepages");

        return found != NULL;
}

int domain_xml_parse(const char *xml, DomainFacts *facts) {
        g_autoptr(xmlDoc) document = document_read(xml, "domain");
        g_autoptr(xmlXPathContext) context = document ? context_new(document) : NULL;

        if (!context)
                return -EBADMSG;
        read_metadata(context, facts);
        read_hostdevs(context, facts);
        g_ptr_array_set_size(facts->disks, 0);
        g_ptr_array_set_size(facts->nics, 0);
        add_devices(context, facts);
        read_files(context, facts);
        read_console(context, facts);
        facts->hugepages = has_hugepages(context);
        return 0;
}

int domain_xml_add_devices(const char *xml, DomainFacts *facts) {
        g_autoptr(xmlDoc) document = document_read(xml, "domain");
        g_autoptr(xmlXPathContext) context = document ? context_new(document) : NULL;

        if (!context)
                return -EBADMSG;
        add_devices(context, facts);
        return 0;
}

bool domain_xml_has_device(const char *xml, DeviceKind kind, const char *id) {
        g_autoptr(DomainFacts) facts = domain_facts_new();

        /* Asked of a domain that is known to be ours. */
        facts->ours = true;
        if (domain_xml_add_devices(xml, facts) < 0)
                return false;
        return ids_have(kind == DEVICE_DISK ? facts->disks : facts->nics, id);
}

static void add_targets(const char *xml, GHashTable *targets) {
        g_autoptr(xmlDoc) document = xml ? document_read(xml, "domain") : NULL;
        g_autoptr(xmlXPathContext) context = document ? context_new(document) : NULL;
        g_autoptr(xmlXPathObject) found =
                context ? elements_find(context, "/domain/devices/disk/target[@dev]") : NULL;

        for (int i = 0; found && i < found->nodesetval->nodeNr; i++)
                g_hash_table_add(targets, attribute_get(found->nodesetval->nodeTab[i], "dev"));
}

char *domain_xml_free_target(const char *xml, const char *other) {
        g_autoptr(GHashTable) targets =
                g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

        add_targets(xml, targets);
        add_targets(other, targets);
        for (unsigned i = 1;; i++) {
                g_autofree char *target = disk_target(i);

                if (!g_hash_table_contains(targets, target))
                        return g_steal_pointer(&target);
        }
}

bool capabilities_get_group(const char *xml, gid_t *ret) {
        g_autoptr(xmlDoc) document = document_read(xml, "capabilities");
        g_autoptr(xmlXPathContext) context = document ? context_new(document) : NULL;
        g_autoptr(xmlXPathObject) found = NULL;
        g_autofree char *label = NULL;
        const char *group;
        guint64 gid;

        if (!context)
                return false;
        /* "+64055:+107": the user and the group that QEMU gets. */
        found = xmlXPathEvalExpression(
                BAD_CAST "string(/capabilities/host/secmodel[model = 'dac']/baselabel[1])",
                context);
        if (!found || !found->stringval)
                return false;
        label = g_strdup((const char *)found->stringval);
        group = strchr(label, ':');
        if (!group || group[1] != '+' ||
            !g_ascii_string_to_unsigned(group + 2, 10, 0, G_MAXUINT32 - 1, &gid, NULL))
                return false;
        *ret = (gid_t)gid;
        return true;
}

bool domain_capabilities_have_uefi(const char *xml) {
        g_autoptr(xmlDoc) document = document_read(xml, "domainCapabilities");
        g_autoptr(xmlXPathContext) context = document ? context_new(document) : NULL;
        g_autoptr(xmlXPathObject) efi = NULL;

        if (!context)
                return false;
        /* The firmware that is merely listed under <loader> does not count: without a descriptor
         * file libvirt cannot choose it, and this enumeration is made of the descriptors. */
        efi = elements_find(context, "/domainCapabilities/os/enum[@name='firmware']"
                                     "/value[. = 'efi']");
        return efi != NULL;
}
