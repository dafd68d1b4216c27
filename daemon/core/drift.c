/* Drift: somebody else (driverctl, a driver's package, virsh nodedev-detach, a hand) changes the
 * driver of a card. It is seen by comparing two looks between which no helper of ours was at the
 * card, or did not do that; it is told, and never fought: what somebody else has moved is not ours
 * to give back, and from then on the card's record takes the function to be at home where it was
 * moved to. Only its power settings, which nobody else knows, are put back. */
#include "core/manager-private.h"

#include <string.h>

/* Whether a helper is at the card, or has just ended and is not yet accounted for. */
static bool gpu_has_helper(Manager *manager, const Gpu *gpu) {
        return gpu_is_moving(gpu) ||
               manager->host.ops->handing_over(manager->host.self, gpu->address);
}

/* Whether the helper at the card may have done that. On the way back it binds a function that is
 * not ours to give back to no host driver but the one that the record has. */
static bool helper_may_have_done(const Gpu *gpu, const GpuDrift *drift) {
        const FunctionOrigin *origin = gpu_origin(gpu, drift->function);

        if (gpu->view.pending != GPU_PENDING_RELEASING || !origin || origin->known ||
            gpu->record->any_host_driver)
                return true;
        return !drift->driver[0] || g_str_equal(drift->driver, "vfio-pci") ||
               g_str_equal(drift->driver, origin->driver);
}

/* Whether what is seen to have moved may be the work of a helper: one that is at the card, or one
 * that an earlier daemon has left and that nobody has been able to take over from yet. */
static bool drift_may_be_ours(Manager *manager, const Gpu *gpu, const GpuDrift *drift) {
        return !manager_has_looked(manager) || gpu->moved_unseen ||
               (gpu_has_helper(manager, gpu) && helper_may_have_done(gpu, drift)) ||
               (gpu->record && gpu->record->machine_uuid[0] && !manager->domains_known);
}

static const PciFunction *facts_function(const DeviceFacts *facts, PciAddress address) {
        if (pci_address_equal(facts->function.address, address))
                return &facts->function;
        for (guint i = 0; i < facts->companions->len; i++) {
                const PciFunction *function = &g_array_index(facts->companions, PciFunction, i);

                if (pci_address_equal(function->address, address))
                        return function;
        }
        return NULL;
}

static void compare(Manager *manager, const Gpu *gpu, const PciFunction *before,
                    const DeviceFacts *facts, GArray *drifts) {
        const PciFunction *now = facts_function(facts, before->address);
        GpuDrift drift = { .function = before->address };

        if (!now || g_str_equal(before->driver, now->driver))
                return;
        g_strlcpy(drift.old_driver, before->driver, sizeof(drift.old_driver));
        g_strlcpy(drift.driver, now->driver, sizeof(drift.driver));
        if (!drift_may_be_ours(manager, gpu, &drift))
                g_array_append_val(drifts, drift);
}

static GArray *gpu_find_drifts(Manager *manager, const Gpu *gpu, const DeviceFacts *facts) {
        GArray *drifts = g_array_new(FALSE, TRUE, sizeof(GpuDrift));
        const GArray *companions = gpu->facts->companions;

        compare(manager, gpu, &gpu->facts->function, facts, drifts);
        for (guint i = 0; i < companions->len; i++)
                compare(manager, gpu, &g_array_index(companions, PciFunction, i), facts, drifts);
        return drifts;
}

/* Whether the record still has a function to give back. */
static bool record_owes_a_driver(const CardRecord *record) {
        for (guint i = 0; i < record->origins->len; i++)
                if (g_array_index(record->origins, FunctionOrigin, i).known)
                        return true;
        return false;
}

static bool record_owes_power(const CardRecord *record) {
        for (guint i = 0; i < record->origins->len; i++)
                if (function_power_is_known(
                            &g_array_index(record->origins, FunctionOrigin, i).power))
                        return true;
        return false;
}

/* Whether the function was the record's to give back. */
static bool record_follow(CardRecord *record, const GpuDrift *drift) {
        FunctionOrigin *origin = record_origin(record, drift->function);

        if (!origin)
                return false;
        /* What it was on vfio-pci says nothing of the driver that has it now, which sets its own.
         */
        if (g_str_equal(origin->driver, "vfio-pci"))
                origin->power.control[0] = '\0';
        g_strlcpy(origin->driver, drift->driver, sizeof(origin->driver));
        origin->driver_override[0] = '\0';
        origin->known = false;
        return true;
}

static void gpu_follow_drifts(Manager *manager, Gpu *gpu, const GArray *drifts) {
        bool followed = false;

        if (drifts->len > 0 && !gpu_has_helper(manager, gpu))
                gpu_keep_again(manager, gpu);
        for (guint i = 0; gpu->record && i < drifts->len; i++)
                followed |= record_follow(gpu->record, &g_array_index(drifts, GpuDrift, i));
        if (!followed)
                return;
        if (record_owes_a_driver(gpu->record) || gpu_has_helper(manager, gpu)) {
                /* What the ledger cannot be told now a later daemon reads off the drivers. What a
                 * helper leaves to be done is seen when it has ended. */
                gpu_write_record(manager, gpu);
                return;
        }
        /* gpu_settle() sends a helper, which finds every function at home. */
        if (!record_owes_power(gpu->record) || gpu_want_on_host(manager, gpu, false) < 0)
                gpu_forget_record(manager, gpu);
        /* The kernel has done for somebody else what it had refused us, or nobody asks it to. */
        if (gpu->view.fault == GPU_FAULT_HANDOVER_FAILED)
                gpu_note(gpu, GPU_CURED);
}

GArray *gpu_take_look(Manager *manager, Gpu *gpu, DeviceFacts *facts) {
        GArray *drifts = gpu_find_drifts(manager, gpu, facts);

        gpu_take_facts(gpu, facts);
        gpu_follow_drifts(manager, gpu, drifts);
        return drifts;
}

char *gpu_drift_reason(const Gpu *gpu, const GArray *drifts) {
        for (guint i = 0; i < drifts->len; i++) {
                const GpuDrift *drift = &g_array_index(drifts, GpuDrift, i);

                if (!pci_address_equal(drift->function, gpu->address))
                        continue;
                if (!drift->driver[0])
                        return g_strdup_printf("somebody else unbound it from %s",
                                               drift->old_driver);
                if (!drift->old_driver[0])
                        return g_strdup_printf("somebody else bound it to %s", drift->driver);
                return g_strdup_printf("somebody else rebound it from %s to %s", drift->old_driver,
                                       drift->driver);
        }
        return NULL;
}

void gpu_tell_drifts(Manager *manager, const Gpu *gpu, const GArray *drifts) {
        for (guint i = 0; manager->observer.gpu_drifted && i < drifts->len; i++)
                manager->observer.gpu_drifted(manager->observer_data, gpu,
                                              &g_array_index(drifts, GpuDrift, i));
}
