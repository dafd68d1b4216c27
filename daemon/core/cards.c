/* Moving cards there and back. Where a card has to go in the end stands in its record; this file
 * starts whatever is left to do about it, and never while a QEMU may still have the card. */
#include "core/manager-private.h"

#include <errno.h>
#include <string.h>

int gpu_write_record(Manager *manager, Gpu *gpu) {
        int r = manager->host.ops->ledger_write(manager->host.self, gpu->record);

        if (r < 0)
                return gpu->written && card_records_equal(gpu->written, gpu->record) ? 0 : r;
        card_record_free(gpu->written);
        gpu->written = card_record_copy(gpu->record);
        return 0;
}

/* Whether the record that the ledger has brings every function back where it came from, too. */
static bool gpu_is_accounted_for(const Gpu *gpu) {
        return gpu->written && card_origins_equal(gpu->written, gpu->record);
}

void gpu_forget_record(Manager *manager, Gpu *gpu) {
        if (gpu->written)
                manager->host.ops->ledger_remove(manager->host.self, gpu->address);
        g_clear_pointer(&gpu->written, card_record_free);
        g_clear_pointer(&gpu->record, card_record_free);
}

FunctionOrigin *record_origin(const CardRecord *record, PciAddress function) {
        for (guint i = 0; i < record->origins->len; i++) {
                FunctionOrigin *origin = &g_array_index(record->origins, FunctionOrigin, i);

                if (pci_address_equal(origin->address, function))
                        return origin;
        }
        return NULL;
}

const FunctionOrigin *gpu_origin(const Gpu *gpu, PciAddress function) {
        return gpu->record ? record_origin(gpu->record, function) : NULL;
}

static void record_add_origin(CardRecord *record, guint index, const PciFunction *function) {
        FunctionOrigin origin = { .address = function->address, .ids = function_ids(function) };

        if (record_origin(record, function->address))
                return;
        g_strlcpy(origin.driver, function->driver, sizeof(origin.driver));
        g_array_insert_val(record->origins, index, origin);
}

/* Adds every function that is not in the record, from where it is now; the helper's own look
 * replaces that before anything is touched. */
static void gpu_complete_record(Gpu *gpu) {
        const GArray *companions = gpu->facts->companions;

        if (!gpu->record)
                gpu->record = card_record_new(gpu->address);
        record_add_origin(gpu->record, 0, &gpu->facts->function);
        for (guint i = 0; i < companions->len; i++)
                record_add_origin(gpu->record, gpu->record->origins->len,
                                  &g_array_index(companions, PciFunction, i));
}

int gpu_begin_binding(Manager *manager, Gpu *gpu, const char *uuid) {
        bool fresh = !gpu->record;
        int r;

        if (gpu->record_unknown)
                return -ESTALE;
        gpu_complete_record(gpu);
        if (fresh) {
                /* Bind means to keep it on vfio-pci; a machine leaves it as it was. */
                gpu->record->return_to_host = uuid[0] != '\0';
        }
        g_strlcpy(gpu->record->machine_uuid, uuid, sizeof(gpu->record->machine_uuid));
        r = manager->host.ops->handover(manager->host.self, HANDOVER_TO_VFIO, gpu->record);
        if (r < 0 && fresh)
                gpu_forget_record(manager, gpu);
        return r;
}

/* The Bind, Release or Recover that waits for the card, or NULL. */
static Call *gpu_find_call(Manager *manager, const Gpu *gpu) {
        for (guint i = 0; i < manager->gpu_calls->len; i++) {
                Call *call = g_ptr_array_index(manager->gpu_calls, i);

                if (!call->over && pci_address_equal(call->gpu, gpu->address))
                        return call;
        }
        return NULL;
}

/* On its way to vfio-pci for a launch that has been ended meanwhile. */
static bool gpu_is_forsaken(Manager *manager, const Gpu *gpu) {
        return gpu->view.pending == GPU_PENDING_BINDING && !gpu->awaited_by &&
               !gpu_find_call(manager, gpu);
}

