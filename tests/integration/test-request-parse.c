/* dbus/request-parse: what goes over the wire becomes a request and findings, whatever it is. Two
 * ends of a socket pair stand in for a bus: messages have to belong to one. */
#include "request-parse.h"

#include "autoptr-bus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* The other end, where nobody ever reads. */
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

/* A call to Create for @name and the one GPU @gpu, up to the options. */
static sd_bus_message *call_new(sd_bus *bus, const char *name, const char *gpu) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_method_call(bus, &m, "org.feos.VM1", "/org/feos/VM1",
                                                   "org.feos.VM1", "Create") >= 0);
        assert_true(sd_bus_message_append(m, "sas", name, 1, gpu) >= 0);
        assert_true(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        return m;
}

/* Ends the options, as if @m had arrived, and parses it. */
static Request *parse(sd_bus_message *m, GPtrArray *findings) {
        Request *request = NULL;

        assert_true(sd_bus_message_close_container(m) >= 0);
        assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
        assert_true(sd_bus_message_rewind(m, true) >= 0);
        assert_int_equal(request_parse(m, findings, &request), 0);
        assert_non_null(request);
        return request;
}

static void assert_finding(const GPtrArray *findings, guint index, RefusalCode code,
                           const char *subject) {
        const Refusal *finding;

        assert_true(index < findings->len);
        finding = g_ptr_array_index(findings, index);
        assert_int_equal(finding->severity, SEVERITY_ERROR);
        assert_int_equal(finding->code, code);
        assert_string_equal(finding->subject, subject);
        assert_string_not_equal(finding->message, "");
        assert_string_not_equal(finding->remedy, "");
}

static void test_every_type(void **state) {
        g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "01:00.0");
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = NULL;

        assert_true(sd_bus_message_append(m, "{sv}", "image", "s", "disk.qcow2") >= 0);
        assert_true(sd_bus_message_append(m, "{sv}", "vcpus", "u", 3) >= 0);
        assert_true(sd_bus_message_append(m, "{sv}", "memory-mib", "t", (uint64_t)4096) >= 0);
        assert_true(sd_bus_message_append(m, "{sv}", "start", "b", false) >= 0);
        assert_true(sd_bus_message_append(m, "{sv}", "allow-boot-display", "b", true) >= 0);
        request = parse(m, findings);

        assert_int_equal(findings->len, 0);
        assert_string_equal(request->name, "vm-1");
        assert_int_equal(request->gpus->len, 1);
        assert_int_equal(g_array_index(request->gpus, PciAddress, 0).bus, 1);
        assert_string_equal(request->image, "disk.qcow2");
        assert_int_equal(request->image_format, IMAGE_QCOW2);
        assert_int_equal(request->vcpus, 3);
        assert_int_equal(request->memory_mib, 4096);
        assert_false(request->start);
        assert_true(request->wait);
        assert_true(request->allow_boot_display);
}

static void test_nothing_asked(void **state) {
        g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "0000:01:00.0");
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = parse(m, findings);

        assert_int_equal(findings->len, 0);
        assert_int_equal(request->vcpus, 2);
        assert_int_equal(request->memory_mib, 2048);
        assert_true(request->start);
        assert_true(request->wait);
}

/* Everything that is wrong is found in one go, and what is right is kept. */
static void test_all_wrong(void **state) {
        g_autoptr(sd_bus_message) m = call_new(*state, "-", "gpu");
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = NULL;

        assert_true(sd_bus_message_append(m, "{sv}", "vcpus", "s", "3") >= 0);
        assert_true(sd_bus_message_append(m, "{sv}", "colour", "as", 2, "red", "blue") >= 0);
        assert_true(sd_bus_message_append(m, "{sv}", "memory-mib", "t", (uint64_t)0) >= 0);
        assert_true(sd_bus_message_append(m, "{sv}", "wait", "b", false) >= 0);
        assert_true(sd_bus_message_append(m, "{sv}", "wait", "b", true) >= 0);
        assert_true(sd_bus_message_append(m, "{sv}", "initrd", "s", "initrd.img") >= 0);
        request = parse(m, findings);

        assert_int_equal(findings->len, 7);
        assert_finding(findings, 0, REFUSAL_INVALID_NAME, "-");
        assert_finding(findings, 1, REFUSAL_INVALID_ADDRESS, "gpu");
        assert_finding(findings, 2, REFUSAL_INVALID_OPTION, "vcpus");
        assert_finding(findings, 3, REFUSAL_INVALID_OPTION, "colour");
        assert_finding(findings, 4, REFUSAL_INVALID_OPTION, "memory-mib");
        assert_finding(findings, 5, REFUSAL_INVALID_OPTION, "wait");
        assert_finding(findings, 6, REFUSAL_INVALID_OPTION, "initrd");
        assert_false(request->wait);
}

