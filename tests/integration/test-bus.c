/* The service as its callers see it. */
#include "stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* --- what is shown ------------------------------------------------------------------------------
 */

static void check_introspection(Stage *stage, const char *path, const char *interface) {
        const char *folder = g_getenv("FEOS_DBUS_DIR") ?: "dbus";
        g_autofree char *file = g_strdup_printf("%s/%s.xml", folder, interface);
        g_autofree char *begin = g_strdup_printf(" <interface name=\"%s\">", interface);
        g_autofree char *shown = NULL;
        g_autofree char *written = NULL;
        g_auto(Answer) answer = { 0 };
        const char *xml, *from, *to;

        call(stage, stage->somebody, path, DBUS "Introspectable", "Introspect", &answer);
        assert_null(answer.error);
        assert_true(sd_bus_message_read(answer.reply, "s", &xml) > 0);
        from = strstr(xml, begin);
        assert_non_null(from);
        to = strstr(from, "</interface>");
        assert_non_null(to);
        shown = g_strndup(from, to - from);
        if (!g_file_get_contents(file, &written, NULL, NULL))
                fail_msg("cannot read %s; run me from the source's root", file);
        if (!strstr(written, shown))
                fail_msg("%s does not say what the daemon shows:\n%s", file, shown);
}

static void test_introspection(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };

        create(stage, stage->root, "vm-1", &answer);
        check_introspection(stage, VM1, "org.feos.VM1");
        check_introspection(stage, GPU1, "org.feos.VM1.GPU");
        check_introspection(stage, MACHINE, "org.feos.VM1.Machine");
}

static void test_service_properties(void **state) {
        g_autoptr(Stage) stage = stage_new(0);

        assert_text(stage, VM1, "org.feos.VM1", "Version", "1.2.3");
        assert_text(stage, VM1, "org.feos.VM1", "HypervisorURI", "qemu:///system");
        assert_text(stage, VM1, "org.feos.VM1", "HypervisorState", "connected");
        world_set_connected(stage->world, false);
        private_bus_settle(stage->private_bus);
        heard_at(stage, "PropertiesChanged " VM1 " HypervisorVersion HypervisorState");
        assert_text(stage, VM1, "org.feos.VM1", "HypervisorState", "connecting");
        assert_text(stage, VM1, "org.feos.VM1", "HypervisorVersion", "");
}

static void test_managed_objects(void **state) {
        static const char *const expected[] = { GPU1, GPU2, MACHINE };
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(GHashTable) paths = g_hash_table_new(g_str_hash, g_str_equal);
        g_auto(Answer) created = { 0 };
        g_auto(Answer) answer = { 0 };
        const char *path;

        create(stage, stage->root, "vm-1", &created);
        call(stage, stage->somebody, VM1, DBUS "ObjectManager", "GetManagedObjects", &answer);
        assert_null(answer.error);
        assert_true(sd_bus_message_enter_container(answer.reply, 'a', "{oa{sa{sv}}}") > 0);
        while (sd_bus_message_enter_container(answer.reply, 'e', "oa{sa{sv}}") > 0) {
                assert_true(sd_bus_message_read(answer.reply, "o", &path) > 0);
                g_hash_table_add(paths, (char *)path);
                assert_true(sd_bus_message_skip(answer.reply, "a{sa{sv}}") >= 0);
                assert_true(sd_bus_message_exit_container(answer.reply) >= 0);
        }
        assert_int_equal(g_hash_table_size(paths), G_N_ELEMENTS(expected));
        for (size_t i = 0; i < G_N_ELEMENTS(expected); i++)
                assert_true(g_hash_table_contains(paths, expected[i]));
}

