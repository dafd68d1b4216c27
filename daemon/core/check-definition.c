/* What a definition says beyond what Create would be asked: which cards the machine was made with,
 * and which host devices it has. Somebody who edits one of the two by hand must edit the other: the
 * service moves the cards that our metadata names, and libvirt gives the machine its host devices.
 */
#include "core/check.h"

#define AGREE                                                                                   \
        "Use virsh edit to make the <hostdev> elements and the <gpu> elements of feos:machine " \
        "agree."

bool check_made_with(const CheckFacts *facts, const CheckCard *card, const Request *request,
                     GPtrArray *findings) {
        /* A definition by an earlier version says nothing of its cards, and is not taught at its
         * next start either: what is in the slot by then may be another card already, and to note
         * that one down would be to vouch for it. */
        const CardIdentity *made_with =
                facts->definition ? cards_find(facts->definition->cards, card->address) : NULL;
        CardIdentity now;

        if (!made_with || !card->facts)
                return true;
        now = card_identity_of(card->facts, facts->survey ? facts->survey->serials : NULL);
        return card_identity_check(request->name, made_with, &now, findings);
}

static const CheckHostdev *hostdev_find(const CheckDefinition *definition, PciAddress address) {
        for (guint i = 0; i < definition->hostdevs->len; i++) {
                const CheckHostdev *hostdev = &g_array_index(definition->hostdevs, CheckHostdev, i);

                if (pci_address_equal(hostdev->address, address))
                        return hostdev;
        }
        return NULL;
}

static bool is_named(const Request *request, PciAddress gpu) {
        for (guint i = 0; i < request->gpus->len; i++)
                if (pci_address_equal(g_array_index(request->gpus, PciAddress, i), gpu))
                        return true;
        return false;
}

/* libvirt would unbind it from its driver, and wait for that with all its host devices locked; and
 * give it to its driver after the machine, behind our back. */
static void check_managed(const Request *request, const char *shown, GPtrArray *findings) {
        findings_error(
                findings, REFUSAL_INVALID_STATE, shown,
                "Use virsh edit to set managed='no' there: the service moves the card itself.",
                "The definition of machine %s has PCI device %s, part of one of its GPUs, as "
                "managed='yes'.",
                request->name, shown);
}

static void check_stranger(const Request *request, const char *shown, PciAddress gpu,
                           GPtrArray *findings) {
        g_autofree char *named = addresses_to_string(request->gpus);
        char printed[PCI_ADDRESS_BUFFER];

        findings_error(findings, REFUSAL_INVALID_STATE, shown, AGREE,
                       "The definition of machine %s has PCI device %s of GPU %s, but the "
                       "machine's GPUs are %s.",
                       request->name, shown, pci_address_print(gpu, printed),
                       named[0] ? named : "none");
}

/* A PCI device that is not part of a GPU concerns only libvirt and whoever added it. */
static void check_hostdev(const CheckHostdev *hostdev, const Request *request,
                          GPtrArray *findings) {
        char shown[PCI_ADDRESS_BUFFER];
        PciAddress gpu;

        pci_address_print(hostdev->address, shown);
        if (hostdev->missing)
                card_identity_miss(request->name, hostdev->address, findings);
        else if (!hostdev->facts)
                g_ptr_array_add(findings, unread_refusal(hostdev->address));
        else if (!device_facts_find_gpu(hostdev->facts, &gpu))
                return;
        else if (!is_named(request, gpu))
                check_stranger(request, shown, gpu, findings);
        else if (hostdev->managed)
                check_managed(request, shown, findings);
}

static void check_function(const CheckDefinition *definition, const CheckCard *card,
                           PciAddress function, const Request *request, GPtrArray *findings) {
        char shown[PCI_ADDRESS_BUFFER], gpu[PCI_ADDRESS_BUFFER];

        if (hostdev_find(definition, function))
                return;
        findings_error(
                findings, REFUSAL_INVALID_STATE, pci_address_print(card->address, gpu), AGREE,
                "Machine %s has GPU %s, but its definition lacks PCI device %s of that card.",
                request->name, gpu, pci_address_print(function, shown));
}

static void check_functions(const CheckDefinition *definition, const CheckCard *card,
                            const Request *request, GPtrArray *findings) {
        if (!card->facts)
                return;
        check_function(definition, card, card->facts->function.address, request, findings);
        for (guint i = 0; i < card->facts->companions->len; i++)
                check_function(definition, card,
                               g_array_index(card->facts->companions, PciFunction, i).address,
                               request, findings);
}

void check_definition(const CheckFacts *facts, const Request *request, GPtrArray *findings) {
        const CheckDefinition *definition = facts->definition;

        for (guint i = 0; i < definition->hostdevs->len; i++)
                check_hostdev(&g_array_index(definition->hostdevs, CheckHostdev, i), request,
                              findings);
        for (guint i = 0; i < facts->cards->len; i++)
                check_functions(definition, &g_array_index(facts->cards, CheckCard, i), request,
                                findings);
        if (definition->kvm && facts->hypervisor.connected && !facts->hypervisor.kvm)
                findings_error(findings, REFUSAL_INVALID_STATE, request->name,
                               "Switch virtualization (VT-x or AMD-V) on in the firmware and load "
                               "kvm_intel or kvm_amd. Or use virsh edit to set <domain "
                               "type='qemu'>, for slow plain emulation.",
                               "Machine %s is defined to run with KVM, which the host does not "
                               "have.",
                               request->name);
}
