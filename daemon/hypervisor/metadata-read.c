/* Reads our metadata element: whether a domain is ours, and what Create wrote down of it. It takes
 * what somebody's hand may have made of that as it comes. */
#include "hypervisor/metadata-read.h"

#include "hypervisor/domain-xml.h"

#include <string.h>

#define OUR_ELEMENT "/domain/metadata/" DOMAIN_METADATA_PREFIX ":machine"

/* A value that cannot be understood counts as done: an odd element is no reason to undo somebody's
 * machine. */
static FirstStart first_start_get(xmlNode *element) {
        g_autofree char *text = xml_attribute(element, "first-start");

        if (g_strcmp0(text, "later") == 0)
                return FIRST_START_LATER;
        if (g_strcmp0(text, "pending") == 0)
                return FIRST_START_PENDING;
        return FIRST_START_DONE;
}

static bool yes_get(xmlNode *element, const char *attribute) {
        g_autofree char *text = xml_attribute(element, attribute);

        return g_strcmp0(text, "yes") == 0;
}

static bool function_identity_get(xmlNode *element, FunctionIdentity *ret) {
        g_autofree char *address = xml_attribute(element, "address");
        g_autofree char *serial = xml_attribute(element, "serial");
        guint64 vendor, device, subsystem_vendor, subsystem_device;

        *ret = (FunctionIdentity){ 0 };
        if (!address || !pci_address_parse(address, &ret->address) ||
            !xml_number(element, "vendor", UINT16_MAX, &vendor) ||
            !xml_number(element, "device", UINT16_MAX, &device) ||
            !xml_number(element, "subsystem-vendor", UINT16_MAX, &subsystem_vendor) ||
            !xml_number(element, "subsystem-device", UINT16_MAX, &subsystem_device))
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

static bool addresses_have(const GArray *addresses, PciAddress address) {
        for (guint i = 0; i < addresses->len; i++)
                if (pci_address_equal(g_array_index(addresses, PciAddress, i), address))
                        return true;
        return false;
}

/* Named twice, by somebody's hand, it is one GPU all the same. */
static void read_gpu(xmlNode *gpu, GArray *gpus, GArray *cards) {
        g_autofree char *text = xml_attribute(gpu, "address");
        PciAddress address;
        CardIdentity card;

        if (!text || !pci_address_parse(text, &address) || addresses_have(gpus, address))
                return;
        g_array_append_val(gpus, address);
        if (cards && card_get(gpu, address, &card))
                g_array_append_val(cards, card);
}

void metadata_read_gpus(xmlXPathContext *context, GArray *gpus, GArray *cards) {
        g_autoptr(xmlXPathObject) found = xml_find(context, OUR_ELEMENT "/*[local-name() = 'gpu']");

        for (int i = 0; found && i < found->nodesetval->nodeNr; i++)
                read_gpu(found->nodesetval->nodeTab[i], gpus, cards);
}

void metadata_read(xmlXPathContext *context, DomainFacts *facts) {
        g_autoptr(xmlXPathObject) ours = xml_find(context, OUR_ELEMENT);

        facts->ours = ours != NULL;
        facts->autostart = facts->stop_asked = false;
        g_array_set_size(facts->gpus, 0);
        g_array_set_size(facts->cards, 0);
        if (!ours)
                return;

        facts->first_start = first_start_get(ours->nodesetval->nodeTab[0]);
        facts->autostart = yes_get(ours->nodesetval->nodeTab[0], "autostart");
        facts->stop_asked = yes_get(ours->nodesetval->nodeTab[0], "stopping");
        metadata_read_gpus(context, facts->gpus, facts->cards);
}

void metadata_read_next(xmlXPathContext *context, DomainFacts *facts) {
        g_autoptr(xmlXPathObject) ours = xml_find(context, OUR_ELEMENT);

        facts->ours = facts->ours && ours;
        facts->autostart = ours && yes_get(ours->nodesetval->nodeTab[0], "autostart");
}
