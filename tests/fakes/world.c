/* The world as a whole: what happens next, the daemon in it, and what must hold after every step.
 */
#include "world-private.h"

#include "testing.h"

#include <unistd.h>

typedef struct Todo {
        TodoRun run;
        void *data;
        GDestroyNotify free;
        bool survives_daemon; /* libvirt's own work, not the daemon's */
} Todo;

static void todo_free(Todo *todo) {
        if (todo->free)
                todo->free(todo->data);
        g_free(todo);
}

void world_later(World *world, TodoRun run, void *data, GDestroyNotify free_data, bool survives) {
        Todo *todo = g_new(Todo, 1);

        *todo = (Todo){ run, data, free_data, survives };
        g_queue_push_tail(&world->todo, todo);
}

bool world_step(World *world) {
        Todo *todo = g_queue_pop_head(&world->todo);

        if (!todo)
                return false;
        todo->run(world, todo->data);
        todo_free(todo);
        world_check(world);
        return true;
}

void world_run(World *world) {
        unsigned steps = 0;

        while (world_step(world))
                if (++steps > 100000)
                        fail_msg("the world does not come to rest");
}

PciAddress world_address(const char *address) {
        PciAddress ret;

        assert_true(pci_address_parse(address, &ret));
        return ret;
}

bool world_is_marked(const GArray *list, PciAddress address) {
        for (guint i = 0; i < list->len; i++)
                if (pci_address_equal(g_array_index(list, PciAddress, i), address))
                        return true;
        return false;
}

void world_unmark(GArray *list, PciAddress address) {
        for (guint i = list->len; i-- > 0;)
                if (pci_address_equal(g_array_index(list, PciAddress, i), address))
                        g_array_remove_index(list, i);
}

void world_mark(GArray *list, const char *address) {
        PciAddress a = world_address(address);

        g_array_append_val(list, a);
}

World *world_new(void) {
        World *world = g_new0(World, 1);

        world->functions = g_ptr_array_new_with_free_func(g_free);
        world->domains = g_ptr_array_new_with_free_func(world_domain_free);
        world->ledger = g_ptr_array_new_with_free_func((GDestroyNotify)card_record_free);
        world->watches = g_ptr_array_new_with_free_func(g_free);
        world->helpers = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        world->unreadable = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        world->stuck = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        world->refused = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        world->no_return = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        world->looks_later = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        world->holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        world->netdevs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        world->networks = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(world->networks, NULL);
        world->images = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        world->leads = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        world->backings = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        world->dark = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        world->host_facts =
                (HostFacts){ .iommu = true, .vfio = true, .cpus = 16, .memory_mib = 65536 };
        world->connected = true;
        world->kvm = true;
        world->guest = -1;
        world->next_pid = 1000;
        g_queue_init(&world->todo);
        g_queue_init(&world->held);
        return world;
}

void world_free(World *world) {
        manager_free(world->manager);
        g_queue_clear_full(&world->todo, (GDestroyNotify)todo_free);
        g_queue_clear_full(&world->held, g_free);
        g_ptr_array_unref(world->functions);
        g_ptr_array_unref(world->domains);
        g_ptr_array_unref(world->ledger);
        g_ptr_array_unref(world->watches);
        g_array_unref(world->helpers);
        g_array_unref(world->unreadable);
        g_array_unref(world->stuck);
        g_array_unref(world->refused);
        g_array_unref(world->no_return);
        g_array_unref(world->looks_later);
        g_ptr_array_unref(world->holders);
        g_hash_table_unref(world->images);
        g_hash_table_unref(world->leads);
        g_hash_table_unref(world->backings);
        g_hash_table_unref(world->dark);
        g_hash_table_unref(world->netdevs);
        g_ptr_array_unref(world->networks);
        if (world->guest >= 0)
                close(world->guest);
        g_free(world);
}

void world_list(World *world) {
        g_autoptr(GArray) gpus = g_array_new(FALSE, TRUE, sizeof(PciAddress));

        for (guint i = 0; i < world->functions->len; i++) {
                const WorldFunction *function = g_ptr_array_index(world->functions, i);

                if (!pci_function_is_gpu(&function->facts))
                        continue;
                g_array_append_val(gpus, function->facts.address);
                world->host_events->device_changed(world->manager, function->facts.address);
        }
        world->host_events->devices_listed(world->manager, gpus);
}

static void look_around(World *world, void *data) {
        world_list(world);
}

Manager *world_boot(World *world) {
        world->manager = manager_new(world_host(world), world_hypervisor(world));
        world->host_events = manager_host_events();
        world->hypervisor_events = manager_hypervisor_events();
        world_later(world, look_around, NULL, NULL, false);
        world_set_connected(world, world->connected);
        return world->manager;
}

const char *world_machine(World *world, const char *name) {
        const Machine *machine = manager_machine(world->manager, name);

        return g_intern_string(machine ? machine->uuid : name);
}

void world_kill_daemon(World *world) {
        GQueue rest = G_QUEUE_INIT;
        Todo *todo;

        while ((todo = g_queue_pop_head(&world->todo))) {
                if (todo->survives_daemon)
                        g_queue_push_tail(&rest, todo);
                else
                        todo_free(todo);
        }
        g_array_set_size(world->helpers, 0);
        g_ptr_array_set_size(world->watches, 0);
        g_clear_pointer(&world->manager, manager_free);
        while ((todo = g_queue_pop_head(&rest))) {
                todo->run(world, todo->data);
                todo_free(todo);
        }
}

void world_check(World *world) {
        for (guint i = 0; i < world->functions->len; i++) {
                const WorldFunction *function = g_ptr_array_index(world->functions, i);
                unsigned owners = 0;

                if (pci_function_on_host_driver(&function->facts) && function->group >= 0 &&
                    world_group_is_held(world, function->group))
                        fail_msg("a host driver has a function of a group that a QEMU holds");
                for (guint j = 0; j < world->domains->len; j++) {
                        const WorldDomain *domain = g_ptr_array_index(world->domains, j);

                        if (!world_domain_holds(domain, function->facts.address))
                                continue;
                        owners++;
                        if (domain->ours && !world_function_is_awake(function))
                                fail_msg("a machine has a function that may sleep");
                }
                if (owners > 1)
                        fail_msg("two machines have one function");
        }
}
