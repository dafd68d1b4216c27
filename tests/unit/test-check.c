/* Every row of the judgement: one thing wrong with an otherwise perfect host at a time. */
#include "check-scene.h"

#include "testing.h"

#include <errno.h>
#include <string.h>

static void a_perfect_request_finds_nothing(void **state) {
        Scene *scene = scene_new();

        check_request(&scene->facts, scene->request, scene->findings);
        assert_int_equal(scene->findings->len, 0);
        scene_free(scene);
}

static void no_such_device(void **state) {
        Scene *scene = scene_new();

        scene_card(scene)->facts = NULL;
        expect(scene, REFUSAL_NO_SUCH_GPU, "0000:01:00.0", "no PCI device");
}

static void not_a_display_controller(void **state) {
        Scene *scene = scene_new();

        scene->gpu->function.class = 0x020000;
        expect(scene, REFUSAL_NOT_A_GPU, "0000:01:00.0", "020000");
}

static void a_later_display_function_of_a_card_is_not_the_gpu(void **state) {
        Scene *scene = scene_new();

        g_array_set_size(scene->gpu->companions, 0);
        add_function(scene->gpu->companions, "01:00.0", 0x030000, "radeon");
        assert_true(pci_address_parse("01:00.1", &scene->gpu->function.address));
        expect(scene, REFUSAL_NOT_A_GPU, "0000:01:00.0", "further function");
}

static void a_virtual_function_or_a_function_with_some(void **state) {
        Scene *scene = scene_new();

        scene->gpu->function.virtual_function = true;
        expect(scene, REFUSAL_VIRTUAL_FUNCTION, "0000:01:00.0", "virtual function");
        scene = scene_new();
        scene->gpu->function.enabled_vfs = 4;
        expect(scene, REFUSAL_VIRTUAL_FUNCTION, "0000:01:00.0", "enabled");
}

static void no_iommu_group_or_no_iommu_or_no_vfio(void **state) {
        Scene *scene = scene_new();

        scene->gpu->iommu_group = -1;
        expect(scene, REFUSAL_NO_IOMMU, "0000:01:00.0", "no IOMMU group");
        scene = scene_new();
        scene->facts.host.iommu = false;
        expect(scene, REFUSAL_NO_IOMMU, "0000:01:00.0", "no IOMMU group");
        scene = scene_new();
        scene->facts.host.vfio = false;
        expect(scene, REFUSAL_NO_IOMMU, "0000:01:00.0", "vfio-pci");
}

static void a_stranger_in_the_group_counts_only_on_a_host_driver(void **state) {
        static const char *const harmless[] = { "", "vfio-pci", "pci-stub" };
        Scene *scene = scene_new();

        add_function(scene->gpu->neighbours, "02:00.0", 0x020000, "e1000e");
        expect(scene, REFUSAL_GROUP_NOT_VIABLE, "0000:01:00.0", "0000:02:00.0 (e1000e)");
        for (size_t i = 0; i < G_N_ELEMENTS(harmless); i++) {
                scene = scene_new();
                add_function(scene->gpu->neighbours, "02:00.0", 0x020000, harmless[i]);
                check_request(&scene->facts, scene->request, scene->findings);
                assert_int_equal(scene->findings->len, 0);
                scene_free(scene);
        }
}

static void two_cards_of_one_group_asked_for_together_are_viable(void **state) {
        Scene *scene = scene_new();
        g_autoptr(DeviceFacts) second = device_facts_new();
        CheckCard card = *scene_card(scene);

        add_function(scene->gpu->neighbours, "02:00.0", 0x030000, "nouveau");
        second->function.class = 0x030000;
        second->iommu_group = 7;
        assert_true(pci_address_parse("02:00.0", &second->function.address));
        add_function(second->neighbours, "01:00.0", 0x030000, "nouveau");
        add_function(second->neighbours, "01:00.1", 0x040300, "snd_hda_intel");
        card.address = second->function.address;
        card.facts = second;
        g_array_append_val(scene->facts.cards, card);
        check_request(&scene->facts, scene->request, scene->findings);
        assert_int_equal(scene->findings->len, 0);
        scene_free(scene);
}

