/* Finds out what libvirt, virtlogd or QEMU would refuse at a start, before a card leaves the host.
 * libvirt itself tells most of it: virConnectDomainXMLToNative() does all of a start up to QEMU's
 * command line (libvirt 9.0.0, src/qemu/qemu_process.c, qemuProcessCreatePretendCmdPrepare()), so
 * it finds a missing emulator, machine type, firmware, KVM or mount of huge pages. It does not look
 * at files; this file does. */
#include "hypervisor/domain-rehearse.h"

#include "autoptr.h"
#include "hypervisor/definition-edit.h"
#include "hypervisor/domain-refusal.h"
#include "hypervisor/domain-xml.h"
#include "hypervisor/xml-reader.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>
#include <sys/stat.h>

#define DOING "start machine"

/* Devices that are tried. Of the others libvirt would make some (a tap for each <interface>), or
 * ask for what a start has prepared. A balloon is added where it is not said that there is none. */
static bool can_be_tried(xmlNode *device) {
        static const char *const kinds[] = { "emulator", "controller", "disk",  "hostdev",
                                             "memory",   "memballoon", "iommu", NULL };

        if (!g_strv_contains(kinds, (const char *)device->name))
                return false;
        if (strcmp((const char *)device->name, "hostdev") == 0) {
                g_autofree char *type = xml_attribute(device, "type");

                return g_strcmp0(type, "pci") == 0;
        }
        return true;
}

char *domain_xml_for_rehearsal(const char *xml) {
        g_autoptr(xmlDoc) document = xml_open(xml, "domain");
        xmlNode *devices = document ? xml_child(xmlDocGetRootElement(document), "devices") : NULL;
        xmlNode *next = devices ? xmlFirstElementChild(devices) : NULL;
        xmlChar *text = NULL;
        char *copy;

        while (next) {
                xmlNode *device = next;

                next = xmlNextElementSibling(device);
                if (can_be_tried(device))
                        continue;
                xmlUnlinkNode(device);
                xmlFreeNode(device);
        }
        if (document)
                xmlDocDumpMemory(document, &text, NULL);
        copy = g_strdup((const char *)text);
        xmlFree(text);
        return copy;
}

static Refusal *refuse_console(const char *path, const char *name, int error) {
        return refusal_new(REFUSAL_HYPERVISOR_FAILED, name,
                           "Make room there, check its permissions, or remove what has its name.",
                           "Cannot make %s for the console log of machine %s: %s", path, name,
                           g_strerror(error));
}

/* virtlogd opens the log but does not make its folder. Only the administrator may read what a guest
 * prints. */
static Refusal *console_prepare(const char *log, const char *name) {
        g_autofree char *folder = g_path_get_dirname(log);
        g_autofd int fd = -1;

        if (g_mkdir_with_parents(DOMAIN_CONSOLE_DIRECTORY, 0755) < 0 ||
            g_mkdir_with_parents(folder, 0750) < 0)
                return refuse_console(folder, name, errno);
        fd = open(log,
                  O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                  0600);
        return fd < 0 ? refuse_console(log, name, errno) : NULL;
}

static Refusal *consoles_prepare(const char *xml, const char *name) {
        g_auto(GStrv) logs = definition_logs(xml);
        Refusal *refusal = NULL;

        for (char **log = logs; *log && !refusal; log++)
                refusal = console_prepare(*log, name);
        return refusal;
}

/* Ignition, and whatever else the guest's firmware is to be given out of a file. */
static Refusal *texts_look(const char *xml, const char *name) {
        g_autoptr(xmlDoc) document = xml_open(xml, "domain");
        g_autoptr(xmlXPathContext) context = document ? xml_context(document) : NULL;
        g_autoptr(xmlXPathObject) entries = NULL;

        if (context)
                entries = xml_find(context, "/domain/sysinfo/entry[@file]");
        for (int i = 0; entries && i < entries->nodesetval->nodeNr; i++) {
                g_autofree char *path = xml_attribute(entries->nodesetval->nodeTab[i], "file");
                struct stat status;

                if (stat(path, &status) < 0 && (errno == ENOENT || errno == ENOTDIR))
                        return refusal_new(
                                REFUSAL_INVALID_STATE, name,
                                "Put it back, or delete the machine and create it again with the "
                                "option ignition.",
                                "Machine %s needs the file %s, which does not exist.", name, path);
        }
        return NULL;
}

/* As it will be when it is started. */
static char *definition_take(virDomainPtr domain) {
        char *xml = virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
        char *edited = NULL;

        if (xml && definition_for_start(xml, false, &edited) <= 0)
                edited = g_strdup(xml);
        free(xml);
        return edited;
}

static Refusal *command_line_try(Line *line, const char *xml, const char *name) {
        g_autofree char *tried = domain_xml_for_rehearsal(xml), *words = NULL, *clear = NULL;
        char *command =
                tried ? virConnectDomainXMLToNative(line_connection(line), "qemu-argv", tried, 0)
                      : NULL;
        int error = virGetLastErrorCode();

        free(command);
        /* Not every driver of libvirt's can do that. */
        if (!tried || command || error == VIR_ERR_NO_SUPPORT)
                return NULL;
        words = link_error_words();
        clear = domain_clear_words(words);
        if (line_error_is_lost(line))
                return domain_refuse_lost(DOING, name);
        return refusal_new(REFUSAL_HYPERVISOR_FAILED, name,
                           "No card was touched. Fix the host or the machine's definition.",
                           "libvirt could not " DOING " %s: %s.", name, clear);
}

Refusal *domain_rehearse(Line *line, virDomainPtr domain, const char *name) {
        g_autofree char *xml = definition_take(domain);
        Refusal *refusal = NULL;

        if (!xml)
                return domain_refuse_by_libvirt(line, DOING, name);
        if (line_facts(line)->on_this_host)
                refusal = consoles_prepare(xml, name) ?: texts_look(xml, name);
        return refusal ?: command_line_try(line, xml, name);
}
