/* What a start makes of a machine's definition, for as long as it takes and for good. */
#include "autoptr-bus.h"
#include "hypervisor/definition-edit.h"
#include "hypervisor/domain-xml.h"
#include "libvirt-fixture.h"
#include "testing.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <string.h>

#define HOSTDEV(bus, function, managed)                                                            \
        "<hostdev mode='subsystem' type='pci' managed='" managed "'><driver name='vfio'/><source>" \
        "<address domain='0x0000' bus='" bus "' slot='0x00' function='" function "'/>"             \
        "</source></hostdev>"
#define USB "<hostdev mode='subsystem' type='usb' managed='yes'><source/></hostdev>"
#define MACHINE(first_start, name, devices)                                                 \
        "<domain type='kvm'><name>" name "</name><metadata>"                                \
        "<feos:machine xmlns:feos='" DOMAIN_METADATA_URI "' first-start='" first_start "'>" \
        "<feos:gpu address='0000:01:00.0'/></feos:machine></metadata>"                      \
        "<devices>" devices "</devices></domain>"
#define SERIAL_LOG(path) "<serial type='pty'><log file='" path "' append='on'/></serial>"

static unsigned count(const char *text, const char *word) {
        unsigned n = 0;

        for (const char *p = strstr(text, word); p; p = strstr(p + 1, word))
                n++;
        return n;
}

static void every_function_of_its_cards_is_managed_for_the_start(void **state) {
        static const char at_rest[] =
                MACHINE("pending", "box",
                        HOSTDEV("0x01", "0x0", "no") HOSTDEV("0x01", "0x1", "no")
                                HOSTDEV("0x02", "0x0", "no") USB);
        g_autoptr(GArray) functions = definition_functions(at_rest);
        g_autofree char *lent = NULL, *back = NULL, *failed = NULL, *same = NULL;

        assert_int_equal(functions->len, 2);
        assert_int_equal(g_array_index(functions, PciAddress, 1).function, 1);
        assert_int_equal(definition_for_start(at_rest, true, &lent), 1);
        assert_int_equal(count(lent, "managed=\"yes\""), 3);
        assert_int_equal(count(lent, "model=\"vfio-pci\""), 2);
        /* Somebody else has added that one. */
        assert_int_equal(count(lent, "managed=\"no\""), 1);
        assert_int_equal(definition_for_start(lent, true, &same), 0);
        assert_null(same);

        assert_int_equal(definition_at_rest(lent, true, &back), 1);
        assert_int_equal(count(back, "managed=\"no\""), 3);
        assert_int_equal(count(back, "first-start=\"done\""), 1);
        assert_int_equal(definition_at_rest(lent, false, &failed), 1);
        assert_int_equal(count(failed, "first-start=\"pending\""), 1);
        assert_int_equal(definition_at_rest(back, true, &same), 0);
        assert_int_equal(definition_at_rest(at_rest, true, &same), 0);
        assert_null(same);
}

static void what_is_not_on_vfio_is_not_managed(void **state) {
        g_autofree char *same = NULL;

        assert_int_equal(definition_for_start(MACHINE("done", "box", HOSTDEV("0x01", "0x0", "no")),
                                              false, &same),
                         0);
        assert_null(same);
}

static void somebody_elses_managed_function_stays_so(void **state) {
        g_autofree char *same = NULL;

        assert_int_equal(definition_at_rest(MACHINE("done", "box", HOSTDEV("0x02", "0x0", "yes")),
                                            true, &same),
                         0);
        assert_null(same);
}

static void the_log_follows_the_name(void **state) {
        static const char renamed[] =
                MACHINE("later", "new", SERIAL_LOG("/var/log/feos/old/console.log"));
        static const char odd[] = MACHINE("later", "new",
                                          SERIAL_LOG("/var/log/feos//x/../new/console.log")
                                                  SERIAL_LOG("/var/log/feos/deep/er/own.log")
                                                          SERIAL_LOG("/srv/old/console.log"));
        g_auto(GStrv) logs = NULL, odd_logs = definition_logs(odd);
        g_autofree char *edited = NULL, *same = NULL;

        assert_int_equal(definition_for_start(renamed, false, &edited), 1);
        assert_non_null(strstr(edited, "\"/var/log/feos/new/console.log\""));
        logs = definition_logs(edited);
        assert_int_equal(g_strv_length(logs), 1);
        assert_string_equal(logs[0], "/var/log/feos/new/console.log");

        assert_int_equal(definition_for_start(odd, false, &same), 0);
        assert_null(same);
        assert_int_equal(g_strv_length(odd_logs), 2);
        assert_string_equal(odd_logs[0], "/var/log/feos/new/console.log");
        assert_string_equal(odd_logs[1], "/var/log/feos/deep/er/own.log");
}

