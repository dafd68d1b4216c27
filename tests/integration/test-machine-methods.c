/* A machine's methods as their callers see them: what they do, what they refuse and when, whom they
 * ask, and that nothing is left behind. */
#include "journal-entry.h"
#include "journal.h"
#include "stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MACHINE_INTERFACE "org.feos.VM1.Machine"
#define BOTH_GPUS         "0000:01:00.0,0000:02:00.0"

/* A stage with machine vm-1, which runs, an image data.raw and a network default. */
static Stage *stage_with_machine(void) {
        Stage *stage = stage_new(0);
        g_auto(Answer) created = { 0 };

        g_hash_table_insert(stage->world->images, g_strdup("data.raw"), GINT_TO_POINTER(IMAGE_OK));
        g_ptr_array_insert(stage->world->networks, 0, g_strdup("default"));
        create(stage, stage->root, "vm-1", &created);
        assert_path(&created, MACHINE);
        return stage;
}

/* A call without arguments of vm-1. */
static void machine(Stage *stage, const char *member, Answer *answer) {
        call(stage, stage->somebody, MACHINE, MACHINE_INTERFACE, member, answer);
}

static void machine_fine(Stage *stage, const char *member) {
        g_auto(Answer) answer = { 0 };

        machine(stage, member, &answer);
        if (answer.error)
                fail_msg("%s: %s", member, answer.text);
}

static void machine_refused(Stage *stage, const char *member, const char *error, const char *word) {
        g_auto(Answer) answer = { 0 };

        machine(stage, member, &answer);
        assert_error(&answer, error, word);
}

/* A call with one argument, or more that make up one: "s", or "a{sv}". */
static void machine_with(Stage *stage, const char *member, Answer *answer, const char *types, ...) {
        sd_bus_message *m = call_new(stage->somebody, MACHINE, MACHINE_INTERFACE, member);
        va_list args;

        va_start(args, types);
        assert_true(sd_bus_message_appendv(m, types, args) >= 0);
        va_end(args);
        answer_expect(answer, stage->somebody, m);
        private_bus_wait(stage->private_bus, &answer->there);
}

static void assert_string_answer(const Answer *answer, const char *expected) {
        const char *text;

        if (answer->error)
                fail_msg("%s", answer->text);
        assert_true(sd_bus_message_read(answer->reply, "s", &text) > 0);
        assert_string_equal(text, expected);
}

static void assert_state(Stage *stage, const char *expected) {
        assert_text(stage, MACHINE, MACHINE_INTERFACE, "State", expected);
}

/* --- what is done -------------------------------------------------------------------------------
 */

static void test_pause_and_resume(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();

        machine_fine(stage, "Pause");
        assert_state(stage, "paused");
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "attached");
        machine_fine(stage, "Resume");
        assert_state(stage, "running");
        private_bus_settle(stage->private_bus);
        assert_true(heard_at(stage, "StateChanged " MACHINE " running paused") <
                    heard_at(stage, "StateChanged " MACHINE " paused running"));
}

static void test_reboot(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();

        machine_fine(stage, "Reboot");
        assert_state(stage, "running");
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "attached");
}

/* Each method is the verb that it says, and libvirt's refusal is passed on. */
static void test_libvirt_refuses(void **state) {
        static const struct {
                const char *member;
                HypervisorVerb verb;
                bool paused;
        } calls[] = {
                { "Reboot", HYPERVISOR_REBOOT, false },
                { "Pause", HYPERVISOR_PAUSE, false },
                { "Resume", HYPERVISOR_RESUME, true },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
                g_autoptr(Stage) stage = stage_with_machine();

                if (calls[i].paused)
                        machine_fine(stage, "Pause");
                stage->world->fail_verb[calls[i].verb] = true;
                machine_refused(stage, calls[i].member, ERROR "HypervisorFailed",
                                "libvirt refused.");
                assert_state(stage, calls[i].paused ? "paused" : "running");
                stage->world->fail_verb[calls[i].verb] = false;
                machine_fine(stage, calls[i].member);
        }
}

