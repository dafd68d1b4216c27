/* Which images may be used: the rules, on a tree of files made for it. */
#include "host/survey-images.h"

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

/* The tree, beneath a temporary folder R:
 *
 *   R/images/          an image directory      R/second/   another
 *     disk.img                                   disk.img  only.img
 *     deep/below.img                           R/linked -> images
 *     in.img -> disk.img                       R/outside/secret.img
 *     out.img -> ../outside/secret.img         R/images-not/near.img
 *     gone.img -> nowhere    loop.img -> loop.img
 *     folder/    fifo
 */
typedef struct Fixture {
        char *root;
        char *directories[3];
        char *devices[3];
        ImageRules rules;
} Fixture;

static char *path_of(const Fixture *fixture, const char *path) {
        return g_build_filename(fixture->root, path, NULL);
}

static void make_file(const Fixture *fixture, const char *name, const void *data, size_t size) {
        g_autofree char *path = path_of(fixture, name);
        g_autofree char *folder = g_path_get_dirname(path);

        assert_return_code(g_mkdir_with_parents(folder, 0755), errno);
        assert_true(g_file_set_contents(path, data, (gssize)size, NULL));
}

static void make_link(const Fixture *fixture, const char *name, const char *target) {
        g_autofree char *path = path_of(fixture, name);

        assert_return_code(symlink(target, path), errno);
}

static int setup(void **state) {
        Fixture *fixture = g_new0(Fixture, 1);
        g_autofree char *made = g_dir_make_tmp("test-images-XXXXXX", NULL);
        g_autofree char *real = realpath(made, NULL);
        g_autofree char *fifo = NULL;
        g_autofree char *folder = NULL;

        fixture->root = g_strdup(real);
        fixture->directories[0] = path_of(fixture, "linked");
        fixture->directories[1] = path_of(fixture, "second");
        fixture->devices[0] = g_strdup("/dev/no-such-device-*");
        fixture->devices[1] = path_of(fixture, "images/planted*");
        fixture->rules = (ImageRules){ fixture->directories, fixture->devices };

        make_file(fixture, "images/disk.img", "first", 5);
        make_file(fixture, "images/deep/below.img", "", 0);
        make_file(fixture, "second/disk.img", "second", 6);
        make_file(fixture, "second/only.img", "", 0);
        make_file(fixture, "outside/secret.img", "", 0);
        make_file(fixture, "images-not/near.img", "", 0);
        make_link(fixture, "linked", "images");
        make_link(fixture, "images/in.img", "disk.img");
        make_link(fixture, "images/out.img", "../outside/secret.img");
        make_link(fixture, "images/gone.img", "nowhere");
        make_link(fixture, "images/loop.img", "loop.img");
        folder = path_of(fixture, "images/folder");
        assert_return_code(g_mkdir(folder, 0755), errno);
        fifo = path_of(fixture, "images/fifo");
        assert_return_code(mkfifo(fifo, 0600), errno);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        const char *argv[] = { "rm", "-rf", fixture->root, NULL };

        assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                                 NULL, NULL, NULL));
        for (size_t i = 0; i < 2; i++) {
                g_free(fixture->directories[i]);
                g_free(fixture->devices[i]);
        }
        g_free(fixture->root);
        g_free(fixture);
        return 0;
}

/* @path beginning with "R/" stands beneath the fixture's root. */
static void assert_verdict(const Fixture *fixture, const char *path, bool qcow2,
                           ImageVerdict verdict, const char *resolved) {
        g_autofree char *asked =
                g_str_has_prefix(path, "R/") ? path_of(fixture, path + 2) : g_strdup(path);
        ImageAnswer *answer = image_survey(&fixture->rules, asked, qcow2);

        if (answer->verdict != verdict)
                fail_msg("%s: verdict %d, not %d (%s)", path, answer->verdict, verdict,
                         answer->why);
        assert_string_equal(answer->path, asked);
        if (resolved) {
                g_autofree char *expected = path_of(fixture, resolved);

                assert_string_equal(answer->resolved, expected);
        }
        assert_int_equal(answer->resolved != NULL, verdict == IMAGE_OK);
        assert_int_equal(answer->why == NULL, verdict == IMAGE_OK);
        assert_int_equal(answer->block,
                         answer->resolved && g_str_has_suffix(answer->resolved, "-node"));
        image_answer_free(answer);
}

