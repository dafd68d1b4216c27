/* The rules of one GPU. State says what is true and follows observations alone; Pending says what
 * we are doing and follows requests and completions alone; a fault says why nothing may be begun.
 * So udev and libvirt may speak in either order, before or after our own completion, and the view
 * ends the same. This file knows no clock, no device and no machine. */
#include "gpu-state.h"

#include <stddef.h>

#define N_OBSERVATIONS (GPU_SEEN_HELD + 1)
#define N_REQUESTS     (GPU_ASK_RECOVER + 1)

/* What a request that would take the GPU, or move it, is told. A fault speaks before
 * GPU_REFUSED_PENDING does: a stuck GPU is still pending, and "stuck" is the better answer. */
static const GpuVerdict asked[_GPU_STATE_MAX][_GPU_PENDING_MAX] = {
        [GPU_HOST_BOUND] = {
                [GPU_PENDING_NONE] = GPU_OK,
                [GPU_PENDING_BINDING] = GPU_REFUSED_PENDING,
                [GPU_PENDING_STARTING] = GPU_REFUSED_IN_USE,
                [GPU_PENDING_RELEASING] = GPU_REFUSED_PENDING,
        },
        [GPU_VFIO_BOUND] = {
                [GPU_PENDING_NONE] = GPU_OK,
                [GPU_PENDING_BINDING] = GPU_REFUSED_PENDING,
                [GPU_PENDING_STARTING] = GPU_REFUSED_IN_USE,
                [GPU_PENDING_RELEASING] = GPU_REFUSED_PENDING,
        },
        [GPU_ATTACHED] = {
                [GPU_PENDING_NONE] = GPU_REFUSED_IN_USE,
                [GPU_PENDING_BINDING] = GPU_REFUSED_IN_USE,
                [GPU_PENDING_STARTING] = GPU_REFUSED_IN_USE,
                [GPU_PENDING_RELEASING] = GPU_REFUSED_IN_USE,
        },
};

static const GpuState seen[N_OBSERVATIONS] = {
        [GPU_SEEN_HOST] = GPU_HOST_BOUND,
        [GPU_SEEN_VFIO] = GPU_VFIO_BOUND,
        [GPU_SEEN_HELD] = GPU_ATTACHED,
};

#define NONE      GPU_PENDING_NONE
#define BINDING   GPU_PENDING_BINDING
#define STARTING  GPU_PENDING_STARTING
#define RELEASING GPU_PENDING_RELEASING

/* What is pending after an event, by what was pending: none, binding, starting, releasing. */
static const GpuPending then[_GPU_EVENT_MAX][_GPU_PENDING_MAX] = {
        [GPU_SEEN_HOST] = { NONE, BINDING, STARTING, RELEASING },
        [GPU_SEEN_VFIO] = { NONE, BINDING, STARTING, RELEASING },
        [GPU_SEEN_HELD] = { NONE, BINDING, STARTING, RELEASING },
        /* Reserving begins with the helper even for a card on vfio-pci: its companions may not be,
         * and the helper's look is the proof. */
        [GPU_ASK_RESERVE] = { BINDING, BINDING, STARTING, RELEASING },
        [GPU_ASK_BIND] = { BINDING, BINDING, STARTING, RELEASING },
        [GPU_ASK_RELEASE] = { RELEASING, BINDING, STARTING, RELEASING },
        [GPU_ASK_RECOVER] = { NONE, BINDING, STARTING, RELEASING },
        [GPU_BOUND] = { NONE, NONE, STARTING, RELEASING },
        [GPU_BOUND_FOR_MACHINE] = { NONE, STARTING, STARTING, RELEASING },
        [GPU_STARTED] = { NONE, BINDING, NONE, RELEASING },
        [GPU_LET_GO] = { NONE, NONE, NONE, RELEASING },
        [GPU_RETURNING] = { RELEASING, BINDING, RELEASING, RELEASING },
        [GPU_RETURNED] = { NONE, BINDING, STARTING, NONE },
        [GPU_FAILED] = { NONE, NONE, STARTING, NONE },
        /* The helper is still at it: only its end ends what is pending. */
        [GPU_OVERDUE] = { NONE, BINDING, STARTING, RELEASING },
        [GPU_VANISHED] = { NONE, NONE, NONE, NONE },
        [GPU_UNACCOUNTED] = { NONE, BINDING, STARTING, RELEASING },
        [GPU_CURED] = { NONE, BINDING, STARTING, RELEASING },
};

static GpuVerdict gpu_judge(const GpuView *view, GpuEvent event) {
        GpuVerdict verdict;

        if (event < N_OBSERVATIONS || event >= N_REQUESTS || event == GPU_ASK_RECOVER)
                return GPU_OK;

        verdict = asked[view->state][view->pending];
        if (verdict != GPU_REFUSED_IN_USE && view->fault != GPU_FAULT_NONE)
                return GPU_REFUSED_FAULTED;

        return verdict;
}

