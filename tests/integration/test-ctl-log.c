/* feosctl log, on a real journal: it is made of the text form that journalctl -o export writes, by
 * systemd-journal-remote. */
#include <glib.h>
#include <glib/gstdio.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

typedef struct Journal {
        char *folder;
        GString *text;
        unsigned entries;
} Journal;

/* Adds an entry of @uid with these fields, one a line. */
static void add(Journal *journal, unsigned uid, const char *fields) {
        /* One a minute, from 2026-01-02 03:04:00 UTC. */
        guint64 usec = (G_GUINT64_CONSTANT(1767323040) + 60 * journal->entries) * G_USEC_PER_SEC;

        journal->entries++;
        g_string_append_printf(journal->text,
                               "__REALTIME_TIMESTAMP=%" G_GUINT64_FORMAT "\n"
                               "__MONOTONIC_TIMESTAMP=%u\n"
                               "_BOOT_ID=0123456789abcdef0123456789abcdef\n"
                               "_UID=%u\n%s\n",
                               usec, journal->entries, uid, fields);
}

static void write_journal(Journal *journal) {
        g_autofree char *text = g_build_filename(journal->folder, "export", NULL);
        g_autofree char *file = g_build_filename(journal->folder, "system.journal", NULL);
        g_autofree char *output = g_strconcat("--output=", file, NULL);
        const char *const arguments[] = { getenv("JOURNAL_REMOTE"), output, text, NULL };
        g_autofree char *said = NULL;
        int status;

        assert_true(g_file_set_contents(text, journal->text->str, -1, NULL));
        assert_true(g_spawn_sync(NULL, (char **)arguments, NULL, G_SPAWN_STDOUT_TO_DEV_NULL, NULL,
                                 NULL, NULL, &said, &status, NULL));
        if (status != 0)
                fail_msg("%s", said);
        g_unlink(text);
}

static int setup(void **state) {
        Journal *journal = g_new0(Journal, 1);

        journal->folder = g_dir_make_tmp("feosctl-journal-XXXXXX", NULL);
        journal->text = g_string_new(NULL);
        add(journal, 0,
            "MESSAGE=Machine box: created -> starting\nPRIORITY=6\n"
            "FEOS_MACHINE=box\nFEOS_GPU=0000:01:00.0\nFEOS_GPU=0000:02:00.0\n"
            "_SYSTEMD_UNIT=feos-vmd.service\n");
        add(journal, 0,
            "MESSAGE=GPU 0000:01:00.0: host-bound -> vfio-bound\nPRIORITY=6\n"
            "FEOS_GPU=0000:01:00.0\n_SYSTEMD_UNIT=feos-vmd.service\n");
        add(journal, 0,
            "MESSAGE=Machine other: running -> crashed\nPRIORITY=4\n"
            "FEOS_MACHINE=other\n_SYSTEMD_UNIT=feos-vmd.service\n");
        /* Anybody can write such fields. */
        add(journal, 1000, "MESSAGE=Machine box: a lie\nPRIORITY=6\nFEOS_MACHINE=box\n");
        add(journal, 0,
            "MESSAGE=Machine box: starting -> running\nPRIORITY=6\n"
            "FEOS_MACHINE=box\n_SYSTEMD_UNIT=feos-vmd.service\n");
        write_journal(journal);
        *state = journal;
        return 0;
}

static int teardown(void **state) {
        Journal *journal = *state;
        g_autofree char *file = g_build_filename(journal->folder, "system.journal", NULL);

        g_unlink(file);
        g_rmdir(journal->folder);
        g_free(journal->folder);
        g_string_free(journal->text, TRUE);
        g_free(journal);
        return 0;
}

/* What "feosctl log" writes with these arguments. Caller frees. */
static char *logged(const Journal *journal, ...) {
        g_autofree char *directory = g_strconcat("--directory=", journal->folder, NULL);
        g_autoptr(GPtrArray) arguments = g_ptr_array_new();
        g_auto(GStrv) environment = g_environ_setenv(g_get_environ(), "TZ", "UTC", TRUE);
        const char *argument;
        char *said = NULL;
        va_list args;
        int status;

        g_ptr_array_add(arguments, getenv("FEOSCTL"));
        g_ptr_array_add(arguments, (char *)"log");
        g_ptr_array_add(arguments, directory);
        va_start(args, journal);
        while ((argument = va_arg(args, const char *)))
                g_ptr_array_add(arguments, (char *)argument);
        va_end(args);
        g_ptr_array_add(arguments, NULL);
        assert_true(g_spawn_sync(NULL, (char **)arguments->pdata, environment, G_SPAWN_DEFAULT,
                                 NULL, NULL, &said, NULL, &status, NULL));
        assert_int_equal(status, 0);
        return said;
}

static void test_of_a_machine(void **state) {
        g_autofree char *log = logged(*state, "box", NULL);

        assert_string_equal(log, "2026-01-02 03:04:00  Machine box: created -> starting\n"
                                 "2026-01-02 03:08:00  Machine box: starting -> running\n");
}

/* Its own entries, and those of machines that had it; in either form of the address. */
static void test_of_a_gpu(void **state) {
        g_autofree char *full = logged(*state, "0000:01:00.0", NULL);
        g_autofree char *brief = logged(*state, "01:00.0", NULL);

        assert_string_equal(full, "2026-01-02 03:04:00  Machine box: created -> starting\n"
                                  "2026-01-02 03:05:00  GPU 0000:01:00.0: host-bound -> "
                                  "vfio-bound\n");
        assert_string_equal(full, brief);
}

static void test_of_the_service(void **state) {
        g_autofree char *log = logged(*state, NULL);

        assert_non_null(strstr(log, "Machine other: running -> crashed\n"));
        assert_null(strstr(log, "a lie"));
}

static void test_number_of_lines(void **state) {
        static const struct {
                const char *lines;
                unsigned shown;
        } numbers[] = { { "0", 0 }, { "1", 1 }, { "3", 3 }, { "4", 4 }, { "9", 4 }, { "all", 4 } };

        for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
                g_autofree char *log = logged(*state, "-n", numbers[i].lines, NULL);
                unsigned shown = 0;

                for (const char *c = log; *c; c++)
                        shown += *c == '\n';
                assert_int_equal(shown, numbers[i].shown);
                if (numbers[i].shown > 0)
                        assert_non_null(strstr(log, "starting -> running\n"));
        }
}

static void test_json(void **state) {
        g_autofree char *log = logged(*state, "--json", "-n", "2", "box", NULL);
        struct json_object *entry = json_tokener_parse(log);
        struct json_object *gpus = json_object_object_get(entry, "FEOS_GPU");

        assert_string_equal(json_object_get_string(json_object_object_get(entry, "MESSAGE")),
                            "Machine box: created -> starting");
        assert_int_equal(json_object_array_length(gpus), 2);
        assert_true(json_object_get_int64(json_object_object_get(entry, "__REALTIME_TIMESTAMP")) ==
                    G_GINT64_CONSTANT(1767323040000000));
        json_object_put(entry);
}

static void test_nothing(void **state) {
        g_autofree char *log = logged(*state, "nobody", NULL);

        assert_string_equal(log, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_of_a_machine),   cmocka_unit_test(test_of_a_gpu),
                cmocka_unit_test(test_of_the_service), cmocka_unit_test(test_number_of_lines),
                cmocka_unit_test(test_json),           cmocka_unit_test(test_nothing),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