static void the_boot_display_unless_allowed(void **state) {
        Scene *scene = scene_new();

        scene->gpu->boot_display = true;
        scene->request->allow_boot_display = true;
        check_request(&scene->facts, scene->request, scene->findings);
        assert_int_equal(scene->findings->len, 0);
        scene->request->allow_boot_display = false;
        expect(scene, REFUSAL_BOOT_DISPLAY, "0000:01:00.0", "console");
}

static void a_gpu_that_somebody_has_or_gets(void **state) {
        Scene *scene = scene_new();

        scene_card(scene)->view.state = GPU_ATTACHED;
        scene_card(scene)->taken_by = "other";
        expect(scene, REFUSAL_GPU_IN_USE, "0000:01:00.0", "machine other");
        scene = scene_new();
        scene_card(scene)->view.pending = GPU_PENDING_BINDING;
        scene_card(scene)->taken_by = "other";
        expect(scene, REFUSAL_GPU_IN_USE, "0000:01:00.0", "machine other");
        scene = scene_new();
        scene_card(scene)->neighbour_taken_by = "other";
        expect(scene, REFUSAL_GPU_IN_USE, "0000:01:00.0", "group 7");
}

static void a_gpu_on_its_way(void **state) {
        Scene *scene = scene_new();

        scene_card(scene)->view.pending = GPU_PENDING_RELEASING;
        expect(scene, REFUSAL_INVALID_STATE, "0000:01:00.0", "releasing");
}

static void a_faulted_gpu(void **state) {
        for (GpuFault fault = GPU_FAULT_NONE + 1; fault < _GPU_FAULT_MAX; fault++) {
                Scene *scene = scene_new();

                scene_card(scene)->view.fault = fault;
                scene_card(scene)->fault_message = "The driver sleeps.";
                expect(scene, REFUSAL_GPU_FAULTED, "0000:01:00.0", "The driver sleeps.");
        }
}

static void a_name_or_uuid_that_is_taken(void **state) {
        Scene *scene = scene_new();

        scene->facts.name_taken = true;
        expect(scene, REFUSAL_MACHINE_EXISTS, "box", "box");
        scene = scene_new();
        scene->request->uuid = g_strdup("4dea22b3-1d52-d8f3-2516-782e98ab3fa0");
        scene->facts.uuid_taken = true;
        expect(scene, REFUSAL_MACHINE_EXISTS, "4dea22b3-1d52-d8f3-2516-782e98ab3fa0", "4dea22b3");
}

static void more_than_the_host_has(void **state) {
        Scene *scene = scene_new();

        scene->request->vcpus = scene->request->max_vcpus = 9;
        expect(scene, REFUSAL_INVALID_OPTION, "vcpus", "9");
        scene = scene_new();
        scene->request->max_vcpus = 9;
        expect(scene, REFUSAL_INVALID_OPTION, "max-vcpus", "9");
        scene = scene_new();
        scene->request->memory_mib = 16385;
        expect(scene, REFUSAL_INVALID_OPTION, "memory-mib", "16385");
}

static void a_host_with_one_cpu_runs_the_default(void **state) {
        Scene *scene = scene_new();

        scene->facts.host.cpus = 1;
        scene->request->vcpus = scene->request->max_vcpus = 2;
        expect_nothing(scene);
        scene = scene_new();
        scene->facts.host.cpus = 1;
        scene->request->max_vcpus = 3;
        expect_remedy(scene, REFUSAL_INVALID_OPTION, "max-vcpus", "3", "1 CPUs");
}

static void libvirt_away_or_not_ready(void **state) {
        Scene *scene = scene_new();

        scene->facts.hypervisor.connected = false;
        expect(scene, REFUSAL_HYPERVISOR_UNAVAILABLE, "box", "qemu:///system");
        scene = scene_new();
        scene->facts.domains_known = false;
        expect(scene, REFUSAL_HYPERVISOR_UNAVAILABLE, "box", "not listed");
}

static void libvirt_of_another_host_gets_no_gpu(void **state) {
        Scene *scene = scene_new();

        scene->facts.hypervisor.elsewhere = true;
        scene->facts.hypervisor.uri = "qemu+ssh://far/system";
        expect_remedy(scene, REFUSAL_HYPERVISOR_UNAVAILABLE, "box", "qemu+ssh://far/system",
                      "qemu:///system");
        scene = scene_new();
        scene->facts.hypervisor.elsewhere = true;
        g_array_set_size(scene->request->gpus, 0);
        g_array_set_size(scene->facts.cards, 0);
        expect_nothing(scene);
}

