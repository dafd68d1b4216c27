/* Who holds a card: its nodes, who has them open, and its disks. Runs under umockdev-wrapper. */
#include "holder-scene.h"
#include "host/survey-holders.h"
#include "host/survey-mounts.h"
#include "host/survey-nodes.h"
#include "host/survey-process.h"
#include "testing.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* 1:7 is /dev/full, which hardly anybody has open. */
static void assert_card_is_held(Hold how, const char *node, unsigned minor_number) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *gpu = add_gpu(testbed, NULL);
        g_autofree char *number = g_strdup_printf("1:%u", minor_number);
        g_autofree char *card = umockdev_testbed_add_device(
                testbed, "drm", "card7", gpu, "dev", number, NULL, "DEVNAME", "dri/card7", NULL);
        g_autoptr(GArray) functions = gpu_functions();
        g_autoptr(GPtrArray) during = NULL, after = NULL;
        const Holder *holder;
        int hold;
        pid_t pid = process_start(node, how, &hold);

        assert_non_null(card);
        during = survey(functions);
        holder = find_process(during, pid);
        assert_non_null(holder);
        assert_int_equal(holder->kind, HOLDER_PROCESS);
        assert_string_equal(holder->node, "/dev/dri/card7");
        assert_int_equal(holder->uid, getuid());
        assert_true(strlen(holder->command) > 0);
        assert_non_null(holder->unit);

        process_end(pid, hold);
        after = survey(functions);
        assert_null(find_process(after, pid));
}

static void a_process_is_told_once_for_each_node(void **state) {
        assert_card_is_held(HOLD_PLAINLY, "/dev/full", 7);
}

static void a_process_whose_first_thread_has_ended_is_told(void **state) {
        assert_card_is_held(HOLD_LEADERLESS, "/dev/full", 7);
        assert_card_is_held(HOLD_MAPPED, "/dev/zero", 5);
}

static void a_thread_with_descriptors_of_its_own_is_told(void **state) {
        assert_card_is_held(HOLD_OWN_TABLE, "/dev/full", 7);
}

static void nobody_holds_nothing(void **state) {
        g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_autoptr(GPtrArray) holders = survey(functions);

        assert_int_equal(holders->len, 0);
}

/* A block device of the same number is another device. */
static void a_block_device_is_no_character_device(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *gpu = add_gpu(testbed, NULL);
        g_autofree char *disk = umockdev_testbed_add_device(testbed, "block", "sdz", gpu, "dev",
                                                            "1:7", NULL, "DEVNAME", "sdz", NULL);
        g_autoptr(GArray) functions = gpu_functions();
        g_autoptr(GPtrArray) holders = NULL;
        int hold;
        pid_t pid = process_start("/dev/full", HOLD_PLAINLY, &hold);

        assert_non_null(disk);
        holders = survey(functions);
        assert_null(find_process(holders, pid));
        process_end(pid, hold);
}

static void set_effective(const struct __user_cap_data_struct data[2]) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

        assert_return_code(syscall(SYS_capset, &header, data), errno);
}

/* What may not be looked at is not taken for what does not hold the card. */
static void a_process_that_may_not_be_looked_at_is_not_passed_over(void **state) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct before[2], without[2];
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *gpu = add_gpu(testbed, NULL);
        g_autofree char *card =
                umockdev_testbed_add_device(testbed, "drm", "card7", gpu, "dev", "1:7", NULL, NULL);
        g_autoptr(GArray) functions = gpu_functions();
        g_autoptr(GArray) nodes = NULL;
        g_autoptr(Mounts) mounts = mounts_new();
        g_autoptr(GPtrArray) found = g_ptr_array_new();
        g_autoptr(GPtrArray) holders = g_ptr_array_new();
        GPtrArray *none = NULL;
        int hold, one, all;
        pid_t pid = process_start("/dev/full", HOLD_PLAINLY, &hold);

        assert_non_null(card);
        assert_return_code(syscall(SYS_capget, &header, before), errno);
        memcpy(without, before, sizeof without);
        without[0].effective &= ~(1u << CAP_SYS_PTRACE);
        if (!(before[0].effective & (1u << CAP_SYS_PTRACE)))
                skip();
        assert_return_code(nodes_survey(functions, &nodes), errno);

        set_effective(without);
        one = process_survey((unsigned)pid, nodes, mounts, found, holders);
        all = holders_survey(functions, &none);
        set_effective(before);
        assert_int_equal(one, -EACCES);
        if (all == 0) { /* of so few others it names each */
                assert_non_null(find_process(none, pid));
                assert_int_equal(find_process(none, pid)->kind, HOLDER_UNSEEN);
                g_ptr_array_unref(none);
        } else {
                assert_int_equal(all, -EACCES);
                assert_null(none);
        }

        process_end(pid, hold);
        assert_int_equal(process_survey((unsigned)pid, nodes, mounts, found, holders), 0);
        assert_int_equal(found->len, 0);
}

