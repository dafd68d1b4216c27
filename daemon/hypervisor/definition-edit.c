/* Edits a definition in place, element by element: what it does not know it leaves as it is. */
#include "hypervisor/definition-edit.h"

#include "hypervisor/domain-xml.h"
#include "hypervisor/metadata-read.h"
#include "hypervisor/xml-reader.h"

#include "core/request.h"

#include <errno.h>
#include <string.h>

#define OUR_ELEMENT  "/domain/metadata/" DOMAIN_METADATA_PREFIX ":machine"
#define PCI_HOSTDEVS "/domain/devices/hostdev[@mode='subsystem' and @type='pci']"
#define LOGS         "/domain/devices/*/log[@file]"
#define LOG_FILE     "console.log"
#define VFIO_PCI     "vfio-pci"

typedef struct Definition {
        xmlDoc *document;
        xmlXPathContext *context;
        bool changed;
} Definition;

static void definition_clear(Definition *definition) {
        if (definition->context)
                xmlXPathFreeContext(definition->context);
        if (definition->document)
                xmlFreeDoc(definition->document);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Definition, definition_clear)

static int definition_open(Definition *definition, const char *xml) {
        definition->document = xml_open(xml, "domain");
        if (definition->document)
                definition->context = xml_context(definition->document);
        return definition->context ? 0 : -EBADMSG;
}

static int definition_close(const Definition *definition, char **ret) {
        xmlChar *text = NULL;
        int size;

        if (!definition->changed)
                return 0;
        xmlDocDumpMemory(definition->document, &text, &size);
        if (!text)
                return -ENOMEM;
        *ret = g_strdup((const char *)text);
        xmlFree(text);
        return 1;
}

static void attribute_set(Definition *definition, xmlNode *element, const char *name,
                          const char *value) {
        g_autofree char *before = xml_attribute(element, name);

        if (g_strcmp0(before, value) == 0)
                return;
        (void)xmlSetProp(element, BAD_CAST name, BAD_CAST value);
        definition->changed = true;
}

/* --- functions --- */

/* A card is all that sits in a GPU's slot. */
static bool is_of_gpus(const GArray *gpus, PciAddress function) {
        for (guint i = 0; i < gpus->len; i++)
                if (pci_address_same_slot(g_array_index(gpus, PciAddress, i), function))
                        return true;
        return false;
}

static bool hostdev_address(xmlNode *hostdev, PciAddress *ret) {
        xmlNode *source = xml_child(hostdev, "source");
        xmlNode *address = source ? xml_child(source, "address") : NULL;

        return address && xml_address(address, ret);
}

typedef void (*ForFunction)(Definition *definition, xmlNode *hostdev, PciAddress address,
                            void *userdata);

static void for_own_functions(Definition *definition, ForFunction action, void *userdata) {
        g_autoptr(GArray) gpus = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        g_autoptr(xmlXPathObject) found = xml_find(definition->context, PCI_HOSTDEVS);

        metadata_read_gpus(definition->context, gpus, NULL);
        for (int i = 0; found && i < found->nodesetval->nodeNr; i++) {
                xmlNode *hostdev = found->nodesetval->nodeTab[i];
                PciAddress address;

                if (hostdev_address(hostdev, &address) && is_of_gpus(gpus, address))
                        action(definition, hostdev, address, userdata);
        }
}

static void add_function(Definition *definition, xmlNode *hostdev, PciAddress address,
                         void *userdata) {
        GArray *functions = userdata;

        g_array_append_val(functions, address);
}

GArray *definition_functions(const char *xml) {
        GArray *functions = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        g_auto(Definition) definition = { 0 };

        if (definition_open(&definition, xml) >= 0)
                for_own_functions(&definition, add_function, functions);
        return functions;
}

/* From libvirt 10.0 on the driver is named too: left to itself libvirt would look for a better
 * variant of vfio-pci and rebind the card (src/util/virpci.c, virPCIDeviceBindToStub()). Earlier
 * ones do not read that. */
