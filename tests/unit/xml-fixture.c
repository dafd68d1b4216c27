#include "xml-fixture.h"

#include "autoptr.h"
#include "testing.h"

static PciAddress address(const char *text) {
        PciAddress ret;

        assert_true(pci_address_parse(text, &ret));
        return ret;
}

int setup(void **state) {
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

int teardown(void **state) {
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

void add_card(Fixture *f, const char *gpu, ...) {
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

DeviceRequest *disk(const char *id, const char *path, ImageFormat format, bool read_only) {
        DeviceRequest *device = device_request_new(DEVICE_DISK);

        device->id = g_strdup(id);
        device->path = g_strdup("as asked");
        device->name = g_strdup(path);
        device->block = g_str_has_prefix(path, "/dev/");
        device->format = format;
        device->read_only = read_only;
        return device;
}

DeviceRequest *nic(const char *id, NicType type, const char *source, const char *mac) {
        DeviceRequest *device = device_request_new(DEVICE_NIC);

        device->id = g_strdup(id);
        device->type = type;
        device->source = g_strdup(source);
        device->mac = g_strdup(mac);
        return device;
}

void fill(Fixture *f) {
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

char *write_xml(Fixture *f) {
        char *xml = NULL;

        assert_int_equal(domain_xml_write(&f->spec, NULL, &xml), 0);
        return xml;
}
