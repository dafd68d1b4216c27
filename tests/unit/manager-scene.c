#include "manager-scene.h"

#include "testing.h"

World *scene(void) {
        World *world = world_new();

        world_add(world, AUDIO_CARD, 0x038000, 1, "bochs-drm");
        world_add(world, AUDIO, 0x040300, 1, "snd_hda_intel");
        world_add(world, OTHER_CARD, 0x038000, 2, "virtio-pci");
        world_add(world, THIRD_CARD, 0x038000, 3, "bochs-drm");
        world_add(world, NIC, 0x020000, 5, "e1000e");
        /* One is at the administrator's mercy, one at its driver's, and one cannot sleep at all. */
        world_set_power(world, AUDIO, "0", "auto");
        world_set_power(world, OTHER_CARD, "1", "on");
        world_set_power(world, THIRD_CARD, "", "");
        return world;
}

World *booted_scene(void) {
        World *world = scene();

        world_boot(world);
        world_run(world);
        return world;
}

World *scene_with_a_kept_card(void) {
        World *world = scene();

        g_strlcpy(world_function(world, AUDIO_CARD)->facts.driver, "vfio-pci", 64);
        g_strlcpy(world_function(world, AUDIO)->facts.driver, "vfio-pci", 64);
        world_boot(world);
        world_run(world);
        return world;
}

Request *request_for(const char *name, ...) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(GPtrArray) gpus = g_ptr_array_new();
        const char *gpu;
        Request *request;
        va_list args;

        va_start(args, name);
        while ((gpu = va_arg(args, const char *)))
                g_ptr_array_add(gpus, (char *)gpu);
        va_end(args);
        g_ptr_array_add(gpus, NULL);
        request = request_new(name, (const char *const *)gpus->pdata, findings);
        request_finish(request, findings);
        assert_int_equal(findings->len, 0);
        return request;
}

PciAddress at(const char *address) {
        PciAddress ret;

        assert_true(pci_address_parse(address, &ret));
        return ret;
}

const Gpu *gpu_at(World *world, const char *address) {
        const Gpu *gpu = manager_gpu(world->manager, at(address));

        assert_non_null(gpu);
        return gpu;
}

const Gpu *gpu_at_rest(World *world, const char *address, GpuState state) {
        const Gpu *gpu = gpu_at(world, address);

        assert_string_equal(gpu_state_to_string(gpu->view.state), gpu_state_to_string(state));
        assert_string_equal(gpu_pending_to_string(gpu->view.pending), "");
        assert_string_equal(gpu_fault_to_string(gpu->view.fault), "");
        return gpu;
}

void assert_gpu(World *world, const char *address, GpuState state, const char *machine) {
        assert_string_equal(gpu_at_rest(world, address, state)->machine_name, machine);
}

void assert_power(World *world, const char *address, const char *d3cold_allowed,
                  const char *control) {
        const FunctionPower *power = &world_function(world, address)->power;

        assert_string_equal(power->d3cold_allowed, d3cold_allowed);
        assert_string_equal(power->control, control);
}

void assert_power_is_as_before(World *world) {
        assert_power(world, AUDIO_CARD, "1", "auto");
        assert_power(world, AUDIO, "0", "auto");
        assert_power(world, OTHER_CARD, "1", "on");
        assert_power(world, THIRD_CARD, "", "");
}

void assert_awake(World *world) {
        assert_true(world_is_awake(world, AUDIO_CARD));
        assert_true(world_is_awake(world, AUDIO));
}

void assert_everything_home(World *world) {
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
        assert_gpu(world, THIRD_CARD, GPU_HOST_BOUND, "");
        assert_string_equal(world_driver(world, AUDIO_CARD), "bochs-drm");
        assert_string_equal(world_driver(world, AUDIO), "snd_hda_intel");
        assert_string_equal(world_driver(world, OTHER_CARD), "virtio-pci");
        assert_string_equal(world_driver(world, NIC), "e1000e");
        assert_string_equal(world_function(world, AUDIO_CARD)->driver_override, "");
        assert_string_equal(world_function(world, AUDIO)->driver_override, "");
        assert_power_is_as_before(world);
        assert_int_equal(world->ledger->len, 0);
        assert_int_equal(world->helpers->len, 0);
}

void assert_kept_card_is_as_before(World *world) {
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        assert_string_equal(world_driver(world, AUDIO), "vfio-pci");
        assert_power_is_as_before(world);
        assert_int_equal(world->ledger->len, 0);
}

void assert_no_machine(World *world) {
        assert_null(manager_machine(world->manager, "box"));
        assert_null(world_domain(world, "box"));
}

void create_box(World *world, Caller *caller) {
        manager_create(world->manager, request_for("box", AUDIO_CARD, OTHER_CARD, NULL),
                       caller_done, caller);
}

void run_box(World *world) {
        Caller caller = { 0 };

        create_box(world, &caller);
        world_run(world);
        assert_done(&caller);
}

void get_stuck(World *world, bool by_bind) {
        Caller caller = { 0 };

        world_mark(world->stuck, AUDIO_CARD);
        if (by_bind)
                manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        else
                create_box(world, &caller);
        world_run(world);
        assert_int_equal(caller.answers, 0);
        world_overdue(world, AUDIO_CARD);
        world_run(world);
        assert_refused(&caller, REFUSAL_HANDOVER_TIMEOUT);
}
