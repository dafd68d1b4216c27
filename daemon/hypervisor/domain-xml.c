/* Writes the libvirt domain of a machine. Everything goes through libxml2's writer, so that no text
 * of a caller can ever become markup. It decides what the machine looks like to its guest (chipset,
 * slots, console) and refuses to know whether libvirt is there, whether files exist and who asked.
 */
#include "hypervisor/domain-xml.h"

#include "hypervisor/device-xml.h"
#include "hypervisor/xml-writer.h"

#include <errno.h>
#include <string.h>

/* Root ports that nothing is in yet, for disks and NICs that come later: a port cannot be added to
 * a running machine. */
#define ROOT_PORTS_SPARE 8

static bool devices_can_be_said(const GPtrArray *devices) {
        for (unsigned i = 0; devices && i < devices->len; i++)
                if (!device_can_be_said(g_ptr_array_index(devices, i)))
                        return false;
        return true;
}

static bool spec_can_be_said(const DomainSpec *spec) {
        const Request *request = spec->request;

        return writer_can_say(request->name) && writer_can_say(spec->uuid) &&
               writer_can_say(spec->image) && writer_can_say(spec->kernel) &&
               writer_can_say(spec->initrd) && writer_can_say(request->cmdline) &&
               devices_can_be_said(request->disks) && devices_can_be_said(request->nics);
}

static const char *first_start_to_string(FirstStart first_start) {
        switch (first_start) {
        case FIRST_START_LATER:
                return "later";
        case FIRST_START_PENDING:
                return "pending";
        case FIRST_START_DONE:
                return "done";
        }
        g_assert_not_reached();
}

static void write_identity(Writer *writer, const char *element, const FunctionIdentity *function) {
        g_autofree char *vendor = g_strdup_printf("0x%04x", function->vendor);
        g_autofree char *device = g_strdup_printf("0x%04x", function->device);
        g_autofree char *subsystem_vendor = g_strdup_printf("0x%04x", function->subsystem_vendor);
        g_autofree char *subsystem_device = g_strdup_printf("0x%04x", function->subsystem_device);
        char address[PCI_ADDRESS_BUFFER];

        pci_address_print(function->address, address);
        /* The list of attributes ends at its first NULL. */
        writer_leaf(writer, element, "address", address, "vendor", vendor, "device", device,
                    "subsystem-vendor", subsystem_vendor, "subsystem-device", subsystem_device,
                    function->serial[0] ? "serial" : NULL, function->serial, NULL);
}

static void write_gpus(Writer *writer, const char *gpu, const char *function, const GArray *gpus,
                       const GArray *cards) {
        for (unsigned i = 0; gpus && i < gpus->len; i++) {
                PciAddress address = g_array_index(gpus, PciAddress, i);
                const CardIdentity *card = cards ? cards_find(cards, address) : NULL;
                char shown[PCI_ADDRESS_BUFFER];

                writer_open(writer, gpu, "address", pci_address_print(address, shown), NULL);
                for (unsigned k = 0; card && k < card->n_functions; k++)
                        write_identity(writer, function, &card->functions[k]);
                writer_close(writer);
        }
}

static void write_metadata(Writer *writer, const DomainSpec *spec) {
        FirstStart first_start = spec->request->start ? FIRST_START_PENDING : FIRST_START_LATER;

        writer_open(writer, "metadata", NULL);
        /* The list of attributes ends at its first NULL. */
        writer_open(writer, DOMAIN_METADATA_PREFIX ":machine", "xmlns:" DOMAIN_METADATA_PREFIX,
                    DOMAIN_METADATA_URI, "first-start", first_start_to_string(first_start),
                    spec->request->autostart ? "autostart" : NULL, "yes", NULL);
        write_gpus(writer, DOMAIN_METADATA_PREFIX ":gpu", DOMAIN_METADATA_PREFIX ":function",
                   spec->request->gpus, spec->cards);
        writer_close(writer);
        writer_close(writer);
}

static void write_size(Writer *writer, const Request *request) {
        g_autofree char *memory = g_strdup_printf("%" G_GUINT64_FORMAT, request->memory_mib);
        g_autofree char *vcpus = g_strdup_printf("%u", request->vcpus);
        g_autofree char *most = g_strdup_printf("%u", MAX(request->vcpus, request->max_vcpus));

        writer_open(writer, "memory", "unit", "MiB", NULL);
        writer_string(writer, memory);
        writer_close(writer);
        if (request->hugepages != HUGEPAGES_NONE) {
                bool big = request->hugepages == HUGEPAGES_1G;

                writer_open(writer, "memoryBacking", NULL);
                writer_open(writer, "hugepages", NULL);
                writer_leaf(writer, "page", "size", big ? "1" : "2", "unit", big ? "GiB" : "MiB",
                            NULL);
                writer_close(writer);
                writer_close(writer);
        }
        writer_open(writer, "vcpu", "placement", "static",
                    request->max_vcpus > request->vcpus ? "current" : NULL, vcpus, NULL);
        writer_string(writer, most);
        writer_close(writer);
}

