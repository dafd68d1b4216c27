/* Refusals and findings. The words here are the D-Bus error names' own; which bus carries them is
 * not this file's business. */
#include "core/refusal.h"

#include <string.h>

#define SHOWN_BYTES 64

const char *refusal_code_to_string(RefusalCode code) {
        static const char *const words[_REFUSAL_CODE_MAX] = {
                [REFUSAL_INVALID_ADDRESS] = "InvalidAddress",
                [REFUSAL_INVALID_NAME] = "InvalidName",
                [REFUSAL_INVALID_OPTION] = "InvalidOption",
                [REFUSAL_NO_SUCH_GPU] = "NoSuchGPU",
                [REFUSAL_NOT_A_GPU] = "NotAGPU",
                [REFUSAL_VIRTUAL_FUNCTION] = "VirtualFunction",
                [REFUSAL_NO_IOMMU] = "NoIOMMU",
                [REFUSAL_GROUP_NOT_VIABLE] = "GroupNotViable",
                [REFUSAL_BOOT_DISPLAY] = "BootDisplay",
                [REFUSAL_GPU_IN_USE] = "GPUInUse",
                [REFUSAL_GPU_BUSY] = "GPUBusy",
                [REFUSAL_GPU_FAULTED] = "GPUFaulted",
                [REFUSAL_IDENTITY_MISMATCH] = "IdentityMismatch",
                [REFUSAL_HANDOVER_TIMEOUT] = "HandoverTimeout",
                [REFUSAL_HANDOVER_FAILED] = "HandoverFailed",
                [REFUSAL_MACHINE_EXISTS] = "MachineExists",
                [REFUSAL_NO_SUCH_MACHINE] = "NoSuchMachine",
                [REFUSAL_INVALID_STATE] = "InvalidState",
                [REFUSAL_IMAGE_NOT_FOUND] = "ImageNotFound",
                [REFUSAL_IMAGE_NOT_ALLOWED] = "ImageNotAllowed",
                [REFUSAL_HYPERVISOR_UNAVAILABLE] = "HypervisorUnavailable",
                [REFUSAL_HYPERVISOR_FAILED] = "HypervisorFailed",
                [REFUSAL_LIMITS_EXCEEDED] = "LimitsExceeded",
                [REFUSAL_NO_KVM] = "NoKVM",
                [REFUSAL_NO_RESET] = "NoReset",
                [REFUSAL_POWERED_DOWN] = "PoweredDown",
                [REFUSAL_KNOWN_TROUBLE] = "KnownTrouble",
        };

        return words[code];
}

char *refusal_show(const char *text) {
        g_autofree char *head = g_strndup(text, SHOWN_BYTES);
        g_autofree char *escaped = g_strescape(head, NULL);

        return g_strconcat(escaped, strlen(text) > SHOWN_BYTES ? "..." : "", NULL);
}

/* Other people's words often end a message, and they end in anything; ours are sentences. */
static char *end_sentence(char *message) {
        size_t length = strlen(message);

        while (length > 0 && strchr(" \t\n:;,.", message[length - 1]))
                message[--length] = '\0';
        return g_strconcat(message, ".", NULL);
}

static Refusal *refusal_new_va(RefusalSeverity severity, RefusalCode code, const char *subject,
                               const char *remedy, const char *message, va_list args)
        G_GNUC_PRINTF(5, 0);

static Refusal *refusal_new_va(RefusalSeverity severity, RefusalCode code, const char *subject,
                               const char *remedy, const char *message, va_list args) {
        g_autofree char *text = g_strdup_vprintf(message, args);
        Refusal *refusal = g_new(Refusal, 1);

        *refusal = (Refusal){
                .severity = severity,
                .code = code,
                .subject = g_strdup(subject),
                .message = end_sentence(text),
                .remedy = g_strdup(remedy),
        };
        return refusal;
}

Refusal *refusal_new(RefusalCode code, const char *subject, const char *remedy, const char *message,
                     ...) {
        Refusal *refusal;
        va_list args;

        va_start(args, message);
        refusal = refusal_new_va(SEVERITY_ERROR, code, subject, remedy, message, args);
        va_end(args);
        return refusal;
}

Refusal *refusal_copy(const Refusal *refusal) {
        Refusal *copy = g_new(Refusal, 1);

        *copy = (Refusal){
                .severity = refusal->severity,
                .code = refusal->code,
                .subject = g_strdup(refusal->subject),
                .message = g_strdup(refusal->message),
                .remedy = g_strdup(refusal->remedy),
                .passing = refusal->passing,
        };
        return copy;
}

void refusal_free(Refusal *refusal) {
        if (!refusal)
                return;
        g_free(refusal->subject);
        g_free(refusal->message);
        g_free(refusal->remedy);
        g_free(refusal);
}

GPtrArray *findings_new(void) {
        return g_ptr_array_new_with_free_func((GDestroyNotify)refusal_free);
}

void findings_error(GPtrArray *findings, RefusalCode code, const char *subject, const char *remedy,
                    const char *message, ...) {
        va_list args;

        va_start(args, message);
        g_ptr_array_add(findings,
                        refusal_new_va(SEVERITY_ERROR, code, subject, remedy, message, args));
        va_end(args);
}

void findings_warning(GPtrArray *findings, RefusalCode code, const char *subject,
                      const char *remedy, const char *message, ...) {
        va_list args;

        va_start(args, message);
        g_ptr_array_add(findings,
                        refusal_new_va(SEVERITY_WARNING, code, subject, remedy, message, args));
        va_end(args);
}

void findings_note_passing(GPtrArray *findings) {
        Refusal *last = g_ptr_array_index(findings, findings->len - 1);

        last->passing = true;
}

const Refusal *findings_first_error(const GPtrArray *findings) {
        for (guint i = 0; i < findings->len; i++) {
                const Refusal *finding = g_ptr_array_index(findings, i);

                if (finding->severity == SEVERITY_ERROR)
                        return finding;
        }
        return NULL;
}
