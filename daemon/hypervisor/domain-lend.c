/* Redefines a machine for its start, and once more after it. The text of a definition says which of
 * the two it is. A set that dies with the process says whether a start is under way, or the
 * definition is left over from one. */
#include "hypervisor/domain-lend.h"

#include "hypervisor/definition-edit.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <systemd/sd-journal.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

/* UUIDs of the domains that are lent now. */
static GHashTable *lent;
G_LOCK_DEFINE_STATIC(lent);

static void lent_add(virDomainPtr domain) {
        char uuid[VIR_UUID_STRING_BUFLEN] = "";

        (void)virDomainGetUUIDString(domain, uuid);
        G_LOCK(lent);
        if (!lent)
                lent = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_hash_table_add(lent, g_strdup(uuid));
        G_UNLOCK(lent);
}

static void lent_remove(virDomainPtr domain) {
        char uuid[VIR_UUID_STRING_BUFLEN] = "";

        (void)virDomainGetUUIDString(domain, uuid);
        G_LOCK(lent);
        g_hash_table_remove(lent, uuid);
        G_UNLOCK(lent);
}

static bool is_lent(const char *uuid) {
        bool found;

        G_LOCK(lent);
        found = lent && g_hash_table_contains(lent, uuid);
        G_UNLOCK(lent);
        return found;
}

/* Whole, so with what libvirt tells to nobody else: it is to be defined again. */
static char *definition_take(virDomainPtr domain) {
        char *xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
        char *copy = g_strdup(xml);

        free(xml);
        return copy;
}

static bool define(virDomainPtr domain, const char *xml, const char *what) {
        g_autoptr(virDomain) defined = virDomainDefineXML(virDomainGetConnect(domain), xml);

        if (!defined)
                sd_journal_print(LOG_WARNING, "Could not %s the definition of machine %s: %s", what,
                                 virDomainGetName(domain), virGetLastErrorMessage());
        return defined;
}

/* The link alone: no attribute whose reading may wait for the device. */
static bool is_on_vfio(PciAddress function) {
        char shown[PCI_ADDRESS_BUFFER];
        g_autofree char *path = g_strdup_printf("/sys/bus/pci/devices/%s/driver",
                                                pci_address_print(function, shown));
        g_autofree char *link = g_file_read_link(path, NULL);

        return link && g_str_has_suffix(link, "/vfio-pci");
}

/* Checked last of all: if somebody rebinds a card from now on, libvirt unbinds it again. */
static bool are_on_vfio(const char *xml) {
        g_autoptr(GArray) functions = definition_functions(xml);

        for (guint i = 0; i < functions->len; i++)
                if (!is_on_vfio(g_array_index(functions, PciAddress, i)))
                        return false;
        return true;
}

bool domain_lend(virDomainPtr domain) {
        g_autofree char *xml = NULL, *edited = NULL;

        lent_add(domain);
        xml = definition_take(domain);
        if (xml && definition_for_start(xml, are_on_vfio(xml), &edited) > 0)
                (void)define(domain, edited, "prepare");
        return xml;
}

/* The definition as it is then, a new string (g_free()); NULL: it has not changed. */
static char *take_back(virDomainPtr domain, bool started) {
        g_autofree char *xml = definition_take(domain), *edited = NULL;

        /* What could not be asked is looked at again: domain_mend(). */
        if (xml && definition_at_rest(xml, started, &edited) > 0 &&
            define(domain, edited, "restore"))
                return g_steal_pointer(&edited);
        return NULL;
}

void domain_take_back(virDomainPtr domain, bool started) {
        g_free(take_back(domain, started));
        lent_remove(domain);
}

static bool has_managed(const DomainFacts *facts) {
        for (guint i = 0; i < facts->defined_hostdevs->len; i++)
                if (g_array_index(facts->defined_hostdevs, DefinedHostdev, i).managed)
                        return true;
        return false;
}

void domain_mend(virDomainPtr domain, DomainFacts *facts, bool started) {
        g_autoptr(GArray) functions = NULL;
        g_autofree char *xml = NULL;

        if (!facts->ours || !has_managed(facts) || is_lent(facts->uuid))
                return;
        xml = take_back(domain, started);
        functions = xml ? definition_functions(xml) : NULL;
        for (guint i = 0; functions && i < facts->defined_hostdevs->len; i++) {
                DefinedHostdev *hostdev =
                        &g_array_index(facts->defined_hostdevs, DefinedHostdev, i);

                if (pci_addresses_find(functions, hostdev->address, NULL))
                        hostdev->managed = false;
        }
}