/* The host's helper is about to touch the card and waits for this to be written. */
static int card_origins(void *userdata, PciAddress card, const GArray *origins) {
        Manager *manager = userdata;
        Gpu *gpu = manager_find_gpu(manager, card);
        int r;

        if (!gpu || !gpu->record)
                return -ENODEV;
        if (gpu_is_forsaken(manager, gpu) && !gpu->written)
                return -ECANCELED;
        /* Of what was moved already the record knows better. */
        for (guint i = 0; gpu->view.pending == GPU_PENDING_BINDING && i < origins->len; i++) {
                const FunctionOrigin *told = &g_array_index(origins, FunctionOrigin, i);
                FunctionOrigin *origin = record_origin(gpu->record, told->address);

                if (origin && (!gpu->written || !origin->known)) {
                        FunctionPower ours = origin->power;
                        FunctionIds ids = origin->ids;

                        *origin = *told;
                        origin->ids = ids;
                        /* What it reads there now we have set, before somebody else moved it. */
                        if (gpu->written && function_power_is_known(&ours))
                                origin->power = ours;
                }
        }
        r = gpu_write_record(manager, gpu);
        /* Of a card that stays on vfio-pci afterwards a later daemon need not know the machine. */
        if (r < 0 && gpu_is_accounted_for(gpu) && !gpu->written->return_to_host &&
            !gpu->record->return_to_host)
                return 0;
        return r;
}

int gpu_want_on_host(Manager *manager, Gpu *gpu, bool any_host_driver) {
        g_autoptr(CardRecord) before = gpu->record ? card_record_copy(gpu->record) : NULL;
        int r;

        if (gpu->record_unknown)
                return -ESTALE;
        if (!gpu->record)
                gpu_complete_record(gpu);
        gpu->record->return_to_host = true;
        gpu->record->any_host_driver = any_host_driver;
        gpu->record->machine_uuid[0] = '\0';
        r = gpu_write_record(manager, gpu);
        /* The ledger, which is full perhaps, says enough: what a helper has begun with a card of no
         * machine a later daemon finishes. */
        if (r < 0 && gpu_is_accounted_for(gpu))
                return 0;
        if (r < 0) {
                card_record_free(gpu->record);
                gpu->record = g_steal_pointer(&before);
        }
        return r;
}

static void gpu_fail(Gpu *gpu, GpuEvent event, const char *message) {
        gpu_note(gpu, event);
        if (gpu->view.fault != GPU_FAULT_NONE)
                gpu_set_text(&gpu->fault_message, message ?: "", gpu, GPU_CHANGED_FAULT_MESSAGE);
}

bool gpu_partly_on_vfio(const Gpu *gpu) {
        if (pci_function_on_vfio(&gpu->facts->function))
                return true;
        for (guint i = 0; i < gpu->facts->companions->len; i++)
                if (pci_function_on_vfio(&g_array_index(gpu->facts->companions, PciFunction, i)))
                        return true;
        return false;
}

static bool record_is_of_vfio(const CardRecord *record) {
        for (guint i = 0; i < record->origins->len; i++)
                if (!g_str_equal(g_array_index(record->origins, FunctionOrigin, i).driver,
                                 "vfio-pci"))
                        return false;
        return true;
}

/* Nobody needs the card and it stays on vfio-pci, where it was before its machine. */
static void gpu_stay(Manager *manager, Gpu *gpu) {
        if (!gpu->record->machine_uuid[0])
                return;
        gpu->record->machine_uuid[0] = '\0';
        /* It was there before we came. Only records of an earlier version are such: now the helper
         * is sent to put back what it finds changed. */
        if (record_is_of_vfio(gpu->record))
                gpu_forget_record(manager, gpu);
        else
                gpu_write_record(manager, gpu);
}

