/* Surveys: the real helper's answers come through unharmed, and a helper that says nonsense, dies
 * or hangs gives an error. The path of feos-vm-survey is the one argument. */
#include "host/survey.h"

#include "autoptr-bus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *real_program;

typedef struct Fixture {
        sd_event *event;
        char *folder;
        char *program; /* where a script can stand in */
        Surveys *surveys;
        unsigned answered;
        SurveyAnswer *answer;
        unsigned links;
} Fixture;

static void on_done(void *userdata, SurveyAnswer *answer) {
        Fixture *fixture = userdata;

        fixture->answered++;
        survey_answer_free(fixture->answer);
        fixture->answer = answer;
}

static int setup(void **state) {
        Fixture *fixture = g_new0(Fixture, 1);
        g_autofree char *made = g_dir_make_tmp("test-survey-XXXXXX", NULL);

        fixture->folder = realpath(made, NULL);
        fixture->program = g_build_filename(fixture->folder, "helper", NULL);
        assert_true(sd_event_new(&fixture->event) >= 0);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        const char *argv[] = { "rm", "-rf", fixture->folder, NULL };

        assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                                 NULL, NULL, NULL));
        surveys_free(fixture->surveys);
        survey_answer_free(fixture->answer);
        sd_event_unref(fixture->event);
        g_free(fixture->program);
        free(fixture->folder);
        g_free(fixture);
        return 0;
}

static void use_program(Fixture *fixture, const char *program) {
        char *directories[] = { fixture->folder, NULL };

        fixture->surveys = surveys_new(fixture->event, program, directories, NULL);
}

static void use_script(Fixture *fixture, const char *script) {
        g_autofree char *text = g_strconcat("#!/bin/sh\n", script, NULL);

        assert_true(g_file_set_contents(fixture->program, text, -1, NULL));
        assert_return_code(chmod(fixture->program, 0700), errno);
        use_program(fixture, fixture->program);
}

/* Asks, and runs the loop until the answer is there. */
static void ask_question(Fixture *fixture, const SurveyQuestion *question) {
        gint64 deadline = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;

        surveys_ask(fixture->surveys, question, on_done, fixture);
        assert_int_equal(fixture->answered, 0);
        while (fixture->answered == 0) {
                assert_true(sd_event_run(fixture->event, 1000000) >= 0);
                assert_true(g_get_monotonic_time() < deadline);
        }
        assert_int_equal(fixture->answered, 1);
}

/* For @images (NULL-terminated). */
static void ask(Fixture *fixture, const char *const *images) {
        g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GArray) uses = g_array_new(FALSE, TRUE, sizeof(ImageUse));
        SurveyQuestion question = { .images = paths, .uses = uses };

        for (; images && *images; images++) {
                ImageUse use = g_str_has_suffix(*images, ".qcow2") ? IMAGE_AS_QCOW2 : IMAGE_AS_FILE;

                g_ptr_array_add(paths, g_strdup(*images));
                g_array_append_val(uses, use);
        }
        ask_question(fixture, &question);
}

static void test_images(void **state) {
        Fixture *fixture = *state;
        static const char odd[] = "tab\there\nline \\ \"quoted\" \303\244.img";
        const char *images[] = { odd, "none", "../x", "x.qcow2", "", NULL };
        g_autofree char *path = g_build_filename(fixture->folder, odd, NULL);
        g_autofree char *qcow2 = g_build_filename(fixture->folder, "x.qcow2", NULL);
        const ImageAnswer *answer;

        assert_true(g_file_set_contents(path, "", 0, NULL));
        assert_true(g_file_set_contents(qcow2, "none", -1, NULL));
        use_program(fixture, real_program);
        ask(fixture, images);

        assert_int_equal(fixture->answer->error, 0);
        assert_int_equal(fixture->answer->holders->len, 0);
        assert_int_equal(fixture->answer->images->len, 5);
        answer = g_ptr_array_index(fixture->answer->images, 0);
        assert_int_equal(answer->verdict, IMAGE_NOT_ALLOWED);
        assert_string_equal(answer->path, odd);
        assert_null(answer->resolved);
        assert_non_null(strstr(answer->why, "control character"));
        answer = g_ptr_array_index(fixture->answer->images, 1);
        assert_int_equal(answer->verdict, IMAGE_NOT_FOUND);
        assert_null(answer->resolved);
        assert_string_equal(answer->why, "is in none of the image directories");
        answer = g_ptr_array_index(fixture->answer->images, 2);
        assert_int_equal(answer->verdict, IMAGE_NOT_ALLOWED);
        answer = g_ptr_array_index(fixture->answer->images, 3);
        assert_string_equal(answer->why, "is not in the format qcow2");
        answer = g_ptr_array_index(fixture->answer->images, 4);
        assert_string_equal(answer->path, "");
        assert_int_equal(answer->verdict, IMAGE_NOT_ALLOWED);
}