static void test_lists(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        const char *address, *shown, *driver, *model, *machine, *path, *name, *uuid;
        g_auto(Answer) created = { 0 };
        g_auto(Answer) gpus = { 0 };
        g_auto(Answer) machines = { 0 };

        create(stage, stage->root, "vm-1", &created);
        call(stage, stage->somebody, VM1, "org.feos.VM1", "ListGPUs", &gpus);
        assert_null(gpus.error);
        assert_true(sd_bus_message_enter_container(gpus.reply, 'a', "(ssssso)") > 0);
        assert_true(sd_bus_message_read(gpus.reply, "(ssssso)", &address, &shown, &driver, &model,
                                        &machine, &path) > 0);
        assert_string_equal(address, "0000:01:00.0");
        assert_string_equal(shown, "attached");
        assert_string_equal(driver, "vfio-pci");
        assert_string_equal(machine, "vm-1");
        assert_string_equal(path, GPU1);

        call(stage, stage->somebody, VM1, "org.feos.VM1", "ListMachines", &machines);
        assert_null(machines.error);
        assert_true(sd_bus_message_enter_container(machines.reply, 'a', "(sssaso)") > 0);
        assert_true(sd_bus_message_read(machines.reply, "(sssaso)", &name, &uuid, &shown, 2,
                                        &address, &driver, &path) > 0);
        assert_string_equal(name, "vm-1");
        assert_string_equal(shown, "running");
        assert_string_equal(address, "0000:02:00.0");
        assert_string_equal(driver, "0000:01:00.0");
        assert_string_equal(path, MACHINE);
}

static void test_look_ups(void **state) {
        static const struct {
                const char *member;
                const char *text;
                const char *path;
                const char *error;
        } cases[] = {
                { "GetGPU", "0000:01:00.0", GPU1, NULL },
                { "GetGPU", "01:00.0", GPU1, NULL },
                { "GetGPU", "01:00.0 ", NULL, ERROR "InvalidAddress" },
                { "GetGPU", "", NULL, ERROR "InvalidAddress" },
                { "GetGPU", "0a:00.0", NULL, ERROR "NoSuchGPU" },
                { "GetGPU", "0000:01:00.1", NULL, ERROR "NotAGPU" },
                { "GetMachine", "vm-1", MACHINE, NULL },
                { "GetMachine", "vm-2", NULL, ERROR "NoSuchMachine" },
                { "GetMachine", "VM-1", NULL, ERROR "NoSuchMachine" },
                { "GetMachine", "\xc3\xa4\n", NULL, ERROR "NoSuchMachine" },
        };
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) created = { 0 };
        g_auto(Answer) by_uuid = { 0 };
        g_autofree char *uuid = NULL;
        g_autofree char *upper = NULL;

        create(stage, stage->root, "vm-1", &created);
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_auto(Answer) answer = { 0 };

                call_with(stage, cases[i].member, cases[i].text, &answer);
                if (cases[i].error)
                        assert_error(&answer, cases[i].error, "List");
                else
                        assert_path(&answer, cases[i].path);
        }
        uuid = text_property(stage, MACHINE, "org.feos.VM1.Machine", "UUID");
        upper = g_ascii_strup(uuid, -1);
        call_with(stage, "GetMachine", upper, &by_uuid);
        assert_path(&by_uuid, MACHINE);
}

static void test_no_such_objects(void **state) {
        static const char *const paths[] = {
                VM1 "/gpu/0000_03_00_0",   VM1 "/gpu/0000_01_00_1", VM1 "/gpu/01_00_0",
                VM1 "/gpu/0000_01_00_0/x", VM1 "/machine/vm_2d1",   VM1 "/elsewhere",
        };
        g_autoptr(Stage) stage = stage_new(0);

        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
                g_auto(Answer) answer = { 0 };

                call(stage, stage->root, paths[i], "org.feos.VM1.GPU", "Bind", &answer);
                assert_error(&answer, DBUS "Error.UnknownObject", paths[i]);
        }
        assert_int_equal(stage->world->handovers_begun, 0);
}

/* --- what is done -------------------------------------------------------------------------------
 */

static void test_create(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };
        guint added, starting, bound, attached, running;

        create(stage, stage->root, "vm-1", &answer);
        assert_path(&answer, MACHINE);
        private_bus_settle(stage->private_bus);

        added = heard_at(stage, "InterfacesAdded " MACHINE);
        starting = heard_at(stage, "StateChanged " MACHINE " created starting");
        bound = heard_at(stage, "StateChanged " GPU1 " host-bound vfio-bound");
        attached = heard_at(stage, "StateChanged " GPU1 " vfio-bound attached");
        running = heard_at(stage, "StateChanged " MACHINE " starting running");
        assert_true(added < starting && starting < bound && bound < attached);
        assert_true(bound < running);
        assert_text(stage, MACHINE, "org.feos.VM1.Machine", "State", "running");
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "MachineName", "vm-1");
}

