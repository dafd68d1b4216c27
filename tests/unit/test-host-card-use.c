/* What holds a card without having its node open: what the kernel does with it, and what a driver's
 * nodes for all of its cards leave open. Runs under umockdev-wrapper. */
#include "holder-scene.h"
#include "testing.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static void assert_holder(const Holder *holder, const char *node, const char *at) {
        assert_non_null(holder);
        assert_int_equal(holder->pid, 0);
        assert_string_equal(holder->node, node);
        assert_string_equal(holder->at, at);
}

static void a_network_interface_holds_the_card_while_it_is_up(void **state) {
        static const struct {
                const char *flags;
                bool held;
        } rows[] = { { "0x1003", true }, { "0x1002", false } };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autofree char *gpu = add_gpu(testbed, NULL);
                g_autofree char *usb =
                        umockdev_testbed_add_device(testbed, "usb", "usb1", gpu, NULL, NULL);
                g_autofree char *net = umockdev_testbed_add_device(
                        testbed, "net", "enx1", usb, "flags", rows[i].flags, NULL, NULL);
                g_autoptr(GArray) functions = gpu_functions();
                g_autoptr(GPtrArray) holders = survey(functions);
                const Holder *holder = find_holder(holders, HOLDER_NETDEV);

                assert_non_null(net);
                if (rows[i].held)
                        assert_holder(holder, "enx1", "");
                else
                        assert_null(holder);
        }
}

/* A folder of interfaces in which none is to be seen: they are in another network namespace. */
static void a_network_interface_of_a_container_holds_the_card(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *gpu = add_gpu(testbed, NULL);
        g_autofree char *net = g_build_filename(gpu, "net", NULL);
        g_autoptr(GArray) functions = gpu_functions();
        g_autoptr(GPtrArray) holders = NULL;

        make_folder(testbed, net);
        holders = survey(functions);
        assert_holder(find_holder(holders, HOLDER_NETDEV), "", "");
}

#define UUID "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

/* It holds the card when nobody uses it, and who uses it has its group open. */
static void a_mediated_device_holds_the_card_and_names_who_has_it(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *gpu = add_gpu(testbed, "nvidia");
        g_autofree char *mdev = umockdev_testbed_add_device(testbed, "mdev", UUID, gpu, NULL, NULL);
        g_autofree char *group = g_build_filename(mdev, "iommu_group", NULL);
        g_autoptr(GArray) functions = gpu_functions();
        g_autoptr(GPtrArray) alone = NULL, used = NULL;
        const Holder *holder;
        int hold;
        pid_t pid;

        make_link(testbed, group, "/sys/kernel/iommu_groups/42");
        make_node(testbed, "vfio/42", 1, 7);
        alone = survey(functions);
        assert_holder(find_holder(alone, HOLDER_MDEV), UUID, "0000:01:00.0");

        pid = process_start("/dev/full", HOLD_PLAINLY, &hold);
        used = survey(functions);
        assert_holder(find_holder(used, HOLDER_MDEV), UUID, "0000:01:00.0");
        holder = find_process(used, pid);
        assert_non_null(holder);
        assert_int_equal(holder->kind, HOLDER_PROCESS);
        assert_string_equal(holder->node, "/dev/vfio/42");
        process_end(pid, hold);
}

