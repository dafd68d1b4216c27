/* The verbs of the seam to libvirt, against the real library and its test driver, which keeps its
 * domains in this process: what they do, and with which words they are refused. */
#include "autoptr-bus.h"
#include "hypervisor/domain-refusal.h"
#include "libvirt-fixture.h"
#include "testing.h"

#include <string.h>

static void add_gpu(Fixture *f, const char *text) {
        CardIdentity card = {
                .functions = { { .vendor = 0x10de,
                                 .device = 0x20b0,
                                 .subsystem_vendor = 0x10de,
                                 .subsystem_device = 0x1463,
                                 .serial = SERIAL } },
                .n_functions = 1,
        };

        assert_true(pci_address_parse(text, &card.functions[0].address));
        g_array_append_val(f->request.gpus, card.functions[0].address);
        g_array_append_val(f->spec.cards, card);
}

/* What the machine was given stands in libvirt. */
static void assert_identity(Fixture *f) {
        const GArray *cards = domain(f, UUID)->cards;

        assert_int_equal(cards->len, 1);
        assert_int_equal(g_array_index(cards, CardIdentity, 0).functions[0].device, 0x20b0);
        assert_string_equal(g_array_index(cards, CardIdentity, 0).functions[0].serial, SERIAL);
}

static void test_life(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        add_gpu(&f, "0000:c1:00.0");
        f.spec.kernel = "/nowhere/vmlinuz";
        f.spec.image = "/nowhere/disk.qcow2";
        f.request.image_format = IMAGE_QCOW2;

        define(&f);
        assert_done(&f);
        assert_non_null(domain(&f, UUID));
        assert_true(domain(&f, UUID)->ours);
        assert_false(domain(&f, UUID)->active);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_OFF);
        assert_int_equal(domain(&f, UUID)->first_start, FIRST_START_PENDING);
        assert_int_equal(domain(&f, UUID)->gpus->len, 1);
        assert_identity(&f);
        assert_int_equal(domain(&f, UUID)->hostdevs->len, 1);
        assert_int_equal(domain(&f, UUID)->vcpus, 3);
        assert_int_equal(domain(&f, UUID)->memory_mib, 96);

        act(&f, HYPERVISOR_START, UUID);
        assert_done(&f);
        assert_true(domain(&f, UUID)->active);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_RUNNING);
        assert_int_equal(domain(&f, UUID)->first_start, FIRST_START_DONE);
        assert_int_equal(domain(&f, UUID)->gpus->len, 1);
        assert_identity(&f);

        act(&f, HYPERVISOR_START, UUID);
        assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
        assert_true(g_str_has_prefix(f.refusal->message, "libvirt could not start machine box: "));

        act(&f, HYPERVISOR_DESTROY, UUID);
        assert_done(&f);
        assert_false(domain(&f, UUID)->active);
        assert_int_equal(domain(&f, UUID)->off_reason, DOMAIN_OFF_DESTROYED);
        /* Kept in the definition, not in the running domain alone. */
        assert_int_equal(domain(&f, UUID)->first_start, FIRST_START_DONE);
        act(&f, HYPERVISOR_DESTROY, UUID);
        assert_done(&f);

        act(&f, HYPERVISOR_UNDEFINE, UUID);
        assert_done(&f);
        assert_null(domain(&f, UUID));
        act(&f, HYPERVISOR_UNDEFINE, UUID);
        assert_done(&f);
        act(&f, HYPERVISOR_DESTROY, UUID);
        assert_done(&f);
        act(&f, HYPERVISOR_START, UUID);
        assert_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        fixture_close(&f);
}

static void test_shutdown(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        define(&f);
        act(&f, HYPERVISOR_SHUTDOWN, UUID);
        assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
        act(&f, HYPERVISOR_START, UUID);
        act(&f, HYPERVISOR_SHUTDOWN, UUID);
        assert_done(&f);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_OFF);
        assert_int_equal(domain(&f, UUID)->off_reason, DOMAIN_OFF_SHUTDOWN);
        fixture_close(&f);
}

static void test_pause(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        f.request.autostart = true;
        define(&f);
        assert_true(domain(&f, UUID)->autostart);
        act(&f, HYPERVISOR_PAUSE, UUID);
        assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
        assert_true(g_str_has_prefix(f.refusal->message, "libvirt could not pause machine box: "));
        act(&f, HYPERVISOR_START, UUID);
        assert_true(domain(&f, UUID)->autostart);
        act(&f, HYPERVISOR_PAUSE, UUID);
        assert_done(&f);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_PAUSED);
        act(&f, HYPERVISOR_RESUME, UUID);
        assert_done(&f);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_RUNNING);
        act(&f, HYPERVISOR_REBOOT, UUID);
        assert_done(&f);
        assert_int_equal(domain(&f, UUID)->state, DOMAIN_RUNNING);
        act(&f, HYPERVISOR_PAUSE, OTHER_UUID);
        assert_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        fixture_close(&f);
}

