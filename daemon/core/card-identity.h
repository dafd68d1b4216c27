/* Which card a machine was given: function by function, what tells it from another one that could
 * sit in the same slot. Pure. */
#pragma once

#include "core/pci-address.h"

#include <glib.h>

typedef struct DeviceFacts DeviceFacts;
typedef struct PciFunction PciFunction;

/* A PCI Express Device Serial Number as lspci prints it, "00-1b-21-ff-ff-12-34-56". */
#define PCI_SERIAL_BUFFER 24

typedef struct FunctionSerial {
        PciAddress address;
        char serial[PCI_SERIAL_BUFFER];
} FunctionSerial;

typedef struct FunctionIdentity {
        PciAddress address;
        uint16_t vendor;
        uint16_t device;
        uint16_t subsystem_vendor;
        uint16_t subsystem_device;
        char serial[PCI_SERIAL_BUFFER]; /* "" = none, or not known */
} FunctionIdentity;

typedef struct CardIdentity {
        FunctionIdentity functions[8]; /* the GPU first, then its companions by address */
        unsigned n_functions;
} CardIdentity;

/* The card as it is now. @serials is of FunctionSerial; NULL when none are known. */
CardIdentity card_identity_of(const DeviceFacts *facts, const GArray *serials);

/* Whether the two are devices of one model. Serial numbers are not asked for. */
bool pci_function_same_model(const PciFunction *a, const PciFunction *b);

/* The one among @cards (CardIdentity) whose GPU is at @gpu, lent; NULL when there is none. */
const CardIdentity *cards_find(const GArray *cards, PciAddress gpu);

/* Whether @now is the card that @machine was @made_with; else adds an IdentityMismatch that names
 * the first function that differs. A serial number counts where both are known: one that cannot be
 * read now proves nothing. */
bool card_identity_check(const char *machine, const CardIdentity *made_with,
                         const CardIdentity *now, GPtrArray *findings);

/* Adds an IdentityMismatch for a function that @machine's definition names and the host has not. */
void card_identity_miss(const char *machine, PciAddress address, GPtrArray *findings);
