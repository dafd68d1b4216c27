/* Value, absent, unknown: what is read is one of the three, whatever the kernel answers. */
#include "host/reading.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct Fixture {
        char *folder;
        int dir;
} Fixture;

static int setup(void **state) {
        Fixture *fixture = g_new0(Fixture, 1);

        fixture->folder = g_dir_make_tmp("feos-reading-XXXXXX", NULL);
        fixture->dir = open(fixture->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *state = fixture;
        return fixture->dir < 0;
}

static int teardown(void **state) {
        static const char *const made[] = { "text", "link", "loop", "pipe", "long", ".hidden" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(made); i++)
                (void)unlinkat(fixture->dir, made[i], 0);
        close(fixture->dir);
        g_rmdir(fixture->folder);
        g_free(fixture->folder);
        g_free(fixture);
        return 0;
}

static void make_text(const Fixture *fixture, const char *name, const char *text, gssize length) {
        g_autofree char *path = g_build_filename(fixture->folder, name, NULL);

        assert_true(g_file_set_contents(path, text, length, NULL));
}

static void make_link(const Fixture *fixture, const char *name, const char *target) {
        assert_return_code(symlinkat(target, fixture->dir, name), errno);
}

static void what_is_there_is_a_value(void **state) {
        const Fixture *fixture = *state;
        g_autofree char *absolute = g_build_filename(fixture->folder, "text", NULL);
        g_autofree char *text = NULL;
        g_autofree char *again = NULL;
        g_autofree char *bytes = NULL;
        g_autofree char *target = NULL;
        g_autofree char *name = NULL;
        size_t length;

        make_text(fixture, "text", " 0x10de\0\n", 9);
        make_link(fixture, "link", "../drivers/vfio-pci");
        assert_int_equal(reading_text(fixture->dir, "text", &text), 1);
        assert_string_equal(text, "0x10de");
        assert_int_equal(reading_text(AT_FDCWD, absolute, &again), 1);
        assert_string_equal(again, "0x10de");
        assert_int_equal(reading_bytes(fixture->dir, "text", 9, &bytes, &length), 1);
        assert_int_equal(length, 9);
        assert_memory_equal(bytes, " 0x10de\0\n", 10);
        assert_int_equal(reading_link(fixture->dir, "link", &target), 1);
        assert_string_equal(target, "../drivers/vfio-pci");
        assert_int_equal(reading_link_name(fixture->dir, "link", &name), 1);
        assert_string_equal(name, "vfio-pci");
        assert_int_equal(reading_exists(fixture->dir, "text"), 1);
}

static void count_line(const char *line, void *userdata) {
        assert_int_equal(strlen(line), 8191);
        (*(unsigned *)userdata)++;
}

/* A mount table may be as long as its user likes. */
static void lines_are_read_however_many_there_are(void **state) {
        const Fixture *fixture = *state;
        g_autofree char *text = g_strnfill(2600 * 8192, 'x');
        unsigned count = 0;

        for (unsigned i = 1; i <= 2600; i++)
                text[i * 8192 - 1] = '\n';
        make_text(fixture, "text", text, -1);
        assert_int_equal(reading_lines(fixture->dir, "text", count_line, &count), 1);
        assert_int_equal(count, 2600);
        assert_int_equal(reading_lines(fixture->dir, "nowhere", count_line, &count), 0);
        assert_int_equal(reading_lines(fixture->dir, ".", count_line, &count), -EISDIR);
        assert_int_equal(count, 2600);
}

static void a_folder_is_all_of_its_names(void **state) {
        const Fixture *fixture = *state;
        g_autoptr(GPtrArray) names = NULL;
        g_autoptr(GPtrArray) none = NULL;

        make_text(fixture, "text", "", 0);
        make_text(fixture, ".hidden", "", 0);
        make_link(fixture, "link", "nowhere");
        assert_int_equal(reading_folder(fixture->dir, ".", &names), 1);
        assert_int_equal(names->len, 2);
        assert_true(g_ptr_array_find_with_equal_func(names, "text", g_str_equal, NULL));
        assert_true(g_ptr_array_find_with_equal_func(names, "link", g_str_equal, NULL));
        assert_int_equal(reading_folder(fixture->dir, "nowhere", &none), 0);
        assert_null(none);
}

/* All of them of @path. */
static void assert_all_say(int dir, const char *path, int expected) {
        char *text = (char *)"";
        GPtrArray *names = (GPtrArray *)"";

        assert_int_equal(reading_text(dir, path, &text), expected);
        assert_null(text);
        text = (char *)"";
        assert_int_equal(reading_bytes(dir, path, 100, &text, NULL), expected);
        assert_null(text);
        text = (char *)"";
        assert_int_equal(reading_link_name(dir, path, &text), expected);
        assert_null(text);
        assert_int_equal(reading_folder(dir, path, &names), expected);
        assert_null(names);
        assert_int_equal(reading_exists(dir, path), expected);
}

static void what_is_not_there_is_absent(void **state) {
        const Fixture *fixture = *state;

        make_text(fixture, "text", "", 0);
        assert_all_say(fixture->dir, "nowhere", 0);
        assert_all_say(fixture->dir, "text/beneath", 0);
        assert_all_say(AT_FDCWD, "/proc/no-such-process/stat", 0);
}

static void what_cannot_be_read_is_neither(void **state) {
        const Fixture *fixture = *state;
        g_autofree char *too_long = g_strnfill(1000, 'x');

        make_link(fixture, "loop", "loop/beneath");
        assert_all_say(fixture->dir, "loop/x", -ELOOP);
        assert_all_say(fixture->dir, too_long, -ENAMETOOLONG);
        assert_all_say(-1, "text", -EBADF);
}

static void without_descriptors_nothing_is_known(void **state) {
        const Fixture *fixture = *state;
        struct rlimit limit, none;
        char *text;
        GPtrArray *names;

        make_text(fixture, "text", "1", 1);
        assert_return_code(getrlimit(RLIMIT_NOFILE, &limit), errno);
        none = (struct rlimit){ 0, limit.rlim_max };
        assert_return_code(setrlimit(RLIMIT_NOFILE, &none), errno);
        assert_int_equal(reading_text(fixture->dir, "text", &text), -EMFILE);
        assert_int_equal(reading_bytes(fixture->dir, "text", 1, &text, NULL), -EMFILE);
        assert_int_equal(reading_folder(fixture->dir, ".", &names), -EMFILE);
        assert_return_code(setrlimit(RLIMIT_NOFILE, &limit), errno);
}

static void what_is_no_plain_file_of_that_size_is_no_value(void **state) {
        const Fixture *fixture = *state;
        g_autofree char *bytes = NULL;
        g_autofree char *nothing = NULL;

        make_text(fixture, "long", "12345", 5);
        make_link(fixture, "link", "long");
        assert_return_code(mkfifoat(fixture->dir, "pipe", 0600), errno);
        assert_int_equal(reading_bytes(fixture->dir, "long", 4, &bytes, NULL), -EFBIG);
        assert_int_equal(reading_bytes(fixture->dir, "link", 9, &bytes, NULL), -ELOOP);
        assert_int_equal(reading_text(fixture->dir, ".", &bytes), -EISDIR);
        /* One that nobody writes to is not waited for. */
        assert_int_equal(reading_text(fixture->dir, "pipe", &nothing), 1);
        assert_string_equal(nothing, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(what_is_there_is_a_value),
                TEST(lines_are_read_however_many_there_are),
                TEST(a_folder_is_all_of_its_names),
                TEST(what_is_not_there_is_absent),
                TEST(what_cannot_be_read_is_neither),
                TEST(without_descriptors_nothing_is_known),
                TEST(what_is_no_plain_file_of_that_size_is_no_value),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