void gpu_settle(Manager *manager, Gpu *gpu, bool despite_fault) {
        int r;

        if (!gpu->record || gpu->launch || manager_domain_with(manager, gpu->facts) ||
            manager->host.ops->handing_over(manager->host.self, gpu->address))
                return;
        if (gpu->view.fault != GPU_FAULT_NONE && !despite_fault)
                return;
        if (gpu->record->machine_uuid[0] &&
            (manager_domain_may_live(manager, gpu->record->machine_uuid) ||
             manager_domain_awaits_libvirt(manager, gpu->record->machine_uuid)))
                return;
        if (!gpu->written) {
                /* No helper has come so far as to touch it. */
                gpu_forget_record(manager, gpu);
                gpu_note(gpu, GPU_CURED);
                gpu_tell(manager, gpu, "");
                return;
        }
        if (!gpu->record->return_to_host) {
                gpu_stay(manager, gpu);
                return;
        }

        gpu_note(gpu, GPU_RETURNING);
        r = manager->host.ops->handover(manager->host.self, HANDOVER_TO_HOST, gpu->record);
        if (r < 0)
                gpu_fail(gpu, GPU_FAILED, "The helper that takes it back could not be started.");
        gpu_tell(manager, gpu, "");
}

void manager_settle(Manager *manager) {
        /* Until both worlds have been seen whole, nothing is known to be left over. */
        if (!manager_has_looked(manager))
                return;
        for (guint i = 0; i < manager->gpus->len; i++)
                gpu_settle(manager, g_ptr_array_index(manager->gpus, i), false);
}

/* --- what the host tells --- */

void call_free(Call *call) {
        refusal_free(call->failure);
        g_free(call);
}

Refusal *card_refusal(PciAddress address, HandoverOutcome outcome, const char *message) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(address, shown);
        switch (outcome) {
        case HANDOVER_OVERDUE:
                return refusal_new(REFUSAL_HANDOVER_TIMEOUT, shown, gpu_fault_help(GPU_FAULT_STUCK),
                                   "GPU %s was not handed over in time: %s", shown, message);
        case HANDOVER_LOST:
                return refusal_new(REFUSAL_GPU_FAULTED, shown, gpu_fault_help(GPU_FAULT_LOST),
                                   "GPU %s does not answer any more: %s", shown, message);
        default:
                return refusal_new(REFUSAL_HANDOVER_FAILED, shown,
                                   "The kernel's log says more: journalctl -k",
                                   "GPU %s could not be handed over: %s", shown, message);
        }
}

Refusal *handover_refusal(PciAddress address, int r) {
        char shown[PCI_ADDRESS_BUFFER];

        if (r == -ENODEV)
                return no_such_gpu(address);
        if (r == -EBUSY)
                return card_refusal(address, HANDOVER_FAILED,
                                    "A helper is still at the card that was there before.");
        return refusal_new(REFUSAL_HANDOVER_FAILED, pci_address_print(address, shown),
                           "See that /run is neither full nor read-only, and what else the "
                           "service's journal says: journalctl -u feos-vmd",
                           "The handover of GPU %s could not be begun.", shown);
}

/* The Bind or Release that waits for this card is over. A Bind that failed is undone first. */
static void card_end_call(Manager *manager, Gpu *gpu, bool was_binding, HandoverOutcome outcome,
                          const char *message) {
        bool failed = outcome != HANDOVER_DONE && outcome != HANDOVER_STAYS;
        Call *call = gpu_find_call(manager, gpu);

        if (!call)
                return;
        if (failed && !call->failure)
                call->failure = card_refusal(gpu->address, outcome, message);
        if (was_binding)
                gpu_note_keep(gpu, failed && gpu->written);
        if (was_binding && failed && gpu->written)
                gpu_want_on_host(manager, gpu, false);
        if (was_binding && outcome == HANDOVER_FAILED)
                gpu_settle(manager, gpu, true);
        call->over = !was_binding || outcome != HANDOVER_FAILED ||
                     gpu->view.pending != GPU_PENDING_RELEASING;
}

