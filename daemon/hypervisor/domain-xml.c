/* Writes the libvirt domain of a machine. Everything goes through libxml2's writer, so that no text
 * of a caller can ever become markup. It decides what the machine looks like to its guest (chipset,
 * slots, console) and refuses to know whether libvirt is there, whether files exist and who asked.
 */
#include "hypervisor/domain-xml.h"

#include <errno.h>
#include <libxml/xmlwriter.h>
#include <string.h>

typedef struct Writer {
        xmlTextWriter *xml;
        bool failed;
} Writer;

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlTextWriter, xmlFreeTextWriter)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlBuffer, xmlBufferFree)

static void writer_check(Writer *writer, int r) {
        if (r < 0)
                writer->failed = true;
}

static void writer_start(Writer *writer, const char *name, va_list attributes) {
        const char *key;

        writer_check(writer, xmlTextWriterStartElement(writer->xml, BAD_CAST name));
        while ((key = va_arg(attributes, const char *))) {
                const char *value = va_arg(attributes, const char *);

                writer_check(writer, xmlTextWriterWriteAttribute(writer->xml, BAD_CAST key,
                                                                 BAD_CAST value));
        }
}

/* Opens an element with attributes: name and value in turns, up to NULL. */
static G_GNUC_NULL_TERMINATED void writer_open(Writer *writer, const char *name, ...) {
        va_list attributes;

        va_start(attributes, name);
        writer_start(writer, name, attributes);
        va_end(attributes);
}

static void writer_close(Writer *writer) {
        writer_check(writer, xmlTextWriterEndElement(writer->xml));
}

/* An element with attributes and nothing in it. */
static G_GNUC_NULL_TERMINATED void writer_leaf(Writer *writer, const char *name, ...) {
        va_list attributes;

        va_start(attributes, name);
        writer_start(writer, name, attributes);
        va_end(attributes);
        writer_close(writer);
}

static void writer_text(Writer *writer, const char *name, const char *text) {
        writer_check(writer, xmlTextWriterWriteElement(writer->xml, BAD_CAST name, BAD_CAST text));
}

/* XML 1.0 has no way to say most control characters, not even escaped, nor U+FFFE and U+FFFF. */
static bool text_is_sayable(const char *text) {
        if (!text)
                return true;
        if (!g_utf8_validate(text, -1, NULL))
                return false;
        for (const char *p = text; *p; p = g_utf8_next_char(p)) {
                gunichar c = g_utf8_get_char(p);

                if (c < 0x20 && c != '\t' && c != '\n' && c != '\r')
                        return false;
                if (c == 0xfffe || c == 0xffff)
                        return false;
        }
        return true;
}