static void test_wrong_states(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        static const char *const living[] = { "Reboot", "Pause", "Resume", "OpenConsole" };

        machine_refused(stage, "Resume", ERROR "InvalidState", "running");
        machine_fine(stage, "Pause");
        machine_refused(stage, "Pause", ERROR "InvalidState", "paused");
        machine_refused(stage, "Reboot", ERROR "InvalidState", "paused");
        machine_fine(stage, "PowerOff");
        for (size_t i = 0; i < G_N_ELEMENTS(living); i++)
                machine_refused(stage, living[i], ERROR "InvalidState", "stopped");
        assert_state(stage, "stopped");
        machine_fine(stage, "GetXML");
}

static void test_xml(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_auto(Answer) answer = { 0 };

        machine(stage, "GetXML", &answer);
        assert_string_answer(&answer, "<domain/>");
}

static void test_disks(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        WorldDomain *domain = world_domain(stage->world, "vm-1");
        g_auto(Answer) first = { 0 };
        g_auto(Answer) unknown = { 0 };
        g_auto(Answer) twice = { 0 };
        g_auto(Answer) gone = { 0 };
        g_auto(Answer) again = { 0 };
        g_auto(Answer) refused = { 0 };

        machine_with(stage, "AttachDisk", &first, "a{sv}", 2, "path", "s", "data.raw", "read-only",
                     "b", true);
        assert_string_answer(&first, "disk1");
        assert_int_equal(domain->disks->len, 1);
        assert_string_equal(g_ptr_array_index(domain->disks, 0), "disk1");
        assert_int_equal(domain->nics->len, 0);
        machine_with(stage, "AttachDisk", &unknown, "a{sv}", 1, "path", "s", "none.raw");
        assert_error(&unknown, ERROR "ImageNotFound", "none.raw");
        machine_with(stage, "AttachDisk", &twice, "a{sv}", 2, "path", "s", "data.raw", "id", "s",
                     "disk1");
        assert_error(&twice, ERROR "InvalidOption", "disk1");
        assert_int_equal(domain->disks->len, 1);

        machine_with(stage, "DetachDisk", &gone, "s", "disk1");
        assert_null(gone.error);
        assert_int_equal(domain->disks->len, 0);
        machine_with(stage, "DetachDisk", &again, "s", "disk1");
        assert_error(&again, ERROR "InvalidOption", "disk1");

        stage->world->fail_attach = true;
        machine_with(stage, "AttachDisk", &refused, "a{sv}", 1, "path", "s", "data.raw");
        assert_error(&refused, ERROR "HypervisorFailed", "libvirt refused.");
}

static void test_nics(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        WorldDomain *domain = world_domain(stage->world, "vm-1");
        g_auto(Answer) first = { 0 };
        g_auto(Answer) second = { 0 };
        g_auto(Answer) unknown = { 0 };
        g_auto(Answer) disk = { 0 };
        g_auto(Answer) gone = { 0 };

        machine_with(stage, "AttachNIC", &first, "a{sv}", 2, "source", "s", "default", "id", "s",
                     "lan");
        assert_string_answer(&first, "lan");
        machine_with(stage, "AttachNIC", &second, "a{sv}", 1, "source", "s", "default");
        assert_string_answer(&second, "nic1");
        assert_int_equal(domain->nics->len, 2);
        assert_int_equal(domain->disks->len, 0);
        machine_with(stage, "AttachNIC", &unknown, "a{sv}", 1, "source", "s", "elsewhere");
        assert_error(&unknown, ERROR "InvalidOption", "elsewhere");
        machine_with(stage, "DetachDisk", &disk, "s", "lan");
        assert_error(&disk, ERROR "InvalidOption", "lan");
        machine_with(stage, "DetachNIC", &gone, "s", "lan");
        assert_null(gone.error);
        assert_int_equal(domain->nics->len, 1);
        assert_string_equal(g_ptr_array_index(domain->nics, 0), "nic1");
}

/* --- who may ------------------------------------------------------------------------------------
 */

