/* Why something was refused: a code that programs match, the thing it speaks of, a sentence that
 * says what is wrong and one that says what to do. A refusal is a value, not an errno: the
 * environment did not fail, the answer is no. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* The codes are the D-Bus error names without their prefix; refusal_code_to_string() has the words.
 */
typedef enum RefusalCode {
        REFUSAL_INVALID_ADDRESS,
        REFUSAL_INVALID_NAME,
        REFUSAL_INVALID_OPTION,
        REFUSAL_NO_SUCH_GPU,
        REFUSAL_NOT_A_GPU,
        REFUSAL_VIRTUAL_FUNCTION,
        REFUSAL_NO_IOMMU,
        REFUSAL_GROUP_NOT_VIABLE,
        REFUSAL_BOOT_DISPLAY,
        REFUSAL_GPU_IN_USE,
        REFUSAL_GPU_BUSY,
        REFUSAL_GPU_FAULTED,
        REFUSAL_IDENTITY_MISMATCH,
        REFUSAL_HANDOVER_TIMEOUT,
        REFUSAL_HANDOVER_FAILED,
        REFUSAL_MACHINE_EXISTS,
        REFUSAL_NO_SUCH_MACHINE,
        REFUSAL_INVALID_STATE,
        REFUSAL_IMAGE_NOT_FOUND,
        REFUSAL_IMAGE_NOT_ALLOWED,
        REFUSAL_HYPERVISOR_UNAVAILABLE,
        REFUSAL_HYPERVISOR_FAILED,
        REFUSAL_LIMITS_EXCEEDED,
        /* Warnings only. */
        REFUSAL_NO_KVM,        /* the machine would run in plain emulation */
        REFUSAL_NO_RESET,      /* a GPU cannot be reset between two machines */
        REFUSAL_POWERED_DOWN,  /* a GPU has no power now */
        REFUSAL_KNOWN_TROUBLE, /* others have had trouble with the like */
        _REFUSAL_CODE_MAX,
} RefusalCode;

typedef enum RefusalSeverity {
        SEVERITY_WARNING,
        SEVERITY_ERROR,
} RefusalSeverity;

typedef struct Refusal {
        RefusalSeverity severity;
        RefusalCode code;
        char *subject; /* the PCI address, machine name, option key or path; never NULL */
        char *message; /* what is wrong, a whole sentence */
        char *remedy;  /* what the caller can do, a whole sentence */
        bool passing;  /* the host could not be asked, or changed meanwhile: nothing is known to be
                        * wrong with what was asked for */
} Refusal;

/* "GPUInUse" and its like; constant. */
const char *refusal_code_to_string(RefusalCode code);

/* A new refusal of severity error; copies its texts. @message is formatted printf-wise. */
Refusal *refusal_new(RefusalCode code, const char *subject, const char *remedy, const char *message,
                     ...) G_GNUC_PRINTF(4, 5);

Refusal *refusal_copy(const Refusal *refusal);
void refusal_free(Refusal *refusal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Refusal, refusal_free)

/* Findings: an array that owns its refusals, in the order in which they were found. */
GPtrArray *findings_new(void);

/* Adds an error, or a warning, built as refusal_new() builds it. */
void findings_error(GPtrArray *findings, RefusalCode code, const char *subject, const char *remedy,
                    const char *message, ...) G_GNUC_PRINTF(5, 6);
void findings_warning(GPtrArray *findings, RefusalCode code, const char *subject,
                      const char *remedy, const char *message, ...) G_GNUC_PRINTF(5, 6);

/* Notes that the last of @findings is a passing one. */
void findings_note_passing(GPtrArray *findings);

/* What a caller wrote, fit for a message: escaped, and cut where it is long, for whoever can make a
 * message grow without bound can have the bus close our connection. The caller's (g_free()). */
char *refusal_show(const char *text);

/* The first error among @findings, or NULL when there are warnings at most. Still owned by them. */
const Refusal *findings_first_error(const GPtrArray *findings);
