/* The options of create, from the command line to what is sent: each option of the API has one, and
 * it arrives there as the type that the API says. Two ends of a socket pair stand in for a bus:
 * messages have to belong to one. */
#include "create-options.h"
#include "device-options.h"
#include "json.h"
#include "testing.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>

static int peer = -1;

static int bus_setup(void **state) {
        sd_bus *bus = NULL;
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        peer = fds[1];
        assert_true(sd_bus_new(&bus) >= 0);
        assert_true(sd_bus_set_fd(bus, fds[0], fds[0]) >= 0);
        assert_true(sd_bus_start(bus) >= 0);
        *state = bus;
        return 0;
}

static int bus_teardown(void **state) {
        sd_bus_close_unref(*state);
        close(peer);
        return 0;
}

/* Parses a command line's options; fails the test unless it can, or, where @wrong is given, unless
 * it cannot and says so. */
static CreateOptions *parse(const char *line, const char *wrong) {
        g_autoptr(CreateOptions) options = create_options_new();
        g_autoptr(GOptionContext) context = g_option_context_new(NULL);
        GOptionGroup *group = g_option_group_new("create", "", "", options, NULL);
        g_autofree char *whole = g_strconcat("create ", line, NULL);
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) arguments = NULL;

        create_options_add_to(group);
        g_option_context_set_main_group(context, group);
        assert_true(g_shell_parse_argv(whole, NULL, &arguments, NULL));
        create_options_expand(arguments);
        if (g_option_context_parse_strv(context, &arguments, &error) != !wrong)
                fail_msg("%s: %s", line, error ? error->message : "is taken");
        if (wrong && !strstr(error->message, wrong))
                fail_msg("%s: \"%s\" says nothing of %s", line, error->message, wrong);
        return g_steal_pointer(&options);
}

/* What is sent for them, as if it had arrived. */
static sd_bus_message *sent(sd_bus *bus, const CreateOptions *options) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_method_call(bus, &m, "org.feos.VM1", "/org/feos/VM1",
                                                   "org.feos.VM1", "Create") >= 0);
        assert_int_equal(create_options_append(options, m), 0);
        assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
        assert_true(sd_bus_message_rewind(m, true) >= 0);
        return m;
}

/* Fails the test unless @line is sent as these GPUs and options, in JSON. */
static void check(sd_bus *bus, const char *line, const char *gpus, const char *expected) {
        g_autoptr(CreateOptions) options = parse(line, NULL);
        g_autoptr(sd_bus_message) m = sent(bus, options);
        g_autoptr(json_object) got_gpus = NULL;
        g_autoptr(json_object) got = NULL;
        g_autoptr(json_object) wanted = json_tokener_parse(expected);

        assert_int_equal(json_read(m, &got_gpus), 0);
        assert_int_equal(json_read(m, &got), 0);
        assert_string_equal(json_object_to_json_string_ext(got_gpus, JSON_C_TO_STRING_PLAIN), gpus);
        assert_non_null(wanted);
        if (!json_object_equal(got, wanted))
                fail_msg("%s is sent as %s", line, json_object_to_json_string(got));
}

static void test_each_option(void **state) {
        check(*state, "", "[]", "{}");
        check(*state, "--gpu 01:00.0 --gpu=41:00.0", "[\"01:00.0\",\"41:00.0\"]", "{}");
        check(*state, "--vcpus 16 --max-vcpus 32", "[]", "{\"vcpus\":16,\"max-vcpus\":32}");
        check(*state, "--memory 64G", "[]", "{\"memory-mib\":65536}");
        check(*state, "--memory 1.5T", "[]", "{\"memory-mib\":1572864}");
        check(*state, "--hugepages 1G --firmware uefi", "[]",
              "{\"hugepages\":\"1G\",\"firmware\":\"uefi\"}");
        check(*state, "--image u.qcow2 --image-format qcow2", "[]",
              "{\"image\":\"u.qcow2\",\"image-format\":\"qcow2\"}");
        check(*state, "--kernel vmlinuz --initrd i --cmdline 'quiet x=1'", "[]",
              "{\"kernel\":\"vmlinuz\",\"initrd\":\"i\",\"cmdline\":\"quiet x=1\"}");
        check(*state, "--uuid 1b4e28ba-2fa1-11d2-883f-b9a761bde3fb", "[]",
              "{\"uuid\":\"1b4e28ba-2fa1-11d2-883f-b9a761bde3fb\"}");
        check(*state, "--start=no --wait=false --autostart --allow-boot-display", "[]",
              "{\"start\":false,\"wait\":false,\"autostart\":true,\"allow-boot-display\":true}");
}