static void test_rules(void **state) {
        static const struct {
                const char *path;
                ImageVerdict verdict;
                const char *resolved;
        } cases[] = {
                { "disk.img", IMAGE_OK, "images/disk.img" },
                { "only.img", IMAGE_OK, "second/only.img" },
                { "in.img", IMAGE_OK, "images/disk.img" },
                { "R/images/disk.img", IMAGE_OK, "images/disk.img" },
                { "R/linked/disk.img", IMAGE_OK, "images/disk.img" },
                { "R/second/disk.img", IMAGE_OK, "second/disk.img" },
                { "R/images/deep/below.img", IMAGE_OK, "images/deep/below.img" },
                { "R/images//.//disk.img", IMAGE_OK, "images/disk.img" },

                { "nothing.img", IMAGE_NOT_FOUND, NULL },
                { "R/images/nothing.img", IMAGE_NOT_FOUND, NULL },
                { "R/images/disk.img/deeper", IMAGE_NOT_FOUND, NULL },
                { "gone.img", IMAGE_NOT_FOUND, NULL },

                { "", IMAGE_NOT_ALLOWED, NULL },
                { ".", IMAGE_NOT_ALLOWED, NULL },
                { "..", IMAGE_NOT_ALLOWED, NULL },
                { "../outside/secret.img", IMAGE_NOT_ALLOWED, NULL },
                { "deep/below.img", IMAGE_NOT_ALLOWED, NULL },
                { "./disk.img", IMAGE_NOT_ALLOWED, NULL },
                { "out.img", IMAGE_NOT_ALLOWED, NULL },
                { "loop.img", IMAGE_NOT_ALLOWED, NULL },
                { "folder", IMAGE_NOT_ALLOWED, NULL },
                { "fifo", IMAGE_NOT_ALLOWED, NULL },
                { "R/images/out.img", IMAGE_NOT_ALLOWED, NULL },
                { "R/images/../images/disk.img", IMAGE_NOT_ALLOWED, NULL },
                { "R/images/deep/../../outside/secret.img", IMAGE_NOT_ALLOWED, NULL },
                { "R/outside/secret.img", IMAGE_NOT_ALLOWED, NULL },
                { "R/outside/nothing.img", IMAGE_NOT_ALLOWED, NULL },
                { "R/images-not/near.img", IMAGE_NOT_ALLOWED, NULL },
                { "R/images", IMAGE_NOT_ALLOWED, NULL },
                { "R/images/", IMAGE_NOT_ALLOWED, NULL },
                { "/", IMAGE_NOT_ALLOWED, NULL },
                { "/etc/passwd", IMAGE_NOT_ALLOWED, NULL },
                { "/dev/null", IMAGE_NOT_ALLOWED, NULL },
                { "/proc/self/fd/0", IMAGE_NOT_ALLOWED, NULL },
                { "/dev/no-such-device-1", IMAGE_NOT_FOUND, NULL },
                { "/dev/no-such-device-1/2", IMAGE_NOT_ALLOWED, NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
                assert_verdict(*state, cases[i].path, false, cases[i].verdict, cases[i].resolved);
}

/* A name that is too long, and one with odd characters. */
static void test_odd_names(void **state) {
        Fixture *fixture = *state;
        g_autofree char *name = g_strnfill(300, 'x');
        g_autofree char *path = g_strconcat("R/images/", name, NULL);

        assert_verdict(fixture, path, false, IMAGE_NOT_ALLOWED, NULL);
        make_file(fixture, "images/a\tb\nc \"'<&.img", "", 0);
        assert_verdict(fixture, "a\tb\nc \"'<&.img", false, IMAGE_OK, "images/a\tb\nc \"'<&.img");
}

/* What was listed as a block device and is none is judged like any other file; a name that somebody
 * else than udev could have made does not make its target listed. */
static void test_block_devices(void **state) {
        Fixture *fixture = *state;

        make_file(fixture, "images/planted.img", "", 0);
        assert_verdict(fixture, "planted.img", false, IMAGE_OK, "images/planted.img");
        make_link(fixture, "images/planted", "/dev/null");
        assert_verdict(fixture, "planted", false, IMAGE_NOT_ALLOWED, NULL);
        make_link(fixture, "images/planted-secret", "../outside/secret.img");
        assert_verdict(fixture, "planted-secret", false, IMAGE_NOT_ALLOWED, NULL);
}

/* A node of a loop device, made where only the list allows it. */
static void test_block_device_nodes(void **state) {
        Fixture *fixture = *state;
        g_autofree char *other = path_of(fixture, "images/unlisted");
        g_autofree char *listed = path_of(fixture, "images/planted-node");

        if (mknod(other, S_IFBLK | 0600, 7 << 8) < 0 || mknod(listed, S_IFBLK | 0600, 7 << 8) < 0)
                skip();
        assert_verdict(fixture, "unlisted", false, IMAGE_NOT_ALLOWED, NULL);
        assert_verdict(fixture, "planted-node", false, IMAGE_OK, "images/planted-node");
        make_link(fixture, "images/planted-link", "unlisted");
        assert_verdict(fixture, "planted-link", false, IMAGE_NOT_ALLOWED, NULL);
}

/* @header: version, backing file's offset, incompatible features; the size of the file. */
static void make_qcow2(const Fixture *fixture, const char *name, unsigned char version,
                       unsigned char backing, unsigned char features, size_t size) {
        unsigned char header[128] = { 'Q', 'F', 'I', 0xfb };

        header[7] = version;
        header[15] = backing;
        header[79] = features;
        make_file(fixture, name, header, size);
}

static void test_qcow2(void **state) {
        static const struct {
                unsigned char version, backing, features;
                size_t size;
                ImageVerdict verdict;
        } cases[] = {
                { 2, 0, 0, 72, IMAGE_OK },
                { 3, 0, 0, 104, IMAGE_OK },
                { 3, 0, 1, 104, IMAGE_OK },           /* dirty: QEMU repairs it */
                { 2, 0, 4, 104, IMAGE_OK },           /* no features before version 3 */
                { 2, 80, 0, 104, IMAGE_NOT_ALLOWED }, /* backing file */
                { 3, 80, 0, 104, IMAGE_NOT_ALLOWED },
                { 3, 0, 4, 104, IMAGE_NOT_ALLOWED }, /* external data file */
                { 3, 0, 5, 104, IMAGE_NOT_ALLOWED },
                { 1, 0, 0, 104, IMAGE_NOT_ALLOWED },
                { 4, 0, 0, 104, IMAGE_NOT_ALLOWED },
                { 3, 0, 0, 79, IMAGE_NOT_ALLOWED }, /* cut short */
                { 2, 0, 0, 71, IMAGE_NOT_ALLOWED },
                { 2, 0, 0, 3, IMAGE_NOT_ALLOWED },
                { 2, 0, 0, 0, IMAGE_NOT_ALLOWED },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                make_qcow2(*state, "images/q.qcow2", cases[i].version, cases[i].backing,
                           cases[i].features, cases[i].size);
                assert_verdict(*state, "q.qcow2", true, cases[i].verdict, NULL);
                assert_verdict(*state, "q.qcow2", false, IMAGE_OK, NULL);
        }
        assert_verdict(*state, "disk.img", true, IMAGE_NOT_ALLOWED, NULL);
}

static void test_no_directories(void **state) {
        Fixture *fixture = *state;
        char *none[] = { NULL };
        Fixture bare = { .root = fixture->root, .rules = { none, none } };

        assert_verdict(&bare, "disk.img", false, IMAGE_NOT_FOUND, NULL);
        assert_verdict(&bare, "R/images/disk.img", false, IMAGE_NOT_ALLOWED, NULL);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_rules, setup, teardown),
                cmocka_unit_test_setup_teardown(test_odd_names, setup, teardown),
                cmocka_unit_test_setup_teardown(test_block_devices, setup, teardown),
                cmocka_unit_test_setup_teardown(test_block_device_nodes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_qcow2, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_directories, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
