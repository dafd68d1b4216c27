/* What the host does with a block device: umockdev's disks, and a /proc of the test's own. Runs
 * under umockdev-wrapper. */
#include "host/survey-block-use.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <umockdev.h>
#include <unistd.h>

/* A disk sdy (65:128) of two partitions, one of which dm-9 (253:9) may be made of. */
typedef struct Fixture {
        UMockdevTestbed *testbed;
        char *disk, *one, *two, *volume; /* their folders in sysfs */
} Fixture;

static char *testbed_path(const Fixture *fixture, const char *path) {
        g_autofree char *root = umockdev_testbed_get_root_dir(fixture->testbed);
        char *at = g_build_filename(root, path, NULL);
        g_autofree char *folder = g_path_get_dirname(at);

        assert_return_code(g_mkdir_with_parents(folder, 0755), errno);
        return at;
}

static void make_file(const Fixture *fixture, const char *path, const char *text) {
        g_autofree char *at = testbed_path(fixture, path);

        assert_true(g_file_set_contents(at, text, -1, NULL));
}

static void make_link(const Fixture *fixture, const char *path, const char *target) {
        g_autofree char *at = testbed_path(fixture, path);

        assert_return_code(symlink(target, at), errno);
}

/* @folder: beneath /sys/devices/virtual/block. A new path in sysfs. */
static char *make_disk(const Fixture *fixture, const char *folder, const char *number) {
        g_autofree char *link = g_build_filename("/sys/dev/block", number, NULL);
        g_autofree char *at = testbed_path(fixture, link);
        g_autofree char *target = g_build_filename("../../devices/virtual/block", folder, NULL);
        g_autofree char *name = g_path_get_basename(folder);
        g_autofree char *text = g_strdup_printf("P: /devices/virtual/block/%s\nN: %s\n"
                                                "E: DEVNAME=/dev/%s\nE: SUBSYSTEM=block\n"
                                                "A: dev=%s\n",
                                                folder, name, name, number);

        assert_true(umockdev_testbed_add_from_string(fixture->testbed, text, NULL));
        if (access(at, F_OK) < 0)
                assert_return_code(symlink(target, at), errno);
        return g_build_filename("/sys/devices/virtual/block", folder, NULL);
}

/* Of this process, which plays the one in a container: /proc as a whole is the real one. */
static char *proc_path(const char *name) {
        return g_strdup_printf("/proc/%d/%s", getpid(), name);
}

/* The host's mounts, and those that the process in the container sees. */
static void make_mounts(const Fixture *fixture, const char *host, const char *container) {
        g_autofree char *path = proc_path("mountinfo");

        make_file(fixture, "/proc/1/mountinfo", host);
        make_file(fixture, path, container);
}

