/* PCI addresses: text to numbers and back. Knows no device; an address that parses may name
 * nothing. */
#include "core/pci-address.h"

#include <glib.h>
#include <string.h>

#define DOMAIN_DIGITS_MIN 4
#define DOMAIN_DIGITS_MAX 8

/* Reads @min to @max hexadecimal digits at *@text and moves it behind them; the most there are. */
static bool hex_parse(const char **text, unsigned min, unsigned max, uint32_t *ret) {
        uint32_t value = 0;
        unsigned n = 0;

        for (; n < max && g_ascii_isxdigit((*text)[n]); n++)
                value = value << 4 | (uint32_t)g_ascii_xdigit_value((*text)[n]);
        if (n < min)
                return false;

        *text += n;
        *ret = value;
        return true;
}

static bool char_parse(const char **text, char expected) {
        if (**text != expected)
                return false;

        (*text)++;
        return true;
}

/* A domain is there exactly when the first colon comes later than behind a bus's two digits. */
static bool domain_parse(const char **text, uint32_t *ret) {
        if (strcspn(*text, ":") == 2) {
                *ret = 0;
                return true;
        }

        return hex_parse(text, DOMAIN_DIGITS_MIN, DOMAIN_DIGITS_MAX, ret) && char_parse(text, ':');
}

bool pci_address_parse(const char *text, PciAddress *ret) {
        uint32_t domain, bus, slot, function;

        if (!domain_parse(&text, &domain) || !hex_parse(&text, 2, 2, &bus) ||
            !char_parse(&text, ':') || !hex_parse(&text, 2, 2, &slot) || !char_parse(&text, '.') ||
            !hex_parse(&text, 1, 1, &function))
                return false;
        if (*text != '\0' || slot > 31 || function > 7)
                return false;

        *ret = (PciAddress){
                .domain = domain,
                .bus = (uint8_t)bus,
                .slot = (uint8_t)slot,
                .function = (uint8_t)function,
        };
        return true;
}

const char *pci_address_print(PciAddress address, char buffer[static PCI_ADDRESS_BUFFER]) {
        g_snprintf(buffer, PCI_ADDRESS_BUFFER, "%04x:%02x:%02x.%x", address.domain, address.bus,
                   address.slot & 31u, address.function & 7u);
        return buffer;
}

char *pci_address_to_string(PciAddress address) {
        char buffer[PCI_ADDRESS_BUFFER];

        return g_strdup(pci_address_print(address, buffer));
}

int pci_address_compare(PciAddress a, PciAddress b) {
        if (a.domain != b.domain)
                return a.domain < b.domain ? -1 : 1;
        if (a.bus != b.bus)
                return a.bus < b.bus ? -1 : 1;
        if (a.slot != b.slot)
                return a.slot < b.slot ? -1 : 1;
        if (a.function != b.function)
                return a.function < b.function ? -1 : 1;
        return 0;
}

bool pci_address_equal(PciAddress a, PciAddress b) {
        return pci_address_compare(a, b) == 0;
}

bool pci_address_same_slot(PciAddress a, PciAddress b) {
        return a.domain == b.domain && a.bus == b.bus && a.slot == b.slot;
}

bool pci_addresses_find(const GArray *addresses, PciAddress address, guint *ret_index) {
        for (guint i = 0; i < addresses->len; i++)
                if (pci_address_equal(g_array_index(addresses, PciAddress, i), address)) {
                        if (ret_index)
                                *ret_index = i;
                        return true;
                }
        return false;
}

bool pci_addresses_equal(const GArray *a, const GArray *b) {
        if (a->len != b->len)
                return false;
        for (guint i = 0; i < a->len; i++)
                if (!pci_address_equal(g_array_index(a, PciAddress, i),
                                       g_array_index(b, PciAddress, i)))
                        return false;
        return true;
}

void pci_addresses_make_unique(GArray *addresses) {
        for (guint i = 0; i < addresses->len;) {
                guint first;

                pci_addresses_find(addresses, g_array_index(addresses, PciAddress, i), &first);
                if (first < i)
                        g_array_remove_index(addresses, i);
                else
                        i++;
        }
}
