/* The rules of one machine. What a look at its domain finds is always right. This file knows no
 * libvirt and no GPU. */
#include "machine-state.h"

#include <stddef.h>

#define CREATED  MACHINE_CREATED
#define STARTING MACHINE_STARTING
#define RUNNING  MACHINE_RUNNING
#define PAUSED   MACHINE_PAUSED
#define STOPPING MACHINE_STOPPING
#define STOPPED  MACHINE_STOPPED
#define CRASHED  MACHINE_CRASHED
#define REFUSED  _MACHINE_STATE_MAX

/* The state after an event, by the state before it. */
static const MachineState then[_MACHINE_EVENT_MAX][_MACHINE_STATE_MAX] = {
        /* created, starting, running, paused, stopping, stopped, crashed */
        [MACHINE_SEEN_NEVER_STARTED] = { CREATED, CREATED, CREATED, CREATED, CREATED, CREATED,
                                         CREATED },
        [MACHINE_SEEN_STARTING] = { STARTING, STARTING, STARTING, STARTING, STARTING, STARTING,
                                    STARTING },
        [MACHINE_SEEN_RUNNING] = { RUNNING, RUNNING, RUNNING, RUNNING, RUNNING, RUNNING, RUNNING },
        [MACHINE_SEEN_PAUSED] = { PAUSED, PAUSED, PAUSED, PAUSED, PAUSED, PAUSED, PAUSED },
        [MACHINE_SEEN_STOPPING] = { STOPPING, STOPPING, STOPPING, STOPPING, STOPPING, STOPPING,
                                    STOPPING },
        /* libvirt forgets the reason when it restarts: what has crashed stays so until it runs. */
        [MACHINE_SEEN_OFF] = { STOPPED, STOPPED, STOPPED, STOPPED, STOPPED, STOPPED, CRASHED },
        [MACHINE_SEEN_CRASHED] = { CRASHED, CRASHED, CRASHED, CRASHED, CRASHED, CRASHED, CRASHED },
        [MACHINE_ASK_START] = { STARTING, REFUSED, REFUSED, REFUSED, REFUSED, STARTING, STARTING },
        /* The button may be pressed again: a guest that was booting did not hear it. */
        [MACHINE_ASK_SHUTDOWN] = { REFUSED, REFUSED, STOPPING, REFUSED, STOPPING, REFUSED,
                                   REFUSED },
        /* Both end a start, too. */
        [MACHINE_ASK_POWER_OFF] = { REFUSED, STOPPING, STOPPING, STOPPING, STOPPING, REFUSED,
                                    REFUSED },
        [MACHINE_ASK_DELETE] = { CREATED, STOPPING, STOPPING, STOPPING, STOPPING, STOPPED,
                                 CRASHED },
        [MACHINE_ASK_REBOOT] = { REFUSED, REFUSED, RUNNING, REFUSED, REFUSED, REFUSED, REFUSED },
        [MACHINE_ASK_PAUSE] = { REFUSED, REFUSED, RUNNING, REFUSED, REFUSED, REFUSED, REFUSED },
        [MACHINE_ASK_RESUME] = { REFUSED, REFUSED, REFUSED, PAUSED, REFUSED, REFUSED, REFUSED },
        [MACHINE_ASK_CHANGE] = { CREATED, REFUSED, RUNNING, PAUSED, REFUSED, STOPPED, CRASHED },
        [MACHINE_ASK_CONSOLE] = { REFUSED, REFUSED, RUNNING, PAUSED, STOPPING, REFUSED, REFUSED },
        [MACHINE_STARTED] = { CREATED, RUNNING, RUNNING, PAUSED, STOPPING, STOPPED, CRASHED },
        [MACHINE_START_FAILED] = { CREATED, STOPPED, RUNNING, PAUSED, STOPPING, STOPPED, CRASHED },
        [MACHINE_STOP_FAILED] = { CREATED, STARTING, RUNNING, PAUSED, RUNNING, STOPPED, CRASHED },
};

MachineVerdict machine_step(MachineState state, MachineEvent event, MachineState *ret) {
        MachineState next = then[event][state];

        *ret = next == REFUSED ? state : next;
        return next == REFUSED ? MACHINE_REFUSED : MACHINE_OK;
}

bool machine_state_is_up(MachineState state) {
        return state == RUNNING || state == PAUSED || state == STOPPING;
}

const char *machine_help(MachineState state, MachineEvent event) {
        switch (state) {
        case MACHINE_CREATED:
        case MACHINE_STOPPED:
        case MACHINE_CRASHED:
                if (event == MACHINE_ASK_SHUTDOWN || event == MACHINE_ASK_POWER_OFF)
                        return "It does not run, so there is nothing to do.";
                return "Start it first.";
        case MACHINE_STARTING:
                return "Wait until it runs, which StateChanged tells, or use PowerOff.";
        case MACHINE_PAUSED:
                if (event == MACHINE_ASK_SHUTDOWN || event == MACHINE_ASK_REBOOT)
                        return "A paused guest cannot hear of it: use Resume first, or PowerOff.";
                if (event == MACHINE_ASK_PAUSE)
                        return "Use Resume to let it run.";
                return "Use PowerOff to end it first.";
        case MACHINE_STOPPING:
                return "Wait until it has stopped, or use PowerOff.";
        default:
                if (event == MACHINE_ASK_RESUME)
                        return "Only a paused machine can be resumed.";
                return "Use Shutdown or PowerOff to end it first.";
        }
}

const char *machine_state_to_string(MachineState state) {
        static const char *const words[_MACHINE_STATE_MAX] = {
                [MACHINE_CREATED] = "created",   [MACHINE_STARTING] = "starting",
                [MACHINE_RUNNING] = "running",   [MACHINE_PAUSED] = "paused",
                [MACHINE_STOPPING] = "stopping", [MACHINE_STOPPED] = "stopped",
                [MACHINE_CRASHED] = "crashed",
        };

        return words[state];
}

const char *machine_event_to_string(MachineEvent event) {
        static const char *const words[_MACHINE_EVENT_MAX] = {
                [MACHINE_SEEN_NEVER_STARTED] = "seen-never-started",
                [MACHINE_SEEN_STARTING] = "seen-starting",
                [MACHINE_SEEN_RUNNING] = "seen-running",
                [MACHINE_SEEN_PAUSED] = "seen-paused",
                [MACHINE_SEEN_STOPPING] = "seen-stopping",
                [MACHINE_SEEN_OFF] = "seen-off",
                [MACHINE_SEEN_CRASHED] = "seen-crashed",
                [MACHINE_ASK_START] = "ask-start",
                [MACHINE_ASK_SHUTDOWN] = "ask-shutdown",
                [MACHINE_ASK_POWER_OFF] = "ask-power-off",
                [MACHINE_ASK_DELETE] = "ask-delete",
                [MACHINE_ASK_REBOOT] = "ask-reboot",
                [MACHINE_ASK_PAUSE] = "ask-pause",
                [MACHINE_ASK_RESUME] = "ask-resume",
                [MACHINE_ASK_CHANGE] = "ask-change",
                [MACHINE_ASK_CONSOLE] = "ask-console",
                [MACHINE_STARTED] = "started",
                [MACHINE_START_FAILED] = "start-failed",
                [MACHINE_STOP_FAILED] = "stop-failed",
        };

        return words[event];
}
