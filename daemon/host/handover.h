/* Moves whole cards between the host's drivers and vfio-pci, by one helper process for each card.
 */
#pragma once

#include "core/host.h"

#include <systemd/sd-event.h>

typedef struct Handovers Handovers;

/* @program is the helper's path, @state_dir where its locks lie, @timeout_sec the deadline of one
 * handover in seconds. The texts are copied. */
Handovers *handovers_new(sd_event *event, const char *program, const char *state_dir,
                         unsigned timeout_sec);

/* The deadline, in seconds, of those that begin from now on. */
void handovers_set_timeout(Handovers *handovers, unsigned timeout_sec);

/* Forgets the handovers; helpers that still run are left alone. Those that wait for their
 * permission then end without having touched anything. */
void handovers_free(Handovers *handovers);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Handovers, handovers_free)

/* Who is told: handover_origins and handover_ended. To be called before the first start; @events
 * must outlive the handovers. */
void handovers_set_events(Handovers *handovers, const HostEvents *events, void *userdata);

/* Starts the helper for @record's functions; see HostOps.handover. handover_origins is asked only
 * on the way to vfio-pci: on the way back the record is there already and must not be overwritten.
 * Returns 0, -EBUSY while a helper is at this card, -EINVAL for a record without functions, or
 * another negative errno. */
int handovers_start(Handovers *handovers, HandoverDirection direction, const CardRecord *record);

bool handovers_running(const Handovers *handovers, PciAddress card);
