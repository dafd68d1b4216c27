/* Whether a card is the one that a machine was made with: the rule, by a table. A card is written
 * as its functions, "ADDRESS VENDOR:DEVICE SUBSYSTEM SERIAL" each, with a comma between them. */
#include "core/card-identity.h"

#include "core/host.h"
#include "core/refusal.h"
#include "testing.h"

#include <stdio.h>
#include <string.h>

#define GPU   "01:00.0 10de:20b0 10de:1463 00-1b-21-ff-ff-12-34-56"
#define AUDIO "01:00.1 10de:1aef 10de:1463 "

static CardIdentity card(const char *text) {
        g_auto(GStrv) parts = g_strsplit(text, ",", -1);
        CardIdentity card = { 0 };

        for (char **part = parts; *part; part++) {
                FunctionIdentity *function = &card.functions[card.n_functions++];
                unsigned ids[4];
                char address[PCI_ADDRESS_BUFFER];

                assert_true(sscanf(*part, "%16s %x:%x %x:%x %23s", address, &ids[0], &ids[1],
                                   &ids[2], &ids[3], function->serial) >= 5);
                assert_true(pci_address_parse(address, &function->address));
                function->vendor = (uint16_t)ids[0];
                function->device = (uint16_t)ids[1];
                function->subsystem_vendor = (uint16_t)ids[2];
                function->subsystem_device = (uint16_t)ids[3];
        }
        return card;
}

