/* Which images may be used: the rules, on a tree of files made for it. */
#include "image-scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* @resolved: where it leads, beneath the tree's root. */
static void assert_verdict(const ImageScene *scene, const char *path, ImageVerdict verdict,
                           const char *resolved) {
        ImageAnswer *answer = image_scene_ask(scene, path, IMAGE_AS_FILE);

        if (answer->verdict != verdict)
                fail_msg("%s: verdict %d, not %d (%s)", path, answer->verdict, verdict,
                         answer->why);
        if (resolved) {
                g_autofree char *expected = image_scene_path(scene, resolved);

                assert_string_equal(answer->resolved, expected);
        }
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
                assert_verdict(*state, cases[i].path, cases[i].verdict, cases[i].resolved);
}

/* A name that is too long, one with odd characters, and those that would be other names after
 * libvirt has written them into its XML. */
static void test_odd_names(void **state) {
        ImageScene *scene = *state;
        g_autofree char *name = g_strnfill(300, 'x');
        g_autofree char *path = g_strconcat("R/images/", name, NULL);

        assert_verdict(scene, path, IMAGE_NOT_ALLOWED, NULL);
        image_scene_file(scene, "images/a b c \"'<&.img", "", 0);
        assert_verdict(scene, "a b c \"'<&.img", IMAGE_OK, "images/a b c \"'<&.img");
        image_scene_file(scene, "images/a\tb.img", "", 0);
        assert_verdict(scene, "a\tb.img", IMAGE_NOT_ALLOWED, NULL);
        image_scene_file(scene, "images/a\nb.img", "", 0);
        assert_verdict(scene, "R/images/a\nb.img", IMAGE_NOT_ALLOWED, NULL);
}

/* What was listed as a block device and is none is judged like any other file; a name that somebody
 * else than udev could have made does not make its target listed. */
static void test_block_devices(void **state) {
        ImageScene *scene = *state;

        image_scene_file(scene, "images/planted.img", "", 0);
        assert_verdict(scene, "planted.img", IMAGE_OK, "images/planted.img");
        image_scene_link(scene, "images/planted", "/dev/null");
        assert_verdict(scene, "planted", IMAGE_NOT_ALLOWED, NULL);
        image_scene_link(scene, "images/planted-secret", "../outside/secret.img");
        assert_verdict(scene, "planted-secret", IMAGE_NOT_ALLOWED, NULL);
}

/* Nodes of a loop device, made where the list allows one of them. */
static void test_block_device_nodes(void **state) {
        ImageScene *scene = *state;
        g_autofree char *other = image_scene_path(scene, "images/unlisted");
        g_autofree char *listed = image_scene_path(scene, "images/planted-node");
        g_autofree char *absent = image_scene_path(scene, "images/planted-absent");
        g_autofree char *loop = image_scene_loop(scene);
        struct stat status;

        if (!loop || stat(loop, &status) < 0 || mknod(other, S_IFBLK | 0600, status.st_rdev) < 0 ||
            mknod(listed, S_IFBLK | 0600, status.st_rdev) < 0)
                skip();
        assert_verdict(scene, "unlisted", IMAGE_NOT_ALLOWED, NULL);
        assert_verdict(scene, "planted-node", IMAGE_OK, "images/planted-node");
        image_scene_link(scene, "images/planted-link", "unlisted");
        assert_verdict(scene, "planted-link", IMAGE_NOT_ALLOWED, NULL);

        assert_return_code(mknod(absent, S_IFBLK | 0600, makedev(7, 1000000)), errno);
        image_scene_expect(scene, "planted-absent", IMAGE_NOT_ALLOWED, "does not exist");
        assert_return_code(ioctl(scene->loop, LOOP_CLR_FD, 0), errno);
        close(scene->loop);
        scene->loop = -1;
        image_scene_expect(scene, "planted-node", IMAGE_NOT_ALLOWED, "of size 0");
}

/* Two writers, of which one is the host. */
static void test_file_behind_a_loop_device(void **state) {
        ImageScene *scene = *state;
        g_autofree char *loop = NULL;

        image_scene_expect(scene, "disk.img", IMAGE_OK, NULL);
        loop = image_scene_loop(scene);
        if (!loop)
                skip();
        image_scene_expect(scene, "disk.img", IMAGE_NOT_ALLOWED, loop);
        image_scene_expect(scene, "in.img", IMAGE_NOT_ALLOWED, "is used by the host");
        image_scene_expect(scene, "only.img", IMAGE_OK, NULL);
}

/* What a definition remembers is the name that was asked for, made absolute, and not what it leads
 * to on the day. */
