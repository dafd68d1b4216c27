/* What files and block devices are, whatever they are called: files of the test's own, and
 * umockdev's block devices, of which sysfs alone is asked. Runs under umockdev-wrapper. */
#include "host/survey-identity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <umockdev.h>
#include <unistd.h>

typedef struct Fixture {
        UMockdevTestbed *testbed;
        char *folder;
} Fixture;

static int setup(void **state) {
        Fixture *fixture = g_new0(Fixture, 1);

        fixture->testbed = umockdev_testbed_new();
        fixture->folder = g_dir_make_tmp("test-identity-XXXXXX", NULL);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        const char *argv[] = { "rm", "-rf", fixture->folder, NULL };

        assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                                 NULL, NULL, NULL));
        g_object_unref(fixture->testbed);
        g_free(fixture->folder);
        g_free(fixture);
        return 0;
}

static char *path_of(const Fixture *fixture, const char *name) {
        return g_build_filename(fixture->folder, name, NULL);
}

static void make_file(const Fixture *fixture, const char *name, const void *data, size_t size) {
        g_autofree char *path = path_of(fixture, name);

        assert_true(g_file_set_contents(path, data, (gssize)size, NULL));
}

/* In what sysfs has of it: its folder, beneath /sys/devices, and the link by its number. */
static void make_device(const Fixture *fixture, const char *folder, unsigned minor_number) {
        g_autofree char *root = umockdev_testbed_get_root_dir(fixture->testbed);
        g_autofree char *path = g_build_filename(root, "sys/devices", folder, NULL);
        g_autofree char *attribute = g_build_filename(path, "dev", NULL);
        g_autofree char *number = g_strdup_printf("250:%u", minor_number);
        g_autofree char *numbers = g_build_filename(root, "sys/dev/block", NULL);
        g_autofree char *link = g_build_filename(numbers, number, NULL);
        g_autofree char *target = g_build_filename("../../devices", folder, NULL);

        assert_return_code(g_mkdir_with_parents(path, 0755), errno);
        assert_return_code(g_mkdir_with_parents(numbers, 0755), errno);
        assert_true(g_file_set_contents(attribute, number, -1, NULL));
        assert_return_code(symlink(target, link), errno);
}

