/* What follows from an event, a completion or a call. Each of those only notes what has changed;
 * this file draws the conclusions, once, when nobody holds a GPU, a launch or a call any more. So a
 * look at a device may lose a GPU, and an answer may end a launch, without freeing anything that
 * somebody further up still uses. */
#include "core/manager-private.h"

/* Another round is only due if the last one began something that ended at once, such as a start
 * that is refused. A launch has eight steps. */
#define ROUNDS_MAX 100

Turn *turn_begin(Manager *manager) {
        manager->turns++;
        return manager;
}

static bool manager_find_answered(Manager *manager, guint *ret) {
        for (guint i = 0; i < manager->gpu_calls->len; i++) {
                const Call *call = g_ptr_array_index(manager->gpu_calls, i);

                if (!call->over)
                        continue;
                *ret = i;
                return true;
        }
        return false;
}

/* Whoever is answered may call again at once. */
static void manager_answer_gpu_calls(Manager *manager) {
        guint index;

        while (manager_find_answered(manager, &index)) {
                Call *call = g_ptr_array_steal_index(manager->gpu_calls, index);

                call->done(call->userdata, call->failure);
                call_free(call);
        }
}

static Launch *manager_find_ready_launch(Manager *manager) {
        for (guint i = 0; i < manager->launches->len; i++) {
                Launch *launch = g_ptr_array_index(manager->launches, i);

                if (launch_is_ready(launch))
                        return launch;
        }
        return NULL;
}

/* A launch that goes on may end, and be freed. */
static void manager_advance_launches(Manager *manager) {
        Launch *launch;

        while ((launch = manager_find_ready_launch(manager)))
                launch_go_on(launch);
}

static bool manager_has_more_to_do(Manager *manager) {
        guint index;

        return manager->domains_due || manager->owners_due ||
               manager_find_answered(manager, &index) || manager_find_ready_launch(manager);
}

void turn_end(Turn *turn) {
        Manager *manager = turn;
        unsigned rounds = 0;

        if (manager->turns > 1) {
                manager->turns--;
                return;
        }
        do {
                if (rounds++ >= ROUNDS_MAX) {
                        /* Fatal in tests; else the next turn goes on. */
                        g_critical("what follows from one event has no end");
                        break;
                }
                manager_follow_domains(manager);
                manager_end_waits(manager);
                manager_answer_gpu_calls(manager);
                manager_advance_launches(manager);
                if (manager->owners_due) {
                        manager->owners_due = false;
                        manager_refresh_holders(manager);
                }
                manager_settle(manager);
                manager_continue_stops(manager);
                manager_continue_deletes(manager);
                manager_keep_gpus(manager);
                manager_autostart(manager);
        } while (manager_has_more_to_do(manager));
        g_ptr_array_set_size(manager->lost, 0);
        manager->turns = 0;
}
