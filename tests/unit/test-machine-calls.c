/* The manager against a world in memory: what a call on a machine begins and takes back, also when
 * its domain is forgotten, another call is under way, or libvirt has lost what it was asked. */
#include "bus-model.h"
#include "manager-scene.h"
#include "testing.h"

#include <string.h>

#define THEIR_UUID "11111111-2222-3333-4444-555555555555"

static DeviceRequest *nic(void) {
        DeviceRequest *device = device_request_new(DEVICE_NIC);

        device->source = g_strdup("default");
        return device;
}

/* --- a domain that libvirt has forgotten --- */

static void a_machine_that_libvirt_forgot_goes_when_its_qemu_is_dead(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;
        BusModel *bus;

        run_box(world);
        domain = world_domain(world, "box");
        bus = bus_model_new(world->manager);
        domain->known = false; /* destroyed and undefined; its QEMU hangs in the kernel */
        world_look_again(world, domain);
        world_run(world);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_STOPPING);
        manager_attach_device(world->manager, world_machine(world, "box"), nic(), caller_attached,
                              &caller);
        assert_refused(&caller, REFUSAL_INVALID_STATE);

        world_set_connected(world, false);
        world_run(world);
        world_kill_qemu(world, domain);
        world_run(world);
        assert_null(manager_machine(world->manager, "box"));
        manager_attach_device(world->manager, world_machine(world, "box"), nic(), caller_attached,
                              &caller);
        assert_refused(&caller, REFUSAL_NO_SUCH_MACHINE);
        manager_detach_device(world->manager, world_machine(world, "box"), DEVICE_NIC, "lan",
                              caller_done, &caller);
        assert_refused(&caller, REFUSAL_NO_SUCH_MACHINE);
        bus_model_check(bus, world->manager);
        world_set_connected(world, true);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
        bus_model_free(bus);
}

/* virsh undefine of a running machine: its guest powers off, libvirt forgets it at once, and goes
 * before the process has been reaped. */
static void also_when_libvirt_goes_before_that(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;

        run_box(world);
        domain = world_domain(world, "box");
        domain->known = false;
        world->hypervisor_events->domain_gone(world->manager, domain->uuid);
        world->connecting = true;
        world_set_connected(world, false);
        domain->active = false;
        world_kill_qemu(world, domain);
        world_run(world);
        assert_null(manager_machine(world->manager, "box"));
        manager_attach_device(world->manager, world_machine(world, "box"), nic(), caller_attached,
                              &caller);
        assert_refused(&caller, REFUSAL_NO_SUCH_MACHINE);
        world_free(world);
}

/* --- a Create that libvirt lost --- */

static void create_with_their_uuid(World *world, Caller *caller) {
        Request *request = request_for("box", AUDIO_CARD, NULL);

        request->uuid = g_strdup(THEIR_UUID);
        manager_create(world->manager, request, caller_done, caller);
        world_run(world);
}

static void a_create_that_is_asked_again_after_an_outage_is_not_undone(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        world->lose_define = true;
        create_with_their_uuid(world, &caller);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        world_set_connected(world, true);
        world_run(world);
        create_with_their_uuid(world, &caller);
        assert_done(&caller);
        world_look_again(world, world_domain(world, "box"));
        world_run(world);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_RUNNING);
        world_free(world);
}

/* Somebody defines a machine that he has saved earlier, as it was. */
static void nor_is_a_domain_that_somebody_defines_with_that_uuid_later(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;

        world->lose_define = true;
        create_with_their_uuid(world, &caller);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        for (unsigned listings = 0; listings < 2; listings++) {
                world_set_connected(world, true);
                world_run(world);
        }
        domain = world_add_foreign(world, "box", THIRD_CARD);
        strcpy(domain->uuid, THEIR_UUID);
        domain->ours = true;
        domain->definition = request_for("box", NULL);
        domain->first_start = FIRST_START_DONE;
        world_set_power(world, THIRD_CARD, "0", "on");
        world_look_again(world, domain);
        world_run(world);
        assert_true(domain->active && domain->known);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_RUNNING);
        world_free(world);
}

