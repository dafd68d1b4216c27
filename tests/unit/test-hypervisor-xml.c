/* A machine's libvirt XML: compared with golden files, checked against libvirt's own schema where
 * that is installed, read back; and what a hostile text becomes in it. FEOS_UPDATE_GOLDEN=1 writes
 * the golden files anew. */
#include "hypervisor/domain-xml.h"

#include "autoptr.h"
#include "hypervisor/device-xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define UUID "5cba7a3e-0d4c-4b0e-9f4c-2c8a4f1f7d10"

typedef struct Fixture {
        Request request;
        DomainSpec spec;
} Fixture;

static PciAddress address(const char *text) {
        PciAddress ret;

        assert_true(pci_address_parse(text, &ret));
        return ret;
}

static int setup(void **state) {
        Fixture *f = g_new0(Fixture, 1);

        f->request = (Request){
                .name = (char *)"box",
                .gpus = g_array_new(FALSE, FALSE, sizeof(PciAddress)),
                .vcpus = 2,
                .memory_mib = 2048,
                .start = true,
        };
        f->spec = (DomainSpec){
                .request = &f->request,
                .uuid = UUID,
                .cards = g_array_new(FALSE, FALSE, sizeof(CardIdentity)),
                .kvm = true,
        };
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        if (f->request.disks)
                g_ptr_array_unref(f->request.disks);
        if (f->request.nics)
                g_ptr_array_unref(f->request.nics);
        g_array_unref(f->request.gpus);
        g_array_unref(f->spec.cards);
        g_free(f);
        return 0;
}

/* A function like no other, with a serial number where it is a GPU. */
static FunctionIdentity identity(const char *text) {
        FunctionIdentity ret = { .address = address(text),
                                 .vendor = 0x10de,
                                 .device = 0xa0,
                                 .subsystem_vendor = 0x1af4,
                                 .subsystem_device = 0xffff };

        ret.device += ret.address.function;
        if (ret.address.function == 0)
                g_snprintf(ret.serial, sizeof(ret.serial), "00-1b-21-ff-ff-00-00-%02x",
                           ret.address.bus);
        return ret;
}

/* Adds a card: the GPU, then its companions, up to NULL. */
static G_GNUC_NULL_TERMINATED void add_card(Fixture *f, const char *gpu, ...) {
        CardIdentity card = { .functions = { identity(gpu) }, .n_functions = 1 };
        PciAddress asked = card.functions[0].address;
        const char *companion;
        va_list companions;

        va_start(companions, gpu);
        while ((companion = va_arg(companions, const char *)))
                card.functions[card.n_functions++] = identity(companion);
        va_end(companions);
        g_array_append_val(f->request.gpus, asked);
        g_array_append_val(f->spec.cards, card);
}

static char *write_xml(Fixture *f) {
        char *xml = NULL;

        assert_int_equal(domain_xml_write(&f->spec, NULL, &xml), 0);
        return xml;
}

static void check_schema(const char *path) {
        g_autofree char *program = g_find_program_in_path("virt-xml-validate");
        const char *argv[] = { program, path, "domain", NULL };
        g_autofree char *output = NULL, *errors = NULL;
        int status = 0;

        if (!program)
                return;
        assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &output,
                                 &errors, &status, NULL));
        if (status != 0)
                print_message("%s%s", output, errors);
        assert_int_equal(status, 0);
}

static void check_golden(Fixture *f, const char *name) {
        g_autofree char *path = g_strconcat(GOLDEN_DIR "/", name, ".xml", NULL);
        g_autofree char *xml = write_xml(f), *golden = NULL;

        if (g_getenv("FEOS_UPDATE_GOLDEN"))
                assert_true(g_file_set_contents(path, xml, -1, NULL));
        assert_true(g_file_get_contents(path, &golden, NULL, NULL));
        assert_string_equal(xml, golden);
        check_schema(path);
}

static void test_no_gpu(void **state) {
        Fixture *f = *state;

        f->request.start = false;
        check_golden(f, "no-gpu");
}

static void test_one_gpu(void **state) {
        Fixture *f = *state;

        add_card(f, "0000:01:00.0", NULL);
        check_golden(f, "one-gpu");
}

/* The second has companions, lies in a wide PCI domain, and is not the host's function 0. */
static void test_two_gpus(void **state) {
        Fixture *f = *state;

        add_card(f, "0000:c1:00.0", NULL);
        add_card(f, "10000:01:1f.2", "10000:01:1f.0", "10000:01:1f.3", NULL);
        check_golden(f, "two-gpus");
}

