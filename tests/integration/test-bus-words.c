/* The words that dbus/ puts on the bus and into the journal: object paths, error names, the fields
 * of a journal entry. */
#include "errors.h"
#include "journal-entry.h"
#include "journal.h"
#include "paths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_gpu_paths(void **state) {
        static const struct {
                const char *address;
                const char *path;
        } pairs[] = {
                { "0000:01:00.0", "/org/feos/VM1/gpu/0000_01_00_0" },
                { "0000:ff:1f.7", "/org/feos/VM1/gpu/0000_ff_1f_7" },
                { "10000:E1:00.0", "/org/feos/VM1/gpu/10000_e1_00_0" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
                g_autofree char *path = NULL;
                PciAddress address, back;

                assert_true(pci_address_parse(pairs[i].address, &address));
                path = path_of_gpu(address);
                assert_string_equal(path, pairs[i].path);
                assert_true(path_to_gpu(path, &back));
                assert_true(pci_address_equal(address, back));
        }
}

static void test_no_gpu_paths(void **state) {
        static const char *const paths[] = {
                "/",
                "/org/feos/VM1/gpu",
                "/org/feos/VM1/gpu/",
                "/org/feos/VM1/gpu/_",
                "/org/feos/VM1/gpu/0",
                "/org/feos/VM1/gpu/01_00_0",
                "/org/feos/VM1/gpu/0000_01_00",
                "/org/feos/VM1/gpu/0000_01_00_8",
                "/org/feos/VM1/gpu/0000_FF_00_0",
                "/org/feos/VM1/gpu/00000_01_00_0",
                "/org/feos/VM1/gpu/0000_01_00_0_",
                "/org/feos/VM1/gpu/0000_01_00_0/x",
                "/org/feos/VM1/machine/0000_01_00_0",
                "/org/feos/VM1/gpux/0000_01_00_0",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
                PciAddress address;

                if (path_to_gpu(paths[i], &address))
                        fail_msg("%s is taken for a GPU", paths[i]);
        }
}