static void card_apply_outcome(Manager *manager, Gpu *gpu, HandoverOutcome outcome,
                               const char *message) {
        switch (outcome) {
        case HANDOVER_DONE:
        case HANDOVER_STAYS:
                gpu_note(gpu, GPU_CURED);
                if (gpu->view.pending == GPU_PENDING_RELEASING) {
                        gpu_note(gpu, GPU_RETURNED);
                        gpu_forget_record(manager, gpu);
                } else
                        gpu_note(gpu, gpu->launch ? GPU_BOUND_FOR_MACHINE : GPU_BOUND);
                break;
        case HANDOVER_FAILED:
                gpu_fail(gpu, GPU_FAILED, message);
                break;
        case HANDOVER_LOST:
                gpu_fail(gpu, GPU_VANISHED, message);
                break;
        case HANDOVER_OVERDUE:
                gpu_fail(gpu, GPU_OVERDUE, message);
                break;
        }
}

/* On the way to vfio-pci it was there, and between the helper's last look and ours somebody else
 * has taken it away. What is left of it goes home, as after any other failure. */
static bool card_was_taken(const Gpu *gpu, HandoverOutcome outcome) {
        return outcome == HANDOVER_DONE && gpu->view.pending == GPU_PENDING_BINDING &&
               !gpu->unread && !gpu_wholly_on_vfio(gpu);
}

static bool gpu_function_is_home(const Gpu *gpu, const PciFunction *function) {
        const FunctionOrigin *origin = gpu_origin(gpu, function->address);

        return !origin || g_str_equal(origin->driver, function->driver) ||
               pci_function_on_host_driver(function);
}

/* Whether a function is on vfio-pci that did not come from there. */
static bool gpu_is_partly_taken(const Gpu *gpu) {
        const GArray *companions = gpu->facts->companions;
        bool taken = pci_function_on_vfio(&gpu->facts->function) &&
                     !gpu_function_is_home(gpu, &gpu->facts->function);

        for (guint i = 0; i < companions->len; i++) {
                const PciFunction *function = &g_array_index(companions, PciFunction, i);

                taken |= pci_function_on_vfio(function) && !gpu_function_is_home(gpu, function);
        }
        return taken;
}

/* Whether the card, which could not be moved back, is to be taken as it is: a Recover waits for it,
 * and all of it is on one side. That it answers the helper has found out before it tried. */
static bool card_is_accepted(Manager *manager, const Gpu *gpu, HandoverOutcome outcome) {
        const Call *call = gpu_find_call(manager, gpu);

        return outcome == HANDOVER_FAILED && gpu->view.pending == GPU_PENDING_RELEASING && call &&
               call->accepts && (gpu_wholly_on_vfio(gpu) || !gpu_is_partly_taken(gpu));
}

static bool gpu_is_home(const Gpu *gpu) {
        const GArray *companions = gpu->facts->companions;

        if (!gpu_function_is_home(gpu, &gpu->facts->function))
                return false;
        for (guint i = 0; i < companions->len; i++)
                if (!gpu_function_is_home(gpu, &g_array_index(companions, PciFunction, i)))
                        return false;
        return true;
}

/* Where each function came from stays known where that is not where it is, for a Release. */
static void card_accept(Manager *manager, Gpu *gpu) {
        gpu_note(gpu, GPU_CURED);
        gpu_note(gpu, GPU_RETURNED);
        if (gpu_is_home(gpu)) {
                gpu_forget_record(manager, gpu);
                return;
        }
        gpu->record->return_to_host = false;
        gpu->record->machine_uuid[0] = '\0';
        gpu_write_record(manager, gpu);
}

static const char *card_move_reason(const Gpu *gpu, HandoverOutcome outcome) {
        return outcome == HANDOVER_STAYS ? "vfio-pci has claimed it by itself"
                                         : gpu_move_reason(gpu);
}

bool gpu_is_moving(const Gpu *gpu) {
        return gpu->view.pending == GPU_PENDING_BINDING ||
               gpu->view.pending == GPU_PENDING_RELEASING;
}