/* Whoever has another device of the group by iommufd keeps it from the host, too. */
static void a_user_of_the_group_has_a_device_of_it(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *gpu = add_gpu(testbed, "vfio-pci");
        g_autofree char *nic = umockdev_testbed_add_device(testbed, "pci", "0000:02:00.0", NULL,
                                                           "class", "0x020000", NULL, NULL);
        g_autofree char *device = g_build_filename(nic, "vfio-dev/vfio3", NULL);
        g_autofree char *dev = g_build_filename(device, "dev", NULL);
        g_autofree char *uevent = g_build_filename(device, "uevent", NULL);
        g_autofree char *group = g_build_filename(gpu, "iommu_group", NULL);
        g_autoptr(GArray) functions = gpu_functions();
        g_autoptr(GPtrArray) holders = NULL;
        const Holder *holder;
        int hold;
        pid_t pid = process_start("/dev/full", HOLD_PLAINLY, &hold);

        make_file(testbed, dev, "1:7\n");
        make_file(testbed, uevent, "DEVNAME=vfio/devices/vfio3\n");
        make_link(testbed, group, "/sys/kernel/iommu_groups/9");
        make_link(testbed, "/sys/kernel/iommu_groups/9/devices/0000:01:00.0", gpu);
        make_link(testbed, "/sys/kernel/iommu_groups/9/devices/0000:02:00.0", nic);
        holders = survey(functions);
        holder = find_process(holders, pid);
        assert_non_null(holder);
        assert_string_equal(holder->node, "/dev/vfio/devices/vfio3");
        process_end(pid, hold);
}

/* The mount table names another one of its devices. */
static void a_disk_that_is_part_of_a_mounted_btrfs_holds_the_card(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *gpu = add_gpu(testbed, NULL);
        g_autofree char *disk = umockdev_testbed_add_device(testbed, "block", "sdz", gpu, "dev",
                                                            "65:144", NULL, "DEVNAME", "sdz", NULL);
        g_autoptr(GArray) functions = gpu_functions();
        g_autoptr(GPtrArray) holders = NULL;

        assert_non_null(disk);
        make_file(testbed, "/sys/fs/btrfs/" UUID "/devices/sda/dev", "8:0\n");
        make_file(testbed, "/sys/fs/btrfs/" UUID "/devices/sdz/dev", "65:144\n");
        make_file(testbed, "/sys/fs/btrfs/features/raid1c34", "0\n");
        holders = survey(functions);
        assert_holder(find_holder(holders, HOLDER_MEMBER), "/dev/sdz", UUID);
}

/* The kernel does not tell which framebuffer its console is on; it begins with the first. */
static void the_text_console_is_on_the_first_framebuffer(void **state) {
        static const struct {
                const char *name;
                const char *bound;
                const char *framebuffer;
                bool held;
        } rows[] = {
                { "(M) frame buffer device", "1\n", "fb0", true },
                { "(M) frame buffer device", "1\n", "fb1", false },
                { "(M) frame buffer device", "0\n", "fb0", false },
                { "(S) dummy device", "1\n", "fb0", false },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autofree char *gpu = add_gpu(testbed, NULL);
                g_autofree char *dev = g_strdup_printf("29:%c", rows[i].framebuffer[strlen("fb")]);
                g_autofree char *fb = umockdev_testbed_add_device(
                        testbed, "graphics", rows[i].framebuffer, gpu, "dev", dev, NULL, "DEVNAME",
                        rows[i].framebuffer, NULL);
                g_autoptr(GArray) functions = gpu_functions();
                g_autoptr(GPtrArray) holders = NULL;

                assert_non_null(fb);
                make_folder(testbed, "/sys/class/graphics/fbcon");
                if (strcmp(rows[i].framebuffer, "fb1") == 0)
                        make_folder(testbed, "/sys/class/graphics/fb0");
                make_file(testbed, "/sys/class/vtconsole/vtcon1/name", rows[i].name);
                make_file(testbed, "/sys/class/vtconsole/vtcon1/bind", rows[i].bound);
                holders = survey(functions);
                if (rows[i].held)
                        assert_holder(find_holder(holders, HOLDER_CONSOLE), "/dev/fb0", "vtcon1");
                else
                        assert_null(find_holder(holders, HOLDER_CONSOLE));
        }
}

