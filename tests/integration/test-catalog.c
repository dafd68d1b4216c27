/* The journal's entries and the message catalog: every id has a text, and every text speaks of what
 * its entries have. */
#include "journal-entry.h"
#include "journal.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static char *read_file(const char *name) {
        g_autofree char *path = g_build_filename(g_getenv("FEOS_DBUS_DIR") ?: "dbus", name, NULL);
        char *text = NULL;

        if (!g_file_get_contents(path, &text, NULL, NULL))
                fail_msg("cannot read %s; run me from the source's root", path);
        return text;
}

/* What @pattern's first group matches in @text, in the order found: a new array of strings. */
static GPtrArray *find_all(const char *text, const char *pattern) {
        g_autoptr(GRegex) regex = g_regex_new(pattern, G_REGEX_MULTILINE, 0, NULL);
        GPtrArray *found = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GMatchInfo) match = NULL;

        assert_non_null(regex);
        g_regex_match(regex, text, 0, &match);
        for (; g_match_info_matches(match); g_match_info_next(match, NULL))
                g_ptr_array_add(found, g_match_info_fetch(match, 1));
        return found;
}

static bool has(const GPtrArray *strings, const char *string) {
        return g_ptr_array_find_with_equal_func((GPtrArray *)strings, string, g_str_equal, NULL);
}

/* The catalog's text for @id, from its header lines on. Caller frees. */
static char *text_of(const char *id) {
        g_autofree char *catalog = read_file("feos-vmd.catalog");
        g_autofree char *begin = g_strdup_printf("-- %s\n", id);
        const char *from = strstr(catalog, begin);
        const char *to;

        if (!from)
                fail_msg("the catalog has nothing for %s", id);
        from += strlen(begin);
        to = strstr(from, "\n-- ");
        return to ? g_strndup(from, to - from) : g_strdup(from);
}

static void test_every_id(void **state) {
        static const char *const headers[] = { "Subject: ", "Defined-By: feos-vmd\n",
                                               "Support: ", "Documentation: " };
        g_autofree char *header = read_file("journal.h");
        g_autofree char *catalog = read_file("feos-vmd.catalog");
        g_autoptr(GPtrArray) ids =
                find_all(header, "^#define JOURNAL_[A-Z_]+_ID +\"([0-9a-f]{32})\"$");
        g_autoptr(GPtrArray) defines = find_all(header, "^#define (JOURNAL_\\w+)");
        g_autoptr(GPtrArray) entries = find_all(catalog, "^-- (.*)$");

        assert_int_equal(ids->len, defines->len);
        assert_true(ids->len >= 2);
        assert_int_equal(entries->len, ids->len);
        for (guint i = 0; i < ids->len; i++) {
                const char *id = g_ptr_array_index(ids, i);
                g_autofree char *text = NULL;

                for (guint j = 0; j < i; j++)
                        assert_string_not_equal(id, g_ptr_array_index(ids, j));
                assert_true(has(entries, id));
                text = text_of(id);
                for (size_t j = 0; j < G_N_ELEMENTS(headers); j++)
                        if (!strstr(text, headers[j]))
                                fail_msg("%s has no %s", id, headers[j]);
                /* An empty line ends the header lines. */
                assert_non_null(strstr(text, "\n\n"));
        }
}

/* What an administrator does is in the contract: these two have been there from the beginning. */
static void test_ids_stay(void **state) {
        assert_string_equal(JOURNAL_GPU_STATE_ID, "d89a2011d6caacd2f6eb80e2ad238d55");
        assert_string_equal(JOURNAL_MACHINE_STATE_ID, "45e6f7f904d3a640224aa088a384d8f8");
}

/* Of the entry that was sent last: its id's text names no field that it lacks. */
static void check_fields(const char *id) {
        g_autofree char *text = text_of(id);
        g_autoptr(GPtrArray) names = find_all(text, "@([A-Z_]+)@");

        assert_string_equal(journal_entry_field("MESSAGE_ID"), id);
        assert_true(names->len > 0);
        for (guint i = 0; i < names->len; i++) {
                const char *value = journal_entry_field(g_ptr_array_index(names, i));

                if (!value || !*value)
                        fail_msg("%s speaks of %s, which an entry need not have", id,
                                 (char *)g_ptr_array_index(names, i));
        }
}

