/* Carries out one verb on one domain and says in a sentence why it could not. It takes libvirt's
 * word for what happened only as far as "refused"; what came of it shows the look that follows. */
#include "hypervisor/domain-verb.h"

#include "hypervisor/domain-look.h"
#include "hypervisor/domain-xml.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <sys/stat.h>

#define LOG_HINT "See the journal of libvirtd and /var/log/libvirt/qemu for more."

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

static const char *verb_to_string(HypervisorVerb verb) {
        switch (verb) {
        case HYPERVISOR_DEFINE:
                return "define";
        case HYPERVISOR_START:
                return "start";
        case HYPERVISOR_SHUTDOWN:
                return "shut down";
        case HYPERVISOR_DESTROY:
                return "power off";
        case HYPERVISOR_UNDEFINE:
                return "forget";
        }
        g_assert_not_reached();
}

Refusal *domain_refuse_unavailable(const char *subject) {
        return refusal_new(REFUSAL_HYPERVISOR_UNAVAILABLE, subject,
                           "Wait until libvirt is back, or see whether libvirtd runs.",
                           "There is no connection to libvirt.");
}

Refusal *domain_refuse_lost(HypervisorVerb verb, const char *name) {
        return refusal_new(REFUSAL_HYPERVISOR_UNAVAILABLE, name,
                           "Wait until libvirt is back, then see how the machine is.",
                           "The connection to libvirt was lost while it was to %s machine %s.",
                           verb_to_string(verb), name);
}

/* Turns the error that libvirt left in this thread into a refusal. @line is NULL where there was
 * none to be had. */
static Refusal *refuse_by_libvirt(Line *line, HypervisorVerb verb, const char *name) {
        g_autofree char *words = link_error_words();

        if (!line || line_error_is_lost(line))
                return domain_refuse_lost(verb, name);
        return refusal_new(REFUSAL_HYPERVISOR_FAILED, name, LOG_HINT,
                           "libvirt could not %s machine %s: %s", verb_to_string(verb), name,
                           words);
}

static Refusal *refuse_existing(const char *name, const char *what) {
        return refusal_new(REFUSAL_MACHINE_EXISTS, name,
                           "Choose another one, or remove that domain first.",
                           "There is a libvirt domain with the %s %s already.", what, name);
}

/* virDomainDefineXML() would replace a domain that has both, so they are looked for first. */
static Refusal *refuse_taken(Line *line, const char *name, const char *uuid) {
        g_autoptr(virDomain) by_name = NULL, by_uuid = NULL;

        by_name = virDomainLookupByName(line_connection(line), name);
        if (by_name)
                return refuse_existing(name, "name");
        if (!link_error_is_no_domain())
                return refuse_by_libvirt(line, HYPERVISOR_DEFINE, name);
        by_uuid = virDomainLookupByUUIDString(line_connection(line), uuid);
        if (by_uuid)
                return refuse_existing(uuid, "UUID");
        if (!link_error_is_no_domain())
                return refuse_by_libvirt(line, HYPERVISOR_DEFINE, name);
        return NULL;
}

Refusal *domain_define(Link *link, const char *name, const char *uuid, const char *xml) {
        g_autoptr(Line) line = link_take_line(link);
        g_autoptr(virDomain) domain = NULL;
        Refusal *refusal;

        if (!line)
                return refuse_by_libvirt(NULL, HYPERVISOR_DEFINE, name);
        refusal = refuse_taken(line, name, uuid);
        if (refusal)
                return refusal;
        domain = virDomainDefineXML(line_connection(line), xml);
        if (domain)
                return NULL;
        if (virGetLastErrorCode() == VIR_ERR_DOM_EXIST)
                return refuse_existing(name, "name");
        return refuse_by_libvirt(line, HYPERVISOR_DEFINE, name);
}

/* virtlogd opens the console's log but makes no folder for it. What a guest prints is nobody's but
 * the administrator's. */