static void test_kernel(void **state) {
        Fixture *f = *state;

        f->spec.kernel = "/var/lib/feos/images/vmlinuz";
        f->spec.initrd = "/var/lib/feos/images/initrd.img";
        f->request.cmdline = (char *)"console=ttyS0 quiet";
        check_golden(f, "kernel");
}

static void test_image(void **state) {
        Fixture *f = *state;

        f->spec.image = "/var/lib/feos/images/disk.qcow2";
        f->request.image_format = IMAGE_QCOW2;
        check_golden(f, "image-qcow2");
}

/* The kernel is what boots; the disk is only there. */
static void test_kernel_and_block_device(void **state) {
        Fixture *f = *state;

        f->spec.kernel = "/var/lib/feos/images/vmlinuz";
        f->spec.image = "/dev/vg0/box";
        f->spec.image_is_block = true;
        check_golden(f, "kernel-and-block-device");
}

static void test_uefi(void **state) {
        Fixture *f = *state;

        f->spec.uefi = true;
        f->spec.image = "/var/lib/feos/images/disk.img";
        check_golden(f, "uefi");
}

static void test_emulation(void **state) {
        Fixture *f = *state;

        f->spec.kvm = false;
        check_golden(f, "emulation");
}

static DeviceRequest *disk(const char *id, const char *path, ImageFormat format, bool read_only) {
        DeviceRequest *device = device_request_new(DEVICE_DISK);

        device->id = g_strdup(id);
        device->path = g_strdup("as asked");
        device->resolved = g_strdup(path);
        device->block = g_str_has_prefix(path, "/dev/");
        device->format = format;
        device->read_only = read_only;
        return device;
}

static DeviceRequest *nic(const char *id, NicType type, const char *source, const char *mac) {
        DeviceRequest *device = device_request_new(DEVICE_NIC);

        device->id = g_strdup(id);
        device->type = type;
        device->source = g_strdup(source);
        device->mac = g_strdup(mac);
        return device;
}

/* Everything that a machine can have. */
static void fill(Fixture *f) {
        f->spec.image = "/var/lib/feos/images/disk.img";
        f->request.max_vcpus = 8;
        f->request.hugepages = HUGEPAGES_1G;
        f->request.autostart = true;
        f->request.ignition = (char *)"{\"secret\": 1}";
        f->request.disks = g_ptr_array_new_with_free_func((GDestroyNotify)device_request_free);
        g_ptr_array_add(f->request.disks,
                        disk("data", "/var/lib/feos/images/data.qcow2", IMAGE_QCOW2, false));
        g_ptr_array_add(f->request.disks, disk("cd_1", "/dev/vg0/cd", IMAGE_RAW, true));
        f->request.nics = g_ptr_array_new_with_free_func((GDestroyNotify)device_request_free);
        g_ptr_array_add(f->request.nics, nic("lan", NIC_NETWORK, "default", NULL));
        g_ptr_array_add(f->request.nics, nic("wan", NIC_BRIDGE, "br0", "52:54:00:12:34:56"));
        g_ptr_array_add(f->request.nics, nic("vpn", NIC_TAP, "tap0", NULL));
}

static void test_full(void **state) {
        Fixture *f = *state;

        fill(f);
        add_card(f, "0000:01:00.0", NULL);
        check_golden(f, "full");
}

static void test_hugepages(void **state) {
        Fixture *f = *state;
        g_autofree char *xml = NULL;

        f->request.hugepages = HUGEPAGES_2M;
        f->request.max_vcpus = 2;
        xml = write_xml(f);
        assert_non_null(strstr(xml, "<page size=\"2\" unit=\"MiB\"/>"));
        assert_non_null(strstr(xml, "<vcpu placement=\"static\">2</vcpu>"));
}

static unsigned count(const char *text, const char *word) {
        unsigned n = 0;

        for (const char *p = text; (p = strstr(p, word)); p += strlen(word))
                n++;
        return n;
}

/* Whatever the machine has, eight ports are left for what comes later. */
static void test_spare_ports(void **state) {
        Fixture *f = *state;
        g_autofree char *bare = write_xml(f), *full = NULL;

        assert_int_equal(count(bare, "pcie-root-port"), 1 + 8);
        fill(f);
        add_card(f, "0000:01:00.0", "0000:01:00.1", NULL);
        add_card(f, "0000:02:00.0", NULL);
        full = write_xml(f);
        assert_int_equal(count(full, "pcie-root-port"), 2 + 1 + 2 + 3 + 1 + 8);
}