/* A process of a /proc of the test's own. */
static void make_process(UMockdevTestbed *testbed, unsigned pid, const char *namespace,
                         const char *root, const char *mounts) {
        g_autofree char *folder = g_strdup_printf("/proc/%u", pid);
        g_autofree char *mountinfo = g_build_filename(folder, "mountinfo", NULL);
        g_autofree char *ns = g_build_filename(folder, "ns/mnt", NULL);
        g_autofree char *target = g_build_filename(folder, "ns", namespace, NULL);
        g_autofree char *root_link = g_build_filename(folder, "root", NULL);

        make_file(testbed, mountinfo, mounts);
        /* umockdev overlooks a link that leads nowhere. */
        make_file(testbed, target, "");
        make_link(testbed, ns, namespace);
        make_link(testbed, root_link, root);
}

static void assert_kernel_holder(const GPtrArray *holders, HolderKind kind, pid_t pid,
                                 const char *node, const char *at) {
        unsigned count = 0;

        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);

                if (holder->kind != kind || strcmp(holder->node, node) != 0 ||
                    strcmp(holder->at, at) != 0)
                        continue;
                assert_int_equal(holder->pid, pid);
                count++;
        }
        assert_int_equal(count, 1);
}

/* Where the test runs there may be processes that it may not look at. */
static guint count_but_unseen(const GPtrArray *holders) {
        guint count = 0;

        for (guint i = 0; i < holders->len; i++)
                if (((const Holder *)g_ptr_array_index(holders, i))->kind != HOLDER_UNSEEN)
                        count++;
        return count;
}

/* A disk behind the card's USB controller: a partition mounted on the host, once more in a
 * container's own namespace and beneath a root of its own; and one that is a volume's, which is
 * mounted. */
static void test_disks(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *usb = umockdev_testbed_add_device(testbed, "pci", "0000:01:00.2", NULL,
                                                           "class", "0x0c0330", NULL, NULL);
        g_autofree char *disk = umockdev_testbed_add_device(testbed, "block", "sdz", usb, "dev",
                                                            "65:144", NULL, "DEVNAME", "sdz", NULL);
        g_autofree char *one = umockdev_testbed_add_device(testbed, "block", "sdz1", disk, "dev",
                                                           "65:145", NULL, "DEVNAME", "sdz1", NULL);
        g_autofree char *two = umockdev_testbed_add_device(testbed, "block", "sdz2", disk, "dev",
                                                           "65:146", NULL, "DEVNAME", "sdz2", NULL);
        g_autofree char *volume = umockdev_testbed_add_device(
                testbed, "block", "dm-9", NULL, "dev", "253:9", NULL, "DEVNAME", "dm-9", NULL);
        g_autofree char *name = g_build_filename(volume, "dm/name", NULL);
        g_autofree char *holder = g_build_filename(two, "holders/dm-9", NULL);
        g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        static const unsigned pids[] = { MOUNTS_HOST_PID, 300, 400, 500, 600 };
        g_autoptr(Mounts) mounts = mounts_new();
        g_autoptr(GPtrArray) holders = NULL;
        g_autoptr(GArray) nodes = NULL;
        PciAddress address;

        assert_non_null(one);
        make_file(testbed, name, "vg-lv\n");
        make_link(testbed, holder, "../../../../dm-9");
        make_file(testbed, "/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        make_process(
                testbed, 1, "mnt:[1]", "/",
                "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
                "22 21 65:145 / /media/a\\040b rw,nosuid shared:1 master:2 - vfat /dev/sdz1 rw\n"
                "23 21 0:23 / /net rw - nfs server:/ rw\n"
                "nonsense\n24 21 65:145\n");
        make_process(testbed, 300, "mnt:[1]", "/", "25 21 65:144 / /never rw - ext4 /dev/sdz rw\n");
        make_process(testbed, 400, "mnt:[2]", "/",
                     "31 1 65:145 / /media/a\\040b rw - vfat /dev/sdz1 rw\n"
                     "32 1 65:145 / /inside rw - vfat /dev/sdz1 rw\n");
        make_process(testbed, 500, "mnt:[1]", "/usr",
                     "41 1 253:9 / /var rw - xfs /dev/mapper/vg-lv rw\n");
        assert_true(pci_address_parse("01:00.2", &address));
        g_array_append_val(functions, address);

        holders = survey(functions);
        assert_kernel_holder(holders, HOLDER_DEVICE, 0, "/dev/sdz2", "/dev/mapper/vg-lv");
        assert_return_code(nodes_survey(functions, &nodes), errno);
        for (size_t i = 0; i < G_N_ELEMENTS(pids); i++)
                assert_return_code(mounts_look(mounts, pids[i], pids[i], nodes, holders), errno);
        assert_kernel_holder(holders, HOLDER_MOUNT, 0, "/dev/sdz1", "/media/a b");
        assert_kernel_holder(holders, HOLDER_MOUNT, 400, "/dev/sdz1", "/inside");
        assert_kernel_holder(holders, HOLDER_MOUNT, 500, "/dev/mapper/vg-lv", "/var");
        assert_int_equal(count_but_unseen(holders), 4);
        assert_true(mounts_is_local(mounts, 21));
        assert_false(mounts_is_local(mounts, 23)); /* a file server's */
        assert_false(mounts_is_local(mounts, 99)); /* unknown */
}