static void on_xml(void *userdata, const char *xml, const Refusal *refusal) {
        Fixture *f = userdata;

        on_done(f, refusal);
        assert_true(!xml == !!refusal);
        g_free(f->xml);
        f->xml = g_strdup(xml);
}

static void get_xml(Fixture *f, const char *uuid) {
        unsigned n = f->n_done;

        f->hypervisor.ops->get_xml(f->hypervisor.self, uuid, on_xml, f);
        assert_int_equal(f->n_done, n);
        await(f, &f->n_done, n + 1);
}

/* The definition says where the Ignition text is, and not what is in it. */
static void test_get_xml(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        f.request.ignition = (char *)"{\"secret\": 1}";
        define(&f);
        assert_done(&f);
        get_xml(&f, UUID);
        assert_done(&f);
        assert_non_null(strstr(f.xml, "<name>box</name>"));
        assert_non_null(strstr(f.xml, "file='/var/lib/feos/ignition/" UUID ".ign'"));
        assert_null(strstr(f.xml, "secret"));
        get_xml(&f, OTHER_UUID);
        assert_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        fixture_close(&f);
}

static DeviceRequest *device_new(DeviceKind kind, const char *id) {
        DeviceRequest *device = device_request_new(kind);

        device->id = g_strdup(id);
        device->name = g_strdup("/nowhere/disk.img");
        device->source = g_strdup("default");
        return device;
}

static void attach(Fixture *f, const char *uuid, DeviceKind kind, const char *id) {
        g_autoptr(DeviceRequest) device = device_new(kind, id);
        unsigned n = f->n_done;

        f->hypervisor.ops->attach(f->hypervisor.self, uuid, device, on_done, f);
        assert_int_equal(f->n_done, n);
        await(f, &f->n_done, n + 1);
}

static void detach(Fixture *f, const char *uuid, DeviceKind kind, const char *id) {
        unsigned n = f->n_done;

        f->hypervisor.ops->detach(f->hypervisor.self, uuid, kind, id, on_done, f);
        assert_int_equal(f->n_done, n);
        await(f, &f->n_done, n + 1);
}

/* libvirt's test driver has no way to attach anything, so here are the refusals. */
static void test_devices(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        attach(&f, UUID, DEVICE_DISK, "data");
        assert_refused(&f, REFUSAL_HYPERVISOR_UNAVAILABLE);
        await_connected(&f);
        f.request.disks = g_ptr_array_new_with_free_func((GDestroyNotify)device_request_free);
        f.request.nics = g_ptr_array_new_with_free_func((GDestroyNotify)device_request_free);
        g_ptr_array_add(f.request.disks, device_new(DEVICE_DISK, "data"));
        g_ptr_array_add(f.request.nics, device_new(DEVICE_NIC, "lan"));
        define(&f);
        assert_done(&f);
        assert_int_equal(domain(&f, UUID)->disks->len, 1);
        assert_string_equal(g_ptr_array_index(domain(&f, UUID)->disks, 0), "data");
        assert_int_equal(domain(&f, UUID)->nics->len, 1);
        assert_string_equal(g_ptr_array_index(domain(&f, UUID)->nics, 0), "lan");

        for (unsigned i = 0; i < 2; i++) {
                attach(&f, UUID, DEVICE_DISK, "data");
                assert_refused(&f, REFUSAL_INVALID_OPTION);
                attach(&f, UUID, DEVICE_NIC, "data");
                assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
                assert_true(g_str_has_prefix(f.refusal->message,
                                             "libvirt could not attach NIC data to machine box: "));
                detach(&f, UUID, DEVICE_NIC, "data");
                assert_refused(&f, REFUSAL_INVALID_OPTION);
                detach(&f, UUID, DEVICE_NIC, "lan");
                assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
                act(&f, HYPERVISOR_START, UUID);
                assert_int_equal(domain(&f, UUID)->disks->len, 1);
                assert_int_equal(domain(&f, UUID)->nics->len, 1);
        }
        detach(&f, OTHER_UUID, DEVICE_NIC, "lan");
        assert_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        g_ptr_array_unref(f.request.disks);
        g_ptr_array_unref(f.request.nics);
        fixture_close(&f);
}

