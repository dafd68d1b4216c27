/* The fake kernel answers every write as sequences.txt says, and a Create and the way back make the
 * writes that stand there. How much of that a real kernel has confirmed stands there, too. */
#include "rig.h"
#include "testing.h"

#include <string.h>

#define SETTLE_SEC 10

typedef struct Fixture {
        Rig *rig;
        char *recording;
        GString *uevents; /* since the last step */
} Fixture;

/* The section's lines. */
static char **recorded(const Fixture *f, const char *section) {
        g_autofree char *head = g_strdup_printf("\n[%s]\n", section);
        const char *begin = strstr(f->recording, head);
        const char *end;
        g_autofree char *text = NULL;

        assert_non_null(begin);
        begin += strlen(head);
        end = strstr(begin, "\n\n");
        assert_non_null(end);
        text = g_strndup(begin, end - begin);
        return g_strsplit(text, "\n", -1);
}

static void on_uevent(void *userdata, const char *address, const char *action) {
        Fixture *f = userdata;
        const char *driver = fake_kernel_driver(f->rig->kernel, address);

        g_string_append_printf(f->uevents, "%s%s %s %s", f->uevents->len > 0 ? "," : "", action,
                               address, *driver ? driver : "-");
        fake_kernel_send(f->rig->kernel, address, action);
}

static int step_group(const Fixture *f, const char *address) {
        FakeKernel *kernel = f->rig->kernel;

        return fake_kernel_try_group(kernel, fake_kernel_group(kernel, address));
}

/* Does what the line begins with, and gives the whole line as it should be. */
static char *step(Fixture *f, const char *line) {
        g_autofree char *deed = g_strndup(line, strstr(line, " = ") - line);
        g_auto(GStrv) words = g_strsplit(deed, " ", 3);
        const char *address = words[1], *word = words[2];
        FakeKernel *kernel = f->rig->kernel;
        g_autofree char *path = NULL;
        g_autofree char *left = NULL;
        int r;

        g_string_truncate(f->uevents, 0);
        if (strcmp(words[0], "group") == 0) {
                r = step_group(f, address);
        } else if (strcmp(words[0], "override") == 0) {
                path = g_strdup_printf("/sys/bus/pci/devices/%s/driver_override", address);
                r = fake_kernel_write(kernel, path, strcmp(word, "-") == 0 ? "\n" : word);
        } else if (strcmp(words[0], "probe") == 0) {
                r = fake_kernel_write(kernel, "/sys/bus/pci/drivers_probe", address);
        } else {
                path = g_strdup_printf("/sys/bus/pci/drivers/%s/%s", word, words[0]);
                r = fake_kernel_write(kernel, path, address);
        }
        left = fake_kernel_state(kernel, address);
        return g_strdup_printf("%s = %s -> %s | %s", deed, r < 0 ? g_strerror(-r) : "ok", left,
                               f->uevents->len > 0 ? f->uevents->str : "-");
}

static void replay(Fixture *f, const char *section) {
        g_auto(GStrv) lines = recorded(f, section);

        f->rig->uevent = on_uevent;
        f->rig->userdata = f;
        for (char **line = lines; *line; line++) {
                g_autofree char *now = step(f, *line);

                assert_string_equal(now, *line);
        }
        f->rig->uevent = NULL;
}

/* What the helpers have written since is what was recorded, without the uevents. */
static void assert_written(Fixture *f, const char *section) {
        g_auto(GStrv) lines = recorded(f, section);
        GPtrArray *log = fake_kernel_log(f->rig->kernel);

        assert_int_equal(log->len, g_strv_length(lines));
        for (guint i = 0; i < log->len; i++) {
                g_autofree char *line = g_strndup(lines[i], strstr(lines[i], " | ") - lines[i]);

                assert_string_equal(g_ptr_array_index(log, i), line);
        }
        g_ptr_array_set_size(log, 0);
}

static void assert_settles(Fixture *f, RigExpectation expectation) {
        g_autofree char *wrong = rig_settle(f->rig, expectation, SETTLE_SEC);

        if (wrong)
                fail_msg("%s", wrong);
}

static void test_kernel(void **state) {
        Fixture *f = *state;

        replay(f, "create");
        replay(f, "return");
        replay(f, "kernel");
        assert_settles(f, RIG_HOME);
}

static void test_machine(void **state) {
        Fixture *f = *state;
        g_auto(Answer) created = { 0 };
        g_auto(Answer) deleted = { 0 };

        g_ptr_array_set_size(fake_kernel_log(f->rig->kernel), 0);
        rig_create(f->rig, f->rig->caller, "vm", &created);
        rig_wait(f->rig, &created);
        assert_null(created.error);
        assert_settles(f, RIG_RUNNING);
        assert_written(f, "create");
        replay(f, "held");

        rig_call(f->rig, VM1 "/machine/vm", "org.feos.VM1.Machine", "Delete", &deleted);
        rig_wait(f->rig, &deleted);
        assert_null(deleted.error);
        assert_written(f, "return");
        assert_settles(f, RIG_HOME);
}

static int setup(void **state) {
        Fixture *f = g_new0(Fixture, 1);

        assert_true(g_file_get_contents(g_getenv("FEOS_SEQUENCES"), &f->recording, NULL, NULL));
        f->uevents = g_string_new(NULL);
        f->rig = rig_new(NULL);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        rig_free(f->rig);
        g_string_free(f->uevents, TRUE);
        g_free(f->recording);
        g_free(f);
        return 0;
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kernel),
                cmocka_unit_test(test_machine),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