/* The last one counts, as everywhere on a command line. */
static void test_twice(void **state) {
        check(*state, "--vcpus 1 --vcpus 2 --image a --image b", "[]",
              "{\"vcpus\":2,\"image\":\"b\"}");
}

static void test_devices(void **state) {
        check(*state, "--disk path=a.raw,format=raw,read-only=yes,id=d1 --disk b.qcow2", "[]",
              "{\"disks\":[{\"path\":\"a.raw\",\"format\":\"raw\",\"read-only\":true,"
              "\"id\":\"d1\"},{\"path\":\"b.qcow2\"}]}");
        check(*state, "--disk a,,b.raw,read-only", "[]",
              "{\"disks\":[{\"path\":\"a,b.raw\",\"read-only\":true}]}");
        check(*state, "--nic default --nic type=bridge,source=br0,mac=52:54:00:12:34:56,id=n", "[]",
              "{\"nics\":[{\"source\":\"default\"},{\"type\":\"bridge\",\"source\":\"br0\","
              "\"mac\":\"52:54:00:12:34:56\",\"id\":\"n\"}]}");
}

static void test_ignition_is_read_from_a_file(void **state) {
        g_autofree char *path = g_build_filename(g_get_tmp_dir(), "feosctl-ignition-XXXXXX", NULL);
        g_autofree char *line = NULL;
        g_autofree char *twice = NULL;
        int fd = g_mkstemp(path);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, "{\"a\":1}\n", 8), 8);
        close(fd);
        line = g_strdup_printf("--ignition %s", path);
        check(*state, line, "[]", "{\"ignition\":\"{\\\"a\\\":1}\\n\"}");
        twice = g_strdup_printf("%s %s", line, line);
        check(*state, twice, "[]", "{\"ignition\":\"{\\\"a\\\":1}\\n\"}");
        g_unlink(path);
}

static void test_wrong_ones(void **state) {
        static const char *const lines[][2] = {
                { "--vcpus many", "--vcpus takes a number" },
                { "--vcpus -1", "--vcpus takes a number" },
                { "--memory 4096", "64G" },
                { "--memory 1K", "whole MiB" },
                { "--wait=perhaps", "--wait takes yes or no" },
                { "--disk pth=a", "Did you mean \"path\"?" },
                { "--disk a.raw,b.raw", "has no \"b.raw\"" },
                { "--disk path=a,path=b", "given twice" },
                { "--disk path=a,format", "has no value" },
                { "--disk path=a,read-only=perhaps", "yes or no" },
                { "--nic type=bridge,sauce=br0", "Did you mean \"source\"?" },
                { "--ignition /nowhere/at/all", "cannot read" },
                { "--gpu", "Missing argument" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
                g_autoptr(CreateOptions) G_GNUC_UNUSED options = parse(lines[i][0], lines[i][1]);
        }
}

static void test_bytes_that_are_no_text(void **state) {
        g_autoptr(CreateOptions) G_GNUC_UNUSED options = parse("--image 'a\xff'", "UTF-8");
}

/* --- the API's list ------------------------------------------------------------------------------
 */

/* The words in backquotes in @cell. Caller frees. */
static char **quoted(const char *cell) {
        g_auto(GStrv) parts = g_strsplit(cell, "`", -1);
        g_autoptr(GPtrArray) words = g_ptr_array_new();

        for (guint i = 1; i < g_strv_length(parts); i += 2)
                g_ptr_array_add(words, g_strdup(parts[i]));
        g_ptr_array_add(words, NULL);
        return (char **)g_ptr_array_free(g_steal_pointer(&words), FALSE);
}

typedef void (*OnKey)(sd_bus *bus, const char *key, const char *type);

/* Calls @on_key for each row "| `key` | `type` |" between the lines that begin with @from and @to;
 * returns how many. */
static unsigned each_key(sd_bus *bus, const char *from, const char *to, OnKey on_key) {
        const char *path = g_getenv("FEOS_API_MD") ?: "docs/api.md";
        g_autofree char *text = NULL;
        g_auto(GStrv) lines = NULL;
        bool inside = false;
        unsigned n = 0;

        if (!g_file_get_contents(path, &text, NULL, NULL))
                fail_msg("cannot read %s; run me from the source's root", path);
        lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line; line++) {
                if (g_str_has_prefix(*line, from))
                        inside = true;
                else if (g_str_has_prefix(*line, to))
                        inside = false;
                else if (inside && g_str_has_prefix(*line, "| `")) {
                        g_auto(GStrv) cells = g_strsplit(*line, "|", -1);
                        g_auto(GStrv) keys = quoted(cells[1]);
                        g_auto(GStrv) types = quoted(cells[2]);

                        for (char **key = keys; *key; key++, n++)
                                on_key(bus, *key, types[0]);
                }
        }
        return n;
}