static void no_log_is_opened_elsewhere(void **state) {
        g_auto(GStrv) logs = definition_logs(
                MACHINE("later", "box",
                        SERIAL_LOG("/var/log/feos/../../etc/cron.d/x")
                                SERIAL_LOG("/var/log/feos/console.log")
                                        SERIAL_LOG("/var/log/feosx/box/console.log")));

        assert_int_equal(g_strv_length(logs), 0);
}

static void what_is_no_domain_is_left_alone(void **state) {
        g_autoptr(GArray) functions = definition_functions("<network/>");
        g_auto(GStrv) logs = definition_logs("<doma");
        g_autofree char *edited = NULL;

        assert_int_equal(functions->len, 0);
        assert_int_equal(g_strv_length(logs), 0);
        assert_int_equal(definition_for_start("", true, &edited), -EBADMSG);
        assert_int_equal(definition_at_rest("<network/>", true, &edited), -EBADMSG);
        assert_null(edited);
}

/* Who renames it is another client of the same libvirt. */
static void a_machine_renamed_before_its_first_start_starts(void **state) {
        virConnectPtr theirs;
        virDomainPtr renamed;
        g_autofree char *copy = NULL;
        Fixture f = { 0 };
        char *xml;

        fixture_open(&f, SHARED_URI);
        await_connected(&f);
        define(&f);
        assert_done(&f);
        theirs = virConnectOpen(SHARED_URI);
        renamed = virDomainLookupByUUIDString(theirs, UUID);
        assert_non_null(renamed);
        assert_int_equal(virDomainRename(renamed, "other", 0), 0);
        while (!g_str_equal(domain(&f, UUID)->name, "other"))
                await(&f, &f.n_seen, f.n_seen + 1);

        act(&f, HYPERVISOR_START, UUID);
        assert_done(&f);
        xml = virDomainGetXMLDesc(renamed, 0);
        copy = g_strdup(xml);
        free(xml);
        assert_non_null(strstr(copy, "/var/log/feos/other/console.log"));
        assert_null(strstr(copy, "/var/log/feos/box/"));

        act(&f, HYPERVISOR_DESTROY, UUID);
        act(&f, HYPERVISOR_UNDEFINE, UUID);
        assert_done(&f);
        virDomainFree(renamed);
        virConnectClose(theirs);
        fixture_close(&f);
}

static bool is_managed(virDomainPtr machine) {
        char *xml = virDomainGetXMLDesc(machine, VIR_DOMAIN_XML_INACTIVE);
        bool managed = count(xml, "managed='yes'") > 0;

        free(xml);
        return managed;
}

/* As a daemon leaves it that was killed while libvirt started the machine. */
static void what_a_killed_daemon_has_lent_is_taken_back(void **state) {
        virConnectPtr theirs;
        virDomainPtr machine;
        g_autofree char *lent = NULL;
        Fixture f = { 0 };
        char *xml;
        CardIdentity card = { .functions = { { .vendor = 0x10de } }, .n_functions = 1 };

        fixture_open(&f, SHARED_URI);
        await_connected(&f);
        assert_true(pci_address_parse("0000:c1:00.0", &card.functions[0].address));
        g_array_append_val(f.request.gpus, card.functions[0].address);
        g_array_append_val(f.spec.cards, card);
        define(&f);
        assert_done(&f);
        theirs = virConnectOpen(SHARED_URI);
        machine = virDomainLookupByUUIDString(theirs, UUID);
        xml = virDomainGetXMLDesc(machine, VIR_DOMAIN_XML_INACTIVE);
        assert_int_equal(definition_for_start(xml, true, &lent), 1);
        free(xml);
        virDomainFree(virDomainDefineXML(theirs, lent));
        assert_true(f.n_seen > 0);

        while (is_managed(machine))
                await(&f, &f.n_seen, f.n_seen + 1);
        /* Core has heard of nothing else. */
        assert_int_equal(domain(&f, UUID)->defined_hostdevs->len, 1);
        assert_false(g_array_index(domain(&f, UUID)->defined_hostdevs, DefinedHostdev, 0).managed);
        act(&f, HYPERVISOR_UNDEFINE, UUID);
        assert_done(&f);
        virDomainFree(machine);
        virConnectClose(theirs);
        fixture_close(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_function_of_its_cards_is_managed_for_the_start),
                cmocka_unit_test(what_is_not_on_vfio_is_not_managed),
                cmocka_unit_test(somebody_elses_managed_function_stays_so),
                cmocka_unit_test(the_log_follows_the_name),
                cmocka_unit_test(no_log_is_opened_elsewhere),
                cmocka_unit_test(what_is_no_domain_is_left_alone),
                cmocka_unit_test(a_machine_renamed_before_its_first_start_starts),
                cmocka_unit_test(what_a_killed_daemon_has_lent_is_taken_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