/* The text itself is nowhere in what libvirt gets, and so not on QEMU's command line either. */
static void test_ignition(void **state) {
        Fixture *f = *state;
        g_autofree char *xml = NULL;

        f->request.ignition = (char *)"{\"secret\": 1}";
        xml = write_xml(f);
        assert_null(strstr(xml, "secret"));
        assert_non_null(strstr(xml, "<entry name=\"opt/com.coreos/config\" "
                                    "file=\"/var/lib/feos/ignition/" UUID ".ign\"/>"));
}

static void test_devices(void **state) {
        g_autoptr(DeviceRequest) block = disk("a_name_of_more_than_20", "/dev/x", IMAGE_RAW, true);
        g_autoptr(DeviceRequest) tap = nic("b", NIC_TAP, "tap0", "52:54:00:00:00:01");
        g_autoptr(DeviceRequest) bad = disk("c", "/x\x1b", IMAGE_RAW, false);
        g_autofree char *block_xml = NULL, *tap_xml = NULL, *bad_xml = NULL;

        assert_int_equal(device_xml_write(block, "vdq", &block_xml), 0);
        assert_string_equal(block_xml, "<disk type=\"block\" device=\"disk\">\n"
                                       "  <driver name=\"qemu\" type=\"raw\"/>\n"
                                       "  <source dev=\"/dev/x\"/>\n"
                                       "  <backingStore/>\n"
                                       "  <target dev=\"vdq\" bus=\"virtio\"/>\n"
                                       "  <readonly/>\n"
                                       "  <serial>a_name_of_more_than_</serial>\n"
                                       "  <alias name=\"ua-disk-a_name_of_more_than_20\"/>\n"
                                       "</disk>\n");
        assert_int_equal(device_xml_write(tap, NULL, &tap_xml), 0);
        assert_string_equal(tap_xml, "<interface type=\"ethernet\">\n"
                                     "  <mac address=\"52:54:00:00:00:01\"/>\n"
                                     "  <target dev=\"tap0\" managed=\"no\"/>\n"
                                     "  <model type=\"virtio\"/>\n"
                                     "  <alias name=\"ua-nic-b\"/>\n"
                                     "</interface>\n");
        assert_int_equal(device_xml_write(bad, "vdb", &bad_xml), -EINVAL);
        assert_null(bad_xml);
}

static void test_targets(void **state) {
        static const struct {
                unsigned index;
                const char *target;
        } cases[] = {
                { 0, "vda" },   { 1, "vdb" },   { 25, "vdz" },   { 26, "vdaa" },
                { 51, "vdaz" }, { 52, "vdba" }, { 701, "vdzz" }, { 702, "vdaaa" },
        };
        static const char now[] = "<domain><devices><disk><target dev='vda'/></disk>"
                                  "<disk><target dev='vdc'/></disk></devices></domain>";
        static const char next[] = "<domain><devices><disk><target dev='vdb'/></disk>"
                                   "<disk><target dev='sda'/></disk></devices></domain>";
        g_autofree char *one = NULL, *both = NULL, *none = NULL;

        for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *target = disk_target(cases[i].index);

                assert_string_equal(target, cases[i].target);
        }
        one = domain_xml_free_target(now, NULL);
        both = domain_xml_free_target(now, next);
        none = domain_xml_free_target("<domain/>", NULL);
        assert_string_equal(one, "vdb");
        assert_string_equal(both, "vdd");
        assert_string_equal(none, "vdb"); /* vda is the boot disk's, also when there is none */
}

static void test_type_override(void **state) {
        Fixture *f = *state;
        g_autofree char *xml = NULL;

        assert_int_equal(domain_xml_write(&f->spec, "test", &xml), 0);
        assert_non_null(strstr(xml, "<domain type=\"test\">"));
        assert_null(strstr(xml, "<cpu"));
}

/* All elements in document order, to see that a text has become no markup. */
static void append_names(xmlNode *node, GString *names) {
        for (; node; node = node->next) {
                if (node->type != XML_ELEMENT_NODE) {
                        assert_int_equal(node->type, XML_TEXT_NODE);
                        continue;
                }
                g_string_append_printf(names, "%s ", node->name);
                append_names(node->children, names);
        }
}