/* What the helper is to know of QEMU reaches it, and of other domains' files it tells what they
 * are, in whatever order. */
static void test_files(void **state) {
        Fixture *fixture = *state;
        g_autofree char *path = g_build_filename(fixture->folder, "a b;c.img", NULL);
        g_autofree char *link = g_build_filename(fixture->folder, "link", NULL);
        g_autofree char *odd = g_build_filename(fixture->folder, "odd[1].img", NULL);
        g_autoptr(GPtrArray) images = g_ptr_array_new();
        g_autoptr(GPtrArray) files = g_ptr_array_new();
        SurveyQuestion question = { .images = images, .apparmor = true, .files = files };
        const ImageAnswer *image;
        const FileAnswer *answer;

        assert_true(g_file_set_contents(path, "", 0, NULL));
        assert_true(g_file_set_contents(odd, "", 0, NULL));
        assert_return_code(symlink(path, link), errno);
        g_ptr_array_add(images, path);
        g_ptr_array_add(images, odd);
        g_ptr_array_add(files, (char *)"/no/such");
        g_ptr_array_add(files, link);
        use_program(fixture, real_program);
        ask_question(fixture, &question);

        assert_int_equal(fixture->answer->error, 0);
        image = g_ptr_array_index(fixture->answer->images, 1);
        assert_int_equal(image->verdict, IMAGE_NOT_ALLOWED);
        assert_non_null(strstr(image->why, "AppArmor"));
        assert_non_null(image->remedy);
        image = g_ptr_array_index(fixture->answer->images, 0);
        assert_string_equal(image->name, path);
        answer = g_ptr_array_index(fixture->answer->files, 0);
        assert_int_equal(answer->found, 0);
        answer = g_ptr_array_index(fixture->answer->files, 1);
        assert_int_equal(answer->found, 1);
        assert_string_equal(answer->path, link);
        assert_true(file_identities_meet(answer->identities, true, image->identities, true));
}

static void test_nothing_asked(void **state) {
        Fixture *fixture = *state;

        use_program(fixture, real_program);
        ask(fixture, NULL);
        assert_int_equal(fixture->answer->error, 0);
        assert_int_equal(fixture->answer->images->len, 0);
}

static void test_holders(void **state) {
        Fixture *fixture = *state;
        const Holder *holder;

        use_script(fixture,
                   "printf "
                   "'holder\\tprocess\\t7\\t1000\\tX\\\\torg\\\\377\\t\\t/dev/dri/card0\\t\\n'\n"
                   "printf 'holder\\tprocess\\t8\\t1001\\tX\\t\\t/dev/dri/card0\\t\\n'\n"
                   "printf 'holder\\tmount\\t0\\t0\\t\\t\\t/dev/sdb1\\t/a\\\\040b\\n'\n"
                   "printf 'end\\nuser\\t1000\\talice\\n'\n");
        ask(fixture, NULL);
        assert_int_equal(fixture->answer->error, 0);
        assert_int_equal(fixture->answer->holders->len, 3);
        holder = g_ptr_array_index(fixture->answer->holders, 2);
        assert_int_equal(holder->kind, HOLDER_MOUNT);
        assert_string_equal(holder->user, "");
        assert_string_equal(holder->at, "/a b");
        holder = g_ptr_array_index(fixture->answer->holders, 1);
        assert_string_equal(holder->user, "1001"); /* it has no name */
        holder = g_ptr_array_index(fixture->answer->holders, 0);
        assert_int_equal(holder->kind, HOLDER_PROCESS);
        assert_int_equal(holder->pid, 7);
        assert_int_equal(holder->uid, 1000);
        assert_string_equal(holder->user, "alice");
        assert_string_equal(holder->command, "X\torg\357\277\275");
        assert_string_equal(holder->unit, "");
        assert_string_equal(holder->node, "/dev/dri/card0");
}

