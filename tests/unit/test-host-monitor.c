/* What is told of GPUs that are there, come, change and go. Runs under umockdev-wrapper. */
#include "host/udev-monitor.h"

#include "autoptr-bus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <umockdev.h>
#include <unistd.h>

typedef struct Fixture {
        sd_event *event;
        UMockdevTestbed *testbed;
        DeviceMonitor *monitor;
        GString *told; /* "+ADDRESS", "-ADDRESS" and "=COUNT", parted by spaces */
} Fixture;

static void tell(Fixture *fixture, char what, PciAddress address) {
        char text[PCI_ADDRESS_BUFFER];

        g_string_append_printf(fixture->told, "%s%c%s", fixture->told->len ? " " : "", what,
                               pci_address_print(address, text));
}

static void on_changed(void *userdata, PciAddress address) {
        tell(userdata, '+', address);
}

static void on_removed(void *userdata, PciAddress address) {
        tell(userdata, '-', address);
}

static void on_listed(void *userdata, const GArray *addresses) {
        Fixture *fixture = userdata;

        g_string_append_printf(fixture->told, "%s=%u", fixture->told->len ? " " : "",
                               addresses->len);
}

static const HostEvents events = {
        .device_changed = on_changed,
        .device_removed = on_removed,
        .devices_listed = on_listed,
};

static void add_function(Fixture *fixture, const char *address, const char *class) {
        g_autofree char *path = umockdev_testbed_add_device(
                fixture->testbed, "pci", address, NULL, "class", class, "vendor", "0x10de",
                "device", "0x1eb8", "subsystem_vendor", "0x10de", "subsystem_device", "0x12a2",
                NULL, "SUBSYSTEM", "pci", NULL);

        assert_non_null(path);
}

static int setup(void **state) {
        Fixture *fixture = g_new0(Fixture, 1);

        fixture->testbed = umockdev_testbed_new();
        fixture->told = g_string_new(NULL);
        assert_true(sd_event_new(&fixture->event) >= 0);
        assert_int_equal(device_monitor_new(fixture->event, &fixture->monitor), 0);
        add_function(fixture, "0000:01:00.0", "0x030000\n");
        add_function(fixture, "0000:01:00.1", "0x040300\n");
        add_function(fixture, "0000:02:00.0", "0x020000\n");
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;

        device_monitor_free(fixture->monitor);
        sd_event_unref(fixture->event);
        g_object_unref(fixture->testbed);
        g_string_free(fixture->told, TRUE);
        g_free(fixture);
        return 0;
}

/* Lets the loop take all that has arrived; what was told meanwhile is @expected. */
static void assert_told(Fixture *fixture, const char *expected) {
        int r;

        while ((r = sd_event_run(fixture->event, 200000)) > 0)
                ;
        assert_return_code(r, -r);
        assert_string_equal(fixture->told->str, expected);
        g_string_truncate(fixture->told, 0);
}

static void begin(Fixture *fixture) {
        assert_int_equal(device_monitor_begin(fixture->monitor, &events, fixture), 0);
        assert_told(fixture, "+0000:01:00.0 =1");
}

static void test_every_action(void **state) {
        static const char *const actions[] = {
                "add", "change", "bind", "unbind", "online", "move"
        };
        Fixture *fixture = *state;

        begin(fixture);
        for (size_t i = 0; i < G_N_ELEMENTS(actions); i++) {
                umockdev_testbed_uevent(fixture->testbed, "/sys/devices/0000:01:00.0", actions[i]);
                assert_told(fixture, "+0000:01:00.0");
                umockdev_testbed_uevent(fixture->testbed, "/sys/devices/0000:01:00.1", actions[i]);
                assert_told(fixture, "+0000:01:00.0");
                umockdev_testbed_uevent(fixture->testbed, "/sys/devices/0000:02:00.0", actions[i]);
                assert_told(fixture, "");
        }
}

static void test_come_and_go(void **state) {
        Fixture *fixture = *state;

        begin(fixture);
        add_function(fixture, "0000:03:00.0", "0x038000\n");
        assert_told(fixture, "+0000:03:00.0");
        umockdev_testbed_uevent(fixture->testbed, "/sys/devices/0000:03:00.0", "remove");
        /* The folder is still there, so it is a new device already. */
        assert_told(fixture, "-0000:03:00.0 +0000:03:00.0");
        umockdev_testbed_uevent(fixture->testbed, "/sys/devices/0000:03:00.0", "remove");
        umockdev_testbed_remove_device(fixture->testbed, "/sys/devices/0000:03:00.0");
        assert_told(fixture, "-0000:03:00.0");
}