static void test_machine_paths(void **state) {
        static const struct {
                const char *name;
                const char *path;
        } pairs[] = {
                { "vm", "/org/feos/VM1/machine/vm" },
                { "vm-1", "/org/feos/VM1/machine/vm_2d1" },
                { "1_a.b", "/org/feos/VM1/machine/_31_5fa_2eb" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
                g_autofree char *path = path_of_machine(pairs[i].name);
                g_autofree char *name = path_to_machine(path);

                assert_string_equal(path, pairs[i].path);
                assert_string_equal(name, pairs[i].name);
        }
}

static void test_no_machine_paths(void **state) {
        static const char *const paths[] = {
                "/",
                "/org/feos/VM1/machine",
                "/org/feos/VM1/machine/_",        /* the empty name */
                "/org/feos/VM1/machine/_76m",     /* vm, written otherwise */
                "/org/feos/VM1/machine/vm_2D1",   /* vm-1, likewise */
                "/org/feos/VM1/machine/a_2f_2eb", /* a/.b is no name */
                "/org/feos/VM1/machine/vm/x",
                "/org/feos/VM1/gpu/vm",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
                g_autofree char *name = path_to_machine(paths[i]);

                if (name)
                        fail_msg("%s is taken for machine %s", paths[i], name);
        }
}

static void test_error_names(void **state) {
        for (unsigned code = 0; code < _REFUSAL_CODE_MAX; code++) {
                g_autoptr(Refusal) refusal = refusal_new(code, "it", "Do that.", "It is so.");
                g_autofree char *name =
                        g_strconcat("org.feos.VM1.Error.", refusal_code_to_string(code), NULL);
                sd_bus_error error = SD_BUS_ERROR_NULL;

                assert_true(error_set_refusal(&error, refusal) < 0);
                assert_string_equal(error.name, name);
                assert_string_equal(error.message, "It is so. Do that.");
                sd_bus_error_free(&error);
        }
}

/* Whatever the errno, the caller gets a name that D-Bus itself promises, and a sentence. */
static void test_no_errno(void **state) {
        for (int r = 1; r < 134; r++) {
                sd_bus_error error = SD_BUS_ERROR_NULL;

                assert_int_equal(error_set_failed(&error, -r, "It did not work."), -r);
                assert_string_equal(error.name, "org.freedesktop.DBus.Error.Failed");
                assert_string_equal(error.message, "It did not work.");
                sd_bus_error_free(&error);
                assert_int_equal(error_set_arguments(&error, -r), -r);
                assert_string_equal(error.name, "org.freedesktop.DBus.Error.InvalidArgs");
                sd_bus_error_free(&error);
        }
}

static void test_journal_of_gpu(void **state) {
        DeviceFacts *facts = device_facts_new();
        g_autoptr(Gpu) gpu = NULL;

        facts->function.address.bus = 1;
        gpu = gpu_new(facts);
        gpu->view.state = GPU_ATTACHED;
        g_free(gpu->machine_name);
        gpu->machine_name = g_strdup("vm-1");
        journal_gpu_state(gpu, GPU_VFIO_BOUND, "machine vm-1 runs");

        assert_field("MESSAGE_ID=d89a2011d6caacd2f6eb80e2ad238d55");
        assert_field("MESSAGE=GPU 0000:01:00.0: vfio-bound -> attached: machine vm-1 runs");
        assert_field("FEOS_GPU=0000:01:00.0");
        assert_field("FEOS_MACHINE=vm-1");
        assert_field("FEOS_STATE=attached");
        assert_field("FEOS_OLD_STATE=vfio-bound");
}

static void test_journal_of_machine(void **state) {
        static const PciAddress gpus[] = { { .bus = 1 }, { .bus = 2 } };
        g_autoptr(Machine) machine = machine_new("vm-1", "0c6c2a2e-2a3f-4d5e-8f90-a1b2c3d4e5f6");

        g_array_append_vals(machine->gpus, gpus, G_N_ELEMENTS(gpus));
        machine->state = MACHINE_RUNNING;
        journal_machine_state(machine, MACHINE_STARTING, NULL);

        assert_field("MESSAGE_ID=45e6f7f904d3a640224aa088a384d8f8");
        assert_field("MESSAGE=Machine vm-1: starting -> running");
        assert_field("FEOS_MACHINE=vm-1");
        assert_field("FEOS_GPU=0000:01:00.0");
        assert_field("FEOS_GPU=0000:02:00.0");
        assert_field("FEOS_STATE=running");
        assert_field("FEOS_OLD_STATE=starting");
}

static void test_journal_of_fault(void **state) {
        g_autoptr(Gpu) gpu = gpu_new(device_facts_new());

        gpu->view.fault = GPU_FAULT_STUCK;
        g_free(gpu->fault_message);
        gpu->fault_message = g_strdup("Its driver has not let go.");
        journal_gpu_fault(gpu, GPU_FAULT_NONE);
        assert_field("MESSAGE_ID=0b831afd7f844b349e811cb6ece5904e");
        assert_field("PRIORITY=3");
        assert_field("MESSAGE=GPU 0000:00:00.0: fault stuck: Its driver has not let go.");
        assert_field("FEOS_GPU=0000:00:00.0");
        assert_field("FEOS_FAULT=stuck");
        assert_null(journal_entry_field("FEOS_MACHINE"));

        gpu->view.fault = GPU_FAULT_NONE;
        journal_gpu_fault(gpu, GPU_FAULT_STUCK);
        assert_field("MESSAGE_ID=3325824176264038b58c2fbc2b5497fc");
        assert_field("PRIORITY=5");
        assert_field("MESSAGE=GPU 0000:00:00.0: fault stuck cleared");
        assert_field("FEOS_FAULT=stuck");
}

static void test_journal_of_crash(void **state) {
        g_autoptr(Machine) machine = machine_new("vm-1", "0c6c2a2e-2a3f-4d5e-8f90-a1b2c3d4e5f6");

        machine->state = MACHINE_CRASHED;
        journal_machine_state(machine, MACHINE_RUNNING, "QEMU has ended");
        assert_field("PRIORITY=4");
        assert_field("FEOS_REASON=QEMU has ended");
        machine->state = MACHINE_STOPPED;
        journal_machine_state(machine, MACHINE_RUNNING, NULL);
        assert_field("PRIORITY=6");
        assert_null(journal_entry_field("FEOS_REASON"));
}

static void test_journal_of_autostart(void **state) {
        g_autoptr(Refusal) refusal = refusal_new(REFUSAL_GPU_IN_USE, "0000:01:00.0",
                                                 "Shut it down.", "Machine vm-2 has it.");

        journal_autostart_failed("vm-1", refusal);
        assert_field("PRIORITY=3");
        assert_field(
                "MESSAGE=Machine vm-1 could not be started with the host: Machine vm-2 has it. "
                "Shut it down.");
        assert_field("FEOS_MACHINE=vm-1");
        assert_field("FEOS_ERROR=GPUInUse");
}

static void test_journal_of_keeping(void **state) {
        g_autoptr(Refusal) refusal = refusal_new(REFUSAL_GPU_BUSY, "/dev/dri/card0", "Stop it.",
                                                 "Process 1 has it open.");

        journal_keep_failed((PciAddress){ .bus = 1 }, refusal);
        assert_field("PRIORITY=4");
        assert_field(
                "MESSAGE=GPU 0000:01:00.0 could not be kept for machines: Process 1 has it open. "
                "Stop it.");
        assert_field("FEOS_GPU=0000:01:00.0");
        assert_field("FEOS_ERROR=GPUBusy");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_gpu_paths),
                cmocka_unit_test(test_no_gpu_paths),
                cmocka_unit_test(test_machine_paths),
                cmocka_unit_test(test_no_machine_paths),
                cmocka_unit_test(test_error_names),
                cmocka_unit_test(test_no_errno),
                cmocka_unit_test(test_journal_of_gpu),
                cmocka_unit_test(test_journal_of_machine),
                cmocka_unit_test(test_journal_of_fault),
                cmocka_unit_test(test_journal_of_crash),
                cmocka_unit_test(test_journal_of_autostart),
                cmocka_unit_test(test_journal_of_keeping),
        };

        return cmocka_run_group_tests(tests, journal_entry_setup, journal_entry_teardown);
}
