/* A machine's libvirt XML as it is written: compared with golden files, checked against libvirt's
 * own schema where that is installed; and what a hostile text becomes in it. FEOS_UPDATE_GOLDEN=1
 * writes the golden files anew. */
#include "xml-fixture.h"

#include "autoptr.h"
#include "hypervisor/device-xml.h"
#include "testing.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

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

static void test_metadata(void **state) {
        Fixture *f = *state;
        g_autofree char *metadata = NULL, *autostart = NULL, *both = NULL;
        DomainFacts facts = { .gpus = f->request.gpus,
                              .cards = f->spec.cards,
                              .first_start = FIRST_START_DONE };

        add_card(f, "0000:01:00.0", NULL);
        metadata = domain_metadata_write(&facts);
        assert_string_equal(metadata,
                            "<machine first-start=\"done\"><gpu address=\"0000:01:00.0\">"
                            "<function address=\"0000:01:00.0\" vendor=\"0x10de\" device=\"0x00a0\""
                            " subsystem-vendor=\"0x1af4\" subsystem-device=\"0xffff\""
                            " serial=\"00-1b-21-ff-ff-00-00-01\"/></gpu></machine>");
        g_array_set_size(f->spec.cards, 0);
        facts.first_start = FIRST_START_LATER;
        facts.autostart = true;
        autostart = domain_metadata_write(&facts);
        assert_string_equal(autostart, "<machine first-start=\"later\" autostart=\"yes\">"
                                       "<gpu address=\"0000:01:00.0\"/></machine>");
        facts.stop_asked = true;
        both = domain_metadata_write(&facts);
        assert_true(g_str_has_prefix(both, "<machine first-start=\"later\" autostart=\"yes\" "
                                           "stopping=\"yes\">"));
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

int main(void) {
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
                TEST(test_metadata),
                cmocka_unit_test(test_devices),
                cmocka_unit_test(test_targets),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
