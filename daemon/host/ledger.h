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

/* Every record, by address, in a new array that owns its CardRecords. A file that is damaged or not
 * understood is moved aside (".corrupt") and left out, with a warning. */
GPtrArray *ledger_read(Ledger *ledger);
