/* What the ledger says of a card that this daemon sees for the first time, or sees again after its
 * record could not be read. While nobody knows where a card came from, nothing touches the card or
 * overwrites its record: the card has a fault until the record has been read or is gone. */
#include "core/manager-private.h"

#include <errno.h>
#include <string.h>

FunctionIds function_ids(const PciFunction *function) {
        return (FunctionIds){ function->vendor, function->device, function->subsystem_vendor,
                              function->subsystem_device };
}

static bool ids_fit(const FunctionIds *recorded, const PciFunction *function) {
        FunctionIds now = function_ids(function);

        return recorded->vendor == 0 || memcmp(recorded, &now, sizeof now) == 0;
}

/* Whether the function may be the one that the record has at its address. A function that the
 * record lacks may have been out of sight when it was written. */
static bool record_fits_function(const CardRecord *record, const PciFunction *function) {
        const FunctionOrigin *origin = record_origin(record, function->address);

        return !origin || ids_fit(&origin->ids, function);
}

static bool record_fits(const CardRecord *record, const DeviceFacts *facts) {
        if (!record_fits_function(record, &facts->function))
                return false;
        for (guint i = 0; i < facts->companions->len; i++)
                if (!record_fits_function(record,
                                          &g_array_index(facts->companions, PciFunction, i)))
                        return false;
        return true;
}

/* Whether the record has the function to give back, and it is not on vfio-pci. */
static bool gpu_misses(const Gpu *gpu, const PciFunction *function) {
        const FunctionOrigin *origin = gpu_origin(gpu, function->address);

        return origin && origin->known && !pci_function_on_vfio(function);
}

static bool gpu_is_where_recorded(const Gpu *gpu) {
        const GArray *companions = gpu->facts->companions;

        if (gpu_misses(gpu, &gpu->facts->function))
                return false;
        for (guint i = 0; i < companions->len; i++)
                if (gpu_misses(gpu, &g_array_index(companions, PciFunction, i)))
                        return false;
        return true;
}

/* Undoes a Bind during which an earlier daemon was cut short: nobody was told that it succeeded. 0
 * or a negative errno. */
static int gpu_undo_half_bind(Manager *manager, Gpu *gpu) {
        if (!gpu->record || gpu->record->machine_uuid[0] || gpu_is_where_recorded(gpu))
                return 0;
        return gpu_want_on_host(manager, gpu, gpu->record->any_host_driver);
}

/* 0 or a negative errno. */
static int gpu_take_record(Manager *manager, Gpu *gpu) {
        const Host *host = &manager->host;
        g_autoptr(CardRecord) record = NULL;
        int r = host->ops->ledger_read(host->self, gpu->address, &record);

        if (r <= 0)
                return r;
        /* The way of a card that is gone is not this one's. */
        if (!record_fits(record, gpu->facts))
                return host->ops->ledger_set_aside(host->self, gpu->address);

        gpu->record = g_steal_pointer(&record);
        gpu->written = card_record_copy(gpu->record);
        return gpu_undo_half_bind(manager, gpu);
}

static char *fault_message(PciAddress address, int r) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(address, shown);
        if (r == -EPROTONOSUPPORT)
                return g_strdup_printf("A newer version of this service wrote its record in the "
                                       "ledger, /run/feos-vmd/%s.card, and only that version knows "
                                       "where the card belongs. Install that version again; or "
                                       "give the card back by hand and remove the file.",
                                       shown);
        return g_strdup_printf(
                "Its record in the ledger, /run/feos-vmd/%s.card, which says where the card "
                "belongs, could not be read or written; the service's journal says why (journalctl "
                "-u feos-vmd). The service keeps trying.",
                shown);
}

void gpu_learn_record(Manager *manager, Gpu *gpu) {
        bool was_unknown = gpu->record_unknown;
        g_autofree char *message = NULL;
        int r;

        gpu->record_unknown = false;
        r = gpu_take_record(manager, gpu);
        if (r >= 0) {
                if (was_unknown)
                        gpu_note(gpu, GPU_CURED);
                return;
        }
        gpu->record_unknown = true;
        g_clear_pointer(&gpu->written, card_record_free);
        g_clear_pointer(&gpu->record, card_record_free);
        gpu_note(gpu, GPU_UNACCOUNTED);
        message = fault_message(gpu->address, r);
        gpu_set_text(&gpu->fault_message, message, gpu, GPU_CHANGED_FAULT_MESSAGE);
}

/* --- records of cards that are not there --- */

/* What is certainly not there any more goes; what is certainly another device's is kept aside. A
 * record that cannot be read, or is a newer version's, stays. */
static void manager_clear_record(Manager *manager, PciAddress card) {
        const Host *host = &manager->host;
        g_autoptr(CardRecord) record = NULL;
        g_autoptr(DeviceFacts) facts = NULL;
        int r = host->ops->look(host->self, card, &facts);

        if ((r < 0 && r != -ENODEV) || (r >= 0 && pci_function_is_gpu(&facts->function)) ||
            host->ops->ledger_read(host->self, card, &record) <= 0)
                return;
        if (r < 0)
                (void)host->ops->ledger_remove(host->self, card);
        else
                (void)host->ops->ledger_set_aside(host->self, card);
}

void manager_clear_ledger(Manager *manager) {
        const Host *host = &manager->host;
        g_autoptr(GArray) cards = NULL;

        if (host->ops->ledger_list(host->self, &cards) < 0)
                return; /* what is left over harms nobody before the next listing */
        for (guint i = 0; i < cards->len; i++) {
                PciAddress card = g_array_index(cards, PciAddress, i);

                if (!manager_find_gpu(manager, card))
                        manager_clear_record(manager, card);
        }
}
