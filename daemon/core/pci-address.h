/* A PCI address: parsed once, kept as numbers, printed one way. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* Domains wider than 16 bits exist (Intel VMD gives 10000:e1:00.0), so eight digits must fit. */
#define PCI_ADDRESS_BUFFER 17

typedef struct PciAddress {
        uint32_t domain;
        uint8_t bus;
        uint8_t slot;     /* 0 to 31 */
        uint8_t function; /* 0 to 7 */
} PciAddress;

/* Reads "0000:01:00.0" or, for domain 0, "01:00.0"; hexadecimal in either case. Nothing may stand
 * before or after it. Returns false, and leaves @ret alone, when @text is not a PCI address. */
bool pci_address_parse(const char *text, PciAddress *ret);

/* Prints @address in full and in lower case into @buffer and returns @buffer. */
const char *pci_address_print(PciAddress address, char buffer[static PCI_ADDRESS_BUFFER]);

/* The same as pci_address_print(), in a new string that the caller frees with g_free(). */
char *pci_address_to_string(PciAddress address);

/* Orders by domain, bus, slot, function: negative, 0 or positive as strcmp() does. */
int pci_address_compare(PciAddress a, PciAddress b);

bool pci_address_equal(PciAddress a, PciAddress b);

/* Whether the two are functions of one slot (or one and the same function). */
bool pci_address_same_slot(PciAddress a, PciAddress b);

/* Whether @addresses, an array of PciAddress, has @address; @ret_index, which may be NULL, is set
 * to where, and left alone where it has not. */
bool pci_addresses_find(const GArray *addresses, PciAddress address, guint *ret_index);

/* Whether the two arrays of PciAddress have the same ones in the same order. */
bool pci_addresses_equal(const GArray *a, const GArray *b);

/* Takes out of @addresses (PciAddress) what is in it already, further up. */
void pci_addresses_make_unique(GArray *addresses);