/* With the least that an entry can have. */
static void test_fields(void **state) {
        g_autoptr(Gpu) gpu = gpu_new(device_facts_new());
        g_autoptr(Machine) machine = machine_new("vm-1", "0c6c2a2e-2a3f-4d5e-8f90-a1b2c3d4e5f6");
        GpuDrift drift = { .driver = "" };
        g_autoptr(Refusal) refusal =
                refusal_new(REFUSAL_GPU_IN_USE, "0000:01:00.0", "Wait.", "It is in use.");

        journal_gpu_state(gpu, GPU_VFIO_BOUND, NULL);
        check_fields(JOURNAL_GPU_STATE_ID);
        gpu->view.fault = GPU_FAULT_LOST;
        journal_gpu_fault(gpu, GPU_FAULT_NONE);
        check_fields(JOURNAL_GPU_FAULT_ID);
        gpu->view.fault = GPU_FAULT_NONE;
        journal_gpu_fault(gpu, GPU_FAULT_LOST);
        check_fields(JOURNAL_GPU_FAULT_CLEARED_ID);
        journal_gpu_drift(gpu, &drift);
        check_fields(JOURNAL_GPU_DRIFT_ID);
        journal_machine_state(machine, MACHINE_STARTING, NULL);
        check_fields(JOURNAL_MACHINE_STATE_ID);
        journal_machine_lost_gpu(machine, gpu->address);
        check_fields(JOURNAL_MACHINE_LOST_GPU_ID);
        journal_autostart_failed("vm-1", refusal);
        check_fields(JOURNAL_AUTOSTART_FAILED_ID);
        journal_keep_failed(gpu->address, refusal);
        check_fields(JOURNAL_KEEP_FAILED_ID);
}

/* Every fault that there is has its advice. */
static void test_faults(void **state) {
        g_autofree char *text = text_of(JOURNAL_GPU_FAULT_ID);

        for (unsigned fault = GPU_FAULT_NONE + 1; fault < _GPU_FAULT_MAX; fault++) {
                g_autofree char *line = g_strdup_printf("\n  %s ", gpu_fault_to_string(fault));

                if (!strstr(text, line))
                        fail_msg("no advice for the fault%s", line);
        }
}

static void run(char **argv, char **output) {
        g_autoptr(GError) error = NULL;
        g_autofree char *errors = NULL;
        int status;

        if (!g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, output, &errors,
                          &status, &error))
                fail_msg("cannot run %s: %s", argv[0], error->message);
        if (!g_spawn_check_wait_status(status, &error))
                fail_msg("%s: %s: %s", argv[0], error->message, errors);
}

/* journalctl reads the file, and finds all of it. */
static void test_journalctl(void **state) {
        g_autofree char *found = g_find_program_in_path("journalctl");
        g_autofree char *catalog = read_file("feos-vmd.catalog");
        g_autoptr(GPtrArray) entries = find_all(catalog, "^-- (.*)$");
        g_autofree char *root = g_dir_make_tmp("feos-catalog-XXXXXX", NULL);
        g_autofree char *source = g_build_filename(root, "usr/lib/systemd/catalog", NULL);
        g_autofree char *file = g_build_filename(source, "feos-vmd.catalog", NULL);
        g_autofree char *target = g_build_filename(root, "var/lib/systemd/catalog", NULL);
        g_autofree char *option = g_strconcat("--root=", root, NULL);
        g_autofree char *updated = NULL;
        g_autofree char *listed = NULL;
        g_autofree char *removed = NULL;

        if (!found)
                skip();
        assert_int_equal(g_mkdir_with_parents(source, 0755), 0);
        assert_int_equal(g_mkdir_with_parents(target, 0755), 0);
        assert_true(g_file_set_contents(file, catalog, -1, NULL));
        run((char *[]){ found, option, (char *)"--update-catalog", NULL }, &updated);
        run((char *[]){ found, option, (char *)"--list-catalog", NULL }, &listed);
        for (guint i = 0; i < entries->len; i++)
                assert_non_null(strstr(listed, g_ptr_array_index(entries, i)));
        run((char *[]){ (char *)"rm", (char *)"-r", root, NULL }, &removed);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_id),   cmocka_unit_test(test_ids_stay),
                cmocka_unit_test(test_fields),     cmocka_unit_test(test_faults),
                cmocka_unit_test(test_journalctl),
        };

        return cmocka_run_group_tests(tests, journal_entry_setup, journal_entry_teardown);
}