static void card_moved(void *userdata, PciAddress card, HandoverOutcome outcome,
                       const char *message) {
        Manager *manager = userdata;
        TURN(manager);
        Gpu *gpu = manager_find_gpu(manager, card);
        g_autoptr(DeviceFacts) facts = NULL;
        g_autoptr(GArray) drifts = NULL;
        bool was_binding, was_stuck, was_forsaken;
        const char *reason;
        int r;

        if (!gpu)
                return;
        r = manager->host.ops->look(manager->host.self, card, &facts);
        if (r == -ENODEV) {
                manager_drop_gpu(manager, gpu);
                return;
        }
        gpu->unread = gpu->moved_unseen = r < 0;
        if (!gpu_is_moving(gpu)) {
                if (r >= 0)
                        gpu_take_facts(gpu, g_steal_pointer(&facts));
                gpu_refresh(manager, gpu, NULL);
                return;
        }
        /* One look and one outcome are told together: State, Driver and Pending change at once. */
        if (r >= 0)
                drifts = gpu_take_look(manager, gpu, g_steal_pointer(&facts));
        if (card_was_taken(gpu, outcome)) {
                outcome = HANDOVER_FAILED;
                message = "Somebody else has rebound it as soon as it was handed over.";
        }
        reason = card_move_reason(gpu, outcome);
        was_binding = gpu->view.pending == GPU_PENDING_BINDING;
        was_stuck = gpu->view.fault == GPU_FAULT_STUCK;
        was_forsaken = gpu_is_forsaken(manager, gpu);
        if (was_forsaken && outcome == HANDOVER_FAILED && !gpu->written)
                gpu_note(gpu, GPU_LET_GO); /* nothing was touched, as card_origins() has said */
        else if (r >= 0 && card_is_accepted(manager, gpu, outcome)) {
                outcome = HANDOVER_STAYS;
                card_accept(manager, gpu);
        } else
                card_apply_outcome(manager, gpu, outcome, message);
        gpu_refresh(manager, gpu, reason);
        if (drifts)
                gpu_tell_drifts(manager, gpu, drifts);

        card_end_call(manager, gpu, was_binding, outcome, message);
        if (gpu->awaited_by)
                launch_card_ended(gpu->awaited_by, gpu, outcome, message);
        /* A stuck helper that is gone at last, done or killed, takes the cause of the fault with
         * it: the card goes where its record says, and only what goes wrong on that way is a fault
         * again. So it does when nobody wants it on vfio-pci any more. */
        gpu_settle(manager, gpu, (was_stuck || was_forsaken) && outcome != HANDOVER_OVERDUE);
}

/* The Bind or Release that waits for the card is over. */
static void card_gone_end_call(Manager *manager, PciAddress card) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(card, shown);
        for (guint i = 0; i < manager->gpu_calls->len; i++) {
                Call *call = g_ptr_array_index(manager->gpu_calls, i);

                if (call->over || !pci_address_equal(call->gpu, card))
                        continue;
                call->over = true;
                if (!call->failure)
                        call->failure = refusal_new(REFUSAL_NO_SUCH_GPU, shown,
                                                    "See whether the card is seated and powered.",
                                                    "GPU %s has gone from the bus.", shown);
        }
}

void manager_drop_gpu(Manager *manager, Gpu *gpu) {
        Launch *launch = gpu->launch ?: gpu->awaited_by;
        Machine *bereft = manager_take_from_domain(manager, gpu);
        guint index;

        /* A card that comes back is a new one, on whatever driver the kernel gives it. */
        gpu_forget_record(manager, gpu);
        if (manager->observer.gpu_removed)
                manager->observer.gpu_removed(manager->observer_data, gpu);
        g_ptr_array_find(manager->gpus, gpu, &index);
        g_ptr_array_add(manager->lost, g_ptr_array_steal_index(manager->gpus, index));
        manager_refresh_present(manager);
        if (bereft)
                machine_lose_gpu(manager, bereft, gpu->address);
        card_gone_end_call(manager, gpu->address);
        if (launch)
                launch_card_gone(launch, gpu->address, gpu->awaited_by != NULL);
        gpu->launch = NULL;
        gpu->awaited_by = NULL;
}

