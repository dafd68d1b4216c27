/* A machine's definition as it is read back: what Create has written, what libvirt and people make
 * of it, and the files that any domain has as its disks. */
#include "xml-fixture.h"

#include "testing.h"

#define OURS "<metadata><f:machine xmlns:f='" DOMAIN_METADATA_URI "'/></metadata>"

static void assert_file(const DomainFacts *facts, guint i, const char *path, bool writes,
                        bool qcow2, bool live) {
        const DomainFile *file;

        assert_true(i < facts->files->len);
        file = g_ptr_array_index(facts->files, i);
        assert_int_equal(g_strcmp0(file->path, path), 0);
        assert_int_equal(file->writes, writes);
        assert_int_equal(file->qcow2, qcow2);
        assert_int_equal(file->live, live);
}

static void assert_disk(const Request *request, guint i, const char *id, const char *path,
                        ImageFormat format, bool read_only, bool block) {
        const DeviceRequest *disk;

        assert_true(i < request->disks->len);
        disk = g_ptr_array_index(request->disks, i);
        assert_int_equal(g_strcmp0(disk->id, id), 0);
        assert_string_equal(disk->path, path);
        assert_int_equal(disk->format, format);
        assert_int_equal(disk->read_only, read_only);
        assert_int_equal(disk->block, block);
}

static void assert_nic(const Request *request, guint i, const char *id, NicType type,
                       const char *source, const char *mac) {
        const DeviceRequest *nic;

        assert_true(i < request->nics->len);
        nic = g_ptr_array_index(request->nics, i);
        assert_int_equal(g_strcmp0(nic->id, id), 0);
        assert_int_equal(nic->type, type);
        assert_string_equal(nic->source, source);
        assert_int_equal(g_strcmp0(nic->mac, mac), 0);
}

static void assert_hostdev(const DomainFacts *facts, guint i, const char *address, bool managed) {
        const DefinedHostdev *hostdev;
        char shown[PCI_ADDRESS_BUFFER];

        assert_true(i < facts->defined_hostdevs->len);
        hostdev = &g_array_index(facts->defined_hostdevs, DefinedHostdev, i);
        assert_string_equal(pci_address_print(hostdev->address, shown), address);
        assert_int_equal(hostdev->managed, managed);
}

static void what_create_writes_is_what_is_read_back(void **state) {
        Fixture *f = *state;
        g_autoptr(DomainFacts) facts = domain_facts_new();
        g_autofree char *xml = NULL;
        const Request *request;

        add_card(f, "0000:c1:00.0", "0000:c1:00.1", NULL);
        fill(f);
        f->spec.kernel = "/var/lib/feos/images/vmlinuz";
        f->spec.initrd = "/var/lib/feos/images/initrd";
        f->request.cmdline = (char *)"console=ttyS0 a=\"<b>\"";
        f->spec.uefi = true;
        xml = write_xml(f);
        assert_int_equal(domain_xml_parse(xml, NULL, facts), 0);
        assert_int_equal(domain_xml_add_definition(xml, NULL, facts), 0);
        request = facts->definition;
        assert_string_equal(request->name, "box");
        assert_string_equal(request->uuid, UUID);
        assert_int_equal(request->gpus->len, 1);
        assert_int_equal(request->vcpus, 2);
        assert_int_equal(request->max_vcpus, 8);
        assert_int_equal(request->memory_mib, 2048);
        assert_int_equal(request->hugepages, HUGEPAGES_1G);
        assert_int_equal(request->firmware, FIRMWARE_UEFI);
        assert_string_equal(request->image, "/var/lib/feos/images/disk.img");
        assert_int_equal(request->image_format, IMAGE_RAW);
        assert_false(request->image_block);
        assert_string_equal(request->kernel, f->spec.kernel);
        assert_string_equal(request->initrd, f->spec.initrd);
        assert_string_equal(request->cmdline, f->request.cmdline);
        assert_true(request->start);
        assert_int_equal(request->disks->len, 2);
        assert_disk(request, 0, "data", "/var/lib/feos/images/data.qcow2", IMAGE_QCOW2, false,
                    false);
        assert_disk(request, 1, "cd_1", "/dev/vg0/cd", IMAGE_RAW, true, true);
        assert_int_equal(request->nics->len, 3);
        assert_nic(request, 0, "lan", NIC_NETWORK, "default", NULL);
        assert_nic(request, 1, "wan", NIC_BRIDGE, "br0", "52:54:00:12:34:56");
        assert_nic(request, 2, "vpn", NIC_TAP, "tap0", NULL);
        assert_int_equal(facts->defined_hostdevs->len, 2);
        assert_hostdev(facts, 0, "0000:c1:00.0", false);
        assert_hostdev(facts, 1, "0000:c1:00.1", false);
        assert_int_equal(facts->files->len, 3);
        assert_file(facts, 0, "/var/lib/feos/images/disk.img", true, false, false);
        assert_file(facts, 1, "/var/lib/feos/images/data.qcow2", true, true, false);
        assert_file(facts, 2, "/dev/vg0/cd", false, false, false);
}