static void make_attribute(const Fixture *fixture, const char *name, const char *text) {
        g_autofree char *root = umockdev_testbed_get_root_dir(fixture->testbed);
        g_autofree char *path = g_build_filename(root, "sys/devices", name, NULL);
        g_autofree char *folder = g_path_get_dirname(path);

        assert_return_code(g_mkdir_with_parents(folder, 0755), errno);
        assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void make_slave(const Fixture *fixture, const char *folder, const char *slave) {
        g_autofree char *root = umockdev_testbed_get_root_dir(fixture->testbed);
        g_autofree char *slaves = g_build_filename(root, "sys/devices", folder, "slaves", NULL);
        g_autofree char *name = g_path_get_basename(slave);
        g_autofree char *link = g_build_filename(slaves, name, NULL);
        g_autofree char *target = g_build_filename(root, "sys/devices", slave, NULL);

        assert_return_code(g_mkdir_with_parents(slaves, 0755), errno);
        assert_return_code(symlink(target, link), errno);
}

static GArray *identities_of_device(unsigned minor_number) {
        struct stat status = { .st_mode = S_IFBLK, .st_rdev = makedev(250, minor_number) };
        GArray *identities = g_array_new(FALSE, TRUE, sizeof(FileIdentity));

        assert_int_equal(identities_survey(&status, identities), 0);
        return identities;
}

/* Exactly these minor numbers, the first one first. */
static void expect_devices(unsigned minor_number, const unsigned *minors, guint count) {
        g_autoptr(GArray) identities = identities_of_device(minor_number);

        assert_int_equal(identities->len, count);
        for (guint i = 0; i < count; i++) {
                FileIdentity *identity = &g_array_index(identities, FileIdentity, i);

                assert_true(identity->block);
                assert_int_equal(minor(identity->device), minors[i]);
                assert_int_equal(identity->inode, 0);
        }
}

static bool devices_meet(unsigned one, unsigned other) {
        g_autoptr(GArray) identities = identities_of_device(one);
        g_autoptr(GArray) others = identities_of_device(other);

        return file_identities_meet(identities, true, others, true);
}

/* Two disks with a partition each, RAID of the partitions, and two volumes of that. */
static void test_block_devices(void **state) {
        const Fixture *fixture = *state;

        make_device(fixture, "sda", 0);
        make_device(fixture, "sda/sda1", 1);
        make_attribute(fixture, "sda/sda1/partition", "1\n");
        make_device(fixture, "sda/sda2", 2);
        make_attribute(fixture, "sda/sda2/partition", "2\n");
        make_device(fixture, "sdb", 16);
        make_device(fixture, "sdb/sdb1", 17);
        make_attribute(fixture, "sdb/sdb1/partition", "1\n");
        make_device(fixture, "md0", 100);
        make_slave(fixture, "md0", "sda/sda1");
        make_device(fixture, "dm-0", 200);
        make_slave(fixture, "dm-0", "md0");
        make_device(fixture, "dm-1", 201);
        make_slave(fixture, "dm-1", "md0");

        expect_devices(0, (unsigned[]){ 0 }, 1);
        expect_devices(1, (unsigned[]){ 1, 0 }, 2);
        expect_devices(200, (unsigned[]){ 200, 100, 1, 0 }, 4);
        expect_devices(9, (unsigned[]){ 9 }, 1); /* sysfs does not know it */
        assert_true(devices_meet(0, 1));
        assert_true(devices_meet(200, 0));
        assert_true(devices_meet(1, 200));
        assert_true(devices_meet(1, 1));
        assert_false(devices_meet(1, 2));
        assert_false(devices_meet(2, 200));
        assert_false(devices_meet(200, 201));
        assert_false(devices_meet(16, 200));
        make_slave(fixture, "md0", "sdb/sdb1");
        assert_true(devices_meet(16, 200));
}

/* What cannot be: it ends all the same. */
static void test_circle(void **state) {
        const Fixture *fixture = *state;

        make_device(fixture, "dm-0", 0);
        make_device(fixture, "dm-1", 1);
        make_slave(fixture, "dm-0", "dm-1");
        make_slave(fixture, "dm-1", "dm-0");
        expect_devices(0, (unsigned[]){ 0, 1 }, 2);
}

static void test_unknown_is_told(void **state) {
        struct stat status = { .st_mode = S_IFBLK, .st_rdev = makedev(250, 0) };
        g_autoptr(GArray) identities = g_array_new(FALSE, TRUE, sizeof(FileIdentity));
        const Fixture *fixture = *state;

        make_device(fixture, "dm-0", 0);
        make_device(fixture, "sda", 1);
        make_slave(fixture, "dm-0", "sda");
        make_attribute(fixture, "sda/dev", "nonsense\n");
        assert_int_equal(identities_survey(&status, identities), -EIO);
}

static void test_loop(void **state) {
        const Fixture *fixture = *state;
        g_autofree char *path = path_of(fixture, "file with blank.img");
        g_autofree char *line = g_strconcat(path, "\n", NULL);
        g_autoptr(GArray) loop = NULL;
        FileAnswer *file;

        make_file(fixture, "file with blank.img", "", 0);
        make_device(fixture, "loop0", 0);
        make_attribute(fixture, "loop0/loop/backing_file", line);
        loop = identities_of_device(0);
        assert_int_equal(loop->len, 2);
        file = file_survey(path, false);
        assert_true(file_identities_meet(loop, true, file->identities, false));
        file_answer_free(file);

        make_attribute(fixture, "loop0/loop/backing_file", "/no/such/file.img (deleted)\n");
        expect_devices(0, (unsigned[]){ 0 }, 1);
}

static bool files_meet_as(const Fixture *fixture, const char *one, bool one_writes,
                          const char *other, bool other_writes) {
        g_autofree char *path = path_of(fixture, one);
        g_autofree char *other_path = path_of(fixture, other);
        FileAnswer *answer = file_survey(path, true);
        FileAnswer *other_answer = file_survey(other_path, true);
        bool meet;

        assert_int_equal(answer->found, 1);
        assert_int_equal(other_answer->found, 1);
        assert_string_equal(answer->path, path);
        meet = file_identities_meet(answer->identities, one_writes, other_answer->identities,
                                    other_writes);
        file_answer_free(answer);
        file_answer_free(other_answer);
        return meet;
}

static bool files_meet(const Fixture *fixture, const char *one, const char *other) {
        return files_meet_as(fixture, one, true, other, true);
}

static void test_files(void **state) {
        const Fixture *fixture = *state;
        g_autofree char *one = path_of(fixture, "one.img");
        g_autofree char *link = path_of(fixture, "link.img");
        g_autofree char *hard = path_of(fixture, "hard.img");
        FileAnswer *answer;

        make_file(fixture, "one.img", "", 0);
        make_file(fixture, "other.img", "", 0);
        assert_return_code(symlink(one, link), errno);
        assert_return_code(linkat(AT_FDCWD, one, AT_FDCWD, hard, 0), errno);
        assert_true(files_meet(fixture, "one.img", "link.img"));
        assert_true(files_meet(fixture, "one.img", "hard.img"));
        assert_true(files_meet(fixture, "one.img", ".//one.img"));
        assert_false(files_meet(fixture, "one.img", "other.img"));

        answer = file_survey("/no/such/file", true);
        assert_int_equal(answer->found, 0);
        assert_int_equal(answer->identities->len, 0);
        file_answer_free(answer);
        g_unlink(one);
        assert_return_code(symlink("one.img", one), errno);
        answer = file_survey(one, true);
        assert_int_equal(answer->found, -ELOOP);
        file_answer_free(answer);
}

/* A header of version 3 that names @backing, of no format that it says. */
static void make_overlay(const Fixture *fixture, const char *name, const char *backing) {
        unsigned char header[512] = { 'Q', 'F', 'I', 0xfb };

        header[7] = 3;
        header[14] = 256 >> 8; /* its offset */
        header[19] = (unsigned char)strlen(backing);
        header[23] = 16;
        header[103] = 104;
        memcpy(header + 256, backing, strlen(backing));
        make_file(fixture, name, header, sizeof header);
}

static void test_backing_files(void **state) {
        const Fixture *fixture = *state;
        g_autofree char *base = path_of(fixture, "base.img");
        g_autofree char *top = path_of(fixture, "top.qcow2");
        FileAnswer *answer;

        make_file(fixture, "base.img", "raw", 3);
        make_overlay(fixture, "middle.qcow2", base);
        make_overlay(fixture, "top.qcow2", "middle.qcow2");
        make_overlay(fixture, "other.qcow2", "file:base.img");
        make_overlay(fixture, "far.qcow2", "nbd://host/export");
        make_overlay(fixture, "round.qcow2", "round.qcow2");
        make_overlay(fixture, "gone.qcow2", "no-such.img");

        assert_true(files_meet(fixture, "top.qcow2", "base.img"));
        assert_true(files_meet(fixture, "middle.qcow2", "top.qcow2"));
        assert_true(files_meet(fixture, "other.qcow2", "base.img"));
        assert_false(files_meet(fixture, "other.qcow2", "middle.qcow2"));
        assert_false(files_meet(fixture, "far.qcow2", "base.img"));
        assert_false(files_meet(fixture, "round.qcow2", "base.img"));
        assert_false(files_meet(fixture, "gone.qcow2", "base.img"));

        /* Who writes to the top only reads what is beneath it. */
        assert_true(files_meet_as(fixture, "top.qcow2", false, "base.img", true));
        assert_false(files_meet_as(fixture, "top.qcow2", true, "base.img", false));
        assert_false(files_meet_as(fixture, "base.img", false, "top.qcow2", true));
        assert_true(files_meet_as(fixture, "top.qcow2", true, "top.qcow2", false));
        assert_false(files_meet_as(fixture, "top.qcow2", false, "top.qcow2", false));

        answer = file_survey(top, false); /* raw: the guest's own bytes name nothing */
        assert_int_equal(answer->identities->len, 1);
        file_answer_free(answer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(test_block_devices), TEST(test_circle), TEST(test_unknown_is_told),
                TEST(test_loop),          TEST(test_files),  TEST(test_backing_files),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
