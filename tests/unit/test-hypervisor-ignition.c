/* Ignition's files: how they are written, and which are removed. */
#include "autoptr-bus.h"
#include "hypervisor/ignition.h"
#include "libvirt-fixture.h"
#include "testing.h"

#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void assert_file(const char *path, const char *text, mode_t mode) {
        g_autofree char *content = NULL;
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, mode);
        assert_true(g_file_get_contents(path, &content, NULL, NULL));
        assert_string_equal(content, text);
}

static void test_ignition_files(void **state) {
        g_autofree char *top = g_dir_make_tmp("feos-ignition-XXXXXX", NULL);
        g_autofree char *folder = g_build_filename(top, "a", "ignition", NULL);
        g_autofree char *above = g_path_get_dirname(folder);
        g_autofree char *one = g_build_filename(folder, UUID ".ign", NULL);
        g_autofree char *two = g_build_filename(folder, OTHER_UUID ".ign", NULL);
        g_autofree char *part = g_strconcat(two, ".part", NULL);
        g_autofree char *alien = g_build_filename(folder, "notes.ign", NULL);
        g_autoptr(GHashTable) keep = g_hash_table_new(g_str_hash, g_str_equal);
        g_autoptr(GPtrArray) others = NULL;
        struct stat st;

        assert_non_null(top);
        assert_int_equal(ignition_write(one, "{}", (gid_t)-1), 0);
        assert_file(one, "{}", 0600);
        assert_int_equal(stat(folder, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0711);
        assert_true(g_file_set_contents(part, "half", -1, NULL));
        assert_int_equal(ignition_write(two, "{\"a\": 1}", getgid()), 0);
        assert_file(two, "{\"a\": 1}", 0640);
        assert_false(g_file_test(part, G_FILE_TEST_EXISTS));
        assert_true(g_file_set_contents(part, "half", -1, NULL));
        assert_true(g_file_set_contents(alien, "not ours", -1, NULL));
        assert_true(ignition_write("/proc/nowhere/x.ign", "{}", (gid_t)-1) < 0);

        g_hash_table_add(keep, (void *)UUID);
        others = ignition_find_others(folder, keep);
        assert_int_equal(others->len, 2);
        assert_true(g_ptr_array_find_with_equal_func(others, two, g_str_equal, NULL));
        assert_true(g_ptr_array_find_with_equal_func(others, part, g_str_equal, NULL));
        ignition_remove(two);
        ignition_remove(part);
        ignition_remove(one);
        ignition_remove(one);
        assert_false(g_file_test(one, G_FILE_TEST_EXISTS));
        g_ptr_array_unref(others);
        others = ignition_find_others("/nowhere", keep);
        assert_int_equal(others->len, 0);

        ignition_begin_making();
        assert_false(ignition_begin_removing());
        ignition_end_making();
        assert_true(ignition_begin_removing());
        ignition_end_removing();

        assert_int_equal(g_remove(alien), 0);
        assert_int_equal(g_rmdir(folder), 0);
        assert_int_equal(g_rmdir(above), 0);
        assert_int_equal(g_rmdir(top), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ignition_files),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
