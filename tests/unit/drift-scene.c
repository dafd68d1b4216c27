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

        if (g_str_equal(pci_address_print(gpu->address, shown), AUDIO_CARD))
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

World *observed_scene(Diary *diary) {
        World *world = booted_scene();

        observe(world, diary);
        return world;
}

void assert_driven(World *world, const char *address, GpuState state, const char *driver) {
        assert_string_equal(gpu_at_rest(world, address, state)->facts->function.driver, driver);
        assert_string_equal(world_driver(world, address), driver);
}

void end_box(World *world) {
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
}

void call_and_run(World *world,
                  void (*method)(Manager *manager, PciAddress address, ManagerDone done,
                                 void *userdata),
                  Caller *caller) {
        method(world->manager, at(AUDIO_CARD), caller_done, caller);
        world_run(world);
}

void bind_card(World *world) {
        Caller caller = { 0 };

        call_and_run(world, manager_bind_gpu, &caller);
        assert_done(&caller);
        assert_driven(world, AUDIO_CARD, GPU_VFIO_BOUND, "vfio-pci");
        assert_int_equal(world->ledger->len, 1);
}

void rebind(World *world, const char *address, const char *driver) {
        world_rebind(world, address, driver);
        world_uevent(world, AUDIO_CARD);
        world_run(world);
}
