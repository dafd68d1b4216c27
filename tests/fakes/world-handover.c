/* The helper that takes a card from driver to driver, one function and one step at a time, and all
 * that can become of it. */
#include "world-private.h"

#include <errno.h>

static void function_hold(WorldFunction *function) {
        world_power_set(function->power.d3cold_allowed, "0");
        world_power_set(function->power.control, "on");
}

typedef struct Handover {
        HandoverDirection direction;
        CardRecord *record;
        guint next; /* the step now: one for each function on either of two rounds */
} Handover;

static void handover_free(void *data) {
        Handover *handover = data;

        card_record_free(handover->record);
        g_free(handover);
}

static Handover *handover_copy(const Handover *handover) {
        Handover *copy = g_memdup2(handover, sizeof(*handover));

        copy->record = card_record_copy(handover->record);
        return copy;
}

static void handover_end(World *world, const Handover *handover, HandoverOutcome outcome,
                         const char *message) {
        PciAddress card = handover->record->card;

        if (outcome != HANDOVER_OVERDUE)
                world_unmark(world->helpers, card);
        if (world->manager)
                world->host_events->handover_ended(world->manager, card, outcome, message);
}

/* Whether the kernel refuses; then the function is left without a driver. */
static bool handover_is_refused(World *world, const Handover *handover, WorldFunction *function) {
        bool there = handover->direction == HANDOVER_TO_VFIO;

        if (!world_is_marked(there ? world->refused : world->no_return, handover->record->card))
                return false;
        world_function_set_driver(function, "");
        return true;
}

/* One function's step. On the way there the first round wakes all and the second moves them, each
 * awake when it is done; on the way back the first moves and the second restores. */
static void handover_step(const Handover *handover, const FunctionOrigin *origin,
                          WorldFunction *function) {
        bool first = handover->next < handover->record->origins->len;
        bool any = g_str_equal(origin->driver, "vfio-pci") && handover->record->any_host_driver;

        if (handover->direction == HANDOVER_TO_VFIO) {
                if (!first) {
                        g_strlcpy(function->driver_override, "vfio-pci",
                                  sizeof(function->driver_override));
                        world_function_set_driver(function, "vfio-pci");
                }
                function_hold(function);
        } else if (first) {
                if (origin->known || any)
                        g_strlcpy(function->driver_override, any ? "" : origin->driver_override,
                                  sizeof(function->driver_override));
                if (!pci_function_on_host_driver(&function->facts))
                        world_function_set_driver(function,
                                                  any ? function->native_driver : origin->driver);
        } else {
                world_power_set(function->power.d3cold_allowed, origin->power.d3cold_allowed);
                if (!any)
                        world_power_set(function->power.control, origin->power.control);
        }
}

/* What any host driver was right for may have been claimed by vfio-pci itself. */
static HandoverOutcome handover_done(World *world, const Handover *handover) {
        const CardRecord *record = handover->record;

        if (handover->direction == HANDOVER_TO_VFIO || !record->any_host_driver)
                return HANDOVER_DONE;
        for (guint i = 0; i < record->origins->len; i++) {
                const FunctionOrigin *origin = &g_array_index(record->origins, FunctionOrigin, i);

                if (g_str_equal(origin->driver, "vfio-pci") &&
                    pci_function_on_vfio(&world_function_at(world, origin->address)->facts))
                        return HANDOVER_STAYS;
        }
        return HANDOVER_DONE;
}

