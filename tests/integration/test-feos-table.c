/* The README's table of FeOS's VMService: each of its calls is there, and what stands beside it is
 * what the service really shows. */
#include "stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* FeOS's calls, in the order of the table. */
static const char *const feos_calls[] = {
        "CreateVm",        "StartVm",    "GetVm",      "ListVms",   "DeleteVm",
        "PingVm",          "ShutdownVm", "PauseVm",    "ResumeVm",  "StreamVmEvents",
        "StreamVmConsole", "AttachDisk", "DetachDisk", "AttachNic", "DetachNic",
};

/* What the table's short names stand for. */
static const struct {
        const char *prefix;
        const char *path;
} objects[] = {
        { "VM1.", VM1 },
        { "GPU.", GPU1 },
        { "Machine.", MACHINE },
};

/* The rows of the table under the heading that names VMService: "| a | b | c |". Caller frees. */
static GPtrArray *table_rows(void) {
        GPtrArray *rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
        const char *path = g_getenv("FEOS_README") ?: "README.md";
        g_autofree char *text = NULL;
        g_auto(GStrv) lines = NULL;
        bool inside = false;

        if (!g_file_get_contents(path, &text, NULL, NULL))
                fail_msg("cannot read %s; run me from the source's root", path);
        lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; *line; line++) {
                if (g_str_has_prefix(*line, "## "))
                        inside = strstr(*line, "VMService") != NULL;
                else if (inside && g_str_has_prefix(*line, "| `"))
                        g_ptr_array_add(rows, g_strsplit(*line, "|", -1));
        }
        return rows;
}

/* The words in backquotes in @cell. Caller frees. */
static GPtrArray *quoted(const char *cell) {
        GPtrArray *words = g_ptr_array_new_with_free_func(g_free);
        g_auto(GStrv) parts = g_strsplit(cell, "`", -1);

        for (guint i = 1; i < g_strv_length(parts); i += 2)
                g_ptr_array_add(words, g_strdup(parts[i]));
        return words;
}

/* What the object at @path shows of itself. Caller frees. */
static char *introspect(Stage *stage, const char *path) {
        g_auto(Answer) answer = { 0 };
        const char *xml;

        call(stage, stage->somebody, path, DBUS "Introspectable", "Introspect", &answer);
        assert_null(answer.error);
        assert_true(sd_bus_message_read(answer.reply, "s", &xml) > 0);
        return g_strdup(xml);
}

/* Fails unless @name, as in "Machine.Start", is a member of that live interface. */
static void check_member(Stage *stage, const char *name) {
        for (size_t i = 0; i < G_N_ELEMENTS(objects); i++) {
                g_autofree char *interface = NULL;
                g_autofree char *member = NULL;
                g_autofree char *xml = NULL;
                char *from, *to;

                if (!g_str_has_prefix(name, objects[i].prefix))
                        continue;
                interface = g_str_equal(objects[i].prefix, "VM1.")
                                    ? g_strdup("<interface name=\"org.feos.VM1\">")
                                    : g_strdup_printf("<interface name=\"org.feos.VM1.%.*s\">",
                                                      (int)strlen(objects[i].prefix) - 1, name);
                xml = introspect(stage, objects[i].path);
                from = strstr(xml, interface);
                assert_non_null(from);
                to = strstr(from, "</interface>");
                assert_non_null(to);
                *to = '\0';
                member = g_strdup_printf(" name=\"%s\"", name + strlen(objects[i].prefix));
                if (!strstr(from, member))
                        fail_msg("the service shows no %s", name);
                return;
        }
        fail_msg("%s is of no interface of ours", name);
}

static void test_every_call(void **state) {
        g_autoptr(GPtrArray) rows = table_rows();

        assert_int_equal(rows->len, G_N_ELEMENTS(feos_calls));
        for (guint i = 0; i < rows->len; i++) {
                char **cells = g_ptr_array_index(rows, i);
                g_autoptr(GPtrArray) theirs = NULL;

                assert_int_equal(g_strv_length(cells), 5);
                theirs = quoted(cells[1]);
                assert_true(theirs->len >= 1);
                assert_string_equal(g_ptr_array_index(theirs, 0), feos_calls[i]);
        }
}

static void test_every_member(void **state) {
        g_autoptr(GPtrArray) rows = table_rows();
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) created = { 0 };

        create(stage, stage->root, "vm-1", &created);
        assert_path(&created, MACHINE);
        for (guint i = 0; i < rows->len; i++) {
                char **cells = g_ptr_array_index(rows, i);
                g_autoptr(GPtrArray) ours = quoted(cells[2]);

                assert_true(ours->len >= 1);
                for (guint j = 0; j < ours->len; j++)
                        check_member(stage, g_ptr_array_index(ours, j));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_call),
                cmocka_unit_test(test_every_member),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