static void uefi_that_is_not_there_and_kvm_that_is_not_there(void **state) {
        Scene *scene = scene_new();

        scene->request->firmware = FIRMWARE_UEFI;
        expect(scene, REFUSAL_INVALID_OPTION, "firmware", "UEFI");
        scene = scene_new();
        scene->facts.hypervisor.kvm = false;
        expect_warning(scene, REFUSAL_NO_KVM, "box", "emulation"); /* it can still be made */
}

static void huge_pages_that_are_not_reserved_are_told_with_their_numbers(void **state) {
        Scene *scene = scene_new();

        scene->request->hugepages = HUGEPAGES_2M; /* 2048 MiB need 1024 of them */
        scene->facts.host.hugepages_2m_total = 1030;
        scene->facts.host.hugepages_2m_free = 1024;
        check_request(&scene->facts, scene->request, scene->findings);
        assert_int_equal(scene->findings->len, 0);
        scene->facts.host.hugepages_2m_free = 1000;
        check_request(&scene->facts, scene->request, scene->findings);
        assert_non_null(strstr(findings_first_error(scene->findings)->remedy, "echo 1054 >"));
        g_ptr_array_set_size(scene->findings, 0);
        expect(scene, REFUSAL_INVALID_OPTION, "hugepages", "1030 reserved ones 1000 are free");
        scene = scene_new();
        scene->request->hugepages = HUGEPAGES_1G;
        scene->request->memory_mib = 1500;
        scene->facts.host.hugepages_1g_free = scene->facts.host.hugepages_1g_total = 8;
        expect(scene, REFUSAL_INVALID_OPTION, "hugepages", "not a whole number of 1G");
}

static void huge_pages_that_are_not_mounted(void **state) {
        Scene *scene = scene_new();

        scene->request->hugepages = HUGEPAGES_1G;
        scene->facts.host.hugepages_1g_free = scene->facts.host.hugepages_1g_total = 8;
        scene->facts.hugepages.unmounted = true;
        expect_remedy(scene, REFUSAL_INVALID_OPTION, "hugepages", "of 1G are not mounted",
                      "pagesize=1G");
}

static Scene *scene_with_2m_pages(HugepagesMount mount) {
        Scene *scene = scene_new();

        scene->request->hugepages = HUGEPAGES_2M; /* 2048 MiB */
        scene->facts.host.hugepages_2m_free = scene->facts.host.hugepages_2m_total = 1024;
        scene->facts.hypervisor.qemu_uid = 64055;
        scene->facts.hugepages = mount;
        return scene;
}

static void huge_pages_whose_mount_is_too_small_or_shut(void **state) {
        expect_nothing(scene_with_2m_pages((HugepagesMount){ .limit_mib = 2048 }));
        expect_remedy(scene_with_2m_pages((HugepagesMount){ .limit_mib = 2047 }),
                      REFUSAL_INVALID_OPTION, "hugepages", "gives no more than 2047 MiB", "size=");
        expect_remedy(scene_with_2m_pages((HugepagesMount){ .shut = true }), REFUSAL_INVALID_OPTION,
                      "hugepages", "(64055) may not enter", "mode=");
        expect_nothing(scene_with_2m_pages((HugepagesMount){ .shut = true, .owner = 64055 }));
}

static void memory_that_the_kernel_does_not_promise(void **state) {
        Scene *scene = scene_new();

        scene->facts.host.promises_left_mib = scene->request->memory_mib - 1;
        expect_nothing(scene); /* it promises more than it has */
        scene = scene_new();
        scene->facts.host.promises_bounded = true;
        scene->facts.host.promises_left_mib = scene->request->memory_mib - 1;
        expect_remedy(scene, REFUSAL_INVALID_OPTION, "memory-mib", "overcommit_memory is 2",
                      "overcommit_ratio");
}