static void test_create_without_waiting(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };

        request(stage, stage->root, "Create", "vm-1", "wait", false, &answer);
        private_bus_wait(stage->private_bus, &answer.there);
        assert_path(&answer, MACHINE);
        private_bus_settle(stage->private_bus);
        heard_at(stage, "StateChanged " MACHINE " starting running");
}

static void test_create_refused(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) invalid = { 0 };
        g_auto(Answer) first = { 0 };
        g_auto(Answer) second = { 0 };

        /* What can be said without polkit is said without it. */
        request(stage, stage->somebody, "Create", "vm-1", "colour", true, &invalid);
        private_bus_wait(stage->private_bus, &invalid.there);
        assert_error(&invalid, ERROR "InvalidOption", "colour");
        assert_int_equal(stage->polkit->asked, 0);

        create(stage, stage->root, "vm-1", &first);
        assert_null(first.error);
        create(stage, stage->root, "vm-2", &second);
        assert_error(&second, ERROR "GPUInUse", "vm-1");
}

static void test_create_fails(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };

        stage->world->fail_verb[HYPERVISOR_START] = true;
        create(stage, stage->root, "vm-1", &answer);
        assert_error(&answer, ERROR "HypervisorFailed", "libvirt refused.");
        private_bus_settle(stage->private_bus);
        assert_true(heard_at(stage, "InterfacesAdded " MACHINE) <
                    heard_at(stage, "InterfacesRemoved " MACHINE));
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "host-bound");
}

static void test_check(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        const char *severity, *code, *subject, *message, *remedy;
        g_auto(Answer) fine = { 0 };
        g_auto(Answer) wrong = { 0 };

        request(stage, stage->somebody, "Check", "vm-1", "start", true, &fine);
        private_bus_wait(stage->private_bus, &fine.there);
        assert_null(fine.error);
        assert_true(sd_bus_message_enter_container(fine.reply, 'a', "(sssss)") > 0);
        assert_true(sd_bus_message_at_end(fine.reply, false) > 0);

        stage->world->connected = false;
        request(stage, stage->somebody, "Check", "vm-1", "colour", true, &wrong);
        private_bus_wait(stage->private_bus, &wrong.there);
        assert_null(wrong.error);
        assert_true(sd_bus_message_enter_container(wrong.reply, 'a', "(sssss)") > 0);
        assert_true(sd_bus_message_read(wrong.reply, "(sssss)", &severity, &code, &subject,
                                        &message, &remedy) > 0);
        assert_string_equal(severity, "error");
        assert_string_equal(code, "InvalidOption");
        assert_string_equal(subject, "colour");
        assert_true(sd_bus_message_read(wrong.reply, "(sssss)", &severity, &code, &subject,
                                        &message, &remedy) > 0);
        assert_string_equal(code, "HypervisorUnavailable");
        assert_int_equal(stage->polkit->asked, 0);
        assert_int_equal(stage->world->handovers_begun, 0);
}

