/* vmd.conf and its drop-ins: what is taken, and what is refused with its file and key. */
#include "config.h"
#include "testing.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

typedef struct Folder {
        char *path;
        char *conf;
        char *drop_ins;
} Folder;

static int folder_setup(void **state) {
        Folder *folder = g_new0(Folder, 1);

        folder->path = g_dir_make_tmp("vmd-conf-XXXXXX", NULL);
        folder->conf = g_build_filename(folder->path, "vmd.conf", NULL);
        folder->drop_ins = g_build_filename(folder->path, "vmd.conf.d", NULL);
        g_mkdir(folder->drop_ins, 0755);
        *state = folder;
        return 0;
}

static int folder_teardown(void **state) {
        static const char *const names[] = { "vmd.conf.d/10-a.conf", "vmd.conf.d/20-b.conf",
                                             "vmd.conf.d/README", "vmd.conf", "vmd.conf.d" };
        Folder *folder = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autofree char *path = g_build_filename(folder->path, names[i], NULL);

                g_remove(path);
        }
        g_rmdir(folder->path);
        g_free(folder->path);
        g_free(folder->conf);
        g_free(folder->drop_ins);
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

        if (config_read(folder->conf, &config, &why) < 0)
                fail_msg("%s", why);
        return config;
}

static void assert_bad(const Folder *folder, const char *text, const char *says) {
        g_autofree char *why = NULL;
        Config *config = NULL;

        put(folder, "vmd.conf", text);
        assert_int_equal(config_read(folder->conf, &config, &why), -EINVAL);
        assert_null(config);
        if (!strstr(why, says) || !strstr(why, "vmd.conf"))
                fail_msg("\"%s\" does not name the file and \"%s\"", why, says);
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
            "[GPUs]\nHandoverTimeoutSec=5\n"
            "[Images]\nDirectories=/a  /b\nBlockDevices=/dev/vg/*\n"
            "[Limits]\nPendingPerUser=3\n");
        g_autoptr(Config) config = good(*state);

        assert_string_equal(config->hypervisor_uri, "test:///default");
        assert_int_equal(config->handover_timeout_sec, 5);
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

static void what_is_wrong_is_named(void **state) {
        assert_bad(*state, "[GPUs]\nHandoverTimeoutSec=0\n", "HandoverTimeoutSec=0");
        assert_bad(*state, "[GPUs]\nHandoverTimeoutSec=3601\n", "1 to 3600");
        assert_bad(*state, "[GPUs]\nHandoverTimeoutSec=30s\n", "30s");
        assert_bad(*state, "[Limits]\nPendingPerUser=\n", "PendingPerUser");
        assert_bad(*state, "[Images]\nDirectories=images\n", "absolute");
        assert_bad(*state, "[Images]\nDirectory=/a\n", "Directory");
        assert_bad(*state, "[GPU]\nHandoverTimeoutSec=3\n", "[GPU]");
        assert_bad(*state, "[Hypervisor]\nURI=nowhere\n", "URI=nowhere");
        assert_bad(*state, "no section\n", "vmd.conf");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(without_any_file_the_defaults_hold, folder_setup,
                                                folder_teardown),
                cmocka_unit_test_setup_teardown(every_key_is_taken, folder_setup, folder_teardown),
                cmocka_unit_test_setup_teardown(drop_ins_override_in_the_order_of_their_names,
                                                folder_setup, folder_teardown),
                cmocka_unit_test_setup_teardown(what_is_wrong_is_named, folder_setup,
                                                folder_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
