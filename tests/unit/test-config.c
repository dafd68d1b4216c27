/* vmd.conf and its drop-ins: what is taken, and what is refused with its file and key. */
#include "config.h"
#include "core/pci-address.h"
#include "testing.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct Folder {
        char *path;
        char *conf;
        char *folders[3]; /* of drop-ins */
} Folder;

static int folder_setup(void **state) {
        Folder *folder = g_new0(Folder, 1);

        folder->path = g_dir_make_tmp("vmd-conf-XXXXXX", NULL);
        folder->conf = g_build_filename(folder->path, "vmd.conf", NULL);
        folder->folders[0] = g_build_filename(folder->path, "vmd.conf.d", NULL);
        folder->folders[1] = g_build_filename(folder->path, "vendor.d", NULL);
        g_mkdir(folder->folders[0], 0755);
        g_mkdir(folder->folders[1], 0755);
        *state = folder;
        return 0;
}

static int folder_teardown(void **state) {
        static const char *const names[] = { "vmd.conf.d/10-a.conf", "vmd.conf.d/20-b.conf",
                                             "vmd.conf.d/README",    "vmd.conf",
                                             "vmd.conf.d",           "vendor.d/10-a.conf",
                                             "vendor.d/15-c.conf",   "vendor.d" };
        Folder *folder = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *path = g_build_filename(folder->path, names[i], NULL);

                g_remove(path);
        }
        g_rmdir(folder->path);
        g_free(folder->path);
        g_free(folder->conf);
        g_free(folder->folders[0]);
        g_free(folder->folders[1]);
        g_free(folder);
        return 0;
}

static void put(const Folder *folder, const char *name, const char *text) {
        g_autofree char *path = g_build_filename(folder->path, name, NULL);

        assert_true(g_file_set_contents(path, text, -1, NULL));
}

static Config *good(const Folder *folder) {
        g_autofree char *why = NULL;
        Config *config = NULL;

        if (config_read(folder->conf, (const char *const *)folder->folders, &config, &why) < 0)
                fail_msg("%s", why);
        return config;
}

/* @says is what is said of it, after the file's path. */
static void assert_bad(const Folder *folder, const char *text, const char *says) {
        g_autofree char *expected = g_strconcat(folder->conf, ":", says, NULL);
        g_autofree char *why = NULL;
        Config *config = NULL;

        put(folder, "vmd.conf", text);
        assert_int_equal(
                config_read(folder->conf, (const char *const *)folder->folders, &config, &why),
                -EINVAL);
        assert_null(config);
        assert_string_equal(why, expected);
}

static void without_any_file_the_defaults_hold(void **state) {
        g_autoptr(Config) config = good(*state);

        assert_string_equal(config->hypervisor_uri, "qemu:///system");
        assert_int_equal(config->handover_timeout_sec, 30);
        assert_int_equal(config->pending_per_user, 16);
        assert_int_equal(g_strv_length(config->image_directories), 2);
        assert_string_equal(config->image_directories[0], "/var/lib/feos/images");
        assert_int_equal(g_strv_length(config->block_devices), 0);
}

static void every_key_is_taken(void **state) {
        put(*state, "vmd.conf",
            "[Hypervisor]\nURI=test:///default\n"
            "[GPUs]\nHandoverTimeoutSec=5\nKeepForMachines=41:00.0 0000:C1:00.0\n"
            "[Images]\nDirectories=/a  /b\nBlockDevices=/dev/vg/*\n"
            "[Limits]\nPendingPerUser=3\n");
        g_autoptr(Config) config = good(*state);

        assert_string_equal(config->hypervisor_uri, "test:///default");
        assert_int_equal(config->handover_timeout_sec, 5);
        assert_int_equal(config->kept_gpus->len, 2);
        assert_int_equal(g_array_index(config->kept_gpus, PciAddress, 0).bus, 0x41);
        assert_int_equal(g_array_index(config->kept_gpus, PciAddress, 1).bus, 0xc1);
        assert_string_equal(config->image_directories[1], "/b");
        assert_null(config->image_directories[2]);
        assert_string_equal(config->block_devices[0], "/dev/vg/*");
        assert_int_equal(config->pending_per_user, 3);
}

static void drop_ins_override_in_the_order_of_their_names(void **state) {
        put(*state, "vmd.conf", "[GPUs]\nHandoverTimeoutSec=1\n[Limits]\nPendingPerUser=9\n");
        put(*state, "vmd.conf.d/20-b.conf", "[GPUs]\nHandoverTimeoutSec=20\n");
        put(*state, "vmd.conf.d/10-a.conf", "[GPUs]\nHandoverTimeoutSec=10\n");
        put(*state, "vmd.conf.d/README", "not a configuration\n");
        g_autoptr(Config) config = good(*state);

        assert_int_equal(config->handover_timeout_sec, 20);
        assert_int_equal(config->pending_per_user, 9);
}