static Refusal *console_directory_make(const char *name) {
        g_autofree char *path = NULL;

        /* Such a name can be no machine of ours; do not walk where it points. */
        if (!machine_name_is_valid(name))
                return NULL;
        path = g_build_filename(DOMAIN_CONSOLE_DIRECTORY, name, NULL);
        if (g_mkdir_with_parents(DOMAIN_CONSOLE_DIRECTORY, 0755) == 0 &&
            (mkdir(path, 0750) == 0 || errno == EEXIST))
                return NULL;
        return refusal_new(REFUSAL_HYPERVISOR_FAILED, name,
                           "Make room there, or see who may write to it.",
                           "The folder %s for the console of machine %s could not be made: %s",
                           path, name, g_strerror(errno));
}

static Refusal *start(Line *line, virDomainPtr domain, const char *name) {
        Refusal *refusal = NULL;

        if (line_facts(line)->on_this_host)
                refusal = console_directory_make(name);
        if (refusal)
                return refusal;
        /* No AUTODESTROY: machines live on when this daemon or libvirtd restarts. */
        if (virDomainCreate(domain) < 0)
                return refuse_by_libvirt(line, HYPERVISOR_START, name);
        domain_note_first_start(domain);
        return NULL;
}

static Refusal *shut_down(Line *line, virDomainPtr domain, const char *name) {
        /* libvirt's test driver has no choice of ways, and refuses to be given one. */
        unsigned flags = line_facts(line)->test ? 0 : VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN;

        if (virDomainShutdownFlags(domain, flags) == 0)
                return NULL;
        return refuse_by_libvirt(line, HYPERVISOR_SHUTDOWN, name);
}

static Refusal *destroy(Line *line, virDomainPtr domain, const char *name) {
        g_autoptr(Refusal) refusal = NULL;

        if (virDomainDestroy(domain) == 0)
                return NULL;
        /* Before the question below has an error of its own. */
        refusal = refuse_by_libvirt(line, HYPERVISOR_DESTROY, name);
        if (virDomainIsActive(domain) == 0 || link_error_is_no_domain())
                return NULL;
        return g_steal_pointer(&refusal);
}

static Refusal *undefine(Line *line, virDomainPtr domain, const char *name) {
        g_autoptr(Refusal) refusal = NULL;
        unsigned flags = 0;

        /* libvirt refuses to leave any of these behind, and its test driver to hear of them. */
        if (!line_facts(line)->test)
                flags = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                        VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_NVRAM;
        if (virDomainUndefineFlags(domain, flags) == 0)
                return NULL;
        refusal = refuse_by_libvirt(line, HYPERVISOR_UNDEFINE, name);
        /* One without a definition runs and is forgotten when it ends. */
        if (virDomainIsPersistent(domain) == 0 || link_error_is_no_domain())
                return NULL;
        return g_steal_pointer(&refusal);
}

static Refusal *act(Line *line, HypervisorVerb verb, virDomainPtr domain) {
        const char *name = virDomainGetName(domain);

        switch (verb) {
        case HYPERVISOR_START:
                return start(line, domain, name);
        case HYPERVISOR_SHUTDOWN:
                return shut_down(line, domain, name);
        case HYPERVISOR_DESTROY:
                return destroy(line, domain, name);
        case HYPERVISOR_UNDEFINE:
                return undefine(line, domain, name);
        case HYPERVISOR_DEFINE:
                break;
        }
        g_assert_not_reached();
}

Refusal *domain_act(Link *link, HypervisorVerb verb, const char *uuid) {
        g_autoptr(Line) line = link_take_line(link);
        g_autoptr(virDomain) domain = NULL;
        bool missing = false;

        if (!line)
                return refuse_by_libvirt(NULL, verb, uuid);
        domain = line_domain(line, uuid, &missing);
        if (domain)
                return act(line, verb, domain);
        if (!missing)
                return refuse_by_libvirt(line, verb, uuid);
        if (verb == HYPERVISOR_DESTROY || verb == HYPERVISOR_UNDEFINE)
                return NULL;
        return refusal_new(REFUSAL_NO_SUCH_MACHINE, uuid,
                           "See which machines there are; it may have been removed.",
                           "There is no libvirt domain with the UUID %s.", uuid);
}