/* No known key takes these, and none may upset the reader. */
static void test_every_other_type(void **state) {
        static const char *const keys[] = { "uuid", "vcpus", "memory-mib", "start", "unknown" };
        g_autoptr(GPtrArray) findings = findings_new();

        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
                g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "01:00.0");
                g_autoptr(Request) request = NULL;

                assert_true(sd_bus_message_append(m, "{sv}", keys[i], "v", "v", "d", 0.5) >= 0);
                request = parse(m, findings);
                assert_int_equal(findings->len, i + 1);
                assert_finding(findings, i, REFUSAL_INVALID_OPTION, keys[i]);
        }
}

static void test_too_many(void **state) {
        g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "01:00.0");
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = NULL;

        for (unsigned i = 0; i < 1000; i++)
                assert_true(sd_bus_message_append(m, "{sv}", "vcpus", "u", 3) >= 0);
        request = parse(m, findings);
        assert_int_equal(findings->len, 64);
        assert_finding(findings, 63, REFUSAL_INVALID_OPTION, "options");
}

static void test_not_a_request(void **state) {
        g_autoptr(sd_bus_message) m = NULL;
        g_autoptr(GPtrArray) findings = findings_new();
        Request *request = NULL;

        assert_true(sd_bus_message_new_method_call(*state, &m, "org.feos.VM1", "/org/feos/VM1",
                                                   "org.feos.VM1", "Create") >= 0);
        assert_true(sd_bus_message_append(m, "u", 1) >= 0);
        assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
        assert_true(request_parse(m, findings, &request) < 0);
        assert_null(request);
}

/* Appends option @key with the variant's @type and what follows of it. */
static void append_option(sd_bus_message *m, const char *key, const char *type, ...) {
        va_list args;

        assert_true(sd_bus_message_open_container(m, 'e', "sv") >= 0);
        assert_true(sd_bus_message_append(m, "s", key) >= 0);
        assert_true(sd_bus_message_open_container(m, 'v', type) >= 0);
        va_start(args, type);
        assert_true(sd_bus_message_appendv(m, type, args) >= 0);
        va_end(args);
        assert_true(sd_bus_message_close_container(m) >= 0);
        assert_true(sd_bus_message_close_container(m) >= 0);
}

static void test_devices(void **state) {
        g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "01:00.0");
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = NULL;
        const DeviceRequest *device;

        append_option(m, "disks", "aa{sv}", 2, 1, "path", "s", "a.qcow2", 4, "id", "s", "data",
                      "path", "s", "b", "format", "s", "raw", "read-only", "b", true);
        append_option(m, "nics", "aa{sv}", 1, 3, "type", "s", "bridge", "source", "s", "br0", "mac",
                      "s", "52:54:00:AB:cd:ef");
        append_option(m, "max-vcpus", "u", 8);
        append_option(m, "hugepages", "s", "2M");
        append_option(m, "ignition", "s", "{\"ignition\":{\"version\":\"3.4.0\"}}");
        append_option(m, "autostart", "b", true);
        request = parse(m, findings);

        assert_int_equal(findings->len, 0);
        assert_int_equal(request->disks->len, 2);
        device = g_ptr_array_index(request->disks, 0);
        assert_string_equal(device->path, "a.qcow2");
        assert_int_equal(device->format, IMAGE_QCOW2);
        assert_false(device->read_only);
        device = g_ptr_array_index(request->disks, 1);
        assert_string_equal(device->id, "data");
        assert_int_equal(device->format, IMAGE_RAW);
        assert_true(device->read_only);
        assert_int_equal(request->nics->len, 1);
        device = g_ptr_array_index(request->nics, 0);
        assert_int_equal(device->type, NIC_BRIDGE);
        assert_string_equal(device->source, "br0");
        assert_string_equal(device->mac, "52:54:00:ab:cd:ef");
        assert_int_equal(request->max_vcpus, 8);
        assert_int_equal(request->hugepages, HUGEPAGES_2M);
        assert_string_equal(request->ignition, "{\"ignition\":{\"version\":\"3.4.0\"}}");
        assert_true(request->autostart);
}