/* By the path of a file, never as a text: that would be an argument of QEMU's, for all to read. */
static void write_ignition(Writer *writer, const DomainSpec *spec) {
        g_autofree char *path = NULL;

        if (!spec->request->ignition)
                return;
        path = domain_ignition_path(spec->uuid);
        writer_open(writer, "sysinfo", "type", "fwcfg", NULL);
        writer_leaf(writer, "entry", "name", "opt/com.coreos/config", "file", path, NULL);
        writer_close(writer);
}

static void write_os(Writer *writer, const DomainSpec *spec) {
        if (spec->uefi)
                writer_open(writer, "os", "firmware", "efi", NULL);
        else
                writer_open(writer, "os", NULL);

        writer_open(writer, "type", "arch", "x86_64", "machine", "q35", NULL);
        writer_string(writer, "hvm");
        writer_close(writer);
        if (spec->uefi) {
                /* Left to itself libvirt prefers firmware with Microsoft's keys enrolled, which
                 * boots nothing that those did not sign. */
                writer_open(writer, "firmware", NULL);
                writer_leaf(writer, "feature", "enabled", "no", "name", "enrolled-keys", NULL);
                writer_close(writer);
        }
        if (spec->kernel)
                writer_text(writer, "kernel", spec->kernel);
        if (spec->kernel && spec->initrd)
                writer_text(writer, "initrd", spec->initrd);
        if (spec->kernel && spec->request->cmdline)
                writer_text(writer, "cmdline", spec->request->cmdline);
        writer_close(writer);
}

static void write_processor(Writer *writer, const char *type) {
        writer_open(writer, "features", NULL);
        writer_leaf(writer, "acpi", NULL);
        writer_leaf(writer, "apic", NULL);
        writer_close(writer);

        /* A machine with a real GPU never migrates, so it may have all of the host's processor.
         * Emulation has no host processor to pass on and offers all that it can do instead. */
        if (strcmp(type, "kvm") == 0)
                writer_leaf(writer, "cpu", "mode", "host-passthrough", "check", "none",
                            "migratable", "off", NULL);
        else if (strcmp(type, "qemu") == 0)
                writer_leaf(writer, "cpu", "mode", "maximum", "check", "none", "migratable", "off",
                            NULL);
}

static void write_behaviour(Writer *writer) {
        writer_leaf(writer, "clock", "offset", "utc", NULL);
        writer_text(writer, "on_poweroff", "destroy");
        writer_text(writer, "on_reboot", "restart");
        writer_text(writer, "on_crash", "destroy");
}

static void write_root_port(Writer *writer, unsigned bus) {
        g_autofree char *index = g_strdup_printf("%u", bus);

        writer_leaf(writer, "controller", "type", "pci", "index", index, "model", "pcie-root-port",
                    NULL);
}

static void write_function(Writer *writer, PciAddress host, unsigned bus, unsigned function,
                           bool multifunction) {
        g_autofree char *host_domain = g_strdup_printf("0x%04x", host.domain);
        g_autofree char *host_bus = g_strdup_printf("0x%02x", host.bus);
        g_autofree char *host_slot = g_strdup_printf("0x%02x", host.slot);
        g_autofree char *host_function = g_strdup_printf("0x%x", host.function);
        g_autofree char *guest_bus = g_strdup_printf("0x%02x", bus);
        g_autofree char *guest_function = g_strdup_printf("0x%x", function);

        /* Not managed: it is handed over before and taken back after, by somebody who gives up in
         * time. libvirt would wait for a driver that does not let go with all its hostdevs locked.
         */
        writer_open(writer, "hostdev", "mode", "subsystem", "type", "pci", "managed", "no", NULL);
        writer_leaf(writer, "driver", "name", "vfio", NULL);
        writer_open(writer, "source", NULL);
        writer_leaf(writer, "address", "domain", host_domain, "bus", host_bus, "slot", host_slot,
                    "function", host_function, NULL);
        writer_close(writer);
        /* The list of attributes ends at its first NULL. */
        writer_leaf(writer, "address", "type", "pci", "domain", "0x0000", "bus", guest_bus, "slot",
                    "0x00", "function", guest_function, multifunction ? "multifunction" : NULL,
                    "on", NULL);
        writer_close(writer);
}

/* The cards' ports come first, then one for each virtio device (libvirt fills them from the lowest
 * number on), then the spare ones. */
static void write_root_ports(Writer *writer, const DomainSpec *spec) {
        const Request *request = spec->request;
        unsigned n = 1 + ROOT_PORTS_SPARE; /* one is the random number generator's */

        n += spec->cards ? spec->cards->len : 0;
        n += spec->image ? 1 : 0;
        n += request->disks ? request->disks->len : 0;
        n += request->nics ? request->nics->len : 0;
        for (unsigned bus = 1; bus <= n; bus++)
                write_root_port(writer, bus);
}