static GpuFault gpu_next_fault(const GpuView *view, GpuEvent event) {
        bool moving = view->pending == BINDING || view->pending == RELEASING;

        switch (event) {
        case GPU_FAILED:
                return moving ? GPU_FAULT_HANDOVER_FAILED : view->fault;
        case GPU_OVERDUE:
                return moving ? GPU_FAULT_STUCK : view->fault;
        case GPU_VANISHED:
                return GPU_FAULT_LOST;
        case GPU_UNACCOUNTED:
                return GPU_FAULT_HANDOVER_FAILED;
        case GPU_CURED:
                return GPU_FAULT_NONE;
        default:
                return view->fault;
        }
}

GpuVerdict gpu_step(const GpuView *view, GpuEvent event, GpuView *ret) {
        GpuView before = *view;
        GpuVerdict verdict = gpu_judge(&before, event);

        *ret = before;
        if (verdict != GPU_OK)
                return verdict;

        if (event < N_OBSERVATIONS)
                ret->state = seen[event];
        ret->pending = then[event][before.pending];
        ret->fault = gpu_next_fault(&before, event);
        return GPU_OK;
}

GpuEvent gpu_observation(bool on_vfio, bool held) {
        if (held)
                return GPU_SEEN_HELD;
        return on_vfio ? GPU_SEEN_VFIO : GPU_SEEN_HOST;
}

const char *gpu_state_to_string(GpuState state) {
        static const char *const words[_GPU_STATE_MAX] = {
                [GPU_HOST_BOUND] = "host-bound",
                [GPU_VFIO_BOUND] = "vfio-bound",
                [GPU_ATTACHED] = "attached",
        };

        return words[state];
}

const char *gpu_pending_to_string(GpuPending pending) {
        static const char *const words[_GPU_PENDING_MAX] = {
                [GPU_PENDING_NONE] = "",
                [GPU_PENDING_BINDING] = "binding",
                [GPU_PENDING_STARTING] = "starting",
                [GPU_PENDING_RELEASING] = "releasing",
        };

        return words[pending];
}

const char *gpu_fault_to_string(GpuFault fault) {
        static const char *const words[_GPU_FAULT_MAX] = {
                [GPU_FAULT_NONE] = "",
                [GPU_FAULT_STUCK] = "stuck",
                [GPU_FAULT_LOST] = "lost",
                [GPU_FAULT_HANDOVER_FAILED] = "handover-failed",
        };

        return words[fault];
}

const char *gpu_fault_help(GpuFault fault) {
        static const char *const help[_GPU_FAULT_MAX] = {
                [GPU_FAULT_NONE] = "",
                [GPU_FAULT_STUCK] = "Stop what uses the GPU (ListHolders); its fault clears when "
                                    "the driver lets go.",
                [GPU_FAULT_LOST] = "Reset or power-cycle the card, then call Recover.",
                [GPU_FAULT_HANDOVER_FAILED] = "Remove the cause (the kernel's log says more: "
                                              "journalctl -k), then call Recover.",
        };

        return help[fault];
}

const char *gpu_event_to_string(GpuEvent event) {
        static const char *const words[_GPU_EVENT_MAX] = {
                [GPU_SEEN_HOST] = "seen-host",
                [GPU_SEEN_VFIO] = "seen-vfio",
                [GPU_SEEN_HELD] = "seen-held",
                [GPU_ASK_RESERVE] = "ask-reserve",
                [GPU_ASK_BIND] = "ask-bind",
                [GPU_ASK_RELEASE] = "ask-release",
                [GPU_ASK_RECOVER] = "ask-recover",
                [GPU_BOUND] = "bound",
                [GPU_BOUND_FOR_MACHINE] = "bound-for-machine",
                [GPU_STARTED] = "started",
                [GPU_LET_GO] = "let-go",
                [GPU_RETURNING] = "returning",
                [GPU_RETURNED] = "returned",
                [GPU_FAILED] = "failed",
                [GPU_OVERDUE] = "overdue",
                [GPU_VANISHED] = "vanished",
                [GPU_UNACCOUNTED] = "unaccounted",
                [GPU_CURED] = "cured",
        };

        return words[event];
}

const char *gpu_verdict_to_string(GpuVerdict verdict) {
        static const char *const words[_GPU_VERDICT_MAX] = {
                [GPU_OK] = "ok",
                [GPU_REFUSED_IN_USE] = "in-use",
                [GPU_REFUSED_PENDING] = "pending",
                [GPU_REFUSED_FAULTED] = "faulted",
        };

        return words[verdict];
}