static bool spec_is_sayable(const DomainSpec *spec) {
        return text_is_sayable(spec->request->name) && text_is_sayable(spec->uuid) &&
               text_is_sayable(spec->image) && text_is_sayable(spec->kernel) &&
               text_is_sayable(spec->initrd) && text_is_sayable(spec->request->cmdline);
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

static void write_gpus(Writer *writer, const char *element, const GArray *gpus) {
        for (unsigned i = 0; gpus && i < gpus->len; i++) {
                char address[PCI_ADDRESS_BUFFER];

                pci_address_print(g_array_index(gpus, PciAddress, i), address);
                writer_leaf(writer, element, "address", address, NULL);
        }
}

static void write_metadata(Writer *writer, const DomainSpec *spec) {
        FirstStart first_start = spec->request->start ? FIRST_START_PENDING : FIRST_START_LATER;

        writer_open(writer, "metadata", NULL);
        writer_open(writer, DOMAIN_METADATA_PREFIX ":machine", "xmlns:" DOMAIN_METADATA_PREFIX,
                    DOMAIN_METADATA_URI, "first-start", first_start_to_string(first_start), NULL);
        write_gpus(writer, DOMAIN_METADATA_PREFIX ":gpu", spec->request->gpus);
        writer_close(writer);
        writer_close(writer);
}

static void write_os(Writer *writer, const DomainSpec *spec) {
        if (spec->uefi)
                writer_open(writer, "os", "firmware", "efi", NULL);
        else
                writer_open(writer, "os", NULL);

        writer_open(writer, "type", "arch", "x86_64", "machine", "q35", NULL);
        writer_check(writer, xmlTextWriterWriteString(writer->xml, BAD_CAST "hvm"));
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

static void write_disk(Writer *writer, const DomainSpec *spec) {
        /* QEMU opens the two with different drivers and refuses the wrong one. A resolved path
         * under /dev is a block device. */
        bool block = g_str_has_prefix(spec->image, "/dev/");
        const char *format = spec->request->image_format == IMAGE_QCOW2 ? "qcow2" : "raw";

        writer_open(writer, "disk", "type", block ? "block" : "file", "device", "disk", NULL);
        writer_leaf(writer, "driver", "name", "qemu", "type", format, NULL);
        writer_leaf(writer, "source", block ? "dev" : "file", spec->image, NULL);
        /* Ends the chain here: a qcow2 that names another file as its backing does not get it. */
        writer_leaf(writer, "backingStore", NULL);
        writer_leaf(writer, "target", "dev", "vda", "bus", "virtio", NULL);
        if (!spec->kernel)
                writer_leaf(writer, "boot", "order", "1", NULL);
        writer_close(writer);
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

/* Each card behind a root port of its own, in the order of the request, its functions side by side
 * as on the real card. Guest drivers expect the GPU at function 0, wherever the host has it. */
static void write_cards(Writer *writer, const DomainSpec *spec) {
        for (unsigned i = 0; spec->cards && i < spec->cards->len; i++)
                write_root_port(writer, i + 1);

        for (unsigned i = 0; spec->cards && i < spec->cards->len; i++) {
                const DomainCard *card = &g_array_index(spec->cards, DomainCard, i);

                for (unsigned k = 0; k < card->n_functions; k++)
                        write_function(writer, card->functions[k], i + 1, k,
                                       k == 0 && card->n_functions > 1);
        }
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
        if (spec->image)
                write_disk(writer, spec);
        write_cards(writer, spec);
        write_console(writer, spec->request->name);
        writer_open(writer, "video", NULL);
        writer_leaf(writer, "model", "type", "none", NULL);
        writer_close(writer);
        /* All of the guest's memory is pinned for the GPU's DMA; a balloon has nothing to give. */
        writer_leaf(writer, "memballoon", "model", "none", NULL);
        writer_open(writer, "rng", "model", "virtio", NULL);
        writer_open(writer, "backend", "model", "random", NULL);
        writer_check(writer, xmlTextWriterWriteString(writer->xml, BAD_CAST "/dev/urandom"));
        writer_close(writer);
        writer_close(writer);
        writer_close(writer);
}

static void write_domain(Writer *writer, const DomainSpec *spec, const char *type) {
        g_autofree char *memory = g_strdup_printf("%" G_GUINT64_FORMAT, spec->request->memory_mib);
        g_autofree char *vcpus = g_strdup_printf("%u", spec->request->vcpus);

        writer_open(writer, "domain", "type", type, NULL);
        writer_text(writer, "name", spec->request->name);
        writer_text(writer, "uuid", spec->uuid);
        write_metadata(writer, spec);
        writer_open(writer, "memory", "unit", "MiB", NULL);
        writer_check(writer, xmlTextWriterWriteString(writer->xml, BAD_CAST memory));
        writer_close(writer);
        writer_open(writer, "vcpu", "placement", "static", NULL);
        writer_check(writer, xmlTextWriterWriteString(writer->xml, BAD_CAST vcpus));
        writer_close(writer);
        write_os(writer, spec);
        write_processor(writer, type);
        write_behaviour(writer);
        write_devices(writer, spec);
        writer_close(writer);
}

int domain_xml_write(const DomainSpec *spec, const char *type, char **ret) {
        g_autoptr(xmlBuffer) buffer = xmlBufferCreate();
        g_autoptr(xmlTextWriter) xml = xmlNewTextWriterMemory(buffer, 0);
        Writer writer = { .xml = xml };

        if (!buffer || !xml)
                return -ENOMEM;
        if (!spec_is_sayable(spec))
                return -EINVAL;
        writer_check(&writer, xmlTextWriterSetIndent(xml, 1));
        writer_check(&writer, xmlTextWriterSetIndentString(xml, BAD_CAST "  "));
        write_domain(&writer, spec, type ? type : (spec->kvm ? "kvm" : "qemu"));
        writer_check(&writer, xmlTextWriterFlush(xml));
        if (writer.failed)
                return -ENOMEM;

        *ret = g_strdup((const char *)xmlBufferContent(buffer));
        return 0;
}

char *domain_metadata_write(const GArray *gpus, FirstStart first_start) {
        g_autoptr(xmlBuffer) buffer = xmlBufferCreate();
        g_autoptr(xmlTextWriter) xml = xmlNewTextWriterMemory(buffer, 0);
        Writer writer = { .xml = xml };

        writer_open(&writer, "machine", "first-start", first_start_to_string(first_start), NULL);
        write_gpus(&writer, "gpu", gpus);
        writer_close(&writer);
        writer_check(&writer, xmlTextWriterFlush(xml));
        /* Only addresses and constants are in it: nothing but a lack of memory can fail. */
        g_assert(!writer.failed);
        return g_strdup((const char *)xmlBufferContent(buffer));
}
