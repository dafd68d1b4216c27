/* Who holds a card: umockdev's card, whose nodes carry the numbers of real devices, and a real
 * process that has one of those open; or a /proc of the test's own. Runs under umockdev-wrapper. */
#include "host/survey-holders.h"
#include "host/survey-mounts.h"
#include "host/survey-nodes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <umockdev.h>
#include <unistd.h>

/* Starts a process that has @node open; -1 for none. */
static pid_t process_start(const char *node, int *ret_hold) {
        int ready[2], hold[2];
        char byte;
        pid_t pid;

        assert_return_code(pipe2(ready, O_CLOEXEC), errno);
        assert_return_code(pipe2(hold, O_CLOEXEC), errno);
        pid = fork();
        assert_return_code(pid, errno);
        if (pid == 0) {
                close(hold[1]);
                /* Twice: told once all the same. */
                if (open(node, O_RDONLY) < 0 || open(node, O_RDONLY) < 0 ||
                    write(ready[1], "x", 1) != 1)
                        _exit(1);
                (void)!read(hold[0], &byte, 1);
                _exit(0);
        }

        close(ready[1]);
        close(hold[0]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        *ret_hold = hold[1];
        return pid;
}

static unsigned holders_count(const GPtrArray *holders, pid_t pid, const char *node) {
        unsigned count = 0;

        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);

                assert_int_not_equal(holder->pid, getpid());
                assert_int_not_equal(holder->pid, getppid());
                if (holder->pid != pid)
                        continue;
                assert_string_equal(holder->node, node);
                assert_int_equal(holder->uid, getuid());
                assert_true(strlen(holder->command) > 0);
                assert_non_null(holder->unit);
                count++;
        }
        return count;
}

/* 1:7 is /dev/full, which hardly anybody has open. */
static void test_holder(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *gpu = umockdev_testbed_add_device(testbed, "pci", "0000:01:00.0", NULL,
                                                           "class", "0x030000", NULL, NULL);
        g_autofree char *card = umockdev_testbed_add_device(
                testbed, "drm", "card7", gpu, "dev", "1:7", NULL, "DEVNAME", "dri/card7", NULL);
        g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_autoptr(GPtrArray) before = NULL, during = NULL, other = NULL;
        PciAddress address;
        int hold;
        pid_t pid = process_start("/dev/full", &hold);

        assert_non_null(card);
        assert_true(pci_address_parse("01:00.0", &address));

        other = holders_survey(functions);
        assert_int_equal(other->len, 0);

        g_array_append_val(functions, address);
        during = holders_survey(functions);
        assert_int_equal(holders_count(during, pid, "/dev/dri/card7"), 1);

        close(hold);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        before = holders_survey(functions);
        assert_int_equal(holders_count(before, pid, "/dev/dri/card7"), 0);
}