/* The start was lost, not the machine: libvirt may have begun it, and it is to be off. */
static void nor_is_a_start_that_is_asked_again(void **state) {
        World *world = booted_scene();
        Request *request = request_for("box", AUDIO_CARD, NULL);
        Caller caller = { 0 };

        request->start = false;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        while (caller.answers == 0) {
                assert_true(world_step(world));
                if (gpu_at(world, AUDIO_CARD)->view.pending == GPU_PENDING_STARTING)
                        world->connected = false;
        }
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        world_set_connected(world, true);
        world_run(world);
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_RUNNING);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

/* --- two calls at once --- */

static void assert_state(World *world, MachineState state) {
        assert_string_equal(machine_state_to_string(manager_machine(world->manager, "box")->state),
                            machine_state_to_string(state));
}

static void a_pause_that_fails_takes_back_no_power_off(void **state) {
        World *world = booted_scene();
        Caller pause = { 0 }, off = { 0 };

        run_box(world);
        world->fail_verb[HYPERVISOR_PAUSE] = true;
        manager_pause_machine(world->manager, world_machine(world, "box"), caller_done, &pause);
        world->hold_verb[HYPERVISOR_DESTROY] = true;
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done, &off);
        world_run(world);
        assert_refused(&pause, REFUSAL_HYPERVISOR_FAILED);
        assert_int_equal(off.answers, 0);
        assert_state(world, MACHINE_STOPPING);
        world_let_go(world);
        world_run(world);
        assert_done(&off);
        assert_state(world, MACHINE_STOPPED);
        world_free(world);
}

static void a_power_off_that_fails_takes_back_no_shutdown(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        manager_shutdown_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world->fail_verb[HYPERVISOR_DESTROY] = true;
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);
        assert_state(world, MACHINE_STOPPING);
        world_free(world);
}

static void nor_does_a_shutdown_that_fails_take_back_a_power_off_under_way(void **state) {
        World *world = booted_scene();
        Caller down = { 0 }, off = { 0 };

        run_box(world);
        world->fail_verb[HYPERVISOR_SHUTDOWN] = true;
        world->hold_verb[HYPERVISOR_DESTROY] = true;
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done, &off);
        manager_shutdown_machine(world->manager, world_machine(world, "box"), caller_done, &down);
        world_run(world);
        assert_refused(&down, REFUSAL_HYPERVISOR_FAILED);
        assert_state(world, MACHINE_STOPPING);
        world_let_go(world);
        world_run(world);
        assert_done(&off);
        assert_state(world, MACHINE_STOPPED);
        world_free(world);
}

static void a_guest_that_was_asked_to_shut_down_is_still_to_after_a_restart(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        manager_shutdown_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world_kill_daemon(world);
        world_boot(world);
        world_run(world);
        assert_state(world, MACHINE_STOPPING);
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        world_run(world);
        assert_done(&caller);
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_state(world, MACHINE_RUNNING);
        world_free(world);
}

static void a_power_off_that_fails_alone_is_taken_back(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        world->fail_verb[HYPERVISOR_DESTROY] = true;
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        assert_state(world, MACHINE_STOPPING);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);
        assert_state(world, MACHINE_RUNNING);
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_machine_that_libvirt_forgot_goes_when_its_qemu_is_dead),
                cmocka_unit_test(also_when_libvirt_goes_before_that),
                cmocka_unit_test(a_create_that_is_asked_again_after_an_outage_is_not_undone),
                cmocka_unit_test(nor_is_a_domain_that_somebody_defines_with_that_uuid_later),
                cmocka_unit_test(nor_is_a_start_that_is_asked_again),
                cmocka_unit_test(a_pause_that_fails_takes_back_no_power_off),
                cmocka_unit_test(a_power_off_that_fails_takes_back_no_shutdown),
                cmocka_unit_test(nor_does_a_shutdown_that_fails_take_back_a_power_off_under_way),
                cmocka_unit_test(a_guest_that_was_asked_to_shut_down_is_still_to_after_a_restart),
                cmocka_unit_test(a_power_off_that_fails_alone_is_taken_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