static void on_console(void *userdata, int fd, const Refusal *refusal) {
        Fixture *f = userdata;

        on_done(f, refusal);
        assert_true((fd < 0) == !!refusal);
        f->fd = fd;
}

/* What is no terminal of the domain's is not handed out. */
static void test_console_refused(void **state) {
        static const char *const terminals[] = { "/dev/pts/99999", "/dev/null", "/etc/passwd", "" };
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        define(&f);
        act(&f, HYPERVISOR_START, UUID);
        for (unsigned i = 0; i < G_N_ELEMENTS(terminals); i++) {
                unsigned n = f.n_done;

                f.hypervisor.ops->open_console(f.hypervisor.self, UUID, terminals[i], 0, on_console,
                                               &f);
                await(&f, &f.n_done, n + 1);
                assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
                assert_int_equal(f.fd, -1);
        }
        fixture_close(&f);
}

static void test_look_before_done(void **state) {
        Fixture f = { 0 };
        unsigned n;

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        define(&f);
        n = f.order->len;
        assert_string_equal(g_ptr_array_index(f.order, n - 2), "seen");
        assert_string_equal(g_ptr_array_index(f.order, n - 1), "done");
        fixture_close(&f);
}

static void test_exists(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        f.request.name = (char *)"test";
        define(&f);
        assert_refused(&f, REFUSAL_MACHINE_EXISTS);
        assert_string_equal(f.refusal->subject, "test");
        f.request.name = (char *)"box";
        f.spec.uuid = TEST_DOMAIN;
        define(&f);
        assert_refused(&f, REFUSAL_MACHINE_EXISTS);
        assert_string_equal(f.refusal->subject, TEST_DOMAIN);
        assert_string_equal(domain(&f, TEST_DOMAIN)->name, "test");
        fixture_close(&f);
}

static void test_unsayable(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        f.spec.kernel = "/k";
        f.request.cmdline = (char *)"\x1b";
        define(&f);
        assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
        assert_null(domain(&f, UUID));
        fixture_close(&f);
}

static void test_refused_by_libvirt(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        f.spec.uuid = "no-uuid";
        define(&f);
        assert_refused(&f, REFUSAL_HYPERVISOR_FAILED);
        fixture_close(&f);
}

static void test_clear_words(void **state) {
        static const struct {
                const char *words, *clear;
        } said[] = {
                { "internal error: no such thing", "internal error: no such thing" },
                { "process exited while connecting to monitor: 2026-11-24T19:21:20.989787Z "
                  "qemu-system-x86_64: -accel kvm: warning: Number of SMP cpus requested (2)\n"
                  "2026-11-24T19:21:20.998617Z qemu-system-x86_64: warning: and more\n"
                  "qemu: linux kernel too old to load a ram disk\n",
                  "process exited while connecting to monitor: "
                  "qemu: linux kernel too old to load a ram disk" },
                { "process exited: 2026-11-24T19:21:20.989787Z qemu-system-x86_64: vfio "
                  "0000:01:00.0: group 7 is not viable\nPlease ensure all devices are bound",
                  "process exited: qemu-system-x86_64: vfio 0000:01:00.0: group 7 is not viable; "
                  "Please ensure all devices are bound" },
                { "only: 2026-11-24T19:21:20.9Z qemu-system-x86_64: warning: this\n", "only:" },
        };

        for (unsigned i = 0; i < G_N_ELEMENTS(said); i++) {
                g_autofree char *clear = domain_clear_words(said[i].words);

                assert_string_equal(clear, said[i].clear);
        }
}

/* Of the domain that there is at the beginning. */
static void test_volumes(void **state) {
        Fixture f = { 0 };
        const DomainFile *file;

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        assert_int_equal(domain(&f, TEST_DOMAIN)->files->len, 2);
        file = g_ptr_array_index(domain(&f, TEST_DOMAIN)->files, 0);
        assert_string_equal(file->path, "/pool/v.img");
        assert_true(file->live);
        file = g_ptr_array_index(domain(&f, TEST_DOMAIN)->files, 1);
        assert_null(file->path);
        assert_string_equal(file->pool, "nowhere");
        fixture_close(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_volumes),
                cmocka_unit_test(test_life),
                cmocka_unit_test(test_shutdown),
                cmocka_unit_test(test_pause),
                cmocka_unit_test(test_get_xml),
                cmocka_unit_test(test_devices),
                cmocka_unit_test(test_console_refused),
                cmocka_unit_test(test_look_before_done),
                cmocka_unit_test(test_exists),
                cmocka_unit_test(test_unsayable),
                cmocka_unit_test(test_refused_by_libvirt),
                cmocka_unit_test(test_clear_words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