static void manage_function(Definition *definition, xmlNode *hostdev, PciAddress address,
                            void *userdata) {
        xmlNode *driver = xml_child(hostdev, "driver");
        g_autofree char *model = driver ? xml_attribute(driver, "model") : NULL;

        attribute_set(definition, hostdev, "managed", "yes");
        if (!driver) {
                driver = xmlNewChild(hostdev, NULL, BAD_CAST "driver", NULL);
                attribute_set(definition, driver, "name", "vfio");
        }
        if (!model)
                attribute_set(definition, driver, "model", VFIO_PCI);
}

static void unmanage_function(Definition *definition, xmlNode *hostdev, PciAddress address,
                              void *userdata) {
        attribute_set(definition, hostdev, "managed", "no");
}

/* --- the console's log --- */

/* Whose console's log is at @path, by the name of its folder; NULL when it is no such log. */
static char *log_owner(const char *path) {
        g_autofree char *plain = g_canonicalize_filename(path, "/");
        g_autofree char *folder = g_path_get_dirname(plain);
        g_autofree char *above = g_path_get_dirname(folder);
        g_autofree char *file = g_path_get_basename(plain);

        if (!g_str_equal(above, DOMAIN_CONSOLE_DIRECTORY) || !g_str_equal(file, LOG_FILE))
                return NULL;
        return g_path_get_basename(folder);
}

static void follow_name(Definition *definition, xmlNode *log, const char *name) {
        g_autofree char *path = xml_attribute(log, "file");
        g_autofree char *owner = log_owner(path);
        g_autofree char *own = g_build_filename(DOMAIN_CONSOLE_DIRECTORY, name, LOG_FILE, NULL);

        if (owner && !g_str_equal(owner, name))
                attribute_set(definition, log, "file", own);
}

static void logs_follow_name(Definition *definition) {
        g_autofree char *name = xml_find_text(definition->context, "/domain/name");
        g_autoptr(xmlXPathObject) found = xml_find(definition->context, LOGS);

        /* Any other can be no machine of ours. */
        if (!name || !machine_name_is_valid(name))
                return;
        for (int i = 0; found && i < found->nodesetval->nodeNr; i++)
                follow_name(definition, found->nodesetval->nodeTab[i], name);
}

char **definition_logs(const char *xml) {
        g_autoptr(GStrvBuilder) logs = g_strv_builder_new();
        g_auto(Definition) definition = { 0 };
        g_autoptr(xmlXPathObject) found = NULL;

        if (definition_open(&definition, xml) >= 0)
                found = xml_find(definition.context, LOGS);
        for (int i = 0; found && i < found->nodesetval->nodeNr; i++) {
                g_autofree char *path = xml_attribute(found->nodesetval->nodeTab[i], "file");
                g_autofree char *plain = g_canonicalize_filename(path, "/");
                g_autofree char *folder = g_path_get_dirname(plain);

                if (g_str_has_prefix(folder, DOMAIN_CONSOLE_DIRECTORY "/"))
                        g_strv_builder_add(logs, plain);
        }
        return g_strv_builder_end(logs);
}

/* --- there and back --- */

int definition_for_start(const char *xml, bool managed, char **ret) {
        g_auto(Definition) definition = { 0 };
        int r = definition_open(&definition, xml);

        if (r < 0)
                return r;
        logs_follow_name(&definition);
        if (managed)
                for_own_functions(&definition, manage_function, NULL);
        return definition_close(&definition, ret);
}

int definition_at_rest(const char *xml, bool started, char **ret) {
        g_auto(Definition) definition = { 0 };
        g_autoptr(xmlXPathObject) ours = NULL;
        int r = definition_open(&definition, xml);

        if (r < 0)
                return r;
        for_own_functions(&definition, unmanage_function, NULL);
        ours = definition.changed && started ? xml_find(definition.context, OUR_ELEMENT) : NULL;
        if (ours)
                attribute_set(&definition, ours->nodesetval->nodeTab[0], "first-start", "done");
        return definition_close(&definition, ret);
}