static void a_card_is_known_by_its_functions(void **state) {
        static const struct {
                const char *made_with;
                const char *now;
                const char *subject; /* NULL = the same card */
                const char *was;     /* what the message says of both sides */
                const char *is;
        } cases[] = {
                { GPU, GPU },
                { GPU "," AUDIO, GPU "," AUDIO },
                { GPU, "01:00.0 1002:20b0 10de:1463", "0000:01:00.0",
                  "device 10de:20b0 (subsystem 10de:1463, serial number 00-1b-21-ff-ff-12-34-56)",
                  "device 1002:20b0 (subsystem 10de:1463)" },
                { GPU, "01:00.0 10de:20b1 10de:1463", "0000:01:00.0", "20b0", "20b1" },
                { GPU, "01:00.0 10de:20b0 1043:1463", "0000:01:00.0", "10de:1463", "1043:1463" },
                { GPU, "01:00.0 10de:20b0 10de:1464", "0000:01:00.0", "10de:1463", "10de:1464" },
                { GPU, "01:00.0 10de:20b0 10de:1463 00-1b-21-ff-ff-12-34-57", "0000:01:00.0",
                  "12-34-56", "12-34-57" },
                /* A number that one of the two does not have, or cannot tell, proves nothing. */
                { GPU, "01:00.0 10de:20b0 10de:1463" },
                { "01:00.0 10de:20b0 10de:1463", GPU },
                { GPU "," AUDIO, GPU, "0000:01:00.1", "10de:1aef", "no function of that card" },
                { GPU, GPU "," AUDIO, "0000:01:00.1", "no function of that card", "10de:1aef" },
                { GPU "," AUDIO, GPU ",01:00.1 10de:1af0 10de:1463", "0000:01:00.1", "10de:1aef",
                  "10de:1af0" },
                { GPU "," AUDIO, GPU ",01:00.2 10de:1aef 10de:1463", "0000:01:00.1", "10de:1aef",
                  "no function" },
                { GPU "," AUDIO "01-01-01-01-01-01-01-01", GPU "," AUDIO "01-01-01-01-01-01-01-02",
                  "0000:01:00.1", "-01)", "-02)" },
                /* The GPU itself is told of first. */
                { GPU "," AUDIO, "01:00.0 1:2 3:4", "0000:01:00.0", "10de:20b0", "0001:0002" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                CardIdentity made_with = card(cases[i].made_with), now = card(cases[i].now);
                g_autoptr(GPtrArray) findings = findings_new();
                const Refusal *finding;
                const char *was, *is;

                assert_int_equal(card_identity_check("box", &made_with, &now, findings),
                                 cases[i].subject == NULL);
                assert_int_equal(findings->len, cases[i].subject ? 1 : 0);
                if (!cases[i].subject)
                        continue;
                finding = g_ptr_array_index(findings, 0);
                assert_int_equal(finding->code, REFUSAL_IDENTITY_MISMATCH);
                assert_int_equal(finding->severity, SEVERITY_ERROR);
                assert_string_equal(finding->subject, cases[i].subject);
                assert_non_null(strstr(finding->message, "Machine box was made with "));
                assert_non_null(strstr(finding->message, cases[i].subject));
                was = strstr(finding->message, cases[i].was);
                is = was ? strstr(was, cases[i].is) : NULL;
                if (!was || !is)
                        fail_msg("\"%s\" does not say \"%s\", then \"%s\"", finding->message,
                                 cases[i].was, cases[i].is);
                assert_non_null(strstr(finding->remedy, "create it again"));
        }
}

static PciFunction function_at(const char *address, uint16_t device) {
        PciFunction function = { .vendor = 0x10de,
                                 .device = device,
                                 .subsystem_vendor = 0x1af4,
                                 .subsystem_device = 0x1100 };

        assert_true(pci_address_parse(address, &function.address));
        return function;
}

static void an_identity_is_made_of_the_facts_and_the_serials(void **state) {
        g_autoptr(DeviceFacts) facts = device_facts_new();
        g_autoptr(GArray) serials = g_array_new(FALSE, FALSE, sizeof(FunctionSerial));
        PciFunction audio = function_at("01:00.1", 2);
        FunctionSerial serial = { .address = audio.address, .serial = "01-02-03-04-05-06-07-08" };
        CardIdentity now;

        facts->function = function_at("01:00.0", 1);
        g_array_append_val(facts->companions, audio);
        g_array_append_val(serials, serial);

        now = card_identity_of(facts, serials);
        assert_int_equal(now.n_functions, 2);
        assert_int_equal(now.functions[0].vendor, 0x10de);
        assert_int_equal(now.functions[0].device, 1);
        assert_int_equal(now.functions[0].subsystem_vendor, 0x1af4);
        assert_int_equal(now.functions[0].subsystem_device, 0x1100);
        assert_string_equal(now.functions[0].serial, "");
        assert_true(pci_address_equal(now.functions[1].address, audio.address));
        assert_int_equal(now.functions[1].device, 2);
        assert_string_equal(now.functions[1].serial, "01-02-03-04-05-06-07-08");

        now = card_identity_of(facts, NULL);
        assert_string_equal(now.functions[1].serial, "");
}

static void a_card_is_found_by_its_gpu(void **state) {
        g_autoptr(GArray) cards = g_array_new(FALSE, FALSE, sizeof(CardIdentity));
        CardIdentity one = card(GPU "," AUDIO);

        assert_null(cards_find(cards, one.functions[0].address));
        g_array_append_val(cards, one);
        assert_ptr_equal(cards_find(cards, one.functions[0].address), cards->data);
        assert_null(cards_find(cards, one.functions[1].address));
}

static void a_function_that_the_definition_alone_has_is_named(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();
        const Refusal *finding;

        card_identity_miss("box", function_at("01:00.1", 1).address, findings);
        finding = findings_first_error(findings);
        assert_int_equal(finding->code, REFUSAL_IDENTITY_MISMATCH);
        assert_string_equal(finding->subject, "0000:01:00.1");
        assert_non_null(strstr(finding->message, "machine box has PCI device 0000:01:00.1"));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_card_is_known_by_its_functions),
                cmocka_unit_test(an_identity_is_made_of_the_facts_and_the_serials),
                cmocka_unit_test(a_card_is_found_by_its_gpu),
                cmocka_unit_test(a_function_that_the_definition_alone_has_is_named),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
