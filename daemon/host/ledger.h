/* Where each card came from, kept in files so that it survives a crash of the daemon. */
#pragma once

#include "core/host.h"

typedef struct Ledger Ledger;

/* Opens the folder @state_dir, and makes it (0700) where it is missing. 0 or a negative errno. */
int ledger_open(const char *state_dir, Ledger **ret);
void ledger_close(Ledger *ledger);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ledger, ledger_close)

/* Replaces the card's record: when this returns 0 the new one is on the disk, else (negative errno)
 * the old one is untouched, or the new one is there but perhaps not yet safe from a power failure.
 */
int ledger_write(Ledger *ledger, const CardRecord *record);

/* Removes the card's record; that there is none is fine. 0 or a negative errno. */
int ledger_remove(Ledger *ledger, PciAddress card);

/* The card's record: 1 and a new one, the caller's; 0 where there is none, and with a warning where
 * there was one whose bytes are damaged, which is moved aside (".corrupt"). A negative errno when
 * it could not be read, or moved: it is there still, and who wrote another would lose it.
 * -EPROTONOSUPPORT: it is whole, and of a newer version. */
int ledger_read(Ledger *ledger, PciAddress card, CardRecord **ret);

/* The cards that have a file, whatever it holds: 0 and a new array of PciAddress, or a negative
 * errno. */
int ledger_list(Ledger *ledger, GArray **ret);

/* Moves the record of a card that is another one now to ".other", with a notice. 0 or a negative
 * errno. */
int ledger_set_aside(Ledger *ledger, PciAddress card);