static void attach_some(Stage *stage, const char *member, Answer *answer) {
        if (g_str_has_prefix(member, "Detach"))
                machine_with(stage, member, answer, "s", "disk1");
        else if (g_str_equal(member, "AttachDisk"))
                machine_with(stage, member, answer, "a{sv}", 1, "path", "s", "data.raw");
        else if (g_str_equal(member, "AttachNIC"))
                machine_with(stage, member, answer, "a{sv}", 1, "source", "s", "default");
        else
                machine(stage, member, answer);
}

/* Every one asks, says for what, and does nothing when the answer is no. */
static void test_polkit(void **state) {
        static const struct {
                const char *member;
                const char *action;
        } calls[] = {
                { "Reboot", "org.feos.vm1.manage" },       { "Pause", "org.feos.vm1.manage" },
                { "Resume", "org.feos.vm1.manage" },       { "AttachDisk", "org.feos.vm1.manage" },
                { "DetachDisk", "org.feos.vm1.manage" },   { "AttachNIC", "org.feos.vm1.manage" },
                { "DetachNIC", "org.feos.vm1.manage" },    { "GetXML", "org.feos.vm1.console" },
                { "OpenConsole", "org.feos.vm1.console" },
        };
        g_autoptr(Stage) stage = stage_with_machine();
        WorldDomain *domain = world_domain(stage->world, "vm-1");

        stage->polkit->verdict = MOCK_NO;
        for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
                g_auto(Answer) answer = { 0 };

                attach_some(stage, calls[i].member, &answer);
                assert_error(&answer, DBUS "Error.AccessDenied", calls[i].member);
                assert_int_equal(stage->polkit->asked, i + 1);
                assert_asked(stage, calls[i].action, "vm-1", BOTH_GPUS, calls[i].member);
        }
        assert_state(stage, "running");
        assert_int_equal(domain->disks->len + domain->nics->len, 0);
}

/* What can be said without polkit is said without it. */
static void test_bad_devices_ask_nobody(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_auto(Answer) empty = { 0 };
        g_auto(Answer) type = { 0 };
        g_auto(Answer) unknown = { 0 };
        g_auto(Answer) mac = { 0 };
        g_auto(Answer) nothing = { 0 };

        machine_with(stage, "AttachDisk", &empty, "a{sv}", 0);
        assert_error(&empty, ERROR "InvalidOption", "path");
        machine_with(stage, "AttachDisk", &type, "a{sv}", 2, "path", "s", "data.raw", "read-only",
                     "s", "yes");
        assert_error(&type, ERROR "InvalidOption", "read-only");
        machine_with(stage, "AttachNIC", &unknown, "a{sv}", 1, "path", "s", "data.raw");
        assert_error(&unknown, ERROR "InvalidOption", "path");
        machine_with(stage, "AttachNIC", &mac, "a{sv}", 2, "source", "s", "default", "mac", "s",
                     "5");
        assert_error(&mac, ERROR "InvalidOption", "mac");
        machine_with(stage, "AttachDisk", &nothing, "s", "data.raw");
        assert_non_null(nothing.error);
        assert_int_equal(stage->polkit->asked, 0);
}

/* A machine without GPUs is asked about with no GPUs, and lives like any other. */
static void test_without_gpus(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        sd_bus_message *m = call_new(stage->somebody, VM1, "org.feos.VM1", "Create");
        g_auto(Answer) created = { 0 };

        assert_true(sd_bus_message_append(m, "sasa{sv}", "vm-1", 0, 0) >= 0);
        answer_expect(&created, stage->somebody, m);
        private_bus_wait(stage->private_bus, &created.there);
        assert_path(&created, MACHINE);
        machine_fine(stage, "Pause");
        if (private_bus_can_be_anybody())
                assert_asked(stage, "org.feos.vm1.manage", "vm-1", "", "Pause");
        machine_fine(stage, "Resume");
        machine_fine(stage, "Delete");
        assert_null(world_domain(stage->world, "vm-1"));
}

/* --- descriptors --------------------------------------------------------------------------------
 */