static void a_network_that_is_not_there(void **state) {
        static const struct {
                NicType type;
                NetdevKind netdev;
                bool good;
        } rows[] = {
                { NIC_NETWORK, NETDEV_NONE, false },   { NIC_BRIDGE, NETDEV_NONE, false },
                { NIC_BRIDGE, NETDEV_TAP, false },     { NIC_BRIDGE, NETDEV_OTHER, false },
                { NIC_BRIDGE, NETDEV_BRIDGE, true },   { NIC_TAP, NETDEV_NONE, false },
                { NIC_TAP, NETDEV_BRIDGE, false },     { NIC_TAP, NETDEV_TAP, true },
                { NIC_TAP, NETDEV_OTHER, false },      { NIC_TAP, NETDEV_TAP_TAKEN, false },
                { NIC_TAP, NETDEV_TAP_QUEUES, false },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                Scene *scene = scene_new();
                DeviceRequest *nic = device_request_new(DEVICE_NIC);
                g_autoptr(GArray) nics = g_array_new(FALSE, FALSE, sizeof(NetdevKind));

                nic->type = rows[i].type;
                nic->source = g_strdup("there");
                g_ptr_array_add(scene->request->nics, nic);
                g_array_append_val(nics, rows[i].netdev);
                scene->facts.nics = nics;
                if (!rows[i].good) {
                        expect(scene, REFUSAL_INVALID_OPTION, "there", "there");
                        continue;
                }
                check_request(&scene->facts, scene->request, scene->findings);
                assert_int_equal(scene->findings->len, 0);
                scene_free(scene);
        }
}

static void a_tap_that_is_taken_is_told_of_a_machine_that_is_not_to_run_yet(void **state) {
        Scene *scene = scene_new();
        DeviceRequest *nic = device_request_new(DEVICE_NIC);
        g_autoptr(GArray) nics = g_array_new(FALSE, TRUE, sizeof(NetdevKind));
        NetdevKind taken = NETDEV_TAP_TAKEN;

        nic->type = NIC_TAP;
        nic->source = g_strdup("tap0");
        g_ptr_array_add(scene->request->nics, nic);
        g_array_append_val(nics, taken);
        scene->facts.nics = nics;
        scene->request->start = false;
        expect_warning(scene, REFUSAL_INVALID_OPTION, "tap0", "in use");
}

static void a_network_that_is_active_or_of_which_nobody_knows(void **state) {
        static const char *const networks[] = { "default", NULL };
        Scene *scene = scene_new();
        DeviceRequest *nic = device_request_new(DEVICE_NIC);
        g_autoptr(GArray) nics = g_array_new(FALSE, TRUE, sizeof(NetdevKind));
        NetdevKind none = NETDEV_NONE;

        nic->source = g_strdup("default");
        g_ptr_array_add(scene->request->nics, nic);
        g_array_append_val(nics, none);
        scene->facts.nics = nics;
        scene->facts.hypervisor.networks = networks;
        check_request(&scene->facts, scene->request, scene->findings);
        assert_int_equal(scene->findings->len, 0);
        scene->facts.hypervisor.networks = networks + 1;
        scene->facts.hypervisor.networks_unknown = true; /* it may be */
        expect_nothing(scene);
}

