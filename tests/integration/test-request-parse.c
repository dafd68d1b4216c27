/* dbus/request-parse: what goes over the wire becomes a request and findings, whatever it is. Two
 * ends of a socket pair stand in for a bus: messages have to belong to one. */
#include "request-parse.h"

#include "autoptr-bus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
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

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_type), cmocka_unit_test(test_nothing_asked),
                cmocka_unit_test(test_all_wrong),  cmocka_unit_test(test_every_other_type),
                cmocka_unit_test(test_too_many),   cmocka_unit_test(test_not_a_request),
        };

        return cmocka_run_group_tests(tests, bus_setup, bus_teardown);
}
