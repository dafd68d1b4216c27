/* Which domain has which card. libvirt names addresses, and what is at an address may be another
 * device than the one that the domain was given; this file knows the difference, and for whom a
 * card that has gone from the bus is a loss. */
#include "core/manager-private.h"

static bool domain_names_function(const Domain *domain, const PciFunction *function) {
        return pci_addresses_find(domain->facts->hostdevs, function->address, NULL);
}

/* libvirt's live XML names addresses, and keeps naming one whose device has gone from the bus until
 * QEMU has said DEVICE_DELETED (libvirt 9.0.0, qemu_process.c, qemuProcessHandleDeviceDeleted());
 * with a guest that does not help to unplug it, until the domain ends. What is at that address
 * afterwards is another device. Two things that the kernel does tell them apart:
 *
 * - A device goes from the bus only when no QEMU has it any more: vfio-pci asks for it (QEMU
 * answers by an unplug of its own, hw/vfio/pci.c, vfio_req_notifier_handler()) and its unbinding
 * waits until the last user has closed it (Linux, drivers/vfio, vfio_unregister_group_dev()). So
 * when it is seen to go, the domain has lost it.
 * - A function that a QEMU has is on vfio-pci, or on no driver while that unbinding waits; never on
 *   a host driver. So a daemon that has not seen it go knows a successor that the host has taken.
 *   The drivers that take vfio-pci's place for one kind of device have "vfio" in their name. */
static bool domain_has_function(const Domain *domain, const PciFunction *function) {
        return domain_names_function(domain, function) &&
               !pci_addresses_find(domain->lost, function->address, NULL) &&
               (!pci_function_on_host_driver(function) || strstr(function->driver, "vfio"));
}

typedef bool (*DomainTest)(const Domain *domain, const PciFunction *function);

static const Domain *manager_domain_that(Manager *manager, const DeviceFacts *card,
                                         DomainTest test) {
        GHashTableIter iter;
        Domain *domain;

        g_hash_table_iter_init(&iter, manager->domains);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&domain)) {
                if (!domain_may_live(domain))
                        continue;
                if (test(domain, &card->function))
                        return domain;
                for (guint i = 0; i < card->companions->len; i++)
                        if (test(domain, &g_array_index(card->companions, PciFunction, i)))
                                return domain;
        }
        return NULL;
}

const Domain *manager_domain_with(Manager *manager, const DeviceFacts *card) {
        return manager_domain_that(manager, card, domain_has_function);
}

const Domain *manager_domain_naming(Manager *manager, const DeviceFacts *card) {
        return manager_domain_that(manager, card, domain_names_function);
}

bool manager_has_live_domain(Manager *manager, const char *name) {
        GHashTableIter iter;
        Domain *domain;

        g_hash_table_iter_init(&iter, manager->domains);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&domain))
                if (domain_may_live(domain) && g_str_equal(domain->facts->name, name))
                        return true;
        return false;
}

/* --- cards that go from the bus under a machine --- */

static void domain_lose_function(Domain *domain, const PciFunction *function) {
        if (domain_names_function(domain, function) &&
            !pci_addresses_find(domain->lost, function->address, NULL))
                g_array_append_val(domain->lost, function->address);
}

Machine *manager_take_from_domain(Manager *manager, const Gpu *gpu) {
        const DeviceFacts *card = gpu->facts;
        const Domain *holder = manager_domain_with(manager, card);
        GHashTableIter iter;
        Domain *domain;

        g_hash_table_iter_init(&iter, manager->domains);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&domain)) {
                if (!domain_may_live(domain))
                        continue;
                domain_lose_function(domain, &card->function);
                for (guint i = 0; i < card->companions->len; i++)
                        domain_lose_function(domain,
                                             &g_array_index(card->companions, PciFunction, i));
        }
        /* Where the guest has helped, libvirt has struck it off before the kernel could let it go.
         */
        if (!holder && gpu->record && !gpu->launch)
                holder = manager_find_domain(manager, gpu->record->machine_uuid);
        return holder && domain_may_live(holder)
                       ? manager_find_machine(manager, holder->facts->uuid)
                       : NULL;
}

void domain_forget_lost(Domain *domain, bool new_process) {
        for (guint i = domain->lost->len; i-- > 0;)
                if (new_process ||
                    !pci_addresses_find(domain->facts->hostdevs,
                                        g_array_index(domain->lost, PciAddress, i), NULL))
                        g_array_remove_index(domain->lost, i);
}

bool machine_look_for_gpus(Manager *manager, Machine *machine) {
        const Domain *domain = manager_find_domain(manager, machine->uuid);
        const GArray *lost = domain && domain_may_live(domain) ? domain->lost : NULL;
        g_autoptr(GArray) present = g_array_new(FALSE, TRUE, sizeof(PciAddress));

        for (guint i = 0; i < machine->gpus->len; i++) {
                PciAddress address = g_array_index(machine->gpus, PciAddress, i);

                if (manager_find_gpu(manager, address) &&
                    !(lost && pci_addresses_find(lost, address, NULL)))
                        g_array_append_val(present, address);
        }
        /* Both are in the order of the machine's own list. */
        if (pci_addresses_equal(present, machine->present))
                return false;
        g_array_unref(machine->present);
        machine->present = g_steal_pointer(&present);
        return true;
}

void machine_refresh_present(Manager *manager, Machine *machine) {
        if (machine_look_for_gpus(manager, machine))
                machine_tell(manager, machine, MACHINE_CHANGED_GPUS);
}

void manager_refresh_present(Manager *manager) {
        for (guint i = 0; i < manager->machines->len; i++)
                machine_refresh_present(manager, g_ptr_array_index(manager->machines, i));
}