/* Every call that changes something asks, says for what, and does nothing when the answer is no. */
static void test_polkit(void **state) {
        static const struct {
                const char *path;
                const char *interface;
                const char *member;
                const char *action;
        } calls[] = {
                { GPU1, "org.feos.VM1.GPU", "Bind", "org.feos.vm1.gpu" },
                { GPU1, "org.feos.VM1.GPU", "Release", "org.feos.vm1.gpu" },
                { GPU1, "org.feos.VM1.GPU", "Recover", "org.feos.vm1.gpu" },
                { GPU1, "org.feos.VM1.GPU", "ListHolders", "org.feos.vm1.gpu" },
                { MACHINE, "org.feos.VM1.Machine", "Start", "org.feos.vm1.manage" },
                { MACHINE, "org.feos.VM1.Machine", "Shutdown", "org.feos.vm1.manage" },
                { MACHINE, "org.feos.VM1.Machine", "PowerOff", "org.feos.vm1.manage" },
                { MACHINE, "org.feos.VM1.Machine", "Delete", "org.feos.vm1.create" },
        };
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) denied = { 0 };
        g_auto(Answer) created = { 0 };

        stage->polkit->verdict = MOCK_NO;
        create(stage, stage->somebody, "vm-1", &denied);
        assert_error(&denied, DBUS "Error.AccessDenied", "Create");
        assert_asked(stage, "org.feos.vm1.create", "vm-1", "0000:01:00.0,0000:02:00.0", "Create");
        assert_null(world_domain(stage->world, "vm-1"));
        assert_int_equal(stage->world->handovers_begun, 0);

        stage->polkit->verdict = MOCK_YES;
        create(stage, stage->somebody, "vm-1", &created);
        assert_path(&created, MACHINE);
        stage->polkit->verdict = MOCK_NO;
        for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
                g_auto(Answer) answer = { 0 };

                call(stage, stage->somebody, calls[i].path, calls[i].interface, calls[i].member,
                     &answer);
                assert_error(&answer, DBUS "Error.AccessDenied", calls[i].member);
                assert_asked(stage, calls[i].action, "vm-1",
                             g_str_equal(calls[i].path, MACHINE) ? "0000:01:00.0,0000:02:00.0"
                                                                 : "0000:01:00.0",
                             calls[i].member);
        }
        assert_text(stage, MACHINE, "org.feos.VM1.Machine", "State", "running");
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "attached");
}

static void test_gpu_methods(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) bound = { 0 };
        g_auto(Answer) released = { 0 };
        g_auto(Answer) recovered = { 0 };

        call(stage, stage->somebody, GPU1, "org.feos.VM1.GPU", "Bind", &bound);
        assert_null(bound.error);
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "vfio-bound");
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "Driver", "vfio-pci");
        call(stage, stage->somebody, GPU1, "org.feos.VM1.GPU", "Release", &released);
        assert_null(released.error);
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "host-bound");
        call(stage, stage->somebody, GPU1, "org.feos.VM1.GPU", "Recover", &recovered);
        assert_null(recovered.error);
}

static void test_holders(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        Holder *holder = holder_new(HOLDER_PROCESS, "/dev/dri/card0");
        const char *command, *unit, *node;
        g_auto(Answer) answer = { 0 };
        uint32_t pid;

        holder->pid = 77;
        g_free(holder->command);
        holder->command = g_strdup("no\xffutf8");
        g_free(holder->unit);
        holder->unit = g_strdup("display.service");
        g_ptr_array_add(stage->world->holders, holder);
        call(stage, stage->somebody, GPU1, "org.feos.VM1.GPU", "ListHolders", &answer);
        assert_null(answer.error);
        assert_true(sd_bus_message_enter_container(answer.reply, 'a', "(usss)") > 0);
        assert_true(sd_bus_message_read(answer.reply, "(usss)", &pid, &command, &unit, &node) > 0);
        assert_int_equal(pid, 77);
        assert_string_equal(command, "no\xef\xbf\xbdutf8");
        assert_string_equal(unit, "display.service");
        assert_string_equal(node, "/dev/dri/card0");
}

static void test_machine_methods(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) created = { 0 };
        g_auto(Answer) off = { 0 };
        g_auto(Answer) started = { 0 };
        g_auto(Answer) again = { 0 };
        g_auto(Answer) deleted = { 0 };

        create(stage, stage->somebody, "vm-1", &created);
        call(stage, stage->somebody, MACHINE, "org.feos.VM1.Machine", "PowerOff", &off);
        assert_null(off.error);
        assert_text(stage, MACHINE, "org.feos.VM1.Machine", "State", "stopped");
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "host-bound");
        call(stage, stage->somebody, MACHINE, "org.feos.VM1.Machine", "Start", &started);
        assert_null(started.error);
        assert_text(stage, MACHINE, "org.feos.VM1.Machine", "State", "running");
        call(stage, stage->somebody, MACHINE, "org.feos.VM1.Machine", "Start", &again);
        assert_error(&again, ERROR "InvalidState", "vm-1");
        call(stage, stage->somebody, MACHINE, "org.feos.VM1.Machine", "Delete", &deleted);
        assert_null(deleted.error);
        private_bus_settle(stage->private_bus);
        heard_at(stage, "InterfacesRemoved " MACHINE);
        assert_null(world_domain(stage->world, "vm-1"));
}

