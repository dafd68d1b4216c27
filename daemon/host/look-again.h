/* What could not be read of a device is not known, and no event will say that it could be read now:
 * so it is looked at again by the clock, after a second first, and later and later. So is a card
 * that somebody uses, for no event says that they have ended. */
#pragma once

#include "core/pci-address.h"

#include <systemd/sd-event.h>

typedef struct LookAgain LookAgain;

/* What there is to read of a device. */
typedef enum LookAt {
        LOOK_AT_DEVICE, /* the facts of it */
        LOOK_AT_RECORD, /* the ledger's record of it, which may have to be written, too */
        LOOK_AT_USERS,  /* whether anybody uses it: told long after the look, and not the journal */
        _LOOK_AT_MAX,
} LookAt;

/* @look is called from the loop, and reads what it can; whoever reads says so by look_again_note().
 * 0 or a negative errno. */
int look_again_new(sd_event *event, void (*look)(void *userdata, PciAddress address),
                   void *userdata, LookAgain **ret);
void look_again_free(LookAgain *again);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LookAgain, look_again_free)

/* What has become of reading it: a negative errno, after which @look follows, or anything else for
 * an answer. The journal is told of the first failure, and of its end. */
void look_again_note(LookAgain *again, PciAddress address, LookAt what, int r);