/* A block device of the same number is another device. */
static void test_block_is_not_character(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *usb = umockdev_testbed_add_device(testbed, "pci", "0000:01:00.2", NULL,
                                                           "class", "0x0c0330", NULL, NULL);
        g_autofree char *disk = umockdev_testbed_add_device(testbed, "block", "sdz", usb, "dev",
                                                            "1:7", NULL, "DEVNAME", "sdz", NULL);
        g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_autoptr(GPtrArray) holders = NULL;
        PciAddress address;
        int hold;
        pid_t pid = process_start("/dev/full", &hold);

        assert_non_null(disk);
        assert_true(pci_address_parse("01:00.2", &address));
        g_array_append_val(functions, address);
        holders = holders_survey(functions);
        assert_int_equal(holders_count(holders, pid, ""), 0);
        close(hold);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static char *testbed_path(UMockdevTestbed *testbed, const char *path) {
        g_autofree char *root = umockdev_testbed_get_root_dir(testbed);
        char *at = g_build_filename(root, path, NULL);
        g_autofree char *folder = g_path_get_dirname(at);

        assert_return_code(g_mkdir_with_parents(folder, 0755), errno);
        return at;
}

static void make_file(UMockdevTestbed *testbed, const char *path, const char *text) {
        g_autofree char *at = testbed_path(testbed, path);

        assert_true(g_file_set_contents(at, text, -1, NULL));
}

static void make_link(UMockdevTestbed *testbed, const char *path, const char *target) {
        g_autofree char *at = testbed_path(testbed, path);

        assert_return_code(symlink(target, at), errno);
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

        holders = holders_survey(functions);
        assert_kernel_holder(holders, HOLDER_DEVICE, 0, "/dev/sdz2", "/dev/mapper/vg-lv");
        nodes = nodes_survey(functions);
        for (size_t i = 0; i < G_N_ELEMENTS(pids); i++)
                mounts_look(mounts, pids[i], nodes, holders);
        assert_kernel_holder(holders, HOLDER_MOUNT, 0, "/dev/sdz1", "/media/a b");
        assert_kernel_holder(holders, HOLDER_MOUNT, 400, "/dev/sdz1", "/inside");
        assert_kernel_holder(holders, HOLDER_MOUNT, 500, "/dev/mapper/vg-lv", "/var");
        assert_int_equal(holders->len, 4);
        assert_true(mounts_is_local(mounts, 21));
        assert_false(mounts_is_local(mounts, 23)); /* a file server's */
        assert_false(mounts_is_local(mounts, 99)); /* unknown */
}

/* Adds a node to the testbed's /dev, of a device that sysfs shows elsewhere. */
static void make_node(UMockdevTestbed *testbed, const char *name, unsigned minor_number) {
        g_autofree char *text = g_strdup_printf("P: /devices/virtual/nvidia/%s\nN: %s\n"
                                                "E: DEVNAME=/dev/%s\nE: SUBSYSTEM=nvidia\n"
                                                "A: dev=195:%u\n",
                                                name, name, name, minor_number);

        assert_true(umockdev_testbed_add_from_string(testbed, text, NULL));
}

/* The nodes that the proprietary driver makes are not in sysfs: the card's own, by its number, or
 * else those that all its cards share. */
static void test_nvidia_nodes(void **state) {
        static const struct {
                const char *information;
                const char *nodes;
        } rows[] = {
                { "Model: \t\t GPU\nDevice Minor: \t 3\n", "/dev/nvidia3 195:3\n" },
                { "Model: GPU\n", "/dev/nvidiactl 195:255\n/dev/nvidia-uvm 195:250\n" },
                { NULL, "/dev/nvidiactl 195:255\n/dev/nvidia-uvm 195:250\n" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autofree char *gpu = umockdev_testbed_add_device(
                        testbed, "pci", "0000:01:00.0", NULL, "class", "0x030000", NULL, NULL);
                g_autofree char *driver = g_build_filename(gpu, "driver", NULL);
                g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(PciAddress));
                g_autoptr(GString) found = g_string_new(NULL);
                g_autoptr(GArray) nodes = NULL;
                PciAddress address;

                make_node(testbed, "nvidia4", 4);
                make_node(testbed, "nvidiactl", 255);
                make_node(testbed, "nvidia-uvm", 250);
                make_link(testbed, driver, "/sys/bus/pci/drivers/nvidia");
                if (rows[i].information)
                        make_file(testbed, "/proc/driver/nvidia/gpus/0000:01:00.0/information",
                                  rows[i].information);
                assert_true(pci_address_parse("01:00.0", &address));
                g_array_append_val(functions, address);

                nodes = nodes_survey(functions);
                for (guint j = 0; j < nodes->len; j++) {
                        const Node *node = &g_array_index(nodes, Node, j);

                        assert_false(node->block);
                        g_string_append_printf(found, "%s %u:%u\n", node->path, major(node->number),
                                               minor(node->number));
                }
                assert_string_equal(found->str, rows[i].nodes);
        }
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_holder),
                cmocka_unit_test(test_block_is_not_character),
                cmocka_unit_test(test_disks),
                cmocka_unit_test(test_nvidia_nodes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