/* A value of each type that any option of it takes. */
static const char *example_of(const char *key, const char *type) {
        return g_str_equal(key, "ignition") ? "/dev/null"
               : g_str_equal(type, "t")     ? "1G"
               : g_str_equal(type, "u")     ? "1"
               : g_str_equal(type, "b")     ? "yes"
                                            : "x";
}

static void check_option(sd_bus *bus, const char *key, const char *type) {
        const char *option = create_options_long(key);
        g_autoptr(CreateOptions) options = NULL;
        g_autoptr(sd_bus_message) m = NULL;
        g_autofree char *line = NULL;
        const char *got_key, *got_type;

        if (!option)
                fail_msg("create has no option for %s", key);
        line = g_strdup_printf("--%s=%s", option, example_of(key, type));
        options = parse(line, NULL);
        m = sent(bus, options);
        assert_true(sd_bus_message_skip(m, "as") >= 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
        assert_true(sd_bus_message_enter_container(m, 'e', "sv") > 0);
        assert_true(sd_bus_message_read(m, "s", &got_key) > 0);
        assert_string_equal(got_key, key);
        assert_true(sd_bus_message_peek_type(m, NULL, &got_type) > 0);
        assert_string_equal(got_type, type);
        assert_string_equal(create_options_type(key), type);
}

static void check_disk_key(sd_bus *bus, const char *key, const char *type) {
        if (g_strcmp0(device_options_type(DEVICE_DISK, key), type) != 0)
                fail_msg("--disk has no %s of type %s", key, type);
}

static void check_nic_key(sd_bus *bus, const char *key, const char *type) {
        if (g_strcmp0(device_options_type(DEVICE_NIC, key), type) != 0)
                fail_msg("--nic has no %s of type %s", key, type);
}

static void test_every_option_of_the_api(void **state) {
        /* The names are the API's but for these. */
        static const char *const renamed[][2] = { { "memory-mib", "memory" },
                                                  { "disks", "disk" },
                                                  { "nics", "nic" } };

        assert_true(each_key(*state, "### Options", "Disks have", check_option) >= 18);
        assert_int_equal(each_key(*state, "Disks have", "and NICs", check_disk_key), 4);
        assert_int_equal(each_key(*state, "and NICs", "`image`", check_nic_key), 4);
        for (size_t i = 0; i < G_N_ELEMENTS(renamed); i++)
                assert_string_equal(create_options_long(renamed[i][0]), renamed[i][1]);
        assert_null(create_options_long("colour"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_each_option, bus_setup, bus_teardown),
                cmocka_unit_test_setup_teardown(test_twice, bus_setup, bus_teardown),
                cmocka_unit_test_setup_teardown(test_devices, bus_setup, bus_teardown),
                cmocka_unit_test_setup_teardown(test_ignition_is_read_from_a_file, bus_setup,
                                                bus_teardown),
                cmocka_unit_test(test_wrong_ones),
                cmocka_unit_test(test_bytes_that_are_no_text),
                cmocka_unit_test_setup_teardown(test_every_option_of_the_api, bus_setup,
                                                bus_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