/* Every kind of holder with what its message has to name, and the way to be rid of it. */
static void a_holder_is_named_with_all_that_is_known_of_it(void **state) {
        static const struct {
                HolderKind kind;
                pid_t pid;
                const char *unit, *node, *at;
                const char *says, *remedy;
        } rows[] = {
                { HOLDER_PROCESS, 42, "gdm.service", "/dev/dri/card0", "",
                  "Process 42 (Xorg, unit gdm.service, user alice) has /dev/dri/card0 open.",
                  "Stop that unit" },
                { HOLDER_PROCESS, 42, "", "/dev/dri/card0", "",
                  "Process 42 (Xorg, user alice) has /dev/dri/card0 open.", "End that process" },
                { HOLDER_PROCESS, 42, "", "/dev/input/event3", "", "has /dev/input/event3 open.",
                  "Unplug that input device" },
                { HOLDER_MOUNT, 0, "", "/dev/sdb1", "/mnt", "/dev/sdb1 is mounted at /mnt.",
                  "umount '/mnt'" },
                { HOLDER_MOUNT, 42, "box.service", "/dev/sdb1", "/a\nb",
                  "/dev/sdb1 is mounted at /a\\nb where it is seen by process 42 (Xorg, unit "
                  "box.service, user alice).",
                  "nsenter -t 42 -m umount '/a\\nb'" },
                { HOLDER_SWAP, 0, "", "/dev/sdb2", "", "The host swaps to /dev/sdb2.",
                  "swapoff /dev/sdb2" },
                { HOLDER_DEVICE, 0, "", "/dev/sdb3", "/dev/mapper/vg-lv",
                  "/dev/sdb3 is part of the block device /dev/mapper/vg-lv.",
                  "/dev/mapper/vg-lv apart" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                Scene *scene = scene_new();
                Holder *holder = g_new0(Holder, 1);

                *holder = (Holder){
                        .kind = rows[i].kind,
                        .pid = rows[i].pid,
                        .user = g_strdup("alice"),
                        .command = g_strdup("Xorg"),
                        .unit = g_strdup(rows[i].unit),
                        .node = g_strdup(rows[i].node),
                        .at = g_strdup(rows[i].at),
                };
                g_ptr_array_add(scene->survey->holders, holder);
                expect_remedy(scene, REFUSAL_GPU_BUSY, rows[i].node, rows[i].says, rows[i].remedy);
        }
}

static void a_gpu_that_nobody_was_asked_about(void **state) {
        Scene *scene = scene_new();

        scene_card(scene)->unasked = true;
        expect(scene, REFUSAL_INVALID_STATE, "0000:01:00.0", "not at rest");
}

static void a_firmware_framebuffer_is_named_with_the_way_to_be_without(void **state) {
        Scene *scene = scene_new();

        g_free(scene->gpu->boot_framebuffer);
        scene->gpu->boot_framebuffer = g_strdup("efifb");
        scene->gpu->boot_display = true;
        expect_remedy(scene, REFUSAL_BOOT_DISPLAY, "0000:01:00.0", "the framebuffer efifb",
                      "initcall_blacklist=sysfb_init");
}

/* What need not go wrong is told, and nothing refused for it. */
static void a_gpu_without_reset_or_power_is_a_warning(void **state) {
        static const struct {
                bool no_reset;
                DevicePower power;
                RefusalCode code;
                const char *says;
        } rows[] = {
                { true, POWER_ON, REFUSAL_NO_RESET, "no way to reset" },
                { false, POWER_ASLEEP, REFUSAL_POWERED_DOWN, "sleeps" },
                { false, POWER_OFF, REFUSAL_POWERED_DOWN, "has no power" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                Scene *scene = scene_new();

                scene->gpu->no_reset = rows[i].no_reset;
                scene->gpu->power = rows[i].power;
                expect_warning(scene, rows[i].code, "0000:01:00.0", rows[i].says);
        }
}

/* A request of 2048 MiB, and 192 of QEMU's own. */
static void memory_that_is_not_free(void **state) {
        static const struct {
                uint64_t available, limit, machines;
                bool gpus, huge, start;
                int findings; /* 0 = none, else how severe */
                const char *says;
        } rows[] = {
                { 2240, 0, 0, true, false, true, 0, NULL },
                { 2239, 0, 0, true, false, true, 'w', "the host has 2239 MiB available" },
                { 2239, 0, 0, false, false, true, 'w', "takes 2240 MiB" },
                { 2239, 0, 0, true, false, false, 0, NULL },
                { 192, 0, 0, true, true, true, 0, NULL },
                { 191, 0, 0, true, true, true, 'w', "takes 192 MiB" },
                { 0, 0, 0, true, false, true, 0, NULL }, /* not known */
                { 9999, 4096, 1856, true, false, true, 0, NULL },
                { 9999, 4096, 1857, true, false, true, 'e', "running ones have 1857 MiB" },
                { 9999, 4096, 1857, false, false, true, 'w', "all may have 4096 MiB" },
                { 9999, 4096, 1857, true, true, true, 0, NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                Scene *scene = scene_new();

                scene->facts.host.memory_available_mib = rows[i].available;
                scene->facts.host.machines_limit_mib = rows[i].limit;
                scene->facts.host.hugepages_2m_total = scene->facts.host.hugepages_2m_free = 1024;
                scene->facts.machines_mib = rows[i].machines;
                scene->request->hugepages = rows[i].huge ? HUGEPAGES_2M : HUGEPAGES_NONE;
                scene->request->start = rows[i].start;
                if (!rows[i].gpus)
                        g_array_set_size(scene->facts.cards, 0);
                if (rows[i].findings == 'e')
                        expect(scene, REFUSAL_INVALID_OPTION, "memory-mib", rows[i].says);
                else if (rows[i].findings == 'w')
                        expect_warning(scene, REFUSAL_INVALID_OPTION, "memory-mib", rows[i].says);
                else
                        expect_nothing(scene);
        }
}

static void a_limit_of_all_machines_is_told_with_the_one_that_would_do(void **state) {
        Scene *scene = scene_new();

        scene->facts.host.machines_limit_mib = 2048;
        scene->facts.machines_mib = 1000;
        expect_remedy(scene, REFUSAL_INVALID_OPTION, "memory-mib", "MemoryMax= of machine.slice",
                      "set-property machine.slice MemoryMax=3240M");
}

static void who_has_the_gpu_is_a_warning_to_a_machine_that_is_only_defined(void **state) {
        Scene *scene = scene_new();

        scene->request->start = false;
        scene_card(scene)->view.state = GPU_ATTACHED;
        scene_card(scene)->taken_by = "other";
        expect_warning(scene, REFUSAL_GPU_IN_USE, "0000:01:00.0", "machine other");
        scene = scene_new();
        scene->request->start = false;
        scene_card(scene)->view.fault = GPU_FAULT_STUCK;
        expect_warning(scene, REFUSAL_GPU_FAULTED, "0000:01:00.0", "stuck");
        /* What is not known may be about its images. */
        scene = scene_new();
        scene->request->start = false;
        scene->survey->error = -ETIMEDOUT;
        expect(scene, REFUSAL_GPU_BUSY, "host", "in time");
}

static void a_host_that_does_not_say_who_holds_the_gpu(void **state) {
        Scene *scene = scene_new();

        scene->survey->error = -ETIMEDOUT;
        expect(scene, REFUSAL_GPU_BUSY, "host", "in time");
        scene = scene_new();
        scene->survey->error = -ENOMEM;
        expect(scene, REFUSAL_GPU_BUSY, "host", "could not be asked");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_perfect_request_finds_nothing),
                cmocka_unit_test(no_such_device),
                cmocka_unit_test(not_a_display_controller),
                cmocka_unit_test(a_later_display_function_of_a_card_is_not_the_gpu),
                cmocka_unit_test(a_virtual_function_or_a_function_with_some),
                cmocka_unit_test(no_iommu_group_or_no_iommu_or_no_vfio),
                cmocka_unit_test(a_stranger_in_the_group_counts_only_on_a_host_driver),
                cmocka_unit_test(two_cards_of_one_group_asked_for_together_are_viable),
                cmocka_unit_test(the_boot_display_unless_allowed),
                cmocka_unit_test(a_gpu_that_somebody_has_or_gets),
                cmocka_unit_test(who_has_the_gpu_is_a_warning_to_a_machine_that_is_only_defined),
                cmocka_unit_test(a_gpu_on_its_way),
                cmocka_unit_test(a_faulted_gpu),
                cmocka_unit_test(a_name_or_uuid_that_is_taken),
                cmocka_unit_test(more_than_the_host_has),
                cmocka_unit_test(a_host_with_one_cpu_runs_the_default),
                cmocka_unit_test(libvirt_away_or_not_ready),
                cmocka_unit_test(libvirt_of_another_host_gets_no_gpu),
                cmocka_unit_test(uefi_that_is_not_there_and_kvm_that_is_not_there),
                cmocka_unit_test(huge_pages_that_are_not_reserved_are_told_with_their_numbers),
                cmocka_unit_test(huge_pages_that_are_not_mounted),
                cmocka_unit_test(huge_pages_whose_mount_is_too_small_or_shut),
                cmocka_unit_test(memory_that_the_kernel_does_not_promise),
                cmocka_unit_test(a_tap_that_is_taken_is_told_of_a_machine_that_is_not_to_run_yet),
                cmocka_unit_test(a_network_that_is_not_there),
                cmocka_unit_test(a_network_that_is_active_or_of_which_nobody_knows),
                cmocka_unit_test(a_holder_is_named_with_all_that_is_known_of_it),
                cmocka_unit_test(a_gpu_that_nobody_was_asked_about),
                cmocka_unit_test(a_firmware_framebuffer_is_named_with_the_way_to_be_without),
                cmocka_unit_test(a_gpu_without_reset_or_power_is_a_warning),
                cmocka_unit_test(memory_that_is_not_free),
                cmocka_unit_test(a_limit_of_all_machines_is_told_with_the_one_that_would_do),
                cmocka_unit_test(a_host_that_does_not_say_who_holds_the_gpu),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