static int setup(void **state) {
        Fixture *fixture = g_new0(Fixture, 1);
        g_autofree char *partition_one = NULL;
        g_autofree char *partition_two = NULL;
        g_autofree char *target = proc_path("ns/mnt:[2]");
        g_autofree char *namespace = proc_path("ns/mnt");
        g_autofree char *root = proc_path("root");

        fixture->testbed = umockdev_testbed_new();
        fixture->disk = make_disk(fixture, "sdy", "65:128");
        fixture->one = make_disk(fixture, "sdy/sdy1", "65:129");
        fixture->two = make_disk(fixture, "sdy/sdy2", "65:130");
        fixture->volume = make_disk(fixture, "dm-9", "253:9");
        partition_one = g_build_filename(fixture->one, "partition", NULL);
        partition_two = g_build_filename(fixture->two, "partition", NULL);
        make_file(fixture, partition_one, "1\n");
        make_file(fixture, partition_two, "2\n");
        make_file(fixture, "/proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        /* umockdev overlooks a link that leads nowhere. */
        make_file(fixture, "/proc/1/ns/mnt:[1]", "");
        make_file(fixture, target, "");
        make_link(fixture, "/proc/1/ns/mnt", "mnt:[1]");
        make_link(fixture, "/proc/1/root", "/");
        make_link(fixture, namespace, "mnt:[2]");
        make_link(fixture, root, "/");
        make_mounts(fixture, "", "");
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;

        g_object_unref(fixture->testbed);
        g_free(fixture->disk);
        g_free(fixture->one);
        g_free(fixture->two);
        g_free(fixture->volume);
        g_free(fixture);
        return 0;
}

/* @words: of what is said; NULL = it is free. */
static void expect(unsigned major_number, unsigned minor_number, const char *words) {
        g_autofree char *use = block_use_survey(makedev(major_number, minor_number));

        if (words ? !use || !strstr(use, words) : use != NULL)
                fail_msg("%u:%u: \"%s\", not \"%s\"", major_number, minor_number, use ?: "",
                         words ?: "");
}

static void test_unused(void **state) {
        expect(65, 128, NULL);
        expect(65, 129, NULL);
        expect(253, 9, NULL);
        expect(65, 200, NULL); /* sysfs does not know it */
}

/* The whole disk and the partition are in use then; the other partition is not. */
static void test_mounted(void **state) {
        make_mounts(*state, "22 21 65:129 / /media/a\\040b rw - ext4 /dev/sdy1 rw\n", "");
        expect(65, 128, "is used by the host: /dev/sdy1 is mounted at /media/a b");
        expect(65, 129, "/dev/sdy1 is mounted at /media/a b");
        expect(65, 130, NULL);
        make_mounts(*state, "22 21 65:128 / /mnt rw - ext4 /dev/sdy rw\n", "");
        expect(65, 130, "/dev/sdy is mounted at /mnt");
}

static void test_mounted_in_a_container(void **state) {
        g_autofree char *words =
                g_strdup_printf("/dev/sdy2 is mounted at /inside for process %d", getpid());

        make_mounts(*state, "", "31 1 65:130 / /inside rw - xfs /dev/sdy2 rw\n");
        expect(65, 128, words);
        expect(65, 129, NULL);
}

static void test_swap(void **state) {
        make_file(*state, "/proc/swaps",
                  "Filename\tType\tSize\tUsed\tPriority\n/dev/sdy2 partition 1 0 -2\n");
        expect(65, 128, "it swaps to /dev/sdy2");
        expect(65, 130, "it swaps to /dev/sdy2");
        expect(65, 129, NULL);
}

static void make_volume(const Fixture *fixture, const char *uuid) {
        g_autofree char *holder = g_build_filename(fixture->two, "holders/dm-9", NULL);
        g_autofree char *name_file = g_build_filename(fixture->volume, "dm/name", NULL);
        g_autofree char *uuid_file = g_build_filename(fixture->volume, "dm/uuid", NULL);

        make_link(fixture, holder, "../../../../dm-9");
        make_file(fixture, name_file, "vg-lv\n");
        make_file(fixture, uuid_file, uuid);
}

/* What is made of it is another's to use, and itself free. */
static void test_volume(void **state) {
        make_volume(*state, "LVM-abc\n");
        expect(65, 128, "/dev/sdy2 is part of /dev/mapper/vg-lv");
        expect(65, 130, "/dev/sdy2 is part of /dev/mapper/vg-lv");
        expect(65, 129, NULL);
        expect(253, 9, NULL);
}

/* A mapping of a partition uses nothing by itself. */
static void test_mapped_partition(void **state) {
        make_volume(*state, "part1-mpath-3600\n");
        expect(65, 130, NULL);
        make_mounts(*state, "22 21 253:9 / /var rw - ext4 /dev/mapper/vg-lv rw\n", "");
        expect(65, 130, "/dev/mapper/vg-lv is mounted at /var");
}

static void test_btrfs(void **state) {
        make_file(*state, "/sys/fs/btrfs/features/x", "0\n");
        make_file(*state, "/sys/fs/btrfs/11-22/devices/sdy2/dev", "65:130\n");
        expect(65, 128, "/dev/sdy2 is part of the mounted btrfs 11-22");
        expect(65, 129, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* A user's process, in a user namespace of its own; the name of its root folder is too long for
 * readlink(). */
static pid_t hide_in_a_deep_folder(char *top) {
        char name[251];
        int ready[2];
        char byte;
        pid_t pid;

        memset(name, 'a', 250);
        name[250] = '\0';
        assert_return_code(pipe(ready), errno);
        pid = fork();
        assert_return_code(pid, errno);
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (chdir(top) < 0)
                        _exit(1);
                for (unsigned i = 0; i < 18; i++)
                        if (mkdir(name, 0755) < 0 || chdir(name) < 0)
                                _exit(1);
                if (unshare(CLONE_NEWUSER) < 0 || chroot(".") < 0)
                        _exit(1);
                if (write(ready[1], "x", 1) == 1)
                        pause();
                _exit(1);
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

static void a_stranger_in_a_deep_folder_says_nothing_of_others(void **state) {
        g_autofree char *top = g_dir_make_tmp("deep-XXXXXX", NULL);
        g_autofree char *remove = g_strdup_printf("rm -rf %s", top);
        pid_t pid = hide_in_a_deep_folder(top);

        expect(65, 128, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        (void)!system(remove);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(test_unused),
                TEST(test_mounted),
                TEST(test_mounted_in_a_container),
                TEST(test_swap),
                TEST(test_volume),
                TEST(test_mapped_partition),
                TEST(test_btrfs),
                TEST(a_stranger_in_a_deep_folder_says_nothing_of_others),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
