/* libvirt's XML as it is read: a machine of ours that comes back as it was written, domains of
 * others, rubbish, and what libvirt says of itself. */
#include "xml-fixture.h"

#include "autoptr.h"
#include "testing.h"

#include <errno.h>

static void assert_addresses(const GArray *addresses, ...) {
        const char *expected;
        unsigned n = 0;
        va_list list;

        va_start(list, addresses);
        while ((expected = va_arg(list, const char *))) {
                char text[PCI_ADDRESS_BUFFER];

                assert_true(n < addresses->len);
                pci_address_print(g_array_index(addresses, PciAddress, n++), text);
                assert_string_equal(text, expected);
        }
        va_end(list);
        assert_int_equal(n, addresses->len);
}

static void assert_same_cards(const GArray *cards, const GArray *expected) {
        assert_int_equal(cards->len, expected->len);
        for (unsigned i = 0; i < cards->len; i++) {
                const CardIdentity *card = &g_array_index(cards, CardIdentity, i);
                const CardIdentity *as = &g_array_index(expected, CardIdentity, i);

                assert_int_equal(card->n_functions, as->n_functions);
                for (unsigned k = 0; k < card->n_functions; k++) {
                        const FunctionIdentity *function = &card->functions[k];

                        assert_true(pci_address_equal(function->address, as->functions[k].address));
                        assert_int_equal(function->vendor, as->functions[k].vendor);
                        assert_int_equal(function->device, as->functions[k].device);
                        assert_int_equal(function->subsystem_vendor,
                                         as->functions[k].subsystem_vendor);
                        assert_int_equal(function->subsystem_device,
                                         as->functions[k].subsystem_device);
                        assert_string_equal(function->serial, as->functions[k].serial);
                }
        }
}

static void test_read_back(void **state) {
        Fixture *f = *state;
        g_autoptr(DomainFacts) facts = domain_facts_new();
        g_autofree char *pending = NULL, *later = NULL;
        const CardIdentity *card;

        add_card(f, "0000:c1:00.0", NULL);
        add_card(f, "10000:01:1f.2", "10000:01:1f.0", NULL);
        pending = write_xml(f);
        assert_int_equal(domain_xml_parse(pending, NULL, facts), 0);
        assert_true(facts->ours);
        assert_int_equal(facts->first_start, FIRST_START_PENDING);
        assert_false(facts->hugepages);
        assert_addresses(facts->gpus, "0000:c1:00.0", "10000:01:1f.2", NULL);
        assert_addresses(facts->hostdevs, "0000:c1:00.0", "10000:01:1f.2", "10000:01:1f.0", NULL);
        assert_same_cards(facts->cards, f->spec.cards);
        card = &g_array_index(facts->cards, CardIdentity, 1);
        assert_int_equal(card->n_functions, 2);
        assert_int_equal(card->functions[0].device, 0xa2);
        assert_string_equal(card->functions[0].serial, "");
        assert_string_equal(card->functions[1].serial, "00-1b-21-ff-ff-00-00-01");

        f->request.start = false;
        f->request.hugepages = HUGEPAGES_2M;
        later = write_xml(f);
        assert_int_equal(domain_xml_parse(later, NULL, facts), 0);
        assert_true(facts->hugepages);
        assert_int_equal(facts->first_start, FIRST_START_LATER);
        assert_int_equal(facts->gpus->len, 2);
        assert_same_cards(facts->cards, f->spec.cards);
}

static void assert_texts(const GPtrArray *texts, ...) {
        const char *expected;
        unsigned n = 0;
        va_list list;

        va_start(list, texts);
        while ((expected = va_arg(list, const char *))) {
                assert_true(n < texts->len);
                assert_string_equal(g_ptr_array_index(texts, n++), expected);
        }
        va_end(list);
        assert_int_equal(n, texts->len);
}

static void test_read_back_devices(void **state) {
        Fixture *f = *state;
        g_autoptr(DomainFacts) facts = domain_facts_new();
        g_autofree char *xml = NULL, *bare = write_xml(f);

        fill(f);
        xml = write_xml(f);
        for (unsigned i = 0; i < 2; i++) { /* twice: nothing adds up */
                assert_int_equal(domain_xml_parse(xml, NULL, facts), 0);
                assert_true(facts->autostart);
                assert_texts(facts->disks, "data", "cd_1", NULL);
                assert_texts(facts->nics, "lan", "wan", "vpn", NULL);
                assert_null(facts->console);
        }
        assert_true(domain_xml_has_device(xml, DEVICE_DISK, "data"));
        assert_false(domain_xml_has_device(xml, DEVICE_DISK, "lan"));
        assert_false(domain_xml_has_device(xml, DEVICE_NIC, "la"));
        assert_true(domain_xml_has_device(xml, DEVICE_NIC, "lan"));

        assert_int_equal(domain_xml_parse(bare, NULL, facts), 0);
        assert_false(facts->autostart);
        assert_texts(facts->disks, NULL);
        assert_int_equal(domain_xml_add_definition(xml, NULL, facts), 0);
        assert_int_equal(domain_xml_add_definition(xml, NULL, facts), 0);
        assert_texts(facts->disks, "data", "cd_1", NULL);
        assert_texts(facts->nics, "lan", "wan", "vpn", NULL);
}

