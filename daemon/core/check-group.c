/* Whether VFIO would give a card to anybody: what the kernel demands of the IOMMU and of the other
 * devices in the card's group. */
#include "core/check.h"

/* Whether @address goes to the machine with one of the requested cards. */
static bool is_requested(const CheckFacts *facts, PciAddress address) {
        for (guint i = 0; i < facts->cards->len; i++) {
                const CheckCard *card = &g_array_index(facts->cards, CheckCard, i);

                if (!card->facts)
                        continue;
                if (pci_address_equal(card->facts->function.address, address))
                        return true;
                for (guint j = 0; j < card->facts->companions->len; j++)
                        if (pci_address_equal(
                                    g_array_index(card->facts->companions, PciFunction, j).address,
                                    address))
                                return true;
        }
        return false;
}

/* VFIO's type1 driver says so only when QEMU starts (drivers/vfio/vfio_iommu_type1.c,
 * vfio_iommu_type1_attach_group(): EPERM). */
static void check_interrupts(const char *shown, GPtrArray *findings) {
        findings_error(findings, REFUSAL_NO_IOMMU, shown,
                       "Switch interrupt remapping (with VT-d or AMD-Vi) on in the firmware, and "
                       "boot without intremap=off. Or, if you trust every guest, let guests raise "
                       "any interrupt of the host: "
                       "echo Y > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
                       "The host's IOMMU does not remap interrupts, so VFIO refuses GPU %s.",
                       shown);
}

/* The neighbours that keep VFIO out of the group, bridges or all others, as "0000:02:00.0
 * (e1000e)"; @ret_first is the first of them, NULL = none. A new string. */
static char *neighbours_print(const CheckFacts *facts, const CheckCard *card, bool bridges,
                              const PciFunction **ret_first) {
        GString *text = g_string_new(NULL);
        char printed[PCI_ADDRESS_BUFFER];

        *ret_first = NULL;
        for (guint i = 0; i < card->facts->neighbours->len; i++) {
                const PciFunction *neighbour =
                        &g_array_index(card->facts->neighbours, PciFunction, i);

                if (!pci_function_blocks_group(neighbour) ||
                    pci_function_is_bridge(neighbour) != bridges ||
                    is_requested(facts, neighbour->address))
                        continue;
                g_string_append_printf(text, "%s%s (%s)", *ret_first ? ", " : "",
                                       pci_address_print(neighbour->address, printed),
                                       neighbour->driver);
                if (!*ret_first)
                        *ret_first = neighbour;
        }
        return g_string_free(text, FALSE);
}

static void check_neighbours(const CheckFacts *facts, const CheckCard *card, const char *shown,
                             GPtrArray *findings) {
        const PciFunction *first;
        g_autofree char *foreign = neighbours_print(facts, card, false, &first);

        if (first)
                findings_error(findings, REFUSAL_GROUP_NOT_VIABLE, shown,
                               "Unbind those devices from their drivers, or move the GPU to a slot "
                               "with an IOMMU group of its own.",
                               "GPU %s shares IOMMU group %d with devices that the host uses: %s.",
                               shown, card->facts->iommu_group, foreign);
}

/* A bridge works without a driver: what shpchp and its like add is hot plug. */
static void check_bridges(const CheckFacts *facts, const CheckCard *card, const char *shown,
                          GPtrArray *findings) {
        const PciFunction *first;
        g_autofree char *bridges = neighbours_print(facts, card, true, &first);
        g_autofree char *remedy = NULL;
        char printed[PCI_ADDRESS_BUFFER];

        if (!first)
                return;
        remedy = g_strdup_printf("Unbind the driver: echo %s > /sys/bus/pci/drivers/%s/unbind%s",
                                 pci_address_print(first->address, printed), first->driver,
                                 g_str_equal(first->driver, "shpchp")
                                         ? ", or boot with initcall_blacklist=shpcd_init."
                                         : "");
        findings_error(findings, REFUSAL_GROUP_NOT_VIABLE, shown, remedy,
                       "GPU %s shares IOMMU group %d with bridges whose drivers keep VFIO out of "
                       "the group: %s.",
                       shown, card->facts->iommu_group, bridges);
}

void check_group(const CheckFacts *facts, const CheckCard *card, GPtrArray *findings) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(card->address, shown);
        if (!facts->host.iommu || card->facts->iommu_group < 0) {
                findings_error(
                        findings, REFUSAL_NO_IOMMU, shown,
                        "Switch VT-d or AMD-Vi on in the firmware, and boot an Intel host with "
                        "intel_iommu=on.",
                        "GPU %s has no IOMMU group.", shown);
                return;
        }
        if (!facts->host.vfio)
                findings_error(findings, REFUSAL_NO_IOMMU, shown, "Load it with: modprobe vfio-pci",
                               "The kernel's vfio-pci driver is not loaded, so GPU %s cannot be "
                               "handed over.",
                               shown);
        if (facts->host.unsafe_interrupts)
                check_interrupts(shown, findings);
        check_neighbours(facts, card, shown, findings);
        check_bridges(facts, card, shown, findings);
}
