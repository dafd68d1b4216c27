/* What a machine may do next: one total table over (state, event). Pure: no I/O, no allocation, no
 * clock. */
#pragma once

#include <stdbool.h>

typedef enum MachineState {
        MACHINE_CREATED, /* defined, never started */
        MACHINE_STARTING,
        MACHINE_RUNNING,
        MACHINE_PAUSED,
        MACHINE_STOPPING,
        MACHINE_STOPPED,
        MACHINE_CRASHED,
        _MACHINE_STATE_MAX,
} MachineState;

typedef enum MachineEvent {
        /* Observations: what a look at the domain found. */
        MACHINE_SEEN_NEVER_STARTED,
        MACHINE_SEEN_STARTING, /* whoever starts it */
        MACHINE_SEEN_RUNNING,
        MACHINE_SEEN_PAUSED,
        MACHINE_SEEN_STOPPING, /* it shuts down, or runs although it was asked to stop */
        MACHINE_SEEN_OFF,
        MACHINE_SEEN_CRASHED,
        /* Requests. */
        MACHINE_ASK_START,
        MACHINE_ASK_SHUTDOWN,
        MACHINE_ASK_POWER_OFF,
        MACHINE_ASK_DELETE,
        MACHINE_ASK_REBOOT,
        MACHINE_ASK_PAUSE, /* what follows is seen, not assumed; likewise below */
        MACHINE_ASK_RESUME,
        MACHINE_ASK_CHANGE, /* a disk or NIC to come or go */
        MACHINE_ASK_CONSOLE,
        /* Completions. */
        MACHINE_STARTED, /* whatever was seen meanwhile: what follows is seen again */
        MACHINE_START_FAILED,
        MACHINE_STOP_FAILED, /* libvirt refused to press the button or to pull the plug */
        _MACHINE_EVENT_MAX,
} MachineEvent;

typedef enum MachineVerdict {
        MACHINE_OK,
        MACHINE_REFUSED, /* not in this state; machine_help() says what would help */
        _MACHINE_VERDICT_MAX,
} MachineVerdict;

/* What becomes of a machine in @state at @event; writes the state that follows to @ret. A refusal,
 * and only requests are refused, changes nothing. */
MachineVerdict machine_step(MachineState state, MachineEvent event, MachineState *ret);

/* Whether QEMU is there, or may be. */
bool machine_state_is_up(MachineState state);

/* What a caller can do whose request was refused in @state: a sentence. Constant. */
const char *machine_help(MachineState state, MachineEvent event);

const char *machine_state_to_string(MachineState state);
const char *machine_event_to_string(MachineEvent event);