/* As libvirt tells it of a running domain of ours; and of one of somebody else's. */
static void test_read_running(void **state) {
        static const char devices[] =
                "<devices><disk type='file' device='disk'><source file='/a' index='1'/>"
                "<alias name='virtio-disk0'/></disk>"
                "<disk type='file' device='cdrom'><readonly/><source file='/b'/></disk>"
                "<disk type='block' device='disk'><source dev='/dev/c'/>"
                "<alias name='ua-disk-c'/></disk>"
                "<disk type='network' device='disk'><source protocol='nbd' name='d'/></disk>"
                "<disk type='file' device='cdrom'/>"
                "<interface type='network'><alias name='ua-nic-n'/></interface>"
                "<serial type='pty'><source path='/dev/pts/9'/><target port='1'/></serial>"
                "<serial type='pty'><source path='/dev/pts/7'/><target type='isa-serial' port='0'/>"
                "</serial><console type='pty' tty='/dev/pts/7'/></devices></domain>";
        g_autofree char *ours = g_strconcat("<domain id='1'><metadata><machine xmlns='",
                                            DOMAIN_METADATA_URI, "'/></metadata>", devices, NULL);
        g_autofree char *theirs = g_strconcat("<domain id='1'>", devices, NULL);
        g_autoptr(DomainFacts) facts = domain_facts_new();

        assert_int_equal(domain_xml_parse(ours, NULL, facts), 0);
        assert_string_equal(facts->console, "/dev/pts/7");
        assert_texts(facts->disks, "c", NULL);
        assert_texts(facts->nics, "n", NULL);

        assert_int_equal(domain_xml_parse(theirs, NULL, facts), 0);
        assert_texts(facts->disks, NULL);
        assert_texts(facts->nics, NULL);
}

/* A domain that somebody else made, with everything that has an address but is no PCI function of
 * the host, and everything that is one. */
static void test_read_foreign(void **state) {
        static const char xml[] =
                "<domain type='kvm' id='7'><name>theirs</name>"
                "<metadata><app:x xmlns:app='urn:app'><machine first-start='pending'/></app:x>"
                "<machine xmlns='urn:other' first-start='pending'/></metadata><devices>"
                "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
                "<address domain='0x0000' bus='0x81' slot='0x1f' function='0x7'/></source>"
                "<address type='pci' domain='0' bus='1' slot='0' function='0'/></hostdev>"
                "<hostdev mode='subsystem' type='usb'><source>"
                "<address bus='1' device='3'/></source></hostdev>"
                "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>"
                "<address bus='0' target='0' unit='0'/></source></hostdev>"
                "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
                "<address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>"
                "<interface type='hostdev'><source>"
                "<address type='pci' domain='0' bus='5' slot='16' function='1'/></source>"
                "</interface>"
                "<disk type='nvme'><source type='pci' namespace='1'>"
                "<address domain='0x0001' bus='0x02' slot='0x03' function='0x0'/></source></disk>"
                "<hostdev mode='subsystem' type='pci'><source>"
                "<address domain='0x0000' bus='0x181' slot='0x00' function='0x0'/></source>"
                "</hostdev></devices></domain>";
        g_autoptr(DomainFacts) facts = domain_facts_new();

        assert_int_equal(domain_xml_parse(xml, NULL, facts), 0);
        assert_false(facts->ours);
        assert_int_equal(facts->gpus->len, 0);
        assert_addresses(facts->hostdevs, "0000:81:1f.7", "0000:05:10.1", "0001:02:03.0", NULL);
}

static void test_read_odd_metadata(void **state) {
        static const char xml[] =
                "<domain><metadata><f:machine xmlns:f='" DOMAIN_METADATA_URI
                "' first-start='?' new='1'>"
                "<f:gpu address='zz'/><f:gpu/><f:gpu address='0000:01:00.0'/><f:later/>"
                "</f:machine></metadata></domain>";
        g_autoptr(DomainFacts) facts = domain_facts_new();

        assert_int_equal(domain_xml_parse(xml, NULL, facts), 0);
        assert_true(facts->ours);
        assert_int_equal(facts->first_start, FIRST_START_DONE);
        assert_addresses(facts->gpus, "0000:01:00.0", NULL);
        assert_int_equal(facts->hostdevs->len, 0);
}

/* What says nothing of its cards, as earlier versions did, or nothing that can be understood,
 * leaves nothing to compare; the machine is ours all the same. */
