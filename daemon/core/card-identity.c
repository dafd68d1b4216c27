/* The right card: what a machine was made with against what is in the slot now. It compares and
 * words; where either side comes from is not its business. */
#include "core/card-identity.h"

#include "core/host.h"
#include "core/refusal.h"

#include <string.h>

#define REMEDY "Put back the card that it was made with, or delete the machine and create it again."

static FunctionIdentity function_identity_of(const PciFunction *function, const GArray *serials) {
        FunctionIdentity identity = {
                .address = function->address,
                .vendor = function->vendor,
                .device = function->device,
                .subsystem_vendor = function->subsystem_vendor,
                .subsystem_device = function->subsystem_device,
        };

        for (guint i = 0; serials && i < serials->len; i++) {
                const FunctionSerial *serial = &g_array_index(serials, FunctionSerial, i);

                if (pci_address_equal(serial->address, function->address))
                        g_strlcpy(identity.serial, serial->serial, sizeof(identity.serial));
        }
        return identity;
}

CardIdentity card_identity_of(const DeviceFacts *facts, const GArray *serials) {
        CardIdentity card = { .functions = { function_identity_of(&facts->function, serials) },
                              .n_functions = 1 };

        for (guint i = 0; i < facts->companions->len; i++) {
                if (card.n_functions == G_N_ELEMENTS(card.functions))
                        break;
                card.functions[card.n_functions++] = function_identity_of(
                        &g_array_index(facts->companions, PciFunction, i), serials);
        }
        return card;
}

static bool same_model(const FunctionIdentity *a, const FunctionIdentity *b) {
        return a->vendor == b->vendor && a->device == b->device &&
               a->subsystem_vendor == b->subsystem_vendor &&
               a->subsystem_device == b->subsystem_device;
}

bool pci_function_same_model(const PciFunction *a, const PciFunction *b) {
        FunctionIdentity one = function_identity_of(a, NULL), other = function_identity_of(b, NULL);

        return same_model(&one, &other);
}

static bool same_serial(const FunctionIdentity *a, const FunctionIdentity *b) {
        return !a->serial[0] || !b->serial[0] || strcmp(a->serial, b->serial) == 0;
}

static const FunctionIdentity *card_find(const CardIdentity *card, PciAddress address) {
        for (unsigned i = 0; i < card->n_functions; i++)
                if (pci_address_equal(card->functions[i].address, address))
                        return &card->functions[i];
        return NULL;
}

const CardIdentity *cards_find(const GArray *cards, PciAddress gpu) {
        for (guint i = 0; i < cards->len; i++) {
                const CardIdentity *card = &g_array_index(cards, CardIdentity, i);

                if (pci_address_equal(card->functions[0].address, gpu))
                        return card;
        }
        return NULL;
}

/* What is, or was, at an address, for a person; NULL for nothing. The caller's (g_free()). */
static char *function_describe(const FunctionIdentity *function) {
        if (!function)
                return g_strdup("no function of that card");
        return g_strdup_printf("device %04x:%04x (subsystem %04x:%04x%s%s)", function->vendor,
                               function->device, function->subsystem_vendor,
                               function->subsystem_device,
                               function->serial[0] ? ", serial number " : "", function->serial);
}

/* One of the two may be NULL. */
static void add_mismatch(const char *machine, const FunctionIdentity *made,
                         const FunctionIdentity *now, GPtrArray *findings) {
        g_autofree char *was = function_describe(made);
        g_autofree char *is = function_describe(now);
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(made ? made->address : now->address, shown);
        findings_error(findings, REFUSAL_IDENTITY_MISMATCH, shown, REMEDY,
                       "Machine %s was made with %s at %s, and now %s is there.", machine, was,
                       shown, is);
}

bool card_identity_check(const char *machine, const CardIdentity *made_with,
                         const CardIdentity *now, GPtrArray *findings) {
        for (unsigned i = 0; i < made_with->n_functions; i++) {
                const FunctionIdentity *made = &made_with->functions[i];
                const FunctionIdentity *found = card_find(now, made->address);

                if (found && same_model(made, found) && same_serial(made, found))
                        continue;
                add_mismatch(machine, made, found, findings);
                return false;
        }
        for (unsigned i = 0; i < now->n_functions; i++)
                if (!card_find(made_with, now->functions[i].address)) {
                        add_mismatch(machine, NULL, &now->functions[i], findings);
                        return false;
                }
        return true;
}

void card_identity_miss(const char *machine, PciAddress address, GPtrArray *findings) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(address, shown);
        findings_error(findings, REFUSAL_IDENTITY_MISMATCH, shown, REMEDY,
                       "The definition of machine %s has PCI device %s, and there is none now.",
                       machine, shown);
}
