/* PCI addresses: what is one, what is none, and that printing and parsing are each other's inverse.
 */
#include "core/pci-address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glib.h>

typedef struct Good {
        const char *text;
        PciAddress address;
        const char *printed;
} Good;

static const Good good[] = {
        { "0000:01:00.0", { 0, 1, 0, 0 }, "0000:01:00.0" },
        { "01:00.0", { 0, 1, 0, 0 }, "0000:01:00.0" },
        { "0000:ff:1f.7", { 0, 0xff, 0x1f, 7 }, "0000:ff:1f.7" },
        { "0000:C1:0A.1", { 0, 0xc1, 0x0a, 1 }, "0000:c1:0a.1" },
        { "abCD:eF:00.0", { 0xabcd, 0xef, 0, 0 }, "abcd:ef:00.0" },
        { "10000:e1:00.0", { 0x10000, 0xe1, 0, 0 }, "10000:e1:00.0" },
        { "ffffffff:ff:1f.7", { 0xffffffff, 0xff, 0x1f, 7 }, "ffffffff:ff:1f.7" },
        { "00000000:65:00.0", { 0, 0x65, 0, 0 }, "0000:65:00.0" },
};

static const char *const bad[] = {
        "",
        " ",
        ":",
        "01",
        "01:00",
        "01:00.",
        "1:00.0",
        "01:0.0",
        "001:00.0",
        "01:000.0",
        "01:00.00",
        "01:00.8",
        "01:20.0",
        "000:01:00.0",
        "000000000:01:00.0",
        "0000:001:00.0",
        "0000:01:00.0 ",
        " 0000:01:00.0",
        "0000:01:00.0\n",
        "0000:01:00:0",
        "0000.01.00.0",
        "0000:0g:00.0",
        "0x00:01:00.0",
        "0000:01:00.-",
        "+000:01:00.0",
        "0000::01:00.0",
        ":01:00.0",
        "0000:01:00.0/..",
        "../0000:01:00.0",
        "0000:01:00.a",
};

static void test_good(void **state) {
        for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
                char buffer[PCI_ADDRESS_BUFFER];
                g_autofree char *printed = NULL;
                PciAddress address, again;

                assert_true(pci_address_parse(good[i].text, &address));
                assert_true(pci_address_equal(address, good[i].address));
                assert_string_equal(pci_address_print(address, buffer), good[i].printed);
                printed = pci_address_to_string(address);
                assert_string_equal(printed, good[i].printed);
                assert_true(pci_address_parse(printed, &again));
                assert_true(pci_address_equal(address, again));
        }
}

static void test_bad(void **state) {
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                PciAddress address = { 1, 2, 3, 4 };

                if (pci_address_parse(bad[i], &address))
                        fail_msg("\"%s\" was taken for an address", bad[i]);
                assert_true(pci_address_equal(address, (PciAddress){ 1, 2, 3, 4 }));
        }
}

/* Every byte in every place of a good address: what is taken is printed as it was, lower case. */
static void test_every_byte(void **state) {
        for (size_t at = 0; at < strlen("0000:01:00.0"); at++)
                for (int byte = 1; byte < 256; byte++) {
                        char text[] = "0000:01:00.0";
                        char buffer[PCI_ADDRESS_BUFFER];
                        g_autofree char *lower = NULL;
                        PciAddress address;

                        text[at] = (char)byte;
                        if (!pci_address_parse(text, &address))
                                continue;
                        lower = g_ascii_strdown(text, -1);
                        assert_string_equal(pci_address_print(address, buffer), lower);
                }
}

static void test_order(void **state) {
        static const PciAddress sorted[] = {
                { 0, 0, 0, 0 }, { 0, 0, 0, 1 }, { 0, 0, 1, 0 }, { 0, 1, 0, 0 }, { 1, 0, 0, 0 },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(sorted); i++)
                for (size_t j = 0; j < G_N_ELEMENTS(sorted); j++) {
                        int order = pci_address_compare(sorted[i], sorted[j]);

                        assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
                        assert_int_equal(pci_address_equal(sorted[i], sorted[j]), i == j);
                }
        assert_true(pci_address_same_slot(sorted[0], sorted[1]));
        assert_false(pci_address_same_slot(sorted[0], sorted[2]));
        assert_false(pci_address_same_slot(sorted[0], sorted[3]));
        assert_false(pci_address_same_slot(sorted[0], sorted[4]));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_good),
                cmocka_unit_test(test_bad),
                cmocka_unit_test(test_every_byte),
                cmocka_unit_test(test_order),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