static void handover_move(World *world, void *data) {
        const Handover *handover = data;
        const GArray *origins = handover->record->origins;
        PciAddress card = handover->record->card;
        const FunctionOrigin *origin;
        WorldFunction *function;
        Handover *rest;

        if (handover->next == 2 * origins->len) {
                handover_end(world, handover, handover_done(world, handover), NULL);
                return;
        }
        if (world_is_marked(world->stuck, card))
                return; /* until world_unstick() */
        origin = &g_array_index(origins, FunctionOrigin, handover->next % origins->len);
        function = world_function_at(world, origin->address);
        if (!function) {
                handover_end(world, handover, HANDOVER_FAILED, "the device has gone.");
                return;
        }
        if (function->dead) {
                handover_end(world, handover, HANDOVER_LOST, "it answers all ones.");
                return;
        }
        if (handover->direction == HANDOVER_TO_HOST &&
            world_group_is_held(world, function->group)) {
                /* The helper waits for the VFIO group. */
                world_later(world, handover_move, handover_copy(handover), handover_free, false);
                return;
        }
        if (handover_is_refused(world, handover, function)) {
                handover_end(world, handover, HANDOVER_FAILED, "the kernel refused.");
                return;
        }
        handover_step(handover, origin, function);
        rest = handover_copy(handover);
        rest->next++;
        world_later(world, handover_move, rest, handover_free, false);
}

static void handover_origins(World *world, void *data) {
        const Handover *handover = data;
        g_autoptr(GArray) origins = g_array_new(FALSE, TRUE, sizeof(FunctionOrigin));

        for (guint i = 0; i < handover->record->origins->len; i++) {
                FunctionOrigin origin = {
                        .address =
                                g_array_index(handover->record->origins, FunctionOrigin, i).address,
                        .known = true,
                };
                const WorldFunction *function = world_function_at(world, origin.address);

                if (!function)
                        continue;
                g_strlcpy(origin.driver, function->facts.driver, sizeof(origin.driver));
                g_strlcpy(origin.driver_override, function->driver_override,
                          sizeof(origin.driver_override));
                origin.power = function->power;
                g_array_append_val(origins, origin);
        }
        if (handover->direction == HANDOVER_TO_VFIO &&
            world->host_events->handover_origins(world->manager, handover->record->card, origins) <
                    0) {
                handover_end(world, handover, HANDOVER_FAILED, "it could not be recorded.");
                return;
        }
        world_later(world, handover_move, handover_copy(handover), handover_free, false);
}

int world_handover(void *self, HandoverDirection direction, const CardRecord *record) {
        World *world = self;
        Handover handover = { .direction = direction, .record = (CardRecord *)record };

        if (world_is_marked(world->helpers, record->card))
                return -EBUSY;
        g_array_append_val(world->helpers, record->card);
        world->handovers_begun++;
        world_later(world, handover_origins, handover_copy(&handover), handover_free, false);
        return 0;
}

bool world_handing_over(void *self, PciAddress card) {
        return world_is_marked(((World *)self)->helpers, card);
}

void world_overdue(World *world, const char *address) {
        world->host_events->handover_ended(world->manager, world_address(address), HANDOVER_OVERDUE,
                                           "driver bochs-drm has not let go for 30 s.");
        world_check(world);
}

/* Which way a stuck helper was going, the world reads off the pending state. */
void world_unstick(World *world, const char *address) {
        PciAddress card = world_address(address);
        const Gpu *gpu = manager_gpu(world->manager, card);
        Handover handover = {
                .direction = gpu->view.pending == GPU_PENDING_RELEASING ? HANDOVER_TO_HOST
                                                                        : HANDOVER_TO_VFIO,
                .record = gpu->record,
        };

        world_unmark(world->stuck, card);
        world_later(world, handover_move, handover_copy(&handover), handover_free, false);
}

void world_end_helper(World *world, const char *address, HandoverOutcome outcome) {
        PciAddress card = world_address(address);

        world_unmark(world->stuck, card);
        world_unmark(world->helpers, card);
        world->host_events->handover_ended(world->manager, card, outcome, "the helper has ended.");
        world_check(world);
}

void world_kill_helper(World *world, const char *address) {
        world_function(world, address)->facts.driver[0] = '\0';
        world_end_helper(world, address, HANDOVER_FAILED);
}