static void test_empty_lists(void **state) {
        g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "01:00.0");
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = NULL;

        append_option(m, "disks", "aa{sv}", 0);
        append_option(m, "nics", "aa{sv}", 0);
        append_option(m, "vcpus", "u", 5);
        request = parse(m, findings);
        assert_int_equal(findings->len, 0);
        assert_int_equal(request->disks->len + request->nics->len, 0);
        assert_int_equal(request->vcpus, 5);
}

/* Each finding says in which list, at which place and about which key; what is right is kept. */
static void test_wrong_devices(void **state) {
        static const char *const subjects[] = {
                "disks[0].path", "disks[1].format", "disks[2].colour", "disks[3].path",
                "disks[5].id",   "nics[0].mac",     "nics[0].source",
        };
        g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "01:00.0");
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = NULL;

        append_option(m, "disks", "aa{sv}", 6, /* without path */ 0, /* of another type */ 2,
                      "path", "s", "a", "format", "u", 3, /* unknown */ 2, "path", "s", "b",
                      "colour", "s", "red", /* twice */ 2, "path", "s", "c", "path", "s", "d",
                      /* right */ 2, "path", "s", "e", "id", "s", "x", /* there already */ 2,
                      "path", "s", "f", "id", "s", "x");
        append_option(m, "nics", "aa{sv}", 1, 1, "mac", "s", "01:00:00:00:00:00");
        append_option(m, "vcpus", "u", 5);
        request = parse(m, findings);

        assert_int_equal(findings->len, G_N_ELEMENTS(subjects));
        for (guint i = 0; i < findings->len; i++) {
                const Refusal *finding = g_ptr_array_index(findings, i);
                g_autofree char *place =
                        g_strndup(subjects[i], strchr(subjects[i], '.') - subjects[i]);

                assert_finding(findings, i, REFUSAL_INVALID_OPTION, subjects[i]);
                /* An error on the bus has no subject: the sentence says it too. */
                assert_non_null(strstr(finding->message, place));
        }
        assert_string_equal(((DeviceRequest *)g_ptr_array_index(request->disks, 0))->path, "e");
        assert_int_equal(request->nics->len, 0);
        assert_int_equal(request->vcpus, 5);
}

static void test_no_lists(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();
        static const char *const keys[] = { "disks", "nics" };

        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
                g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "01:00.0");
                g_autoptr(Request) request = NULL;

                append_option(m, keys[i], "a{sv}", 1, "path", "s", "a");
                append_option(m, "wait", "b", false);
                request = parse(m, findings);
                assert_int_equal(findings->len, i + 1);
                assert_finding(findings, i, REFUSAL_INVALID_OPTION, keys[i]);
                assert_false(request->wait);
        }
}

/* Appends the list @key with @n entries of @n_options unknown options each. */
static void append_many(sd_bus_message *m, const char *key, unsigned n, unsigned n_options) {
        assert_true(sd_bus_message_open_container(m, 'e', "sv") >= 0);
        assert_true(sd_bus_message_append(m, "s", key) >= 0);
        assert_true(sd_bus_message_open_container(m, 'v', "aa{sv}") >= 0);
        assert_true(sd_bus_message_open_container(m, 'a', "a{sv}") >= 0);
        for (unsigned i = 0; i < n; i++) {
                assert_true(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
                assert_true(sd_bus_message_append(m, "{sv}", "source", "s", "net") >= 0);
                for (unsigned j = 1; j < n_options; j++) {
                        g_autofree char *option = g_strdup_printf("x%u", j);

                        assert_true(sd_bus_message_append(m, "{sv}", option, "s", "") >= 0);
                }
                assert_true(sd_bus_message_close_container(m) >= 0);
        }
        for (unsigned i = 0; i < 3; i++)
                assert_true(sd_bus_message_close_container(m) >= 0);
}

static void test_too_many_devices(void **state) {
        g_autoptr(sd_bus_message) most = call_new(*state, "vm-1", "01:00.0");
        g_autoptr(sd_bus_message) more = call_new(*state, "vm-1", "01:00.0");
        g_autoptr(sd_bus_message) keys = call_new(*state, "vm-1", "01:00.0");
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) good = NULL;
        g_autoptr(Request) bad = NULL;
        g_autoptr(Request) worse = NULL;

        append_many(most, "nics", 16, 1);
        good = parse(most, findings);
        assert_int_equal(findings->len, 0);
        assert_int_equal(good->nics->len, 16);

        append_many(more, "nics", 1000, 1);
        bad = parse(more, findings);
        assert_int_equal(findings->len, 1);
        assert_finding(findings, 0, REFUSAL_INVALID_OPTION, "nics");

        append_many(keys, "nics", 3, 1000);
        worse = parse(keys, findings);
        assert_int_equal(findings->len, 1 + 15 + 1);
        assert_finding(findings, 1, REFUSAL_INVALID_OPTION, "nics[0].x1");
        assert_finding(findings, 16, REFUSAL_INVALID_OPTION, "nics[0].options");
}