static void test_serials(void **state) {
        Fixture *fixture = *state;
        const FunctionSerial *serial;

        use_script(fixture, "printf 'serial\\t0000:01:00.1\\t00-1b-21-ff-ff-12-34-56\\n'\n"
                            "printf 'serial\\t0000:01:00.0\\t00-1b-21-ff-ff-12-34-56-78\\n'\n"
                            "printf 'serial\\tx\\t00-1b-21-ff-ff-12-34-56\\n'; echo end\n");
        ask(fixture, NULL);
        assert_int_equal(fixture->answer->error, 0);
        assert_int_equal(fixture->answer->serials->len, 1);
        serial = &g_array_index(fixture->answer->serials, FunctionSerial, 0);
        assert_int_equal(serial->address.function, 1);
        assert_string_equal(serial->serial, "00-1b-21-ff-ff-12-34-56");
}

static void test_block(void **state) {
        Fixture *fixture = *state;
        static const char *const images[] = { "x", "y", NULL };
        const ImageAnswer *answer;

        use_script(fixture,
                   "printf 'image\\tblock\\tro\\tfree\\t/dev/n\\t/dev/x\\t\\t\\tblock 2049 "
                   "0;block 2048 0;\\n'\n"
                   "printf 'image\\tok\\trw\\twritten\\t/l\\t/y\\t\\t\\tfile 7 9;\\n'; echo end\n");
        ask(fixture, images);
        assert_int_equal(fixture->answer->error, 0);
        answer = g_ptr_array_index(fixture->answer->images, 0);
        assert_int_equal(answer->verdict, IMAGE_OK);
        assert_string_equal(answer->name, "/dev/n");
        assert_string_equal(answer->resolved, "/dev/x");
        assert_true(answer->block);
        assert_true(answer->read_only);
        assert_false(answer->kept);
        assert_int_equal(answer->identities->len, 2);
        assert_true(g_array_index(answer->identities, FileIdentity, 0).block);
        assert_int_equal(g_array_index(answer->identities, FileIdentity, 0).device, 2049);
        answer = g_ptr_array_index(fixture->answer->images, 1);
        assert_false(answer->block);
        assert_false(answer->read_only);
        assert_true(answer->written);
        assert_true(answer->kept);
        assert_int_equal(g_array_index(answer->identities, FileIdentity, 0).inode, 9);
}

/* Whatever is not a whole answer is an error. */
static void test_broken_answers(void **state) {
        static const char *const scripts[] = {
                "exit 0\n",
                "echo end; exit 1\n",
                "printf 'image\\tok\\trw\\tfree\\t/x\\t/x\\t\\t\\tfile 1 2;\\n'\n",
                "printf 'image\\tok\\trw\\tfree\\t/x\\t/x\\t\\t\\tfile 1 2;\\n%.0s' 1 2\n",
                "printf 'image\\tperhaps\\trw\\tfree\\t/x\\t/x\\t\\t\\tfile 1 2;\\n'; echo end\n",
                /* It is nothing. */
                "printf 'image\\tok\\trw\\tfree\\t/x\\t/x\\t\\t\\t\\n'; echo end\n",
                "printf 'image\\tok\\trw\\tfree\\t/x\\t/x\\t\\t\\tfile x;\\n'; echo end\n",
                "printf 'image\\tok\\n'; echo end\n",
                "echo; echo nonsense; echo end\n",
                "printf end\n",
                "kill -9 $$\n",
        };
        Fixture *fixture = *state;
        static const char *const images[] = { "x", NULL };

        for (size_t i = 0; i < G_N_ELEMENTS(scripts); i++) {
                use_script(fixture, scripts[i]);
                ask(fixture, images);
                assert_int_equal(fixture->answer->error, -EIO);
                fixture->answered = 0;
                g_clear_pointer(&fixture->surveys, surveys_free);
        }
}

