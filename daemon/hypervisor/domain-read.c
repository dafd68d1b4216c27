/* Reads what libvirt says in XML: whether a domain is ours, which devices it has, where its console
 * is. It takes every domain of the host as it comes, foreign ones with devices it has never heard
 * of included, and fetches nothing: no network, no entities, no document type. */
#include "hypervisor/domain-xml.h"

#include "hypervisor/definition-read.h"
#include "hypervisor/device-xml.h"
#include "hypervisor/domain-files.h"
#include "hypervisor/metadata-read.h"
#include "hypervisor/xml-reader.h"

#include <errno.h>
#include <string.h>

static void read_hostdevs(xmlXPathContext *context, DomainFacts *facts) {
        g_autoptr(xmlXPathObject) found = xml_find(context, XML_HOST_FUNCTIONS);

        g_array_set_size(facts->hostdevs, 0);
        for (int i = 0; found && i < found->nodesetval->nodeNr; i++) {
                PciAddress address;

                if (xml_address(found->nodesetval->nodeTab[i], &address))
                        g_array_append_val(facts->hostdevs, address);
        }
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
        g_autoptr(xmlXPathObject) found = xml_find(context, path);

        for (int i = 0; found && i < found->nodesetval->nodeNr; i++) {
                g_autofree char *alias = xml_attribute(found->nodesetval->nodeTab[i], "name");
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

/* Only a running domain's first serial port has a terminal. */
static void read_console(xmlXPathContext *context, DomainFacts *facts) {
        g_autoptr(xmlXPathObject) found = xml_find(
                context, "/domain/devices/serial[@type = 'pty'][target/@port = '0']/source[@path]");

        g_clear_pointer(&facts->console, g_free);
        if (found)
                facts->console = xml_attribute(found->nodesetval->nodeTab[0], "path");
}

static bool has_hugepages(xmlXPathContext *context) {
        g_autoptr(xmlXPathObject) found = xml_find(context, "/domain/memoryBacking/hugepages");

        return found != NULL;
}

static bool has_balloon(xmlXPathContext *context) {
        g_autoptr(xmlXPathObject) found =
                xml_find(context, "/domain/devices/memballoon[@model != 'none']");

        return found != NULL;
}

int domain_xml_parse(const char *xml, const VolumeFinder *volumes, DomainFacts *facts) {
        g_autoptr(xmlDoc) document = xml_open(xml, "domain");
        g_autoptr(xmlXPathContext) context = document ? xml_context(document) : NULL;

        if (!context)
                return -EBADMSG;
        metadata_read(context, facts);
        read_hostdevs(context, facts);
        g_ptr_array_set_size(facts->disks, 0);
        g_ptr_array_set_size(facts->nics, 0);
        add_devices(context, facts);
        g_ptr_array_set_size(facts->files, 0);
        domain_files_add(context, volumes, facts->active, facts->files);
        read_console(context, facts);
        facts->hugepages = has_hugepages(context);
        facts->balloon = has_balloon(context);
        return 0;
}

int domain_xml_add_definition(const char *xml, const VolumeFinder *volumes, DomainFacts *facts) {
        g_autoptr(xmlDoc) document = xml_open(xml, "domain");
        g_autoptr(xmlXPathContext) context = document ? xml_context(document) : NULL;
        g_autofree char *type = NULL;

        if (!context)
                return -EBADMSG;
        add_devices(context, facts);
        metadata_read_next(context, facts);
        domain_files_add(context, volumes, false, facts->files);
        g_clear_pointer(&facts->definition, request_free);
        g_array_set_size(facts->defined_hostdevs, 0);
        facts->needs_kvm = false;
        if (!facts->ours)
                return 0;
        facts->definition = definition_read(context, volumes, facts->defined_hostdevs);
        type = xml_find_text(context, "/domain/@type");
        facts->needs_kvm = g_strcmp0(type, "kvm") == 0;
        return 0;
}

bool domain_xml_is_ours(const char *xml) {
        g_autoptr(xmlDoc) document = xml_open(xml, "domain");
        g_autoptr(xmlXPathContext) context = document ? xml_context(document) : NULL;
        g_autoptr(DomainFacts) facts = domain_facts_new();

        if (context)
                metadata_read(context, facts);
        return facts->ours;
}

bool domain_xml_has_device(const char *xml, DeviceKind kind, const char *id) {
        g_autoptr(DomainFacts) facts = domain_facts_new();

        /* Asked of a domain that is known to be ours. */
        facts->ours = true;
        if (domain_xml_add_definition(xml, NULL, facts) < 0)
                return false;
        return ids_have(kind == DEVICE_DISK ? facts->disks : facts->nics, id);
}

static void add_targets(const char *xml, GHashTable *targets) {
        g_autoptr(xmlDoc) document = xml ? xml_open(xml, "domain") : NULL;
        g_autoptr(xmlXPathContext) context = document ? xml_context(document) : NULL;
        g_autoptr(xmlXPathObject) found =
                context ? xml_find(context, "/domain/devices/disk/target[@dev]") : NULL;

        for (int i = 0; found && i < found->nodesetval->nodeNr; i++)
                g_hash_table_add(targets, xml_attribute(found->nodesetval->nodeTab[i], "dev"));
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

/* "+64055". */
static bool id_parse(const char *text, guint64 *ret) {
        return text && *text == '+' &&
               g_ascii_string_to_unsigned(text + 1, 10, 0, G_MAXUINT32 - 1, ret, NULL);
}

bool capabilities_get_owner(const char *xml, uid_t *ret_uid, gid_t *ret_gid) {
        g_autoptr(xmlDoc) document = xml_open(xml, "capabilities");
        g_autoptr(xmlXPathContext) context = document ? xml_context(document) : NULL;
        g_autoptr(xmlXPathObject) found = NULL;
        g_auto(GStrv) ids = NULL;
        guint64 uid, gid;

        if (!context)
                return false;
        /* "+64055:+107": the user and the group that QEMU gets. */
        found = xmlXPathEvalExpression(
                BAD_CAST "string(/capabilities/host/secmodel[model = 'dac']/baselabel[1])",
                context);
        if (!found || !found->stringval)
                return false;
        ids = g_strsplit((const char *)found->stringval, ":", 2);
        if (!id_parse(ids[0], &uid) || !id_parse(ids[1], &gid))
                return false;
        *ret_uid = (uid_t)uid;
        *ret_gid = (gid_t)gid;
        return true;
}

bool capabilities_have_apparmor(const char *xml) {
        g_autoptr(xmlDoc) document = xml_open(xml, "capabilities");
        g_autoptr(xmlXPathContext) context = document ? xml_context(document) : NULL;
        g_autoptr(xmlXPathObject) found = NULL;

        if (!context)
                return false;
        found = xml_find(context, "/capabilities/host/secmodel[model = 'apparmor']");
        return found != NULL;
}

bool domain_capabilities_have_uefi(const char *xml) {
        g_autoptr(xmlDoc) document = xml_open(xml, "domainCapabilities");
        g_autoptr(xmlXPathContext) context = document ? xml_context(document) : NULL;
        g_autoptr(xmlXPathObject) efi = NULL;

        if (!context)
                return false;
        /* The firmware that is merely listed under <loader> does not count: without a descriptor
         * file libvirt cannot choose it, and this enumeration is made of the descriptors. */
        efi = xml_find(context, "/domainCapabilities/os/enum[@name='firmware']"
                                "/value[. = 'efi']");
        return efi != NULL;
}
