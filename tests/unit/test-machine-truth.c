/* The manager against a world in memory in which somebody else has machines in hand too: takes our
 * element out of a domain, edits it, renames it, defines it with another UUID. A machine is what
 * libvirt says it is now, and a path on the bus is always the right machine's. */
#include "bus-model.h"
#include "manager-scene.h"
#include "testing.h"

#include <string.h>

static void define(World *world, const char *name, const char *gpu) {
        Request *request = request_for(name, gpu, NULL);
        Caller caller = { 0 };

        request->start = false;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
}

static void look(World *world, WorldDomain *domain) {
        world_look_again(world, domain);
        world_run(world);
}

static void rename_domain(WorldDomain *domain, const char *name) {
        g_free(domain->name);
        domain->name = g_strdup(name);
}

static void put(GArray *addresses, const char *address) {
        PciAddress a = at(address);

        g_array_set_size(addresses, 0);
        g_array_append_val(addresses, a);
}

/* virsh edit: another card, in <hostdev> and in our element alike. */
static void give_card(WorldDomain *domain, const char *address) {
        put(domain->gpus, address);
        put(domain->hostdevs, address);
        g_array_set_size(domain->cards, 0);
}

static void swap_names(WorldDomain *a, WorldDomain *b) {
        char *name = a->name;

        a->name = b->name;
        b->name = name;
}

/* What is seen now, before anything else that is to happen. */
static void see(World *world, WorldDomain *domain) {
        GQueue rest = world->todo;

        g_queue_init(&world->todo);
        world_look_again(world, domain);
        assert_true(world_step(world));
        while (!g_queue_is_empty(&world->todo))
                g_queue_push_tail(&rest, g_queue_pop_head(&world->todo));
        world->todo = rest;
}

/* --- ours or not --- */

static void a_domain_without_our_element_is_left_alone(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;
        BusModel *bus;

        run_box(world);
        domain = world_domain(world, "box");
        bus = bus_model_new(world->manager);
        domain->ours = false;
        look(world, domain);
        assert_string_equal(bus->said->str, "-box\n");
        assert_null(manager_machine(world->manager, "box"));
        manager_delete_machine(world->manager, domain->uuid, caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_NO_SUCH_MACHINE);
        manager_create(world->manager, request_for("box", NULL), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_MACHINE_EXISTS);
        assert_true(domain->qemu && domain->known);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        assert_false(gpu_at(world, AUDIO_CARD)->machine_is_ours);

        /* What was taken for it goes home all the same, when its QEMU is dead. */
        world_end_domain(world, domain, DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_everything_home(world);
        assert_true(domain->known);
        bus_model_check(bus, world->manager);
        world_free(world);
        bus_model_free(bus);
}

static void nor_is_it_touched_by_a_delete_under_way(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;

        run_box(world);
        domain = world_domain(world, "box");
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        domain->ours = false;
        look(world, domain);
        assert_refused(&caller, REFUSAL_NO_SUCH_MACHINE);
        assert_true(domain->known);
        assert_everything_home(world);
        world_free(world);
}

static void a_domain_that_is_ours_again_comes_back(void **state) {
        World *world = booted_scene();
        WorldDomain *domain;
        BusModel *bus;

        run_box(world);
        domain = world_domain(world, "box");
        bus = bus_model_new(world->manager);
        domain->ours = false;
        look(world, domain);
        domain->ours = true;
        look(world, domain);
        assert_string_equal(bus->said->str, "-box\n+box\n");
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_RUNNING);
        assert_true(gpu_at(world, AUDIO_CARD)->machine_is_ours);
        world_free(world);
        bus_model_free(bus);
}

static void a_name_that_no_machine_can_have_takes_it_from_the_bus(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        BusModel *bus;

        define(world, "box", AUDIO_CARD);
        bus = bus_model_new(world->manager);
        rename_domain(world_domain(world, "box"), "box two");
        look(world, world_domain(world, "box two"));
        assert_string_equal(bus->said->str, "-box\n");
        create_box(world, &caller);
        world_run(world);
        assert_done(&caller);
        world_set_connected(world, false);
        world_run(world);
        world_set_connected(world, true);
        world_run(world);
        bus_model_check(bus, world->manager);
        assert_int_equal(g_hash_table_size(bus->paths), 1);
        world_free(world);
        bus_model_free(bus);
}

/* --- what it has --- */

static void gpus_that_are_edited_are_those_that_it_starts_with(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;
        BusModel *bus;

        define(world, "box", OTHER_CARD);
        domain = world_domain(world, "box");
        bus = bus_model_new(world->manager);
        give_card(domain, THIRD_CARD);
        look(world, domain);
        assert_string_equal(bus->said->str, "box: gpus addresses\n");
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
        assert_gpu(world, THIRD_CARD, GPU_ATTACHED, "box");
        assert_int_equal(world->handovers_begun, 1);
        world_free(world);
        bus_model_free(bus);
}

