/* What is said of each kind of holder that has no node of the card open, and how to be rid of it.
 */
#include "core/check.h"
#include "testing.h"

#include <string.h>

typedef struct Row {
        HolderKind kind;
        pid_t pid;
        const char *node, *at;
        RefusalSeverity severity;
        RefusalCode code;
        const char *subject, *says, *remedy;
        const char *words; /* for ListHolders */
} Row;

static const Row rows[] = {
        { HOLDER_SHARER, 42, "/dev/nvidia-uvm", "", SEVERITY_WARNING, REFUSAL_GPU_BUSY,
          "/dev/nvidia-uvm",
          "Process 42 (python3, unit job.service, user alice) has /dev/nvidia-uvm open, a node "
          "that all GPUs of the driver share.",
          "If it uses this GPU, end it first", "python3" },
        { HOLDER_UNSEEN, 42, "", "Permission denied", SEVERITY_WARNING, REFUSAL_GPU_BUSY, "42",
          "Cannot find out what process 42 (python3, unit job.service, user alice) has open: "
          "Permission denied.",
          "keeps the service from reading /proc", "python3" },
        { HOLDER_MEMBER, 0, "/dev/sdb1", "1b2c-3d", SEVERITY_ERROR, REFUSAL_GPU_BUSY, "/dev/sdb1",
          "/dev/sdb1 is part of the mounted btrfs 1b2c-3d.", "findmnt -t btrfs",
          "part of the mounted btrfs 1b2c-3d" },
        { HOLDER_NETDEV, 0, "enx1$(x)", "", SEVERITY_ERROR, REFUSAL_GPU_BUSY, "enx1$(x)",
          "The host's network interface enx1$(x) is up.", "ip link set 'enx1$(x)' down",
          "network interface that is up" },
        { HOLDER_NETDEV, 0, "", "", SEVERITY_ERROR, REFUSAL_GPU_BUSY, "host",
          "A network interface of the card is in another network namespace.",
          "End what it was given to", "network interface in another namespace" },
        { HOLDER_MDEV, 0, "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", "0000:01:00.0", SEVERITY_ERROR,
          REFUSAL_GPU_BUSY, "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
          "The mediated device 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001 is part of 0000:01:00.0.",
          "echo 1 > /sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001/remove",
          "mediated device" },
        { HOLDER_CONSOLE, 0, "/dev/fb0", "vtcon1", SEVERITY_WARNING, REFUSAL_KNOWN_TROUBLE,
          "/dev/fb0", "The host's text console is on /dev/fb0",
          "echo 0 > /sys/class/vtconsole/vtcon1/bind", "text console" },
        { HOLDER_MODULE, 0, "nvidia_drm", "0000:01:00.0", SEVERITY_ERROR, REFUSAL_GPU_BUSY,
          "0000:01:00.0", "The kernel module nvidia_drm drives displays (modeset)",
          "modprobe -r nvidia_drm", "kernel module" },
        { HOLDER_MOUNT, 42, "/dev/sdb1", "/mnt", SEVERITY_ERROR, REFUSAL_GPU_BUSY, "/dev/sdb1",
          "where it is seen by process 42 (python3, unit job.service, user alice).",
          "Unmount it there first", "mounted at /mnt" },
};

static Holder *row_holder(const Row *row) {
        Holder *holder = holder_new(row->kind, row->node);

        holder->pid = row->pid;
        g_free(holder->at);
        holder->at = g_strdup(row->at);
        if (row->pid == 0)
                return holder;
        g_free(holder->command);
        holder->command = g_strdup("python3");
        g_free(holder->unit);
        holder->unit = g_strdup("job.service");
        g_free(holder->user);
        holder->user = g_strdup("alice");
        return holder;
}

static void every_holder_is_named_with_the_way_to_be_rid_of_it(void **state) {
        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(GPtrArray) findings = findings_new();
                g_autoptr(GPtrArray) holders =
                        g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
                g_autofree char *words = NULL;
                const Refusal *finding;

                g_ptr_array_add(holders, row_holder(&rows[i]));
                words = holder_words(g_ptr_array_index(holders, 0));
                assert_string_equal(words, rows[i].words);
                check_holders(holders, findings);
                assert_int_equal(findings->len, 1);
                finding = g_ptr_array_index(findings, 0);
                assert_int_equal(finding->severity, rows[i].severity);
                assert_string_equal(refusal_code_to_string(finding->code),
                                    refusal_code_to_string(rows[i].code));
                assert_string_equal(finding->subject, rows[i].subject);
                if (!strstr(finding->message, rows[i].says))
                        fail_msg("\"%s\" does not say \"%s\"", finding->message, rows[i].says);
                if (!strstr(finding->remedy, rows[i].remedy))
                        fail_msg("\"%s\" does not say \"%s\"", finding->remedy, rows[i].remedy);
        }
}

static void of_many_unseen_processes_the_number_is_told(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(GPtrArray) holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        Holder *holder = holder_new(HOLDER_UNSEEN, "");
        const Refusal *finding;

        g_free(holder->command);
        holder->command = g_strdup("12 more processes");
        g_ptr_array_add(holders, holder);
        check_holders(holders, findings);
        finding = g_ptr_array_index(findings, 0);
        assert_int_equal(finding->severity, SEVERITY_WARNING);
        assert_string_equal(finding->subject, "host");
        assert_non_null(strstr(finding->message, "what 12 more processes have open"));
}

static void a_process_that_has_ended_has_no_user(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(GPtrArray) holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        Holder *holder = holder_new(HOLDER_MOUNT, "/dev/sdb1");
        const Refusal *finding;

        holder->pid = 42;
        g_ptr_array_add(holders, holder);
        check_holders(holders, findings);
        finding = g_ptr_array_index(findings, 0);
        assert_non_null(strstr(finding->message, "seen by process 42, which has ended."));
}

static void the_words_for_kinds_are_read_as_they_are_written(void **state) {
        HolderKind read = _HOLDER_KIND_MAX;

        for (HolderKind kind = 0; kind < _HOLDER_KIND_MAX; kind++) {
                assert_true(holder_kind_from_string(holder_kind_to_string(kind), &read));
                assert_int_equal(read, kind);
        }
        assert_false(holder_kind_from_string("nobody", &read));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_holder_is_named_with_the_way_to_be_rid_of_it),
                cmocka_unit_test(of_many_unseen_processes_the_number_is_told),
                cmocka_unit_test(a_process_that_has_ended_has_no_user),
                cmocka_unit_test(the_words_for_kinds_are_read_as_they_are_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