/* A property of the machine that is an array of @type, 's' or 'o'. */
static void assert_strings(Stage *stage, const char *path, const char *property, int type, ...) {
        g_auto(Answer) answer = { 0 };
        sd_bus_message *m = call_new(stage->root, path, "org.freedesktop.DBus.Properties", "Get");
        const char array[] = { 'a', (char)type, '\0' };
        const char *expected, *found;
        va_list args;

        assert_true(sd_bus_message_append(m, "ss", "org.feos.VM1.Machine", property) >= 0);
        answer_expect(&answer, stage->root, m);
        private_bus_wait(stage->private_bus, &answer.there);
        assert_null(answer.error);
        assert_true(sd_bus_message_enter_container(answer.reply, 'v', array) > 0);
        assert_true(sd_bus_message_enter_container(answer.reply, 'a', array + 1) > 0);
        va_start(args, type);
        while ((expected = va_arg(args, const char *))) {
                assert_true(sd_bus_message_read_basic(answer.reply, type, &found) > 0);
                assert_string_equal(found, expected);
        }
        va_end(args);
        assert_int_equal(sd_bus_message_read_basic(answer.reply, type, &found), 0);
}

/* A card comes and goes. */
static void test_hotplug(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };

        world_remove(stage->world, "0000:02:00.0");
        private_bus_settle(stage->private_bus);
        heard_at(stage, "InterfacesRemoved " GPU2);
        call(stage, stage->root, GPU2, "org.feos.VM1.GPU", "Bind", &answer);
        assert_error(&answer, DBUS "Error.UnknownObject", GPU2);

        world_add(stage->world, "0000:02:00.0", 0x030200, 2, "bochs-drm");
        world_uevent(stage->world, "0000:02:00.0");
        private_bus_settle(stage->private_bus);
        heard_at(stage, "InterfacesAdded " GPU2);
}

/* It is pulled out of a machine: the objects that are left say so. */
static void test_pulled_from_a_machine(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };

        create(stage, stage->root, "vm-1", &answer);
        assert_null(answer.error);
        world_remove(stage->world, "0000:02:00.0");
        private_bus_settle(stage->private_bus);
        assert_true(heard_at(stage, "InterfacesRemoved " GPU2) <
                    heard_at(stage, "PropertiesChanged " MACHINE " GPUs"));
        heard_at(stage, "PropertiesChanged " MACHINE " StateReason");
        assert_text(stage, MACHINE, "org.feos.VM1.Machine", "StateReason",
                    "GPU 0000:02:00.0 has gone from the bus");
        assert_text(stage, MACHINE, "org.feos.VM1.Machine", "State", "running");
        assert_strings(stage, MACHINE, "GPUs", 'o', GPU1, NULL);
        assert_strings(stage, MACHINE, "GPUAddresses", 's', "0000:02:00.0", "0000:01:00.0", NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_introspection),
                cmocka_unit_test(test_service_properties),
                cmocka_unit_test(test_managed_objects),
                cmocka_unit_test(test_lists),
                cmocka_unit_test(test_look_ups),
                cmocka_unit_test(test_no_such_objects),
                cmocka_unit_test(test_create),
                cmocka_unit_test(test_create_without_waiting),
                cmocka_unit_test(test_create_refused),
                cmocka_unit_test(test_create_fails),
                cmocka_unit_test(test_check),
                cmocka_unit_test(test_polkit),
                cmocka_unit_test(test_gpu_methods),
                cmocka_unit_test(test_holders),
                cmocka_unit_test(test_machine_methods),
                cmocka_unit_test(test_hotplug),
                cmocka_unit_test(test_pulled_from_a_machine),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
