/* libvirt's errors as refusals: whether it said no or could not be asked, in whose words, and what
 * to do. It makes no calls of its own but for the question whether the connection still stands. */
#include "hypervisor/domain-refusal.h"

#define LOG_HINT "See the journal of libvirtd and /var/log/libvirt/qemu for more."

const char *domain_verb_doing(HypervisorVerb verb) {
        switch (verb) {
        case HYPERVISOR_DEFINE:
                return "define machine";
        case HYPERVISOR_REHEARSE:
        case HYPERVISOR_START:
                return "start machine";
        case HYPERVISOR_SHUTDOWN:
                return "shut down machine";
        case HYPERVISOR_DESTROY:
                return "power off machine";
        case HYPERVISOR_UNDEFINE:
                return "forget machine";
        case HYPERVISOR_REBOOT:
                return "reboot machine";
        case HYPERVISOR_PAUSE:
                return "pause machine";
        case HYPERVISOR_RESUME:
                return "resume machine";
        case _HYPERVISOR_VERB_MAX:
                break;
        }
        g_assert_not_reached();
}

Refusal *domain_refuse_unavailable(const char *subject) {
        return refusal_new(REFUSAL_HYPERVISOR_UNAVAILABLE, subject,
                           "Wait until libvirt is back, or see whether libvirtd runs.",
                           "There is no connection to libvirt.");
}

Refusal *domain_refuse_lost(const char *doing, const char *name) {
        return refusal_new(REFUSAL_HYPERVISOR_UNAVAILABLE, name,
                           "Wait until libvirt is back, then see how the machine is.",
                           "The connection to libvirt was lost while it was to %s %s.", doing,
                           name);
}

Refusal *domain_refuse_missing(const char *uuid) {
        return refusal_new(REFUSAL_NO_SUCH_MACHINE, uuid,
                           "See which machines there are; it may have been removed.",
                           "There is no libvirt domain with the UUID %s.", uuid);
}

char *domain_clear_words(const char *words) {
        static const struct {
                const char *what, *instead;
        } steps[] = {
                { "[0-9T:.-]+Z [^\\n]*: warning: [^\\n]*\\n?", "" },
                { "[0-9T:.-]+Z ", "" }, /* when QEMU said it */
                { "\\n(?=.)", "; " },
        };
        char *clear = g_strdup(words);

        for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
                g_autoptr(GRegex) regex =
                        g_regex_new(steps[i].what, G_REGEX_RAW, G_REGEX_MATCH_DEFAULT, NULL);
                g_autofree char *before = clear;

                clear = g_regex_replace_literal(regex, before, -1, 0, steps[i].instead,
                                                G_REGEX_MATCH_DEFAULT, NULL);
        }
        return g_strchomp(clear);
}

Refusal *domain_refuse_by_libvirt(Line *line, const char *doing, const char *name) {
        g_autofree char *words = link_error_words(), *clear = domain_clear_words(words);

        if (!line || line_error_is_lost(line))
                return domain_refuse_lost(doing, name);
        return refusal_new(REFUSAL_HYPERVISOR_FAILED, name, LOG_HINT, "libvirt could not %s %s: %s",
                           doing, name, clear);
}