/* Only a driver that is known never to let go is in the way. */
static void nvidia_drm_holds_the_card_where_the_driver_waits_for_it(void **state) {
        static const struct {
                const char *driver;
                const char *modeset; /* NULL = the module is not loaded */
                const char *version;
                bool drm;
                bool held;
        } rows[] = {
                { "nvidia", "Y\n", "535.247.01\n", true, true },
                { "nvidia", "Y\n", "580.82.09\n", true, true },
                { "nvidia", "Y\n", "580.105.08\n", true, false },
                { "nvidia", "Y\n", "595.45.04\n", true, false },
                { "nvidia", "N\n", "535.247.01\n", true, false },
                { "nvidia", NULL, "535.247.01\n", true, false },
                { "nvidia", "Y\n", NULL, true, false },
                { "nvidia", "Y\n", "535.247.01\n", false, false },
                { "nouveau", "Y\n", "535.247.01\n", true, false },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autofree char *gpu = add_gpu(testbed, rows[i].driver);
                g_autofree char *drm = g_build_filename(gpu, "drm", NULL);
                g_autoptr(GArray) functions = gpu_functions();
                g_autoptr(GPtrArray) holders = NULL;

                if (rows[i].drm)
                        make_folder(testbed, drm);
                if (rows[i].modeset)
                        make_file(testbed, "/sys/module/nvidia_drm/parameters/modeset",
                                  rows[i].modeset);
                if (rows[i].version)
                        make_file(testbed, "/sys/module/nvidia/version", rows[i].version);
                holders = survey(functions);
                if (rows[i].held)
                        assert_holder(find_holder(holders, HOLDER_MODULE), "nvidia_drm",
                                      "0000:01:00.0");
                else
                        assert_null(find_holder(holders, HOLDER_MODULE));
        }
}

/* Whoever has only what all cards of the driver share may use this one; who has another one of them
 * open does not. */
static void a_process_with_a_shared_node_alone_may_use_the_card(void **state) {
        static const char *const others[] = { NULL, "nvidia4", "nvidia3" };
        g_autofree char *folder = g_dir_make_tmp("holders-XXXXXX", NULL);
        g_autofree char *dev = g_build_filename(folder, "dev", NULL);

        assert_return_code(mkdir(dev, 0700), errno);
        for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autofree char *gpu = add_gpu(testbed, "nvidia");
                g_autofree char *node = g_build_filename(dev, others[i] ?: "none", NULL);
                g_autoptr(GArray) functions = gpu_functions();
                g_autoptr(GPtrArray) holders = NULL;
                const Holder *holder;
                int hold;
                pid_t pid;

                assert_non_null(gpu);
                make_file(testbed, "/proc/driver/nvidia/gpus/0000:01:00.0/information",
                          "Device Minor: 3\n");
                make_file(testbed, "/proc/driver/nvidia/gpus/0000:02:00.0/information",
                          "Device Minor: 4\n");
                make_node(testbed, "nvidiactl", 1, 7);
                make_node(testbed, "nvidia-uvm", 1, 5);
                if (others[i] && mknod(node, S_IFCHR | 0600,
                                       makedev(195, others[i][strlen("nvidia")] - '0')) < 0)
                        skip();
                pid = process_start_with("/dev/full", others[i] ? node : NULL, &hold);
                holders = survey(functions);
                holder = find_process(holders, pid);
                if (!others[i]) {
                        assert_non_null(holder);
                        assert_int_equal(holder->kind, HOLDER_SHARER);
                        assert_string_equal(holder->node, "/dev/nvidiactl");
                } else if (strcmp(others[i], "nvidia3") == 0) {
                        assert_non_null(holder);
                        assert_int_equal(holder->kind, HOLDER_PROCESS);
                        assert_string_equal(holder->node, "/dev/nvidia3");
                } else
                        assert_null(holder);
                process_end(pid, hold);
                if (others[i])
                        assert_return_code(unlink(node), errno);
        }
        assert_return_code(rmdir(dev), errno);
        assert_return_code(rmdir(folder), errno);
}

