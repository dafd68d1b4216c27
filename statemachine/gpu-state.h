/* What a GPU may do next: one total table over (state, pending, event), and the fault beside it.
 * Pure: no I/O, no allocation, no clock. */
#pragma once

#include <stdbool.h>

/* The truth about the device. */
typedef enum GpuState {
        GPU_HOST_BOUND, /* a host driver is bound, or none is */
        GPU_VFIO_BOUND, /* on vfio-pci, in no running machine */
        GPU_ATTACHED,   /* a running machine has it, whoever started that machine */
        _GPU_STATE_MAX,
} GpuState;

/* What we have under way with it. */
typedef enum GpuPending {
        GPU_PENDING_NONE,
        GPU_PENDING_BINDING,   /* a helper is taking it to vfio-pci */
        GPU_PENDING_STARTING,  /* reserved on vfio-pci, its machine is being started */
        GPU_PENDING_RELEASING, /* a helper is taking it back */
        _GPU_PENDING_MAX,
} GpuPending;

/* Why it cannot be used. */
typedef enum GpuFault {
        GPU_FAULT_NONE,
        GPU_FAULT_STUCK,           /* a driver has not let go within the deadline */
        GPU_FAULT_LOST,            /* the device no longer answers */
        GPU_FAULT_HANDOVER_FAILED, /* the kernel refused */
        _GPU_FAULT_MAX,
} GpuFault;

typedef enum GpuEvent {
        /* Observations are never refused: the world is right. */
        GPU_SEEN_HOST, /* no machine has it, and it is not on vfio-pci */
        GPU_SEEN_VFIO, /* no machine has it, and it is on vfio-pci */
        GPU_SEEN_HELD, /* a running machine has it */
        /* Requests may be refused. */
        GPU_ASK_RESERVE, /* for a machine that is to start */
        GPU_ASK_BIND,    /* to vfio-pci ahead of any machine */
        GPU_ASK_RELEASE, /* back to the host */
        GPU_ASK_RECOVER, /* look again after a fault */
        /* Completions end what is pending. Each one names what it ends, so that a late one changes
         * nothing that came after. */
        GPU_BOUND,             /* the helper reached vfio-pci, ahead of any machine */
        GPU_BOUND_FOR_MACHINE, /* the same; its machine can now be started */
        GPU_STARTED,           /* its machine runs */
        GPU_LET_GO,            /* its reservation ends; the card stays where it is */
        GPU_RETURNING,         /* nobody needs it any more: a helper takes it back */
        GPU_RETURNED,          /* the helper reached the host driver */
        GPU_FAILED,            /* the helper gave up: the kernel refused */
        GPU_OVERDUE,           /* the helper is past its deadline */
        GPU_VANISHED,          /* the device no longer answers */
        GPU_UNACCOUNTED,       /* what is left to do with it cannot be found out */
        GPU_CURED,             /* the cause of the fault is gone */
        _GPU_EVENT_MAX,
} GpuEvent;

typedef enum GpuVerdict {
        GPU_OK,
        GPU_REFUSED_IN_USE,  /* a machine has it */
        GPU_REFUSED_PENDING, /* something is under way with it */
        GPU_REFUSED_FAULTED, /* it has a fault */
        _GPU_VERDICT_MAX,
} GpuVerdict;

typedef struct GpuView {
        GpuState state;
        GpuPending pending;
        GpuFault fault;
} GpuView;

/* What happens to a GPU at @event. Writes the view that follows to @ret, which may be @view; it
 * equals
 * @view when the event is refused or changes nothing. Only requests are ever refused. */
GpuVerdict gpu_step(const GpuView *view, GpuEvent event, GpuView *ret);

/* The observation that the facts amount to. */
GpuEvent gpu_observation(bool on_vfio, bool held);

/* The words of the D-Bus properties; GPU_PENDING_NONE and GPU_FAULT_NONE are "". Constant. */
const char *gpu_state_to_string(GpuState state);
const char *gpu_pending_to_string(GpuPending pending);
const char *gpu_fault_to_string(GpuFault fault);
/* What a person can do about the fault: a sentence. Constant. */
const char *gpu_fault_help(GpuFault fault);
/* For logs and the dump of the table. */
const char *gpu_event_to_string(GpuEvent event);
const char *gpu_verdict_to_string(GpuVerdict verdict);
