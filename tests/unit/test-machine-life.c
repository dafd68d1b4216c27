/* The rest of a machine's life: pausing, disks and NICs, consoles, machines that start with the
 * host. */
#include "caller.h"
#include "testing.h"
#include "world.h"

#include <string.h>
#include <unistd.h>

#define CARD "0000:01:00.0"

/* --- the scene --- */

static Request *request_for(const char *name) {
        const char *gpus[] = { CARD, NULL };
        g_autoptr(GPtrArray) findings = findings_new();
        Request *request = request_new(name, gpus, findings);

        request_finish(request, findings);
        assert_int_equal(findings->len, 0);
        return request;
}

static World *scene_with(Request *request) {
        World *world = world_new();
        Caller caller = { 0 };

        world_add(world, CARD, 0x038000, 1, "bochs-drm");
        g_hash_table_insert(world->netdevs, g_strdup("br0"), GINT_TO_POINTER(NETDEV_BRIDGE));
        g_hash_table_insert(world->netdevs, g_strdup("tap0"), GINT_TO_POINTER(NETDEV_TAP));
        g_hash_table_insert(world->images, g_strdup("data.img"), GINT_TO_POINTER(IMAGE_OK));
        g_hash_table_insert(world->images, g_strdup("out.img"), GINT_TO_POINTER(IMAGE_NOT_ALLOWED));
        world_boot(world);
        world_run(world);
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        return world;
}

static World *scene(void) {
        return scene_with(request_for("box"));
}

static MachineState state_of(World *world, const char *name) {
        return manager_machine(world->manager, name)->state;
}

static void look_finds(World *world, WorldDomain *domain, DomainState state) {
        domain->state = state;
        world_look_again(world, domain);
        world_run(world);
}

static DeviceRequest *disk(const char *id, const char *path) {
        DeviceRequest *device = device_request_new(DEVICE_DISK);

        device->id = g_strdup(id);
        device->path = g_strdup(path);
        return device;
}

static DeviceRequest *nic(NicType type, const char *source) {
        DeviceRequest *device = device_request_new(DEVICE_NIC);

        device->type = type;
        device->source = g_strdup(source);
        return device;
}

static void attach(World *world, DeviceRequest *device, Caller *caller) {
        manager_attach_device(world->manager, world_machine(world, "box"), device, caller_attached,
                              caller);
        world_run(world);
}

/* --- the tests --- */

static void a_paused_machine_keeps_its_gpu_and_resumes(void **unused) {
        World *world = scene();
        Caller caller = { 0 };
        PciAddress card;

        assert_true(pci_address_parse(CARD, &card));
        manager_pause_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_int_equal(state_of(world, "box"), MACHINE_PAUSED);
        assert_int_equal(manager_gpu(world->manager, card)->view.state, GPU_ATTACHED);
        manager_pause_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        manager_reboot_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        manager_resume_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_int_equal(state_of(world, "box"), MACHINE_RUNNING);
        manager_resume_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        world_free(world);
}

static void a_guest_that_ignores_the_button_stays_stopping_until_it_is_powered_off(void **unused) {
        World *world = scene();
        Caller caller = { 0 };

        manager_shutdown_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world_look_again(world, world_domain(world, "box"));
        world_run(world);
        assert_int_equal(state_of(world, "box"), MACHINE_STOPPING);
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        world_run(world);
        assert_done(&caller);
        assert_int_equal(state_of(world, "box"), MACHINE_STOPPED);
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_int_equal(state_of(world, "box"), MACHINE_RUNNING);
        world_free(world);
}

static void a_guest_that_reboots_through_a_shutdown_runs_again(void **unused) {
        World *world = scene();
        WorldDomain *domain = world_domain(world, "box");

        look_finds(world, domain, DOMAIN_STOPPING);
        assert_int_equal(state_of(world, "box"), MACHINE_STOPPING);
        look_finds(world, domain, DOMAIN_RUNNING);
        assert_int_equal(state_of(world, "box"), MACHINE_RUNNING);
        world_free(world);
}

static void a_reboot_changes_no_state(void **unused) {
        World *world = scene();
        Caller caller = { 0 };

        manager_reboot_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_int_equal(state_of(world, "box"), MACHINE_RUNNING);
        world_free(world);
}

static void what_libvirt_refuses_leaves_the_machine_as_it_was(void **unused) {
        World *world = scene();
        Caller caller = { 0 };

        world->fail_verb[HYPERVISOR_PAUSE] = world->fail_verb[HYPERVISOR_REBOOT] = true;
        manager_pause_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);
        manager_reboot_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);
        assert_int_equal(state_of(world, "box"), MACHINE_RUNNING);
        world_free(world);
}