/* Nothing but a name, as somebody may leave of a definition; and twice, so that nothing adds up. */
static void what_is_not_said_is_not_there(void **state) {
        static const char xml[] = "<domain>" OURS "<name>bare</name></domain>";
        g_autoptr(DomainFacts) facts = domain_facts_new();

        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(domain_xml_parse(xml, NULL, facts), 0);
                assert_int_equal(domain_xml_add_definition(xml, NULL, facts), 0);
        }
        assert_string_equal(facts->definition->name, "bare");
        assert_null(facts->definition->image);
        assert_null(facts->definition->kernel);
        assert_int_equal(facts->definition->memory_mib, 0);
        assert_int_equal(facts->definition->hugepages, HUGEPAGES_NONE);
        assert_int_equal(facts->definition->firmware, FIRMWARE_BIOS);
        assert_int_equal(facts->definition->disks->len + facts->definition->nics->len, 0);
}

/* What libvirt and people make of it, and what only looks like something of ours. */
static void a_definition_edited_by_hand_is_read_as_it_is(void **state) {
        static const char xml[] =
                "<domain>" OURS "<name>box</name><memory unit='KiB'>1048576</memory>"
                "<memoryBacking><hugepages/></memoryBacking>"
                "<vcpu placement='static'>4</vcpu><os><loader type='pflash'>/ovmf</loader></os>"
                "<devices>"
                "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
                "<source file='/images/boot.iso'/><target dev='vda'/><readonly/></disk>"
                "<disk type='file' device='disk'><driver name='qemu' type='vmdk'/>"
                "<source file='/images/odd.vmdk'/><target dev='vdb'/></disk>"
                "<disk type='network' device='disk'><source protocol='nbd' name='d'/></disk>"
                "<disk type='file' device='cdrom'><target dev='sda'/></disk>"
                "<interface type='user'/>"
                "<interface type='bridge'><source bridge='ovs'/><virtualport type='openvswitch'/>"
                "</interface>"
                "<interface type='ethernet'><target dev='made-by-libvirt'/></interface>"
                "<interface type='direct'><source dev='eth0'/></interface>"
                "<interface type='network'><source network='lan'/></interface>"
                "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
                "<address domain='0x0000' bus='0x02' slot='0x00' "
                "function='0x0'/></source></hostdev>"
                "<disk type='nvme'><source type='pci' namespace='1' managed='no'>"
                "<address domain='0x0001' bus='0x02' slot='0x03' function='0x0'/></source></disk>"
                "</devices></domain>";
        g_autoptr(DomainFacts) facts = domain_facts_new();
        const Request *request;

        assert_int_equal(domain_xml_parse(xml, NULL, facts), 0);
        assert_int_equal(domain_xml_add_definition(xml, NULL, facts), 0);
        request = facts->definition;
        assert_int_equal(request->memory_mib, 1024);
        assert_int_equal(request->vcpus, 4);
        assert_int_equal(request->max_vcpus, 4);
        assert_int_equal(request->hugepages, HUGEPAGES_OTHER);
        assert_int_equal(request->firmware, FIRMWARE_DEFAULT);
        assert_null(request->image);
        assert_int_equal(request->disks->len, 2);
        assert_disk(request, 0, NULL, "/images/boot.iso", IMAGE_RAW, true, false);
        assert_disk(request, 1, NULL, "/images/odd.vmdk", IMAGE_RAW, false, false);
        assert_int_equal(request->nics->len, 1);
        assert_nic(request, 0, NULL, NIC_NETWORK, "lan", NULL);
        assert_int_equal(facts->defined_hostdevs->len, 2);
        assert_hostdev(facts, 0, "0000:02:00.0", true);
        assert_hostdev(facts, 1, "0001:02:03.0", false);
}

