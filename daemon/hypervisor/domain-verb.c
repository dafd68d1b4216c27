/* Carries out one verb on one domain and says in a sentence why it could not. It takes libvirt's
 * word for what happened only as far as "refused"; what came of it shows the look that follows. */
#include "hypervisor/domain-verb.h"

#include "hypervisor/domain-define.h"
#include "hypervisor/domain-lend.h"
#include "hypervisor/domain-look.h"
#include "hypervisor/domain-ours.h"
#include "hypervisor/domain-refusal.h"
#include "hypervisor/domain-rehearse.h"
#include "hypervisor/domain-xml.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

static Refusal *refuse(Line *line, HypervisorVerb verb, const char *name) {
        return domain_refuse_by_libvirt(line, domain_verb_doing(verb), name);
}

static Refusal *create(Line *line, virDomainPtr domain, const char *name) {
        g_autoptr(Refusal) refused = NULL;

        /* No AUTODESTROY: machines live on when this daemon or libvirtd restarts. */
        if (virDomainCreate(domain) == 0)
                return NULL;
        refused = refuse(line, HYPERVISOR_START, name);
        /* Somebody else was faster, and what runs is the machine that was to run. */
        if (virGetLastErrorCode() == VIR_ERR_OPERATION_INVALID && virDomainIsActive(domain) == 1)
                return NULL;
        return g_steal_pointer(&refused);
}

static Refusal *start(Line *line, virDomainPtr domain, const char *name) {
        Refusal *refusal = domain_lend(domain) ? create(line, domain, name)
                                               : refuse(line, HYPERVISOR_START, name);

        domain_take_back(domain, !refusal);
        if (!refusal)
                domain_note_first_start(domain);
        return refusal;
}

static Refusal *shut_down(Line *line, virDomainPtr domain, const char *name) {
        /* libvirt's test driver has no choice of ways, and refuses to be given one. */
        unsigned flags = line_facts(line)->test ? 0 : VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN;

        if (virDomainShutdownFlags(domain, flags) == 0) {
                domain_note_stop(domain);
                return NULL;
        }
        return refuse(line, HYPERVISOR_SHUTDOWN, name);
}

static Refusal *destroy(Line *line, virDomainPtr domain, const char *name) {
        g_autoptr(Refusal) refusal = NULL;

        if (virDomainDestroy(domain) == 0)
                return NULL;
        /* Before the question below has an error of its own. */
        refusal = refuse(line, HYPERVISOR_DESTROY, name);
        if (virDomainIsActive(domain) == 0 || link_error_is_no_domain())
                return NULL;
        return g_steal_pointer(&refusal);
}

static Refusal *undefine(Line *line, virDomainPtr domain, const char *name) {
        g_autoptr(Refusal) refusal = NULL;
        unsigned flags = 0;

        /* Its definition is what it would be started from again. */
        if (virDomainIsActive(domain) == 1)
                return refusal_new(REFUSAL_INVALID_STATE, name,
                                   "See who has started it, then call again.",
                                   "Machine %s already runs: somebody else has started it.", name);
        /* libvirt refuses to leave any of these behind, and its test driver to hear of them. */
        if (!line_facts(line)->test)
                flags = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                        VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_NVRAM;
        if (virDomainUndefineFlags(domain, flags) == 0)
                return NULL;
        refusal = refuse(line, HYPERVISOR_UNDEFINE, name);
        /* One without a definition runs and is forgotten when it ends. */
        if (virDomainIsPersistent(domain) == 0 || link_error_is_no_domain())
                return NULL;
        return g_steal_pointer(&refusal);
}

static Refusal *reboot(Line *line, virDomainPtr domain, const char *name) {
        /* No flag: libvirt takes whichever way the guest knows. */
        if (virDomainReboot(domain, 0) == 0)
                return NULL;
        return refuse(line, HYPERVISOR_REBOOT, name);
}

static Refusal *suspend(Line *line, virDomainPtr domain, const char *name) {
        if (virDomainSuspend(domain) == 0)
                return NULL;
        return refuse(line, HYPERVISOR_PAUSE, name);
}

static Refusal *resume(Line *line, virDomainPtr domain, const char *name) {
        int state = VIR_DOMAIN_NOSTATE, r;

        /* One that has put itself to sleep is shown as paused, and is woken in another way. */
        r = virDomainGetState(domain, &state, NULL, 0);
        if (r == 0 && state == VIR_DOMAIN_PMSUSPENDED)
                r = virDomainPMWakeup(domain, 0);
        else if (r == 0)
                r = virDomainResume(domain);
        return r == 0 ? NULL : refuse(line, HYPERVISOR_RESUME, name);
}

static Refusal *act(Line *line, HypervisorVerb verb, virDomainPtr domain) {
        static Refusal *(*const acts[_HYPERVISOR_VERB_MAX])(Line *, virDomainPtr, const char *) = {
                [HYPERVISOR_REHEARSE] = domain_rehearse,
                [HYPERVISOR_START] = start,
                [HYPERVISOR_SHUTDOWN] = shut_down,
                [HYPERVISOR_DESTROY] = destroy,
                [HYPERVISOR_UNDEFINE] = undefine,
                [HYPERVISOR_REBOOT] = reboot,
                [HYPERVISOR_PAUSE] = suspend,
                [HYPERVISOR_RESUME] = resume,
        };

        g_assert(acts[verb]);
        return acts[verb](line, domain, virDomainGetName(domain));
}

Refusal *domain_act(Link *link, HypervisorVerb verb, const char *uuid, const char *name) {
        g_autoptr(Line) line = link_take_line(link);
        g_autoptr(virDomain) domain = NULL;
        Refusal *refusal = NULL;
        bool missing = false;

        if (!line)
                return refuse(NULL, verb, uuid);
        domain = line_domain(line, uuid, &missing);
        if (domain) {
                refusal = domain_refuse_unless_ours(line, domain, domain_verb_doing(verb), name);
                if (!refusal)
                        refusal = act(line, verb, domain);
        } else if (!missing)
                refusal = refuse(line, verb, uuid);
        else if (verb != HYPERVISOR_DESTROY && verb != HYPERVISOR_UNDEFINE)
                refusal = domain_refuse_missing(uuid);
        if (verb == HYPERVISOR_UNDEFINE && !refusal)
                domain_forget(line, uuid);
        return refusal;
}