/* The drivers of all its functions, to be compared. */
static char *gpu_drivers(const Gpu *gpu) {
        GString *drivers = g_string_new(gpu->facts->function.driver);

        for (guint i = 0; i < gpu->facts->companions->len; i++)
                g_string_append_printf(
                        drivers, ",%s",
                        g_array_index(gpu->facts->companions, PciFunction, i).driver);
        return g_string_free(drivers, FALSE);
}

static void device_changed(void *userdata, PciAddress address) {
        Manager *manager = userdata;
        TURN(manager);
        Gpu *gpu = manager_find_gpu(manager, address);
        g_autofree char *drivers = gpu ? gpu_drivers(gpu) : NULL;
        g_autofree char *drivers_now = NULL;
        bool driver_changed;

        gpu = manager_look_at_gpu(manager, address);
        if (!gpu)
                return;
        drivers_now = gpu_drivers(gpu);
        driver_changed = drivers && !g_str_equal(drivers, drivers_now);
        /* What the kernel had refused somebody has done: perhaps the cause is gone. */
        if (driver_changed && gpu->view.fault == GPU_FAULT_HANDOVER_FAILED &&
            manager_has_looked(manager))
                gpu_settle(manager, gpu, true);
        if (driver_changed)
                manager->host.ops->read_link(manager->host.self, address);
}

static void retry_due(void *userdata, PciAddress address) {
        Manager *manager = userdata;
        TURN(manager);
        Gpu *gpu;

        if (pci_address_equal(address, NO_DEVICE)) {
                manager_autostart_again(manager);
                return;
        }
        gpu = manager_look_at_gpu(manager, address);
        if (gpu && gpu->keep == KEEP_WAITS)
                gpu->keep = KEEP_DUE;
}

static void device_removed(void *userdata, PciAddress address) {
        Manager *manager = userdata;
        TURN(manager);
        Gpu *gpu = manager_find_gpu(manager, address);

        manager_note_unseen(manager, address, false);
        if (gpu)
                manager_drop_gpu(manager, gpu);
}

static void devices_listed(void *userdata, const GArray *addresses) {
        Manager *manager = userdata;
        TURN(manager);

        for (guint i = manager->gpus->len; i-- > 0;) {
                Gpu *gpu = g_ptr_array_index(manager->gpus, i);

                if (!pci_addresses_find(addresses, gpu->address, NULL))
                        manager_drop_gpu(manager, gpu);
        }
        for (guint i = manager->unseen->len; i-- > 0;)
                if (!pci_addresses_find(addresses, g_array_index(manager->unseen, PciAddress, i),
                                        NULL))
                        g_array_remove_index_fast(manager->unseen, i);
        manager_clear_ledger(manager);
        manager->begun = true;
}

static void link_read(void *userdata, PciAddress address, const LinkFacts *link) {
        Manager *manager = userdata;
        Gpu *gpu = manager_find_gpu(manager, address);

        if (!gpu)
                return;
        gpu_set_text(&gpu->link_speed, link->speed, gpu, GPU_CHANGED_LINK_SPEED);
        if (gpu->link_width != link->width)
                gpu->untold |= GPU_CHANGED_LINK_WIDTH;
        gpu->link_width = link->width;
        gpu_tell(manager, gpu, "");
}

/* What follows is the turn's. */
static void boot_told(void *userdata) {
        TURN(userdata);
}

const HostEvents *manager_host_events(void) {
        static const HostEvents events = {
                .device_changed = device_changed,
                .device_removed = device_removed,
                .devices_listed = devices_listed,
                .handover_origins = card_origins,
                .handover_ended = card_moved,
                .link_read = link_read,
                .retry_due = retry_due,
                .boot_told = boot_told,
        };

        return &events;
}