static void test_read_no_identity(void **state) {
#define IDS "vendor='0x10de' device='0x20b0' subsystem-vendor='0x10de' subsystem-device='0x1463'"
        static const struct {
                const char *functions;
                unsigned cards;
        } odd[] = {
                { "", 0 },
                { "<f:function/>", 0 },
                { "<f:function address='0000:01:00.0'/>", 0 },
                { "<f:function address='zz' " IDS "/>", 0 },
                { "<f:function address='0000:02:00.0' " IDS "/>", 0 },
                { "<f:function address='0000:01:00.0' vendor='0x110de' device='1'"
                  " subsystem-vendor='0' subsystem-device='0'/>",
                  0 },
                { "<f:function address='0000:01:00.0' " IDS
                  " serial='00-1b-21-ff-ff-00-00-01-02'/>",
                  0 },
                { "<f:function address='0000:01:00.0' " IDS "/><f:function/>", 0 },
                { "<f:function address='0000:01:00.0' " IDS
                  "/><f:function address='0000:01:00.1' " IDS
                  "/><f:function address='0000:01:00.2' " IDS
                  "/><f:function address='0000:01:00.3' " IDS
                  "/><f:function address='0000:01:00.4' " IDS
                  "/><f:function address='0000:01:00.5' " IDS
                  "/><f:function address='0000:01:00.6' " IDS
                  "/><f:function address='0000:01:00.7' " IDS
                  "/><f:function address='0000:01:00.7' " IDS "/>",
                  0 },
                { "<f:later/><f:function address='0000:01:00.0' " IDS " new='1'/>", 1 },
        };
#undef IDS

        for (unsigned i = 0; i < G_N_ELEMENTS(odd); i++) {
                g_autofree char *xml = g_strconcat(
                        "<domain><metadata><f:machine xmlns:f='" DOMAIN_METADATA_URI
                        "'><f:gpu address='0000:01:00.0'>",
                        odd[i].functions, "</f:gpu></f:machine></metadata></domain>", NULL);
                g_autoptr(DomainFacts) facts = domain_facts_new();

                assert_int_equal(domain_xml_parse(xml, NULL, facts), 0);
                assert_true(facts->ours);
                assert_addresses(facts->gpus, "0000:01:00.0", NULL);
                assert_int_equal(facts->cards->len, odd[i].cards);
        }
}

static void test_read_rubbish(void **state) {
        static const char *const rubbish[] = {
                "",
                "<",
                "<network/>",
                "<domain>",
                "<!DOCTYPE domain [<!ENTITY e 'x'>]><domain><name>&e;</name></domain>",
        };
        g_autoptr(DomainFacts) facts = domain_facts_new();

        facts->ours = true;
        for (unsigned i = 0; i < G_N_ELEMENTS(rubbish); i++)
                assert_int_equal(domain_xml_parse(rubbish[i], NULL, facts), -EBADMSG);
        assert_true(facts->ours);
}

static void test_capabilities(void **state) {
        assert_true(domain_capabilities_have_uefi(
                "<domainCapabilities><os supported='yes'><enum name='firmware'>"
                "<value>bios</value><value>efi</value></enum></os></domainCapabilities>"));
        assert_false(domain_capabilities_have_uefi(
                "<domainCapabilities><os supported='yes'><enum name='firmware'/>"
                "<loader supported='yes'><value>/usr/share/OVMF/OVMF_CODE.fd</value></loader>"
                "</os></domainCapabilities>"));
        assert_false(domain_capabilities_have_uefi("efi"));
}

static void test_security(void **state) {
        static const char *const silent[] = {
                "",
                "<capabilities/>",
                "<capabilities><host><secmodel><model>selinux</model>"
                "<baselabel type='kvm'>a:b</baselabel></secmodel></host></capabilities>",
                "<capabilities><host><secmodel><model>dac</model>"
                "<baselabel type='kvm'>+1:4294967295</baselabel></secmodel></host></capabilities>",
                "<capabilities><host><secmodel><model>dac</model>"
                "<baselabel type='kvm'>root:root</baselabel></secmodel></host></capabilities>",
        };
        static const char confined[] =
                "<capabilities><host><secmodel><model>apparmor</model><doi>0</doi></secmodel>"
                "<secmodel><model>dac</model><baselabel type='kvm'>+64055:+107</baselabel>"
                "<baselabel type='qemu'>+64055:+108</baselabel></secmodel></host></capabilities>";
        uid_t user = 6;
        gid_t group = 5;

        for (unsigned i = 0; i < G_N_ELEMENTS(silent); i++) {
                assert_false(capabilities_get_owner(silent[i], &user, &group));
                assert_false(capabilities_have_apparmor(silent[i]));
        }
        assert_int_equal(user, 6);
        assert_int_equal(group, 5);
        assert_true(capabilities_get_owner(confined, &user, &group));
        assert_int_equal(user, 64055);
        assert_int_equal(group, 107);
        assert_true(capabilities_have_apparmor(confined));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_read_back),
                TEST(test_read_back_devices),
                cmocka_unit_test(test_read_running),
                cmocka_unit_test(test_read_foreign),
                cmocka_unit_test(test_read_odd_metadata),
                cmocka_unit_test(test_read_no_identity),
                cmocka_unit_test(test_read_rubbish),
                cmocka_unit_test(test_capabilities),
                cmocka_unit_test(test_security),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
