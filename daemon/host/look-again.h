/* Retries what could not be read of a device: no event says that it can be read now. The first
 * retry comes after a second, later ones after longer and longer. A card that somebody uses is
 * retried likewise, because no event says that the use has ended. */
#pragma once

#include "core/pci-address.h"

#include <systemd/sd-event.h>

typedef struct LookAgain LookAgain;

/* What there is to read of a device. */
typedef enum LookAt {
        LOOK_AT_DEVICE, /* the facts of it */
        LOOK_AT_RECORD, /* the ledger's record of it, which may have to be written, too */
        LOOK_TO_RETRY,  /* what was refused: told long after the look, and not the journal */
        _LOOK_AT_MAX,
} LookAt;

/* @look is called from the loop, and reads what it can; whoever reads says so by look_again_note().
 * 0 or a negative errno. */
int look_again_new(sd_event *event, void (*look)(void *userdata, PciAddress address),
                   void *userdata, LookAgain **ret);
void look_again_free(LookAgain *again);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LookAgain, look_again_free)

/* The result of a read: after a negative errno @look is called again, anything else is an answer.
 * The journal gets the first failure and its end. */
void look_again_note(LookAgain *again, PciAddress address, LookAt what, int r);
