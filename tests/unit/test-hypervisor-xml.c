/* A machine's libvirt XML: compared with golden files, checked against libvirt's own schema where
 * that is installed, read back; and what a hostile text becomes in it. FEOS_UPDATE_GOLDEN=1 writes
 * the golden files anew. */
#include "hypervisor/domain-xml.h"

#include "autoptr.h"

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
                .cards = g_array_new(FALSE, FALSE, sizeof(DomainCard)),
                .kvm = true,
        };
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        g_array_unref(f->request.gpus);
        g_array_unref(f->spec.cards);
        g_free(f);
        return 0;
}

/* Adds a card: the GPU, then its companions, up to NULL. */
static G_GNUC_NULL_TERMINATED void add_card(Fixture *f, const char *gpu, ...) {
        DomainCard card = { .functions = { address(gpu) }, .n_functions = 1 };
        PciAddress asked = card.functions[0];
        const char *companion;
        va_list companions;

        va_start(companions, gpu);
        while ((companion = va_arg(companions, const char *)))
                card.functions[card.n_functions++] = address(companion);
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

static void test_read_back(void **state) {
        Fixture *f = *state;
        g_autoptr(DomainFacts) facts = domain_facts_new();
        g_autofree char *pending = NULL, *later = NULL;

        add_card(f, "0000:c1:00.0", NULL);
        add_card(f, "10000:01:1f.2", "10000:01:1f.0", NULL);
        pending = write_xml(f);
        assert_int_equal(domain_xml_parse(pending, facts), 0);
        assert_true(facts->ours);
        assert_int_equal(facts->first_start, FIRST_START_PENDING);
        assert_addresses(facts->gpus, "0000:c1:00.0", "10000:01:1f.2", NULL);
        assert_addresses(facts->hostdevs, "0000:c1:00.0", "10000:01:1f.2", "10000:01:1f.0", NULL);

        f->request.start = false;
        later = write_xml(f);
        assert_int_equal(domain_xml_parse(later, facts), 0);
        assert_int_equal(facts->first_start, FIRST_START_LATER);
        assert_int_equal(facts->gpus->len, 2);
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
        g_autofree char *metadata = NULL;

        add_card(f, "0000:01:00.0", NULL);
        metadata = domain_metadata_write(f->request.gpus, FIRST_START_DONE);
        assert_string_equal(metadata, "<machine first-start=\"done\">"
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
                TEST(test_type_override),
                TEST(test_nasty_texts),
                TEST(test_unsayable_texts),
                TEST(test_read_back),
                TEST(test_metadata),
                cmocka_unit_test(test_read_foreign),
                cmocka_unit_test(test_read_odd_metadata),
                cmocka_unit_test(test_read_rubbish),
                cmocka_unit_test(test_capabilities),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