static void of_two_drop_ins_with_one_name_the_first_folders_counts(void **state) {
        put(*state, "vendor.d/10-a.conf", "[GPUs]\nHandoverTimeoutSec=100\n");
        put(*state, "vendor.d/15-c.conf", "[Limits]\nPendingPerUser=15\n");
        put(*state, "vmd.conf.d/10-a.conf", "");
        put(*state, "vmd.conf.d/20-b.conf", "[Limits]\nPendingPerUser=20\n");
        g_autoptr(Config) config = good(*state);

        assert_int_equal(config->handover_timeout_sec, 30);
        assert_int_equal(config->pending_per_user, 20);
        assert_int_equal(g_strv_length(config->files), 3);
        assert_true(g_str_has_suffix(config->files[0], "vmd.conf.d/10-a.conf"));
        assert_true(g_str_has_suffix(config->files[1], "vendor.d/15-c.conf"));
        assert_true(g_str_has_suffix(config->files[2], "vmd.conf.d/20-b.conf"));
}

static void a_list_grows_with_each_assignment_and_an_empty_one_begins_it_anew(void **state) {
        static const struct {
                const char *conf, *drop_in;
                const char *directories; /* joined by blanks */
        } cases[] = {
                { "", "", "/var/lib/feos/images /var/lib/libvirt/images" },
                { "Directories=/a", "", "/a" },
                { "Directories=/a\nDirectories=/b /c", "", "/a /b /c" },
                { "Directories=/a", "Directories=/b", "/a /b" },
                { "Directories=/a", "Directories=\nDirectories=/b", "/b" },
                { "Directories=/a", "Directories=", "" },
                { "Directories=/a \\\n# not this one\n  /b", "", "/a /b" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *conf = g_strconcat("[Images]\n", cases[i].conf, "\n", NULL);
                g_autofree char *drop_in = g_strconcat("[Images]\n", cases[i].drop_in, NULL);
                g_autofree char *joined = NULL;
                g_autoptr(Config) config = NULL;

                put(*state, "vmd.conf", conf);
                put(*state, "vmd.conf.d/10-a.conf", drop_in);
                config = good(*state);
                joined = g_strjoinv(" ", config->image_directories);
                assert_string_equal(joined, cases[i].directories);
        }
        put(*state, "vmd.conf",
            "[GPUs]\nKeepForMachines=01:00.0\nKeepForMachines=\nKeepForMachines=02:00.0 03:00.0\n"
            "[Images]\nBlockDevices=/dev/a\nBlockDevices=\n");
        g_autoptr(Config) config = good(*state);

        assert_int_equal(config->kept_gpus->len, 2);
        assert_int_equal(g_strv_length(config->block_devices), 0);
}

static void white_space_and_comments_mean_nothing(void **state) {
        put(*state, "vmd.conf",
            "# one\n; two\n\n  [GPUs]  \r\n\t HandoverTimeoutSec \t=  7 \r\n#[Nonsense]\n");
        g_autoptr(Config) config = good(*state);

        assert_int_equal(config->handover_timeout_sec, 7);
}

static void what_is_wrong_is_named_with_its_line(void **state) {
        static const struct {
                const char *text, *says;
        } cases[] = {
                { "[GPUs]\nHandoverTimeoutSec=0\n", "2: [GPUs] HandoverTimeoutSec=0: expected is a "
                                                    "number of seconds from 1 to 3600" },
                { "[GPUs]\n\n# long\nHandoverTimeoutSec=3601\n",
                  "4: [GPUs] HandoverTimeoutSec=3601: expected is a number of seconds from 1 to "
                  "3600" },
                { "[GPUs]\nHandoverTimeoutSec=30s\n",
                  "2: [GPUs] HandoverTimeoutSec=30s: expected is a number of seconds from 1 to "
                  "3600" },
                { "[GPUs]\nKeepForMachines=01:00.0 \\\n  nvidia\n",
                  "2: [GPUs] KeepForMachines=01:00.0  nvidia: expected is PCI addresses such as "
                  "0000:01:00.0, separated by spaces" },
                { "[Limits]\nPendingPerUser=\n",
                  "2: [Limits] PendingPerUser=: expected is a number from 1 to 4096" },
                { "[Images]\nDirectories=images\n", "2: [Images] Directories=images: expected is "
                                                    "absolute paths, separated by spaces" },
                { "[Images]\nDirectory=/a\n",
                  "2: [Images] Directory=: there is no such key in this section" },
                { "[GPU]\nHandoverTimeoutSec=3\n",
                  "2: [GPU] HandoverTimeoutSec=: there is no section [GPU]" },
                { "[Hypervisor]\nURI=nowhere\n",
                  "2: [Hypervisor] URI=nowhere: expected is a libvirt URI such as qemu:///system" },
                { "no section\n", "1: expected is Key=Value" },
                { "URI=qemu:///system\n", "1: an assignment stands before the first [Section]" },
                { "[GPUs\nHandoverTimeoutSec=3\n", "1: a section is a line of its own, [Name]" },
                { "[GPUs]\n=3\n", "2: expected is Key=Value" },
                { "[GPUs]\n# \xff\n", "2: this is no UTF-8 text" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                assert_bad(*state, cases[i].text, cases[i].says);
}

static void everything_that_is_wrong_is_named_at_once(void **state) {
        const Folder *folder = *state;
        g_autofree char *expected = g_strdup_printf(
                "%s/vmd.conf:2: [Limits] PendingPerUser=0: expected is a number from 1 to 4096\n"
                "%s/vmd.conf.d/10-a.conf:1: expected is Key=Value",
                folder->path, folder->path);
        g_autofree char *why = NULL;
        Config *config = NULL;

        put(folder, "vmd.conf", "[Limits]\nPendingPerUser=0\n[GPUs]\nHandoverTimeoutSec=7\n");
        put(folder, "vmd.conf.d/10-a.conf", "nonsense\n");
        assert_int_equal(
                config_read(folder->conf, (const char *const *)folder->folders, &config, &why),
                -EINVAL);
        assert_string_equal(why, expected);
}

static void what_cannot_be_read_is_no_configuration(void **state) {
        const Folder *folder = *state;
        g_autofree char *nowhere = g_build_filename(folder->folders[0], "10-a.conf", NULL);
        g_autofree char *why = NULL;
        Config *config = NULL;

        assert_int_equal(symlink("nowhere", nowhere), 0);
        assert_int_equal(
                config_read(folder->conf, (const char *const *)folder->folders, &config, &why),
                -EINVAL);
        assert_non_null(strstr(why, nowhere));
        g_clear_pointer(&why, g_free);

        assert_int_equal(g_remove(nowhere), 0);
        assert_int_equal(symlink("/dev/null", nowhere), 0);
        config_free(good(folder));
        assert_int_equal(
                config_read(folder->path, (const char *const *)folder->folders, &config, &why),
                -EINVAL);
        assert_non_null(strstr(why, folder->path));
}

/* That is no mistake of the administrator's: who tries again may find that all is right. */
static void what_cannot_be_read_now_is_not_wrong(void **state) {
        const Folder *folder = *state;
        g_autofree char *why = NULL;
        Config *config = NULL;
        struct rlimit limit, none;

        put(folder, "vmd.conf", "[Hypervisor]\nURI=qemu:///session\n");
        assert_return_code(getrlimit(RLIMIT_NOFILE, &limit), errno);
        none = (struct rlimit){ 0, limit.rlim_max };
        assert_return_code(setrlimit(RLIMIT_NOFILE, &none), errno);
        assert_int_equal(
                config_read(folder->conf, (const char *const *)folder->folders, &config, &why),
                -EIO);
        assert_return_code(setrlimit(RLIMIT_NOFILE, &limit), errno);
        assert_non_null(strstr(why, folder->conf));
        config_free(good(folder));
}

static void what_is_printed_reads_as_the_same(void **state) {
        const Folder *folder = *state;
        g_autofree char *first = NULL, *second = NULL;

        put(folder, "vmd.conf",
            "[GPUs]\nKeepForMachines=41:00.0 42:00.0\n[Images]\nDirectories=/a /b\n"
            "BlockDevices=/dev/vg/*\n[Limits]\nPendingPerUser=3\n[Hypervisor]\nURI=test:///x\n");
        {
                g_autoptr(Config) config = good(folder);

                first = config_print(config);
        }
        assert_non_null(strstr(first, "\n[GPUs]\nHandoverTimeoutSec=30\n"
                                      "KeepForMachines=0000:41:00.0 0000:42:00.0\n"));
        assert_non_null(strstr(first, folder->conf));
        put(folder, "vmd.conf", first);
        g_autoptr(Config) config = good(folder);

        second = config_print(config);
        assert_string_equal(first, second);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)
                TEST(without_any_file_the_defaults_hold),
                TEST(every_key_is_taken),
                TEST(drop_ins_override_in_the_order_of_their_names),
                TEST(of_two_drop_ins_with_one_name_the_first_folders_counts),
                TEST(a_list_grows_with_each_assignment_and_an_empty_one_begins_it_anew),
                TEST(white_space_and_comments_mean_nothing),
                TEST(what_is_wrong_is_named_with_its_line),
                TEST(everything_that_is_wrong_is_named_at_once),
                TEST(what_cannot_be_read_is_no_configuration),
                TEST(what_cannot_be_read_now_is_not_wrong),
                TEST(what_is_printed_reads_as_the_same),
        };

        return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