static void a_machine_that_is_off_can_neither_pause_nor_reboot_nor_speak(void **unused) {
        Request *request = request_for("box");
        Caller caller = { 0 };
        World *world;

        request->start = false;
        world = scene_with(request);
        manager_pause_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        manager_resume_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        manager_reboot_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        manager_open_machine_console(world->manager, world_machine(world, "box"), 0, caller_console,
                                     &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        world_free(world);
}

static void disks_and_nics_come_and_go(void **unused) {
        World *world = scene();
        Caller caller = { 0 };

        attach(world, disk(NULL, "data.img"), &caller);
        assert_string_equal(caller.id, "disk1");
        assert_done(&caller);
        attach(world, nic(NIC_BRIDGE, "br0"), &caller);
        assert_string_equal(caller.id, "nic1");
        assert_done(&caller);
        attach(world, nic(NIC_TAP, "tap0"), &caller);
        assert_string_equal(caller.id, "nic2");
        assert_done(&caller);
        manager_detach_device(world->manager, world_machine(world, "box"), DEVICE_DISK, "disk1",
                              caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        manager_detach_device(world->manager, world_machine(world, "box"), DEVICE_NIC, "nic1",
                              caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_int_equal(world_domain(world, "box")->disks->len, 0);
        assert_int_equal(world_domain(world, "box")->nics->len, 1);
        world_free(world);
}

static void what_cannot_be_attached_is_refused_with_its_reason(void **unused) {
        World *world = scene();
        Caller caller = { 0 };

        attach(world, disk(NULL, "missing.img"), &caller);
        assert_refused(&caller, REFUSAL_IMAGE_NOT_FOUND);
        attach(world, disk(NULL, "out.img"), &caller);
        assert_refused(&caller, REFUSAL_IMAGE_NOT_ALLOWED);
        attach(world, nic(NIC_NETWORK, "nowhere"), &caller);
        assert_refused(&caller, REFUSAL_INVALID_OPTION);
        attach(world, nic(NIC_BRIDGE, "tap0"), &caller);
        assert_refused(&caller, REFUSAL_INVALID_OPTION);
        attach(world, nic(NIC_TAP, "br0"), &caller);
        assert_refused(&caller, REFUSAL_INVALID_OPTION);
        attach(world, disk("data", "data.img"), &caller);
        assert_done(&caller);
        attach(world, disk("data", "data.img"), &caller); /* the id, and the file */
        assert_refused(&caller, REFUSAL_INVALID_OPTION);
        attach(world, disk("more", "data.img"), &caller);
        assert_true(strstr(caller.message, "in use by machine box") != NULL);
        assert_refused(&caller, REFUSAL_INVALID_OPTION);
        world->fail_attach = true;
        attach(world, nic(NIC_BRIDGE, "br0"), &caller);
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);
        manager_detach_device(world->manager, world_machine(world, "box"), DEVICE_DISK, "nothing",
                              caller_done, &caller);
        assert_refused(&caller, REFUSAL_INVALID_OPTION);
        manager_detach_device(world->manager, world_machine(world, "nobody"), DEVICE_DISK, "data",
                              caller_done, &caller);
        assert_refused(&caller, REFUSAL_NO_SUCH_MACHINE);
        assert_int_equal(world_domain(world, "box")->disks->len, 1);
        world_free(world);
}

static void a_machine_that_is_off_has_its_files_all_the_same(void **unused) {
        Request *request = request_for("box");
        Caller caller = { 0 };
        World *world;

        request->start = false;
        request->image = g_strdup("data.img");
        world = scene_with(request);
        attach(world, disk(NULL, "data.img"), &caller);
        assert_refused(&caller, REFUSAL_INVALID_OPTION);
        world_free(world);
}

static void a_file_that_a_machine_writes_is_no_second_machines_disk(void **unused) {
        Request *first = request_for("box"), *second = request_for("other");
        Caller caller = { 0 };
        World *world;

        g_array_set_size(second->gpus, 0);
        first->image = g_strdup("data.img");
        second->image = g_strdup("data.img");
        world = scene_with(first);
        manager_create(world->manager, second, caller_done, &caller);
        world_run(world);
        assert_true(strstr(caller.message, "in use by machine box") != NULL);
        assert_refused(&caller, REFUSAL_INVALID_OPTION);
        world_free(world);
}

static void the_console_is_handed_out(void **unused) {
        World *world = scene();
        Caller caller = { 0 };
        char text[8] = "";

        manager_open_machine_console(world->manager, world_machine(world, "box"), 0, caller_console,
                                     &caller);
        assert_int_equal(read(caller.fd, text, sizeof(text)), 5);
        assert_string_equal(text, "hello");
        assert_int_equal(read(caller.fd, text, sizeof(text)), 0);
        close(caller.fd);
        assert_done(&caller);
        manager_get_machine_xml(world->manager, world_machine(world, "box"), caller_xml, &caller);
        assert_done(&caller);
        manager_get_machine_xml(world->manager, world_machine(world, "nobody"), caller_xml,
                                &caller);
        assert_refused(&caller, REFUSAL_NO_SUCH_MACHINE);
        world_free(world);
}

static World *restarted(World *world, bool host_too) {
        world_kill_daemon(world);
        if (host_too) {
                world_domain(world, "box")->qemu = world_domain(world, "box")->active = false;
                world->booted_before = false;
                /* A reboot gives every card to its host driver and empties /run. */
                g_strlcpy(world_function(world, CARD)->facts.driver, "bochs-drm", 64);
                world_function(world, CARD)->driver_override[0] = '\0';
                g_ptr_array_set_size(world->ledger, 0);
        }
        world_boot(world);
        world_run(world);
        return world;
}

static void autostart_starts_a_machine_once_with_the_host(void **unused) {
        Request *request = request_for("box");
        Caller caller = { 0 };
        World *world;

        request->autostart = true;
        world = scene_with(request);
        restarted(world, true);
        assert_int_equal(state_of(world, "box"), MACHINE_RUNNING);

        /* What its administrator has stopped, a mere restart of the daemon does not start. */
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        world_run(world);
        assert_done(&caller);
        restarted(world, false);
        assert_int_equal(state_of(world, "box"), MACHINE_STOPPED);
        world_free(world);
}

static void without_autostart_a_machine_waits_to_be_started(void **unused) {
        World *world = scene();

        restarted(world, true);
        assert_int_equal(state_of(world, "box"), MACHINE_STOPPED);
        world_free(world);
}

/* virsh start, or a Create whose daemon died meanwhile. */
static void a_start_by_somebody_else_is_told_until_it_has_ended(void **unused) {
        const char *no_gpus[] = { NULL };
        g_autoptr(GPtrArray) findings = findings_new();
        Request *request = request_new("bare", no_gpus, findings);
        World *world;
        WorldDomain *domain;
        Caller caller = { 0 };

        request->start = false;
        request_finish(request, findings);
        world = scene_with(request);
        domain = world_domain(world, "bare");
        domain->first_start = FIRST_START_DONE;
        domain->qemu = domain->active = true;
        domain->pid = ++world->next_pid;
        look_finds(world, domain, DOMAIN_STARTING);
        assert_int_equal(state_of(world, "bare"), MACHINE_STARTING);
        manager_start_machine(world->manager, world_machine(world, "bare"), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_INVALID_STATE);

        look_finds(world, domain, DOMAIN_RUNNING);
        assert_int_equal(state_of(world, "bare"), MACHINE_RUNNING);

        look_finds(world, domain, DOMAIN_STARTING);
        assert_int_equal(state_of(world, "bare"), MACHINE_STARTING);
        world_end_domain(world, domain, DOMAIN_OFF_FAILED);
        world_run(world);
        assert_int_equal(state_of(world, "bare"), MACHINE_STOPPED);
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_paused_machine_keeps_its_gpu_and_resumes),
                cmocka_unit_test(
                        a_guest_that_ignores_the_button_stays_stopping_until_it_is_powered_off),
                cmocka_unit_test(a_guest_that_reboots_through_a_shutdown_runs_again),
                cmocka_unit_test(a_reboot_changes_no_state),
                cmocka_unit_test(what_libvirt_refuses_leaves_the_machine_as_it_was),
                cmocka_unit_test(a_machine_that_is_off_can_neither_pause_nor_reboot_nor_speak),
                cmocka_unit_test(disks_and_nics_come_and_go),
                cmocka_unit_test(what_cannot_be_attached_is_refused_with_its_reason),
                cmocka_unit_test(a_machine_that_is_off_has_its_files_all_the_same),
                cmocka_unit_test(a_file_that_a_machine_writes_is_no_second_machines_disk),
                cmocka_unit_test(the_console_is_handed_out),
                cmocka_unit_test(autostart_starts_a_machine_once_with_the_host),
                cmocka_unit_test(without_autostart_a_machine_waits_to_be_started),
                cmocka_unit_test(a_start_by_somebody_else_is_told_until_it_has_ended),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