/* What goes without ever having been told of is nobody's concern. */
static void test_stranger_goes(void **state) {
        Fixture *fixture = *state;

        begin(fixture);
        umockdev_testbed_uevent(fixture->testbed, "/sys/devices/0000:02:00.0", "remove");
        umockdev_testbed_remove_device(fixture->testbed, "/sys/devices/0000:02:00.0");
        assert_told(fixture, "");
}

static void test_list_again(void **state) {
        Fixture *fixture = *state;

        begin(fixture);
        umockdev_testbed_remove_device(fixture->testbed, "/sys/devices/0000:01:00.0");
        assert_int_equal(device_monitor_list(fixture->monitor), 0);
        assert_string_equal(fixture->told->str, "=0");
}

/* Takes all descriptors, or gives them back. */
static void descriptors_take(bool take) {
        static struct rlimit before;

        if (take) {
                int first = dup(STDIN_FILENO);
                struct rlimit limit;

                assert_return_code(first, errno);
                close(first);
                assert_return_code(getrlimit(RLIMIT_NOFILE, &before), errno);
                limit = before;
                limit.rlim_cur = (rlim_t)first;
                assert_return_code(setrlimit(RLIMIT_NOFILE, &limit), errno);
        } else
                assert_return_code(setrlimit(RLIMIT_NOFILE, &before), errno);
}

/* Runs the loop until something was told. */
static void run_until_told(Fixture *fixture) {
        gint64 deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

        while (fixture->told->len == 0) {
                assert_true(sd_event_run(fixture->event, 1000000) >= 0);
                assert_true(g_get_monotonic_time() < deadline);
        }
}

/* A listing that fails tells nothing, comes again, and then tells what went meanwhile. */
static void test_list_fails(void **state) {
        Fixture *fixture = *state;

        begin(fixture);
        umockdev_testbed_remove_device(fixture->testbed, "/sys/devices/0000:01:00.0");
        add_function(fixture, "0000:03:00.0", "0x030200\n");
        assert_told(fixture, "+0000:03:00.0");
        descriptors_take(true);
        assert_int_equal(device_monitor_list(fixture->monitor), -EMFILE);
        assert_int_equal(device_monitor_list(fixture->monitor), -EMFILE);
        /* The first time that it comes again, too. */
        assert_true(sd_event_run(fixture->event, 20000000) > 0);
        descriptors_take(false);
        assert_string_equal(fixture->told->str, "");
        run_until_told(fixture);
        assert_told(fixture, "+0000:03:00.0 =1");
}

/* An event whose device cannot be looked at is an event lost. */
static void test_event_unreadable(void **state) {
        Fixture *fixture = *state;

        begin(fixture);
        umockdev_testbed_uevent(fixture->testbed, "/sys/devices/0000:01:00.0", "change");
        descriptors_take(true);
        while (sd_event_run(fixture->event, 0) > 0)
                ;
        descriptors_take(false);
        assert_string_equal(fixture->told->str, "");
        run_until_told(fixture);
        assert_told(fixture, "+0000:01:00.0 =1");
}

/* The names are the real database's; that it knows the vendor is all that is asked of it. */
static void test_names(void **state) {
        Fixture *fixture = *state;
        PciFunction known = { .vendor = 0x10de, .device = 0x1eb8, .class = 0x030200 };
        PciFunction unknown = { .vendor = 0xfff0, .device = 0xfff0, .class = 0x030000 };
        g_autofree char *vendor = NULL, *model = NULL;
        g_autofree char *no_vendor = NULL, *no_model = NULL;

        device_monitor_names(fixture->monitor, &known, &vendor, &model);
        assert_true(*vendor == '\0' || strstr(vendor, "NVIDIA"));
        assert_true(*model == '\0' || strstr(model, "T4"));
        device_monitor_names(fixture->monitor, &unknown, &no_vendor, &no_model);
        assert_string_equal(no_vendor, "");
        assert_string_equal(no_model, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(test_every_action), TEST(test_come_and_go), TEST(test_stranger_goes),
                TEST(test_list_again),   TEST(test_list_fails),  TEST(test_event_unreadable),
                TEST(test_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