/* Whatever is wrong with it, nobody reads it anywhere. */
static void test_ignition_is_secret(void **state) {
        static const char *const texts[] = { "hunter2", "{\"passwd\":\"hunter2\"",
                                             "[\"hunter2\"]" };
        g_autoptr(GPtrArray) findings = findings_new();

        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "01:00.0");
                g_autoptr(Request) request = NULL;

                append_option(m, "ignition", "s", texts[i]);
                request = parse(m, findings);
        }
        for (size_t i = 0; i < 3; i++) {
                g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "01:00.0");
                g_autoptr(Request) request = NULL;

                if (i == 0)
                        append_option(m, "ignition", "as", 1, "hunter2");
                else if (i == 1)
                        append_option(m, "Ignition", "s", "hunter2");
                else {
                        append_option(m, "ignition", "s", "{}");
                        append_option(m, "ignition", "s", "hunter2");
                }
                request = parse(m, findings);
        }
        assert_int_equal(findings->len, 6);
        for (guint i = 0; i < findings->len; i++) {
                const Refusal *finding = g_ptr_array_index(findings, i);

                assert_string_equal(finding->subject, i == 4 ? "Ignition" : "ignition");
                assert_null(strstr(finding->message, "hunter2"));
                assert_null(strstr(finding->remedy, "hunter2"));
        }
}

/* A message that a caller can make grow without bound is one that the bus may not take from us. */
static void test_long_keys(void **state) {
        g_autofree char *key = g_strnfill(100000, 'x');
        g_autoptr(sd_bus_message) m = call_new(*state, "vm-1", "01:00.0");
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = NULL;

        assert_true(sd_bus_message_append(m, "{sv}", key, "s", "") >= 0);
        assert_true(sd_bus_message_append(m, "{sv}", key, "s", "") >= 0);
        append_option(m, "disks", "aa{sv}", 1, 3, "path", "s", "a", key, "s", "", key, "s", "");
        request = parse(m, findings);
        assert_int_equal(findings->len, 4);
        for (guint i = 0; i < findings->len; i++) {
                const Refusal *finding = g_ptr_array_index(findings, i);

                assert_true(strlen(finding->subject) < 1000);
                assert_true(strlen(finding->message) < 1000);
        }
}

/* The argument of AttachDisk and AttachNIC. */
static void test_one_device(void **state) {
        g_autoptr(sd_bus_message) m = NULL;
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(DeviceRequest) disk = NULL;
        g_autoptr(DeviceRequest) nic = NULL;

        assert_true(sd_bus_message_new_method_call(*state, &m, "org.feos.VM1", "/", "org.feos.VM1",
                                                   "AttachDisk") >= 0);
        assert_true(sd_bus_message_append(m, "a{sv}", 2, "path", "s", "a.qcow2", "id", "s", "x") >=
                    0);
        assert_true(sd_bus_message_seal(m, 1, 0) >= 0);
        assert_true(sd_bus_message_rewind(m, true) >= 0);
        assert_int_equal(device_parse(m, DEVICE_DISK, findings, &disk), 0);
        assert_int_equal(findings->len, 0);
        assert_string_equal(disk->id, "x");
        assert_int_equal(disk->format, IMAGE_QCOW2);

        assert_true(sd_bus_message_rewind(m, true) >= 0);
        assert_int_equal(device_parse(m, DEVICE_NIC, findings, &nic), 0);
        assert_int_equal(findings->len, 2);
        assert_finding(findings, 0, REFUSAL_INVALID_OPTION, "path");
        assert_finding(findings, 1, REFUSAL_INVALID_OPTION, "source");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_type),       cmocka_unit_test(test_nothing_asked),
                cmocka_unit_test(test_all_wrong),        cmocka_unit_test(test_every_other_type),
                cmocka_unit_test(test_too_many),         cmocka_unit_test(test_not_a_request),
                cmocka_unit_test(test_devices),          cmocka_unit_test(test_empty_lists),
                cmocka_unit_test(test_wrong_devices),    cmocka_unit_test(test_no_lists),
                cmocka_unit_test(test_too_many_devices), cmocka_unit_test(test_ignition_is_secret),
                cmocka_unit_test(test_long_keys),        cmocka_unit_test(test_one_device),
        };

        return cmocka_run_group_tests(tests, bus_setup, bus_teardown);
}