static void a_gpu_that_is_named_twice_is_one(void **state) {
        static const char xml[] = "<domain><metadata><f:machine xmlns:f='" DOMAIN_METADATA_URI
                                  "'><f:gpu address='0000:01:00.0'/><f:gpu address='01:00.0'/>"
                                  "<f:gpu address='0000:02:00.0'/></f:machine></metadata></domain>";
        g_autoptr(DomainFacts) facts = domain_facts_new();

        assert_int_equal(domain_xml_parse(xml, NULL, facts), 0);
        assert_int_equal(domain_xml_add_definition(xml, NULL, facts), 0);
        assert_int_equal(facts->gpus->len, 2);
        assert_int_equal(facts->definition->gpus->len, 2);
}

/* A domain that runs has the files of both, and one that is in both once. */
static void a_running_domain_has_what_it_has_and_what_it_will_have(void **state) {
        static const char now[] =
                "<domain id='3'><name>theirs</name><devices>"
                "<disk type='file'><driver type='qcow2'/><source file='/top'/>"
                "<backingStore type='file'><format type='qcow2'/><source file='/middle'/>"
                "<backingStore type='block'><format type='raw'/><source dev='/dev/base'/>"
                "<backingStore/></backingStore></backingStore>"
                "<mirror type='file'><format type='qcow2'/><source file='/copy'/></mirror></disk>"
                "<disk type='file'><source file='/same'/></disk>"
                "<disk type='file'><source file='/cd'/><readonly/></disk></devices></domain>";
        static const char next[] =
                "<domain><name>theirs</name><devices>"
                "<disk type='file'><source file='/same'/></disk>"
                "<disk type='file'><source file='/cd'/></disk></devices></domain>";
        g_autoptr(DomainFacts) facts = domain_facts_new();

        facts->active = true;
        assert_int_equal(domain_xml_parse(now, NULL, facts), 0);
        assert_int_equal(domain_xml_add_definition(next, NULL, facts), 0);
        assert_null(facts->definition);
        assert_int_equal(facts->files->len, 7);
        assert_file(facts, 0, "/top", true, true, true);
        assert_file(facts, 1, "/middle", false, true, true);
        assert_file(facts, 2, "/dev/base", false, false, true);
        assert_file(facts, 3, "/copy", true, true, true);
        assert_file(facts, 4, "/same", true, false, true);
        assert_file(facts, 5, "/cd", false, false, true);
        assert_file(facts, 6, "/cd", true, false, false);
}

static char *find_volume(void *userdata, const char *pool, const char *volume) {
        if (g_str_equal(pool, "away"))
                return NULL;
        return g_str_equal(pool, "ceph") ? g_strconcat(pool, "/", volume, NULL)
                                         : g_strconcat("/pool/", volume, NULL);
}

static void a_volume_is_where_libvirt_says_or_unknown(void **state) {
        static const char xml[] =
                "<domain>" OURS "<name>box</name><devices>"
                "<disk type='volume'><driver type='qcow2'/>"
                "<source pool='default' volume='a.qcow2'/><target dev='vda'/></disk>"
                "<disk type='volume'><source pool='away' volume='b'/></disk>"
                "<disk type='volume'><source pool='ceph' volume='c'/></disk></devices></domain>";
        const VolumeFinder volumes = { find_volume, NULL };
        g_autoptr(DomainFacts) facts = domain_facts_new();
        const DomainFile *unknown;

        assert_int_equal(domain_xml_parse(xml, &volumes, facts), 0);
        assert_int_equal(domain_xml_add_definition(xml, &volumes, facts), 0);
        assert_int_equal(facts->files->len, 2);
        assert_file(facts, 0, "/pool/a.qcow2", true, true, false);
        assert_file(facts, 1, NULL, true, false, false);
        unknown = g_ptr_array_index(facts->files, 1);
        assert_string_equal(unknown->pool, "away");
        assert_string_equal(unknown->volume, "b");
        assert_string_equal(facts->definition->image, "/pool/a.qcow2");
        assert_int_equal(facts->definition->disks->len, 1);
        assert_disk(facts->definition, 0, NULL, "away/b", IMAGE_RAW, false, false);
        assert_true(
                ((DeviceRequest *)g_ptr_array_index(facts->definition->disks, 0))->volume_unknown);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(what_create_writes_is_what_is_read_back),
                cmocka_unit_test(what_is_not_said_is_not_there),
                cmocka_unit_test(a_definition_edited_by_hand_is_read_as_it_is),
                cmocka_unit_test(a_gpu_that_is_named_twice_is_one),
                cmocka_unit_test(a_running_domain_has_what_it_has_and_what_it_will_have),
                cmocka_unit_test(a_volume_is_where_libvirt_says_or_unknown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
