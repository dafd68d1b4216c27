/* Checked in the worker, right before libvirt is told to do something. No libvirt call acts on a
 * condition, so a moment remains between the check and the act, as it does for virsh. */
#include "hypervisor/domain-ours.h"

#include "hypervisor/domain-refusal.h"
#include "hypervisor/domain-xml.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

static Refusal *refuse_taken_back(const char *doing, const char *name) {
        return refusal_new(
                REFUSAL_NO_SUCH_MACHINE, name,
                "Use virsh for it. It becomes a machine again when its <metadata> has that element "
                "again.",
                "The service does not %s %s: somebody has removed the element feos:machine from "
                "its libvirt domain, so it is no longer a machine of the service.",
                doing, name);
}

static Refusal *refuse_renamed(virDomainPtr domain, const char *doing, const char *name) {
        g_autofree char *now = refusal_show(virDomainGetName(domain));

        return refusal_new(REFUSAL_INVALID_STATE, name, "Look at it again, then call again.",
                           "The service does not %s %s: that libvirt domain is now called %s.",
                           doing, name, now);
}

/* Of one that has gone libvirt itself will say so. */
static Refusal *refuse_by_xml(Line *line, virDomainPtr domain, const char *doing,
                              const char *name) {
        char *now = virDomainGetXMLDesc(domain, 0);
        char *next = now ? virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE) : NULL;
        Refusal *refusal = NULL;

        if (next && !(domain_xml_is_ours(now) && domain_xml_is_ours(next)))
                refusal = refuse_taken_back(doing, name);
        else if (!next && !link_error_is_no_domain())
                refusal = domain_refuse_by_libvirt(line, doing, name);

        free(now);
        free(next);
        return refusal;
}

Refusal *domain_refuse_unless_ours(Line *line, virDomainPtr domain, const char *doing,
                                   const char *name) {
        char uuid[VIR_UUID_STRING_BUFLEN] = "";

        (void)virDomainGetUUIDString(domain, uuid);
        if (strcmp(name, uuid) != 0 && strcmp(name, virDomainGetName(domain)) != 0)
                return refuse_renamed(domain, doing, name);
        return refuse_by_xml(line, domain, doing, name);
}
