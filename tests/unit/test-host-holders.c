/* Who has a card open: umockdev's card, whose nodes carry the numbers of real devices, and a real
 * process that has one of those open. Runs under umockdev-wrapper. */
#include "host/survey-holders.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <umockdev.h>
#include <unistd.h>

/* Starts a process that has @node open; -1 for none. */
static pid_t process_start(const char *node, int *ret_hold) {
        int ready[2], hold[2];
        char byte;
        pid_t pid;

        assert_return_code(pipe2(ready, O_CLOEXEC), errno);
        assert_return_code(pipe2(hold, O_CLOEXEC), errno);
        pid = fork();
        assert_return_code(pid, errno);
        if (pid == 0) {
                close(hold[1]);
                /* Twice: told once all the same. */
                if (open(node, O_RDONLY) < 0 || open(node, O_RDONLY) < 0 ||
                    write(ready[1], "x", 1) != 1)
                        _exit(1);
                (void)!read(hold[0], &byte, 1);
                _exit(0);
        }

        close(ready[1]);
        close(hold[0]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        *ret_hold = hold[1];
        return pid;
}

static unsigned holders_count(const GPtrArray *holders, pid_t pid, const char *node) {
        unsigned count = 0;

        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);

                assert_int_not_equal(holder->pid, getpid());
                assert_int_not_equal(holder->pid, getppid());
                if (holder->pid != pid)
                        continue;
                assert_string_equal(holder->node, node);
                assert_int_equal(holder->uid, getuid());
                assert_true(strlen(holder->command) > 0);
                assert_non_null(holder->unit);
                count++;
        }
        return count;
}

/* 1:7 is /dev/full, which hardly anybody has open. */
static void test_holder(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *gpu = umockdev_testbed_add_device(testbed, "pci", "0000:01:00.0", NULL,
                                                           "class", "0x030000", NULL, NULL);
        g_autofree char *card = umockdev_testbed_add_device(
                testbed, "drm", "card7", gpu, "dev", "1:7", NULL, "DEVNAME", "dri/card7", NULL);
        g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_autoptr(GPtrArray) before = NULL, during = NULL, other = NULL;
        PciAddress address;
        int hold;
        pid_t pid = process_start("/dev/full", &hold);

        assert_non_null(card);
        assert_true(pci_address_parse("01:00.0", &address));

        other = holders_survey(functions);
        assert_int_equal(other->len, 0);

        g_array_append_val(functions, address);
        during = holders_survey(functions);
        assert_int_equal(holders_count(during, pid, "/dev/dri/card7"), 1);

        close(hold);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        before = holders_survey(functions);
        assert_int_equal(holders_count(before, pid, "/dev/dri/card7"), 0);
}

/* A block device of the same number is another device. */
static void test_block_is_not_character(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *usb = umockdev_testbed_add_device(testbed, "pci", "0000:01:00.2", NULL,
                                                           "class", "0x0c0330", NULL, NULL);
        g_autofree char *disk = umockdev_testbed_add_device(testbed, "block", "sdz", usb, "dev",
                                                            "1:7", NULL, "DEVNAME", "sdz", NULL);
        g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_autoptr(GPtrArray) holders = NULL;
        PciAddress address;
        int hold;
        pid_t pid = process_start("/dev/full", &hold);

        assert_non_null(disk);
        assert_true(pci_address_parse("01:00.2", &address));
        g_array_append_val(functions, address);
        holders = holders_survey(functions);
        assert_int_equal(holders_count(holders, pid, ""), 0);
        close(hold);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_holder),
                cmocka_unit_test(test_block_is_not_character),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