static void add_kfd_node(UMockdevTestbed *testbed, unsigned number, const char *id,
                         const char *properties) {
        g_autofree char *folder = g_strdup_printf("/sys/class/kfd/kfd/topology/nodes/%u", number);
        g_autofree char *id_path = g_build_filename(folder, "gpu_id", NULL);
        g_autofree char *properties_path = g_build_filename(folder, "properties", NULL);

        make_file(testbed, id_path, id);
        make_file(testbed, properties_path, properties);
}

/* GPU 111 is the card, 222 another one, and 0 the processor. */
static void a_process_that_computes_holds_the_card_that_it_computes_on(void **state) {
        static const struct {
                const char *files[3][2]; /* beneath the process's folder; NULL = no folder */
                HolderKind kind;         /* _HOLDER_KIND_MAX = it does not hold the card */
        } rows[] = {
                { { { NULL } }, HOLDER_PROCESS },
                { { { "pasid", "1\n" } }, HOLDER_PROCESS }, /* it does not tell */
                { { { "vram_111", "4096\n" }, { "vram_222", "0\n" } }, HOLDER_PROCESS },
                { { { "vram_111", "0\n" }, { "vram_222", "4096\n" } }, HOLDER_SHARER },
                { { { "vram_111", "0\n" }, { "queues/0/gpuid", "111" } }, HOLDER_PROCESS },
                { { { "vram_111", "0\n" }, { "queues/0/gpuid", "222" } }, HOLDER_SHARER },
                { { { "vram_222", "4096\n" }, { "queues/0/gpuid", "222" } }, _HOLDER_KIND_MAX },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autofree char *gpu = add_gpu(testbed, "amdgpu");
                g_autoptr(GArray) functions = gpu_functions();
                g_autoptr(GPtrArray) holders = NULL;
                const Holder *holder;
                int hold;
                pid_t pid = process_start("/dev/full", HOLD_PLAINLY, &hold);

                assert_non_null(gpu);
                make_node(testbed, "kfd", 1, 7);
                add_kfd_node(testbed, 0, "0\n", "cpu_cores_count 8\nlocation_id 0\ndomain 0\n");
                add_kfd_node(testbed, 1, "222\n", "simd_count 8\nlocation_id 512\ndomain 0\n");
                add_kfd_node(testbed, 2, "111\n", "simd_count 8\nlocation_id 256\ndomain 0\n");
                for (size_t j = 0; j < G_N_ELEMENTS(rows[i].files) && rows[i].files[j][0]; j++) {
                        g_autofree char *path = g_strdup_printf("/sys/class/kfd/kfd/proc/%d/%s",
                                                                (int)pid, rows[i].files[j][0]);

                        make_file(testbed, path, rows[i].files[j][1]);
                }
                holders = survey(functions);
                holder = find_process(holders, pid);
                if (rows[i].kind == _HOLDER_KIND_MAX)
                        assert_null(holder);
                else {
                        assert_non_null(holder);
                        assert_string_equal(holder_kind_to_string(holder->kind),
                                            holder_kind_to_string(rows[i].kind));
                        assert_string_equal(holder->node, "/dev/kfd");
                }
                process_end(pid, hold);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_network_interface_holds_the_card_while_it_is_up),
                cmocka_unit_test(a_network_interface_of_a_container_holds_the_card),
                cmocka_unit_test(a_mediated_device_holds_the_card_and_names_who_has_it),
                cmocka_unit_test(a_user_of_the_group_has_a_device_of_it),
                cmocka_unit_test(a_disk_that_is_part_of_a_mounted_btrfs_holds_the_card),
                cmocka_unit_test(the_text_console_is_on_the_first_framebuffer),
                cmocka_unit_test(nvidia_drm_holds_the_card_where_the_driver_waits_for_it),
                cmocka_unit_test(a_process_with_a_shared_node_alone_may_use_the_card),
                cmocka_unit_test(a_process_that_computes_holds_the_card_that_it_computes_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