/* Each card behind a root port of its own, in the order of the request, its functions side by side
 * as on the real card. Guest drivers expect the GPU at function 0, wherever the host has it. */
static void write_cards(Writer *writer, const DomainSpec *spec) {
        for (unsigned i = 0; spec->cards && i < spec->cards->len; i++) {
                const CardIdentity *card = &g_array_index(spec->cards, CardIdentity, i);

                for (unsigned k = 0; k < card->n_functions; k++)
                        write_function(writer, card->functions[k].address, i + 1, k,
                                       k == 0 && card->n_functions > 1);
        }
}

/* The boot disk has no alias: it cannot be asked for by an id. */
static void write_disks(Writer *writer, const DomainSpec *spec) {
        const GPtrArray *disks = spec->request->disks;

        if (spec->image)
                disk_write(writer, spec->image, spec->image_is_block, spec->request->image_format,
                           false, "vda", NULL, !spec->kernel);
        for (unsigned i = 0; disks && i < disks->len; i++) {
                g_autofree char *target = disk_target(i + 1);

                device_write(writer, g_ptr_array_index(disks, i), target);
        }
}

static void write_nics(Writer *writer, const DomainSpec *spec) {
        const GPtrArray *nics = spec->request->nics;

        for (unsigned i = 0; nics && i < nics->len; i++)
                device_write(writer, g_ptr_array_index(nics, i), NULL);
}

static void write_console(Writer *writer, const char *name) {
        g_autofree char *log =
                g_build_filename(DOMAIN_CONSOLE_DIRECTORY, name, "console.log", NULL);

        writer_open(writer, "serial", "type", "pty", NULL);
        writer_leaf(writer, "log", "file", log, "append", "on", NULL);
        writer_leaf(writer, "target", "type", "isa-serial", "port", "0", NULL);
        writer_close(writer);
        /* libvirt's older name for the same device. */
        writer_open(writer, "console", "type", "pty", NULL);
        writer_leaf(writer, "target", "type", "serial", "port", "0", NULL);
        writer_close(writer);
}

static void write_devices(Writer *writer, const DomainSpec *spec) {
        writer_open(writer, "devices", NULL);
        writer_leaf(writer, "controller", "type", "usb", "model", "none", NULL);
        write_root_ports(writer, spec);
        write_disks(writer, spec);
        write_nics(writer, spec);
        write_cards(writer, spec);
        write_console(writer, spec->request->name);
        writer_open(writer, "video", NULL);
        writer_leaf(writer, "model", "type", "none", NULL);
        writer_close(writer);
        /* All of the guest's memory is pinned for the GPU's DMA; a balloon has nothing to give. */
        writer_leaf(writer, "memballoon", "model", "none", NULL);
        writer_open(writer, "rng", "model", "virtio", NULL);
        writer_open(writer, "backend", "model", "random", NULL);
        writer_string(writer, "/dev/urandom");
        writer_close(writer);
        writer_close(writer);
        /* So that a guest's crash is seen: without it a dead kernel looks like an idle one. */
        writer_leaf(writer, "panic", "model", "isa", NULL);
        writer_close(writer);
}

static void write_domain(Writer *writer, const DomainSpec *spec, const char *type) {
        writer_open(writer, "domain", "type", type, NULL);
        writer_text(writer, "name", spec->request->name);
        writer_text(writer, "uuid", spec->uuid);
        write_metadata(writer, spec);
        write_size(writer, spec->request);
        write_ignition(writer, spec);
        write_os(writer, spec);
        write_processor(writer, type);
        write_behaviour(writer);
        write_devices(writer, spec);
        writer_close(writer);
}

int domain_xml_write(const DomainSpec *spec, const char *type, char **ret) {
        g_autoptr(Writer) writer = writer_new(true);

        if (!spec_can_be_said(spec))
                return -EINVAL;
        write_domain(writer, spec, type ? type : (spec->kvm ? "kvm" : "qemu"));
        return writer_finish(writer, ret);
}

char *domain_ignition_path(const char *uuid) {
        g_autofree char *file = g_strconcat(uuid, ".ign", NULL);

        return g_build_filename(DOMAIN_IGNITION_DIRECTORY, file, NULL);
}

char *domain_metadata_write(const DomainFacts *facts) {
        const char *autostart = facts->autostart ? "autostart" : NULL;
        const char *stopping = facts->stop_asked ? "stopping" : NULL;
        g_autoptr(Writer) writer = writer_new(false);
        char *metadata = NULL;
        int r;

        writer_open(writer, "machine", "first-start", first_start_to_string(facts->first_start),
                    autostart ?: stopping, "yes", autostart ? stopping : NULL, "yes", NULL);
        write_gpus(writer, "gpu", "function", facts->gpus, facts->cards);
        writer_close(writer);
        r = writer_finish(writer, &metadata);
        /* All that is in it is ours, or was in XML before: nothing but a lack of memory can fail.
         */
        g_assert(r >= 0);
        return metadata;
}