static void test_name_is_kept(void **state) {
        static const struct {
                const char *path, *name, *resolved;
        } cases[] = {
                { "disk.img", "linked/disk.img", "images/disk.img" },
                { "in.img", "linked/in.img", "images/disk.img" },
                { "only.img", "second/only.img", "second/only.img" },
                { "R/linked/in.img", "linked/in.img", "images/disk.img" },
                { "R/images/in.img", "images/in.img", "images/disk.img" },
                { "R//linked/.//in.img", "linked/in.img", "images/disk.img" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *name = image_scene_path(*state, cases[i].name);
                g_autofree char *resolved = image_scene_path(*state, cases[i].resolved);
                ImageAnswer *answer = image_scene_ask(*state, cases[i].path, IMAGE_AS_FILE);

                assert_int_equal(answer->verdict, IMAGE_OK);
                assert_string_equal(answer->name, name);
                assert_string_equal(answer->resolved, resolved);
                image_answer_free(answer);
        }
}

/* Only that a directory has no such entry, or is not there, has the next one asked. */
static void test_unknown_is_not_absent(void **state) {
        ImageScene *scene = *state;
        g_autofree char *name = g_strnfill(300, 'x');

        g_free(scene->directories[0]);
        scene->directories[0] = image_scene_path(scene, "nothing");
        image_scene_expect(scene, "disk.img", IMAGE_OK, NULL);
        image_scene_link(scene, "nothing", "second/disk.img"); /* a file */
        image_scene_expect(scene, "disk.img", IMAGE_OK, NULL);

        g_free(scene->directories[0]);
        scene->directories[0] = image_scene_path(scene, "round");
        image_scene_link(scene, "round", "round");
        image_scene_expect(scene, "disk.img", IMAGE_NOT_ALLOWED, "too many symbolic links");
        image_scene_expect(scene, "R/second/disk.img", IMAGE_OK, NULL);
        image_scene_expect(scene, name, IMAGE_NOT_ALLOWED, NULL);
}

/* What leaves the directories gets one answer, whatever is there. */
static void test_outside_tells_nothing(void **state) {
        static const char *const targets[] = {
                "../outside/secret.img",
                "../outside/nothing.img",
                "../outside/secret.img/below",
                "/dev/null",
                "/dev/no-such",
                "/etc",
                "/proc/self/fd/0",
                "/proc/self/root/etc",
                "/root/x",
        };
        ImageScene *scene = *state;

        for (size_t i = 0; i < G_N_ELEMENTS(targets); i++) {
                g_autofree char *path = image_scene_path(scene, "images/link");

                image_scene_link(scene, "images/link", targets[i]);
                image_scene_expect(scene, "link", IMAGE_NOT_ALLOWED,
                                   "leads out of the image directories by a symbolic link");
                assert_return_code(g_unlink(path), errno);
        }
        image_scene_expect(scene, "/dev/null", IMAGE_NOT_ALLOWED, "not a name of a block device");
        image_scene_expect(scene, "/dev/no-such", IMAGE_NOT_ALLOWED,
                           "not a name of a block device");
        image_scene_expect(scene, "/dev/shm/x", IMAGE_NOT_ALLOWED, "not a name of a block device");
}

/* A name beneath /dev is kept as it was asked for, and allowed by itself or by what it leads to
 * now. The kernel's name of a device that is listed by another one is refused, and that one is
 * told. */
static void test_names_of_devices(void **state) {
        ImageScene *scene = *state;
        g_autofree char *kernel = image_scene_loop(scene);
        g_autofree char *link = g_strdup_printf("/dev/feos-test-%d", getpid());
        char *by_link[] = { link, NULL }, *by_kernel[] = { kernel, NULL };
        const char *target = kernel ? kernel + strlen("/dev/") : "";
        ImageAnswer *by_link_answer, *by_kernel_answer;
        struct stat status;

        if (!kernel || stat(kernel, &status) < 0 || symlink(target, link) < 0)
                skip();
        scene->rules.block_devices = by_link;
        by_link_answer = image_scene_ask(scene, link, IMAGE_AS_FILE);
        image_scene_link(scene, "images/to-device", link);
        image_scene_expect(scene, "to-device", IMAGE_NOT_ALLOWED, "leads out");
        by_kernel_answer = image_scene_ask(scene, kernel, IMAGE_AS_FILE);
        assert_return_code(unlink(link), errno);

        assert_int_equal(by_link_answer->verdict, IMAGE_OK);
        assert_true(by_link_answer->block);
        assert_string_equal(by_link_answer->name, link);
        assert_string_equal(by_link_answer->resolved, kernel);
        assert_true(g_array_index(by_link_answer->identities, FileIdentity, 0).block);
        assert_int_equal(g_array_index(by_link_answer->identities, FileIdentity, 0).device,
                         status.st_rdev);
        assert_int_equal(by_link_answer->identities->len, 2); /* and the file behind it */
        assert_int_equal(by_kernel_answer->verdict, IMAGE_NOT_ALLOWED);
        assert_non_null(strstr(by_kernel_answer->remedy, link));
        image_answer_free(by_link_answer);
        image_answer_free(by_kernel_answer);

        image_scene_expect(scene, link, IMAGE_NOT_FOUND, NULL);
        assert_return_code(symlink(target, link), errno);
        scene->rules.block_devices = by_kernel;
        by_link_answer = image_scene_ask(scene, link, IMAGE_AS_FILE);
        assert_return_code(unlink(link), errno);
        assert_int_equal(by_link_answer->verdict, IMAGE_OK);
        assert_string_equal(by_link_answer->name, link);
        image_answer_free(by_link_answer);
}

/* A link from one image directory into the other one is fine. */
static void test_between_directories(void **state) {
        image_scene_link(*state, "images/over.img", "../second/only.img");
        assert_verdict(*state, "over.img", IMAGE_OK, "second/only.img");
}

static void test_no_directories(void **state) {
        ImageScene *scene = *state;
        char *none[] = { NULL };
        ImageScene bare = { .root = scene->root,
                            .rules = { .directories = none, .block_devices = none } };

        assert_verdict(&bare, "disk.img", IMAGE_NOT_FOUND, NULL);
        assert_verdict(&bare, "R/images/disk.img", IMAGE_NOT_ALLOWED, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, image_scene_setup, image_scene_teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(test_rules),
                TEST(test_odd_names),
                TEST(test_block_devices),
                TEST(test_block_device_nodes),
                TEST(test_file_behind_a_loop_device),
                TEST(test_name_is_kept),
                TEST(test_unknown_is_not_absent),
                TEST(test_outside_tells_nothing),
                TEST(test_names_of_devices),
                TEST(test_between_directories),
                TEST(test_no_directories),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