static char *element_names(const char *xml) {
        xmlDoc *document = xmlReadMemory(xml, strlen(xml), "test.xml", NULL, XML_PARSE_NONET);
        GString *names = g_string_new(NULL);

        assert_non_null(document);
        append_names(xmlDocGetRootElement(document), names);
        xmlFreeDoc(document);
        return g_string_free(names, FALSE);
}

static char *element_text(const char *xml, const char *parent, const char *name) {
        xmlDoc *document = xmlReadMemory(xml, strlen(xml), "test.xml", NULL, XML_PARSE_NONET);
        char *text = NULL;

        assert_non_null(document);
        for (xmlNode *p = xmlDocGetRootElement(document)->children; p; p = p->next) {
                if (strcmp((const char *)p->name, parent) != 0)
                        continue;
                for (xmlNode *c = p->children; c; c = c->next)
                        if (strcmp((const char *)c->name, name) == 0) {
                                xmlChar *content = xmlNodeGetContent(c);

                                text = g_strdup((const char *)content);
                                xmlFree(content);
                        }
        }
        xmlFreeDoc(document);
        return text;
}

static char *disk_source(const char *xml) {
        xmlDoc *document = xmlReadMemory(xml, strlen(xml), "test.xml", NULL, XML_PARSE_NONET);
        xmlNode *node = xmlDocGetRootElement(document)->children;
        const char *const path[] = { "devices", "disk", "source" };
        xmlChar *file;
        char *copy;

        for (unsigned i = 0; i < G_N_ELEMENTS(path); i++) {
                while (node && strcmp((const char *)node->name, path[i]) != 0)
                        node = node->next;
                assert_non_null(node);
                if (i + 1 < G_N_ELEMENTS(path))
                        node = node->children;
        }
        file = xmlGetProp(node, BAD_CAST "file");
        copy = g_strdup((const char *)file);
        xmlFree(file);
        xmlFreeDoc(document);
        return copy;
}

static void test_nasty_texts(void **state) {
        static const char *const nasty[] = {
                "a <b> & \"c\" 'd'",
                "</cmdline></os><devices><disk/></devices>",
                "]]> <![CDATA[ <!-- --> <?pi?> &lt; &amp;lt; &#10; %s %n",
                " leading, trailing and\ninner\n\n newlines\r\n\ttabs \n",
                "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>&e;",
                "\xe2\x80\xae \xf0\x9f\x90\xb1 \xc3\xa9",
        };
        Fixture *f = *state;
        g_autofree char *plain = NULL, *expected = NULL;

        f->spec.kernel = f->spec.initrd = f->spec.image = "/x";
        f->request.cmdline = (char *)"x";
        plain = write_xml(f);
        expected = element_names(plain);
        for (unsigned i = 0; i < G_N_ELEMENTS(nasty); i++) {
                g_autofree char *xml = NULL, *names = NULL, *source = NULL;

                f->spec.kernel = f->spec.initrd = f->spec.image = nasty[i];
                f->request.cmdline = (char *)nasty[i];
                xml = write_xml(f);
                names = element_names(xml);
                assert_string_equal(names, expected);
                for (unsigned k = 0; k < 3; k++) {
                        const char *const elements[] = { "kernel", "initrd", "cmdline" };
                        g_autofree char *text = element_text(xml, "os", elements[k]);

                        assert_string_equal(text, nasty[i]);
                }
                source = disk_source(xml);
                assert_string_equal(source, nasty[i]);
        }
}

