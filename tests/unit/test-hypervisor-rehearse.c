/* What of a domain libvirt is asked to try out. */
#include "hypervisor/domain-rehearse.h"
#include "testing.h"

#include <string.h>

static void only_what_can_be_tried_is_left(void **state) {
        g_autofree char *tried = domain_xml_for_rehearsal(
                "<domain type='kvm'><name>box</name><os><type>hvm</type></os><devices>"
                "<emulator>/usr/bin/qemu-system-x86_64</emulator>"
                "<disk type='file'><source file='/a.img'/></disk>"
                "<interface type='network'><source network='default'/></interface>"
                "<hostdev mode='subsystem' type='pci'><source/></hostdev>"
                "<hostdev mode='subsystem' type='usb'><source/></hostdev>"
                "<controller type='pci' index='1'/><serial type='pty'/><tpm model='tpm-crb'/>"
                "<vsock model='virtio'/><memballoon model='none'/></devices></domain>");

        assert_non_null(tried);
        assert_non_null(strstr(tried, "<name>box</name>"));
        assert_non_null(strstr(tried, "<emulator>"));
        assert_non_null(strstr(tried, "/a.img"));
        assert_non_null(strstr(tried, "type=\"pci\"><source/>"));
        assert_non_null(strstr(tried, "<controller"));
        assert_non_null(strstr(tried, "<memballoon"));
        assert_null(strstr(tried, "<interface"));
        assert_null(strstr(tried, "usb"));
        assert_null(strstr(tried, "<serial"));
        assert_null(strstr(tried, "<tpm"));
        assert_null(strstr(tried, "<vsock"));
}

static void what_is_no_domain_is_not_tried(void **state) {
        static const char *const odd[] = { "", "<network/>", "<domain", "<!DOCTYPE a><domain/>" };

        for (size_t i = 0; i < G_N_ELEMENTS(odd); i++)
                assert_null(domain_xml_for_rehearsal(odd[i]));
}

static void a_domain_without_devices_stays_one(void **state) {
        g_autofree char *tried = domain_xml_for_rehearsal("<domain type='kvm'/>");

        assert_non_null(strstr(tried, "<domain type=\"kvm\"/>"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(only_what_can_be_tried_is_left),
                cmocka_unit_test(what_is_no_domain_is_not_tried),
                cmocka_unit_test(a_domain_without_devices_stays_one),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
