/* The order of a launch. A table, so that "what happens when step n fails" is read, not traced. */
#include "launch.h"

#include <stddef.h>

typedef struct Onward {
        LaunchStep good;
        LaunchStep bad;
} Onward;

/* A definition that failed is not undone: libvirt may have refused it because somebody else's
 * domain has the name or the UUID, and that one is not ours to remove. One that was made although
 * the answer got lost carries our mark that it never started, and goes when it is next seen. */
static const Onward onward[_LAUNCH_KIND_MAX][_LAUNCH_STEP_MAX] = {
        [LAUNCH_CREATE_ONLY] = {
                [LAUNCH_DEFINE] = { LAUNCH_RUNNING, LAUNCH_UNDONE },
                [LAUNCH_REHEARSE] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
                [LAUNCH_BIND] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
                [LAUNCH_START] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
                [LAUNCH_RUNNING] = { LAUNCH_RUNNING, LAUNCH_RUNNING },
                [LAUNCH_UNDO_START] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
                [LAUNCH_UNDO_BIND] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
                [LAUNCH_UNDO_DEFINE] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
                [LAUNCH_UNDONE] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
        },
        [LAUNCH_CREATE_AND_START] = {
                [LAUNCH_DEFINE] = { LAUNCH_REHEARSE, LAUNCH_UNDONE },
                [LAUNCH_REHEARSE] = { LAUNCH_BIND, LAUNCH_UNDO_DEFINE },
                [LAUNCH_BIND] = { LAUNCH_START, LAUNCH_UNDO_BIND },
                [LAUNCH_START] = { LAUNCH_RUNNING, LAUNCH_UNDO_START },
                [LAUNCH_RUNNING] = { LAUNCH_RUNNING, LAUNCH_RUNNING },
                [LAUNCH_UNDO_START] = { LAUNCH_UNDO_BIND, LAUNCH_UNDO_BIND },
                [LAUNCH_UNDO_BIND] = { LAUNCH_UNDO_DEFINE, LAUNCH_UNDO_DEFINE },
                [LAUNCH_UNDO_DEFINE] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
                [LAUNCH_UNDONE] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
        },
        [LAUNCH_START_ONLY] = {
                [LAUNCH_DEFINE] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
                [LAUNCH_REHEARSE] = { LAUNCH_BIND, LAUNCH_UNDONE },
                [LAUNCH_BIND] = { LAUNCH_START, LAUNCH_UNDO_BIND },
                [LAUNCH_START] = { LAUNCH_RUNNING, LAUNCH_UNDO_START },
                [LAUNCH_RUNNING] = { LAUNCH_RUNNING, LAUNCH_RUNNING },
                [LAUNCH_UNDO_START] = { LAUNCH_UNDO_BIND, LAUNCH_UNDO_BIND },
                [LAUNCH_UNDO_BIND] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
                [LAUNCH_UNDO_DEFINE] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
                [LAUNCH_UNDONE] = { LAUNCH_UNDONE, LAUNCH_UNDONE },
        },
};

LaunchStep launch_first(LaunchKind kind) {
        return kind == LAUNCH_START_ONLY ? LAUNCH_REHEARSE : LAUNCH_DEFINE;
}

LaunchStep launch_next(LaunchKind kind, LaunchStep step, bool went_well) {
        return went_well ? onward[kind][step].good : onward[kind][step].bad;
}

bool launch_is_over(LaunchStep step) {
        return step == LAUNCH_RUNNING || step == LAUNCH_UNDONE;
}

const char *launch_step_to_string(LaunchStep step) {
        static const char *const words[_LAUNCH_STEP_MAX] = {
                [LAUNCH_DEFINE] = "define",       [LAUNCH_REHEARSE] = "rehearse",
                [LAUNCH_BIND] = "bind",           [LAUNCH_START] = "start",
                [LAUNCH_RUNNING] = "running",     [LAUNCH_UNDO_START] = "undo-start",
                [LAUNCH_UNDO_BIND] = "undo-bind", [LAUNCH_UNDO_DEFINE] = "undo-define",
                [LAUNCH_UNDONE] = "undone",
        };

        return words[step];
}