static void a_machine_that_is_edited_while_its_cards_move_is_not_started(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;

        define(world, "box", OTHER_CARD);
        domain = world_domain(world, "box");
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        while (world->handovers_begun == 0)
                assert_true(world_step(world));
        give_card(domain, THIRD_CARD);
        look(world, domain);
        assert_non_null(strstr(caller.message, "other GPUs"));
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        assert_false(domain->active);
        assert_everything_home(world);
        world_free(world);
}

/* virsh start was quicker, and what it started is not destroyed with our own attempt. */
static void nor_is_what_somebody_else_has_started_meanwhile_destroyed(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;

        define(world, "box", OTHER_CARD);
        domain = world_domain(world, "box");
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        while (world->handovers_begun == 0)
                assert_true(world_step(world));
        give_card(domain, THIRD_CARD);
        g_array_set_size(domain->hostdevs, 0);
        domain->qemu = domain->active = true;
        domain->pid = ++world->next_pid;
        look(world, domain);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        assert_true(domain->active);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_RUNNING);
        world_free(world);
}

static void a_gpu_that_is_listed_twice_counts_once(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;
        PciAddress card = at(OTHER_CARD);

        define(world, "box", OTHER_CARD);
        domain = world_domain(world, "box");
        g_array_append_val(domain->gpus, card);
        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        assert_int_equal(manager_machine(world->manager, "box")->gpus->len, 1);
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, OTHER_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

static void only_what_has_changed_is_told(void **state) {
        World *world = booted_scene();
        WorldDomain *domain;
        BusModel *bus;

        define(world, "box", OTHER_CARD);
        domain = world_domain(world, "box");
        bus = bus_model_new(world->manager);
        look(world, domain);
        domain->vcpus++;
        look(world, domain);
        domain->memory_mib--;
        look(world, domain);
        domain->autostart = true;
        look(world, domain);
        assert_string_equal(bus->said->str, "box: vcpus\nbox: memory\nbox: autostart\n");
        assert_int_equal(manager_machine(world->manager, "box")->vcpus, domain->vcpus);
        assert_int_equal(manager_machine(world->manager, "box")->memory_mib, domain->memory_mib);
        world_free(world);
        bus_model_free(bus);
}

/* --- who is meant --- */

/* Its holders are being looked for while the two are renamed. */
static void a_start_is_for_the_machine_that_it_was_asked_for(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *a, *b;

        define(world, "a", THIRD_CARD);
        define(world, "b", OTHER_CARD);
        a = world_domain(world, "a");
        b = world_domain(world, "b");
        manager_start_machine(world->manager, a->uuid, caller_done, &caller);
        swap_names(a, b);
        see(world, a);
        see(world, b);
        world_run(world);
        assert_non_null(strstr(caller.message, "in the meantime"));
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        assert_false(a->active || b->active);
        assert_everything_home(world);
        world_free(world);
}

static void a_start_is_for_the_gpus_that_it_was_asked_for(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;

        define(world, "box", OTHER_CARD);
        domain = world_domain(world, "box");
        manager_start_machine(world->manager, domain->uuid, caller_done, &caller);
        give_card(domain, THIRD_CARD);
        see(world, domain);
        world_run(world);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        assert_everything_home(world);
        world_free(world);
}

static void a_disk_is_for_the_machine_that_it_was_asked_for(void **state) {
        World *world = booted_scene();
        DeviceRequest *disk = device_request_new(DEVICE_DISK);
        Caller caller = { 0 };
        WorldDomain *a, *b;

        define(world, "a", THIRD_CARD);
        define(world, "b", OTHER_CARD);
        a = world_domain(world, "a");
        b = world_domain(world, "b");
        g_hash_table_insert(world->images, g_strdup("data.img"), GINT_TO_POINTER(IMAGE_OK));
        disk->path = g_strdup("data.img");
        manager_attach_device(world->manager, a->uuid, disk, caller_attached, &caller);
        swap_names(a, b);
        see(world, a);
        see(world, b);
        world_run(world);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        assert_int_equal(a->disks->len + b->disks->len, 0);
        world_free(world);
}

/* --- names --- */

static void assert_machines(World *world, const BusModel *bus, const WorldDomain *a,
                            const WorldDomain *b) {
        assert_string_equal(manager_machine(world->manager, a->name)->uuid, a->uuid);
        assert_string_equal(manager_machine(world->manager, b->name)->uuid, b->uuid);
        assert_int_equal(g_hash_table_size(bus->paths), 2);
        bus_model_check(bus, world->manager);
}

/* virsh domrename, three times. */
static void machines_that_have_swapped_names_keep_their_paths(void **state) {
        for (unsigned order = 0; order < 3; order++) {
                World *world = booted_scene();
                WorldDomain *a, *b;
                BusModel *bus;

                define(world, "a", OTHER_CARD);
                define(world, "b", THIRD_CARD);
                a = world_domain(world, "a");
                b = world_domain(world, "b");
                bus = bus_model_new(world->manager);
                swap_names(a, b);
                if (order == 2) {
                        world_set_connected(world, true);
                        world_run(world);
                } else
                        look(world, order ? a : b);
                assert_machines(world, bus, a, b);
                assert_int_equal(strlen(bus->said->str), strlen("-a\n-b\n+a\n+b\n"));
                world_free(world);
                bus_model_free(bus);
        }
}

static void a_name_that_is_handed_on_goes_to_the_right_machine(void **state) {
        World *world = booted_scene();
        WorldDomain *a, *b;
        BusModel *bus;

        define(world, "a", OTHER_CARD);
        define(world, "b", THIRD_CARD);
        a = world_domain(world, "a");
        b = world_domain(world, "b");
        bus = bus_model_new(world->manager);
        rename_domain(b, "c");
        rename_domain(a, "b");
        look(world, a); /* b's own look comes by itself, as its name is known to be another's */
        assert_machines(world, bus, a, b);
        world_free(world);
        bus_model_free(bus);
}

/* virsh undefine and virsh define: the looks at the two may be answered in either order. */
static void a_domain_that_is_defined_with_another_uuid_has_the_path(void **state) {
        for (unsigned order = 0; order < 2; order++) {
                World *world = booted_scene();
                WorldDomain *domain;
                BusModel *bus;
                char old[37];

                define(world, "a", OTHER_CARD);
                domain = world_domain(world, "a");
                g_strlcpy(old, domain->uuid, sizeof(old));
                bus = bus_model_new(world->manager);
                strcpy(domain->uuid, "99999999-2222-3333-4444-555555555555");
                if (order == 0)
                        world->hypervisor_events->domain_gone(world->manager, old);
                look(world, domain);
                if (order == 1)
                        world->hypervisor_events->domain_gone(world->manager, old);
                world_run(world);
                assert_string_equal(bus->said->str, "-a\n+a\n");
                assert_string_equal(manager_machine(world->manager, "a")->uuid, domain->uuid);
                assert_null(manager_machine(world->manager, old));
                bus_model_check(bus, world->manager);
                world_free(world);
                bus_model_free(bus);
        }
}

/* A foreign domain that has the name of a machine by now says that the machine has another. */
static void a_foreign_domain_with_its_name_hides_a_machine_until_it_is_seen(void **state) {
        World *world = booted_scene();
        WorldDomain *ours, *foreign;
        BusModel *bus;

        define(world, "a", OTHER_CARD);
        ours = world_domain(world, "a");
        bus = bus_model_new(world->manager);
        rename_domain(ours, "b");
        foreign = world_add_foreign(world, "a", THIRD_CARD);
        look(world, foreign);
        assert_string_equal(bus->said->str, "-a\n+b\n");
        bus_model_check(bus, world->manager);
        world_free(world);
        bus_model_free(bus);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_domain_without_our_element_is_left_alone),
                cmocka_unit_test(nor_is_it_touched_by_a_delete_under_way),
                cmocka_unit_test(a_domain_that_is_ours_again_comes_back),
                cmocka_unit_test(a_name_that_no_machine_can_have_takes_it_from_the_bus),
                cmocka_unit_test(gpus_that_are_edited_are_those_that_it_starts_with),
                cmocka_unit_test(a_machine_that_is_edited_while_its_cards_move_is_not_started),
                cmocka_unit_test(nor_is_what_somebody_else_has_started_meanwhile_destroyed),
                cmocka_unit_test(a_gpu_that_is_listed_twice_counts_once),
                cmocka_unit_test(only_what_has_changed_is_told),
                cmocka_unit_test(a_start_is_for_the_machine_that_it_was_asked_for),
                cmocka_unit_test(a_start_is_for_the_gpus_that_it_was_asked_for),
                cmocka_unit_test(a_disk_is_for_the_machine_that_it_was_asked_for),
                cmocka_unit_test(machines_that_have_swapped_names_keep_their_paths),
                cmocka_unit_test(a_name_that_is_handed_on_goes_to_the_right_machine),
                cmocka_unit_test(a_domain_that_is_defined_with_another_uuid_has_the_path),
                cmocka_unit_test(a_foreign_domain_with_its_name_hides_a_machine_until_it_is_seen),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
