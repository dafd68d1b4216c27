#include "drift-scene.h"

#include "testing.h"

/* --- an observer that writes it down --- */

static void diary_drift(void *userdata, const Gpu *gpu, const GpuDrift *drift) {
        Diary *diary = userdata;
        char shown[PCI_ADDRESS_BUFFER];

        g_string_append_printf(diary->drifts, "%s %s>%s\n",
                               pci_address_print(drift->function, shown), drift->old_driver,
                               drift->driver);
}

static void diary_state(void *userdata, const Gpu *gpu, GpuState old, const char *reason) {
        Diary *diary = userdata;
        char shown[PCI_ADDRESS_BUFFER];

        if (g_str_equal(pci_address_print(gpu->address, shown), CARD))
                g_string_append_printf(diary->states, "%s>%s (%s)\n", gpu_state_to_string(old),
                                       gpu_state_to_string(gpu->view.state), reason);
}

static void diary_loss(void *userdata, const Machine *machine, PciAddress gpu) {
        Diary *diary = userdata;
        char shown[PCI_ADDRESS_BUFFER];

        g_string_append_printf(diary->losses, "%s %s\n", machine->name,
                               pci_address_print(gpu, shown));
}

static void diary_machine(void *userdata, const Machine *machine, unsigned changes) {
        Diary *diary = userdata;

        if (changes & MACHINE_CHANGED_GPUS)
                diary->gpus_changed++;
}

static const Observer diary_observer = {
        .gpu_drifted = diary_drift,
        .gpu_state_changed = diary_state,
        .machine_lost_gpu = diary_loss,
        .machine_changed = diary_machine,
};

void diary_clear(Diary *diary) {
        g_string_free(diary->drifts, TRUE);
        g_string_free(diary->states, TRUE);
        g_string_free(diary->losses, TRUE);
}

void forget(GString *written) {
        g_string_truncate(written, 0);
}

void observe(World *world, Diary *diary) {
        manager_set_observer(world->manager, &diary_observer, diary);
}

/* --- the scene --- */

World *scene(Diary *diary) {
        World *world = world_new();

        world_add(world, CARD, 0x038000, 1, "bochs-drm");
        world_add(world, AUDIO, 0x040300, 1, "snd_hda_intel");
        world_add(world, OTHER, 0x038000, 2, "bochs-drm");
        world_boot(world);
        world_run(world);
        observe(world, diary);
        return world;
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

void assert_gpu(World *world, const char *address, GpuState state, const char *driver) {
        const Gpu *gpu = gpu_at(world, address);

        assert_string_equal(gpu_state_to_string(gpu->view.state), gpu_state_to_string(state));
        assert_string_equal(gpu_pending_to_string(gpu->view.pending), "");
        assert_string_equal(gpu_fault_to_string(gpu->view.fault), "");
        assert_string_equal(gpu->facts->function.driver, driver);
        assert_string_equal(world_driver(world, address), driver);
}

void create(World *world, const char *name, const char *gpu, const char *other, Caller *caller) {
        const char *gpus[] = { gpu, other, NULL };
        g_autoptr(GPtrArray) findings = findings_new();
        Request *request = request_new(name, gpus, findings);

        request_finish(request, findings);
        assert_int_equal(findings->len, 0);
        manager_create(world->manager, request, caller_done, caller);
}

void run_box(World *world) {
        Caller caller = { 0 };

        create(world, "box", CARD, OTHER, &caller);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, CARD, GPU_ATTACHED, "vfio-pci");
}

void end_box(World *world) {
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
}

void call_and_run(World *world,
                  void (*method)(Manager *manager, PciAddress address, ManagerDone done,
                                 void *userdata),
                  Caller *caller) {
        method(world->manager, at(CARD), caller_done, caller);
        world_run(world);
}

void bind_card(World *world) {
        Caller caller = { 0 };

        call_and_run(world, manager_bind_gpu, &caller);
        assert_done(&caller);
        assert_gpu(world, CARD, GPU_VFIO_BOUND, "vfio-pci");
        assert_int_equal(world->ledger->len, 1);
}

void rebind(World *world, const char *address, const char *driver) {
        world_rebind(world, address, driver);
        world_uevent(world, CARD);
        world_run(world);
}
