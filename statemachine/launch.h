/* The order of a launch, and the way back from every step. Pure. */
#pragma once

#include <stdbool.h>

/* Forward: define and rehearse before the cards are touched, so that a definition which libvirt
 * refuses costs no handover, nor a host on which QEMU would not start. Backward: the reverse order,
 * each undoing what may have been done, so a step that failed half-way is undone too. */
typedef enum LaunchStep {
        LAUNCH_DEFINE,   /* libvirt knows the machine */
        LAUNCH_REHEARSE, /* libvirt would start it, as far as can be tried without running it */
        LAUNCH_BIND,     /* every card is on vfio-pci */
        LAUNCH_START,    /* QEMU runs */
        LAUNCH_RUNNING,  /* the end, good; of LAUNCH_CREATE_ONLY too, where nothing runs */
        LAUNCH_UNDO_START,
        LAUNCH_UNDO_BIND,
        LAUNCH_UNDO_DEFINE,
        LAUNCH_UNDONE, /* the end, bad: everything is as it was */
        _LAUNCH_STEP_MAX,
} LaunchStep;

typedef enum LaunchKind {
        LAUNCH_CREATE_ONLY,      /* Create with start=false */
        LAUNCH_CREATE_AND_START, /* Create */
        LAUNCH_START_ONLY,       /* Start of a machine there is */
        _LAUNCH_KIND_MAX,
} LaunchKind;

LaunchStep launch_first(LaunchKind kind);

/* The step after @step, which went well or did not. A step of the way back counts as done either
 * way: what it could not undo is the business of recovery, not a reason to leave the rest. */
LaunchStep launch_next(LaunchKind kind, LaunchStep step, bool went_well);

bool launch_is_over(LaunchStep step);
const char *launch_step_to_string(LaunchStep step);