/* The nodes that the proprietary driver makes are not in sysfs: the card's own, by its number, or
 * else those that all its cards share; and those of its other cards. */
static void nvidia_has_nodes_of_a_card_and_nodes_of_all(void **state) {
        static const struct {
                const char *information;
                const char *nodes;
        } rows[] = {
                { "Model: \t\t GPU\nDevice Minor: \t 3\n",
                  "own /dev/nvidia3 195:3\nothers /dev/nvidia4 195:4\n"
                  "shared /dev/nvidiactl 195:255\nshared /dev/nvidia-uvm 195:250\n"
                  "shared /dev/nvidia-caps/nvidia-cap1 195:240\n" },
                { "Model: GPU\n", "own /dev/nvidiactl 195:255\nown /dev/nvidia-uvm 195:250\n"
                                  "own /dev/nvidia-caps/nvidia-cap1 195:240\n"
                                  "others /dev/nvidia4 195:4\n" },
                { NULL, "own /dev/nvidiactl 195:255\nown /dev/nvidia-uvm 195:250\n"
                        "own /dev/nvidia-caps/nvidia-cap1 195:240\n"
                        "others /dev/nvidia4 195:4\n" },
        };
        static const char *const uses[] = {
                [NODE_OWN] = "own",
                [NODE_SHARED] = "shared",
                [NODE_KFD] = "kfd",
                [NODE_OTHERS] = "others",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autoptr(GArray) functions = gpu_functions();
                g_autoptr(GString) found = g_string_new(NULL);
                g_autoptr(GArray) nodes = NULL;

                g_free(add_gpu(testbed, "nvidia"));
                make_node(testbed, "nvidia4", 195, 4);
                make_node(testbed, "nvidiactl", 195, 255);
                make_node(testbed, "nvidia-uvm", 195, 250);
                make_node(testbed, "nvidia-caps/nvidia-cap1", 195, 240);
                make_file(testbed, "/proc/driver/nvidia/gpus/0000:02:00.0/information",
                          "Device Minor: 4\n");
                if (rows[i].information)
                        make_file(testbed, "/proc/driver/nvidia/gpus/0000:01:00.0/information",
                                  rows[i].information);

                assert_return_code(nodes_survey(functions, &nodes), errno);
                for (guint j = 0; j < nodes->len; j++) {
                        const Node *node = &g_array_index(nodes, Node, j);

                        assert_false(node->block);
                        g_string_append_printf(found, "%s %s %u:%u\n", uses[node->use], node->path,
                                               major(node->number), minor(node->number));
                }
                assert_string_equal(found->str, rows[i].nodes);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_process_is_told_once_for_each_node),
                cmocka_unit_test(a_process_whose_first_thread_has_ended_is_told),
                cmocka_unit_test(a_thread_with_descriptors_of_its_own_is_told),
                cmocka_unit_test(nobody_holds_nothing),
                cmocka_unit_test(a_block_device_is_no_character_device),
                cmocka_unit_test(a_process_that_may_not_be_looked_at_is_not_passed_over),
                cmocka_unit_test(test_disks),
                cmocka_unit_test(nvidia_has_nodes_of_a_card_and_nodes_of_all),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