static unsigned count_fds(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

/* The descriptor that came with @answer, as our own. */
static int console_of(const Answer *answer) {
        int lent, fd;

        if (answer->error)
                fail_msg("%s", answer->text);
        assert_true(sd_bus_message_read(answer->reply, "h", &lent) > 0);
        fd = fcntl(lent, F_DUPFD_CLOEXEC, 3);
        assert_true(fd >= 0);
        return fd;
}

static void assert_hello(int fd) {
        char text[16];

        assert_int_equal(read(fd, text, sizeof(text)), 5);
        assert_memory_equal(text, "hello", 5);
        /* The fake has hung up: nobody else holds its end of ours. */
        assert_int_equal(read(fd, text, sizeof(text)), 0);
}

static void test_console(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_auto(Answer) first = { 0 };
        g_auto(Answer) second = { 0 };
        int fds[2];

        machine(stage, "OpenConsole", &first);
        machine(stage, "OpenConsole", &second);
        fds[0] = console_of(&first);
        fds[1] = console_of(&second);
        answer_clear(&first);
        answer_clear(&second);
        assert_hello(fds[1]);
        assert_hello(fds[0]);
        close(fds[0]);
        close(fds[1]);
}

static void test_no_fd_is_left(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        unsigned before;

        machine_fine(stage, "OpenConsole");
        private_bus_settle(stage->private_bus);
        before = count_fds();
        for (unsigned i = 0; i < 20; i++)
                machine_fine(stage, "OpenConsole");
        stage->polkit->verdict = MOCK_NO;
        machine_refused(stage, "OpenConsole", DBUS "Error.AccessDenied", "OpenConsole");
        private_bus_settle(stage->private_bus);
        assert_int_equal(count_fds(), before);

        /* The manager has a hold on a machine's process as long as it lives. */
        stage->polkit->verdict = MOCK_YES;
        machine_fine(stage, "PowerOff");
        private_bus_settle(stage->private_bus);
        before = count_fds();
        machine_refused(stage, "OpenConsole", ERROR "InvalidState", "stopped");
        private_bus_settle(stage->private_bus);
        assert_int_equal(count_fds(), before);
}

/* Somebody asks for a console and leaves before the answer. */
static void ask_and_leave(Stage *stage) {
        g_autoptr(sd_bus) guest = private_bus_connect(stage->private_bus, 0);
        g_auto(Answer) answer = { 0 };

        answer_expect(&answer, guest, call_new(guest, MACHINE, MACHINE_INTERFACE, "OpenConsole"));
        sd_bus_flush(guest);
        g_clear_pointer(&guest, sd_bus_flush_close_unref);
        private_bus_settle(stage->private_bus);
}

static void test_no_fd_for_who_has_left(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        unsigned before;

        /* The first one has libsystemd open a socket to the journal, for good. */
        ask_and_leave(stage);
        before = count_fds();
        for (unsigned i = 0; i < 5; i++)
                ask_and_leave(stage);
        assert_int_equal(count_fds(), before);
}

/* --- the journal --------------------------------------------------------------------------------
 */

/* A card whose driver does not let go gets a fault, once; when it has let go, the fault ends. */
static bool helper_is_at_work(const Stage *stage) {
        return stage->world->helpers->len > 0;
}

static bool fault_is_over(const Stage *stage) {
        return journal_entry_count(JOURNAL_GPU_FAULT_CLEARED_ID) > 0;
}

static void test_fault_in_the_journal(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) bound = { 0 };

        world_mark(stage->world->stuck, "0000:02:00.0");
        answer_expect(&bound, stage->somebody,
                      call_new(stage->somebody, GPU2, "org.feos.VM1.GPU", "Bind"));
        stage_wait(stage, helper_is_at_work);
        world_overdue(stage->world, "0000:02:00.0");
        private_bus_wait(stage->private_bus, &bound.there);
        assert_error(&bound, ERROR "HandoverTimeout", "0000:02:00.0");
        assert_text(stage, GPU2, "org.feos.VM1.GPU", "Fault", "stuck");
        assert_int_equal(journal_entry_count(JOURNAL_GPU_FAULT_ID), 1);
        assert_field("FEOS_FAULT=stuck");
        assert_field("FEOS_GPU=0000:02:00.0");
        assert_int_equal(journal_entry_count(JOURNAL_GPU_FAULT_CLEARED_ID), 0);

        world_unstick(stage->world, "0000:02:00.0");
        stage_wait(stage, fault_is_over);
        assert_text(stage, GPU2, "org.feos.VM1.GPU", "Fault", "");
        assert_int_equal(journal_entry_count(JOURNAL_GPU_FAULT_ID), 1);
        assert_int_equal(journal_entry_count(JOURNAL_GPU_FAULT_CLEARED_ID), 1);
}