/* Even that no helper can be started is told from the loop, and not from within the asking. */
static void test_no_program(void **state) {
        Fixture *fixture = *state;

        use_program(fixture, fixture->program);
        ask(fixture, NULL);
        assert_int_equal(fixture->answer->error, -ENOENT);
}

/* One that hangs, and beside it one that hangs when only other domains' files and the names of
 * users are still to be told: a server that is dead costs those, and not the answer. */
static void test_overdue(void **state) {
        Fixture *fixture = *state, named = { 0 };
        g_autofree char *fifo = g_build_filename(fixture->folder, "fifo", NULL);
        g_autoptr(GPtrArray) paths = g_ptr_array_new();
        g_autoptr(GPtrArray) files = g_ptr_array_new();
        SurveyQuestion question = { .images = paths, .files = files };
        const FileAnswer *file;
        const Holder *holder;

        assert_return_code(mkfifo(fifo, 0600), errno);
        use_script(fixture,
                   "case \"$*\" in *named*)\n"
                   "printf 'holder\\tprocess\\t7\\t1000\\tX\\t\\t/dev/dri/card0\\t\\n'\n"
                   "printf 'image\\tok\\trw\\tfree\\t/named\\t/named\\t\\t\\tfile 1 2;\\nend\\n'\n"
                   "printf 'file\\t1\\t1\\tfile 1 2;\\n';; esac\n"
                   "read x < ${0%/*}/fifo\n");
        g_ptr_array_add(paths, (char *)"named");
        g_ptr_array_add(files, (char *)"/hangs");
        g_ptr_array_add(files, (char *)"/answers");
        surveys_ask(fixture->surveys, &question, on_done, &named);
        ask(fixture, NULL);
        while (named.answered == 0)
                assert_true(sd_event_run(fixture->event, 1000000) >= 0);

        assert_int_equal(fixture->answer->error, -ETIMEDOUT);
        assert_int_equal(named.answer->error, 0);
        assert_int_equal(named.answer->holders->len, 1);
        holder = g_ptr_array_index(named.answer->holders, 0);
        assert_string_equal(holder->user, "1000");
        assert_int_equal(named.answer->files->len, 2);
        file = g_ptr_array_index(named.answer->files, 0);
        assert_int_equal(file->found, -ETIMEDOUT);
        assert_string_equal(file->path, "/hangs");
        assert_int_equal(file->identities->len, 0);
        file = g_ptr_array_index(named.answer->files, 1);
        assert_int_equal(file->found, 1);
        assert_int_equal(file->identities->len, 1);
        survey_answer_free(named.answer);
}

static void on_link(void *userdata, PciAddress address, const LinkFacts *link) {
        Fixture *fixture = userdata;

        assert_int_equal(address.bus, 1);
        assert_string_equal(link->speed, "8.0 GT/s PCIe");
        assert_int_equal(link->width, 16);
        fixture->links++;
        sd_event_exit(fixture->event, 0);
}

static void test_link(void **state) {
        static const HostEvents events = { .link_read = on_link };
        Fixture *fixture = *state;
        PciAddress address = { .bus = 1 };
        g_autofree char *path = g_strconcat(fixture->program, ".runs", NULL);
        g_autofree char *runs = NULL;

        use_script(fixture, "[ \"$*\" = 'link 0000:01:00.0' ] || exit 1\n"
                            "echo >> \"$0.runs\"\n"
                            "printf 'link\\t8.0 GT/s PCIe\\t16\\n'; echo end\n");
        for (unsigned i = 0; i < 200; i++) /* more than there may be surveys */
                surveys_read_link(fixture->surveys, address, &events, fixture);
        assert_int_equal(fixture->links, 0);
        assert_return_code(sd_event_loop(fixture->event), 0);
        assert_int_equal(fixture->links, 1);
        assert_true(g_file_get_contents(path, &runs, NULL, NULL));
        assert_string_equal(runs, "\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char *argv[]) {
        static const struct CMUnitTest tests[] = {
                TEST(test_images),         TEST(test_files),      TEST(test_nothing_asked),
                TEST(test_holders),        TEST(test_serials),    TEST(test_block),
                TEST(test_broken_answers), TEST(test_no_program), TEST(test_overdue),
                TEST(test_link),
        };

        if (argc != 2)
                return 77;
        real_program = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