static void test_unsayable_texts(void **state) {
        static const char *const bad[] = { "\x01", "a\x1b[0m",     "\xff",
                                           "\xc3", "\xef\xbf\xbf", "\xed\xa0\x80" };
        Fixture *f = *state;

        for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
                char *xml = NULL;

                f->spec.kernel = "/k";
                f->request.cmdline = (char *)bad[i];
                assert_int_equal(domain_xml_write(&f->spec, NULL, &xml), -EINVAL);
                f->request.cmdline = NULL;
                f->spec.image = bad[i];
                assert_int_equal(domain_xml_write(&f->spec, NULL, &xml), -EINVAL);
                f->spec.image = NULL;
                assert_null(xml);
        }
}

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
        assert_int_equal(domain_xml_parse(pending, facts), 0);
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
        assert_int_equal(domain_xml_parse(later, facts), 0);
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
                assert_int_equal(domain_xml_parse(xml, facts), 0);
                assert_true(facts->autostart);
                assert_texts(facts->disks, "data", "cd_1", NULL);
                assert_texts(facts->nics, "lan", "wan", "vpn", NULL);
                assert_texts(facts->files, "/var/lib/feos/images/disk.img",
                             "/var/lib/feos/images/data.qcow2", NULL);
                assert_null(facts->console);
        }
        assert_true(domain_xml_has_device(xml, DEVICE_DISK, "data"));
        assert_false(domain_xml_has_device(xml, DEVICE_DISK, "lan"));
        assert_false(domain_xml_has_device(xml, DEVICE_NIC, "la"));
        assert_true(domain_xml_has_device(xml, DEVICE_NIC, "lan"));

        assert_int_equal(domain_xml_parse(bare, facts), 0);
        assert_false(facts->autostart);
        assert_texts(facts->disks, NULL);
        assert_int_equal(domain_xml_add_devices(xml, facts), 0);
        assert_int_equal(domain_xml_add_devices(xml, facts), 0);
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

        assert_int_equal(domain_xml_parse(ours, facts), 0);
        assert_string_equal(facts->console, "/dev/pts/7");
        assert_texts(facts->disks, "c", NULL);
        assert_texts(facts->nics, "n", NULL);
        assert_texts(facts->files, "/a", "/dev/c", NULL);

        assert_int_equal(domain_xml_parse(theirs, facts), 0);
        assert_texts(facts->disks, NULL);
        assert_texts(facts->nics, NULL);
        assert_texts(facts->files, "/a", "/dev/c", NULL);
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

        assert_int_equal(domain_xml_parse(xml, facts), 0);
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

        assert_int_equal(domain_xml_parse(xml, facts), 0);
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

                assert_int_equal(domain_xml_parse(xml, facts), 0);
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
                assert_int_equal(domain_xml_parse(rubbish[i], facts), -EBADMSG);
        assert_true(facts->ours);
}

static void test_metadata(void **state) {
        Fixture *f = *state;
        g_autofree char *metadata = NULL, *autostart = NULL;

        add_card(f, "0000:01:00.0", NULL);
        metadata = domain_metadata_write(f->request.gpus, f->spec.cards, FIRST_START_DONE, false);
        assert_string_equal(metadata,
                            "<machine first-start=\"done\"><gpu address=\"0000:01:00.0\">"
                            "<function address=\"0000:01:00.0\" vendor=\"0x10de\" device=\"0x00a0\""
                            " subsystem-vendor=\"0x1af4\" subsystem-device=\"0xffff\""
                            " serial=\"00-1b-21-ff-ff-00-00-01\"/></gpu></machine>");
        g_array_set_size(f->spec.cards, 0);
        autostart = domain_metadata_write(f->request.gpus, f->spec.cards, FIRST_START_LATER, true);
        assert_string_equal(autostart, "<machine first-start=\"later\" autostart=\"yes\">"
                                       "<gpu address=\"0000:01:00.0\"/></machine>");
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

static void test_group(void **state) {
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
        gid_t group = 5;

        for (unsigned i = 0; i < G_N_ELEMENTS(silent); i++)
                assert_false(capabilities_get_group(silent[i], &group));
        assert_int_equal(group, 5);
        assert_true(capabilities_get_group(
                "<capabilities><host><secmodel><model>apparmor</model><doi>0</doi></secmodel>"
                "<secmodel><model>dac</model><baselabel type='kvm'>+64055:+107</baselabel>"
                "<baselabel type='qemu'>+64055:+108</baselabel></secmodel></host></capabilities>",
                &group));
        assert_int_equal(group, 107);
}

int main(void) {
#define TEST(func) cmocka_unit_test_setup_teardown(func, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_no_gpu),
                TEST(test_one_gpu),
                TEST(test_two_gpus),
                TEST(test_kernel),
                TEST(test_image),
                TEST(test_kernel_and_block_device),
                TEST(test_uefi),
                TEST(test_emulation),
                TEST(test_full),
                TEST(test_hugepages),
                TEST(test_spare_ports),
                TEST(test_ignition),
                TEST(test_type_override),
                TEST(test_nasty_texts),
                TEST(test_unsayable_texts),
                TEST(test_read_back),
                TEST(test_read_back_devices),
                TEST(test_metadata),
                cmocka_unit_test(test_devices),
                cmocka_unit_test(test_targets),
                cmocka_unit_test(test_read_running),
                cmocka_unit_test(test_read_foreign),
                cmocka_unit_test(test_read_odd_metadata),
                cmocka_unit_test(test_read_no_identity),
                cmocka_unit_test(test_read_rubbish),
                cmocka_unit_test(test_capabilities),
                cmocka_unit_test(test_group),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