static void test_drift_in_the_journal(void **state) {
        unsigned before = journal_entry_count(JOURNAL_GPU_DRIFT_ID);
        unsigned states = journal_entry_count(JOURNAL_GPU_STATE_ID);
        g_autoptr(Stage) stage = stage_new(0);

        /* Of a host's driver for another: State says nothing. */
        world_rebind(stage->world, "0000:02:00.0", "");
        world_uevent(stage->world, "0000:02:00.0");
        assert_int_equal(journal_entry_count(JOURNAL_GPU_DRIFT_ID), before + 1);
        assert_int_equal(journal_entry_count(JOURNAL_GPU_STATE_ID), states);
        assert_field("FEOS_GPU=0000:02:00.0");
        assert_field("FEOS_FUNCTION=0000:02:00.0");
        assert_field("FEOS_OLD_DRIVER=bochs-drm");
        assert_field("FEOS_DRIVER=none");

        world_rebind(stage->world, "0000:01:00.1", "vfio-pci");
        world_uevent(stage->world, "0000:01:00.0");
        assert_int_equal(journal_entry_count(JOURNAL_GPU_DRIFT_ID), before + 2);
        assert_field("FEOS_GPU=0000:01:00.0");
        assert_field("FEOS_FUNCTION=0000:01:00.1");
}

static void test_loss_in_the_journal(void **state) {
        unsigned before = journal_entry_count(JOURNAL_MACHINE_LOST_GPU_ID);
        g_autoptr(Stage) stage = stage_with_machine();

        world_remove(stage->world, "0000:02:00.0");
        assert_int_equal(journal_entry_count(JOURNAL_MACHINE_LOST_GPU_ID), before + 1);
        assert_field("FEOS_MACHINE=vm-1");
        assert_field("FEOS_GPU=0000:02:00.0");
}

static void test_states_in_the_journal(void **state) {
        unsigned before = journal_entry_count(JOURNAL_MACHINE_STATE_ID);
        g_autoptr(Stage) stage = stage_with_machine();

        /* created -> starting -> running */
        assert_int_equal(journal_entry_count(JOURNAL_MACHINE_STATE_ID), before + 2);
        machine_fine(stage, "Pause");
        assert_int_equal(journal_entry_count(JOURNAL_MACHINE_STATE_ID), before + 3);
        assert_field("FEOS_MACHINE=vm-1");
        assert_field("FEOS_OLD_STATE=running");
        assert_field("FEOS_STATE=paused");
        machine_fine(stage, "Resume");
        assert_int_equal(journal_entry_count(JOURNAL_MACHINE_STATE_ID), before + 4);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pause_and_resume),
                cmocka_unit_test(test_reboot),
                cmocka_unit_test(test_libvirt_refuses),
                cmocka_unit_test(test_wrong_states),
                cmocka_unit_test(test_xml),
                cmocka_unit_test(test_disks),
                cmocka_unit_test(test_nics),
                cmocka_unit_test(test_polkit),
                cmocka_unit_test(test_bad_devices_ask_nobody),
                cmocka_unit_test(test_without_gpus),
                cmocka_unit_test(test_console),
                cmocka_unit_test(test_no_fd_is_left),
                cmocka_unit_test(test_no_fd_for_who_has_left),
                cmocka_unit_test(test_fault_in_the_journal),
                cmocka_unit_test(test_drift_in_the_journal),
                cmocka_unit_test(test_loss_in_the_journal),
                cmocka_unit_test(test_states_in_the_journal),
        };

        return cmocka_run_group_tests(tests, journal_entry_setup, journal_entry_teardown);
}
