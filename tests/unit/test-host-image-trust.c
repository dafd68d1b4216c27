/* Who could put another thing in an image's place before QEMU opens it, and what would keep QEMU
 * out: with real files of other users, so most of it as root alone. */
#include "image-scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OTHER 60001 /* users whom no host knows */
#define QEMU  60002

#define OK      IMAGE_OK
#define REFUSED IMAGE_NOT_ALLOWED

static int setup(void **state) {
        int r = image_scene_setup(state);

        if (r == 0)
                image_scene_mode(*state, "", 0755);
        return r;
}

static void require_root(void) {
        if (geteuid() != 0)
                skip();
}

/* Names the folder, and who may change it. */
static void expect_folder(const ImageScene *scene, const char *path, const char *folder,
                          const char *who) {
        g_autofree char *full = image_scene_path(scene, folder);
        g_autofree char *words = g_strdup_printf("folder %s, %s", full, who);

        image_scene_expect(scene, path, REFUSED, words);
}

static void test_folder_of_another(void **state) {
        ImageScene *scene = *state;

        require_root();
        image_scene_own(scene, "images", OTHER, 0);
        expect_folder(scene, "disk.img", "images", "which belongs to user 60001");
        expect_folder(scene, "R/linked/deep/below.img", "images", "which belongs to user 60001");
        image_scene_expect(scene, "disk.img", REFUSED, "chown root");
        image_scene_own(scene, "images", 0, 0);
        image_scene_own(scene, "images/deep", OTHER, 0);
        image_scene_expect(scene, "disk.img", OK, NULL);
        expect_folder(scene, "R/images/deep/below.img", "images/deep",
                      "which belongs to user 60001");
        /* Whether there is such a file or not. */
        expect_folder(scene, "R/images/deep/no.img", "images/deep", "which belongs to user 60001");
        /* The file itself is QEMU's while it runs, and anybody's else. */
        image_scene_own(scene, "images/disk.img", OTHER, OTHER);
        image_scene_mode(scene, "images/disk.img", 0666);
        image_scene_expect(scene, "disk.img", OK, NULL);
}

static void test_folder_that_others_write(void **state) {
        ImageScene *scene = *state;

        image_scene_mode(scene, "images", 0777);
        expect_folder(scene, "disk.img", "images", "to which everybody may write");
        image_scene_mode(scene, "images", 0775);
        expect_folder(scene, "disk.img", "images", "to which group ");
        image_scene_mode(scene, "images", 0755);
        image_scene_mode(scene, "", 0777); /* any folder on the way */
        expect_folder(scene, "R/images/disk.img", "", "to which everybody may write");
        image_scene_mode(scene, "", 0755);
        image_scene_expect(scene, "disk.img", OK, NULL);
}

/* As /tmp is: what is root's there stays. */
static void test_sticky_folder(void **state) {
        ImageScene *scene = *state;

        image_scene_mode(scene, "images", 01777);
        image_scene_expect(scene, "disk.img", OK, NULL);
        image_scene_expect(scene, "R/images/deep/below.img", OK, NULL);
        require_root();
        image_scene_own(scene, "images/disk.img", OTHER, 0);
        expect_folder(scene, "disk.img", "images",
                      "to which others may write, and disk.img there belongs to user 60001");
        image_scene_expect(scene, "in.img", REFUSED, "disk.img there belongs to user 60001");
        image_scene_own(scene, "images/deep", OTHER, 0);
        expect_folder(scene, "R/images/deep/below.img", "images", "to which others may write");
}

static void test_link_of_another(void **state) {
        ImageScene *scene = *state;
        g_autofree char *link = image_scene_path(scene, "images/in.img");
        g_autofree char *words =
                g_strdup_printf("through link %s, which belongs to user 60001", link);

        require_root();
        image_scene_own(scene, "images/in.img", OTHER, 0);
        image_scene_expect(scene, "in.img", REFUSED, words);
        image_scene_own(scene, "linked", OTHER, 0);
        image_scene_expect(scene, "disk.img", REFUSED, "belongs to user 60001");
}

/* Who owns what lies outside is told to nobody. */
static void test_outside_stays_untold(void **state) {
        ImageScene *scene = *state;

        image_scene_mode(scene, "outside", 0777);
        image_scene_expect(scene, "out.img", REFUSED, "leads out of the image directories");
}

/* libvirt gives QEMU's user the file, but lets it through no folder. */
static void test_folder_shut_to_qemu(void **state) {
        ImageScene *scene = *state;

        image_scene_mode(scene, "images", 0700);
        image_scene_mode(scene, "images/disk.img", 0600);
        image_scene_expect(scene, "disk.img", OK, NULL); /* QEMU is root's, or not known */
        scene->rules.qemu_uid = QEMU;
        expect_folder(scene, "disk.img", "images", "which QEMU's user 60002 may not enter");
        image_scene_expect(scene, "disk.img", REFUSED, "chmod o+x");
        image_scene_mode(scene, "images", 0711);
        image_scene_expect(scene, "disk.img", OK, NULL);
        /* It may be in the group, or in a list of access rights that the group's bits stand for. */
        image_scene_mode(scene, "images", 0710);
        image_scene_expect(scene, "disk.img", OK, NULL);
        image_scene_mode(scene, "images", 0711);
        image_scene_mode(scene, "", 0700);
        expect_folder(scene, "disk.img", "", "which QEMU's user 60002 may not enter");
}

static void test_apparmor(void **state) {
        static const char odd[] = "[]*?{}^\"\\";
        ImageScene *scene = *state;

        scene->rules.apparmor = true;
        for (const char *at = odd; *at; at++) {
                g_autofree char *name = g_strdup_printf("images/a%cb.img", *at);
                g_autofree char *deep = g_strdup_printf("images/x%cy/b.img", *at);
                g_autofree char *path = g_strdup_printf("R/%s", deep);

                image_scene_file(scene, name, "", 0);
                image_scene_file(scene, deep, "", 0);
                image_scene_expect(scene, strchr(name, '/') + 1, REFUSED, "AppArmor");
                image_scene_expect(scene, path, REFUSED, "Rename it");
                scene->rules.apparmor = false;
                image_scene_expect(scene, path, OK, NULL);
                scene->rules.apparmor = true;
        }
        image_scene_file(scene, "images/a b,c$d@e'f&<(g).img", "", 0);
        image_scene_expect(scene, "a b,c$d@e'f&<(g).img", OK, NULL);
        /* Only what it resolves to stands in the rules. */
        image_scene_link(scene, "images/[1].img", "disk.img");
        image_scene_expect(scene, "[1].img", OK, NULL);
        image_scene_file(scene, "images/a\nb.img", "", 0);
        image_scene_link(scene, "images/plain.img", "a\nb.img");
        image_scene_expect(scene, "plain.img", REFUSED, "AppArmor");
}

static void test_apparmor_places(void **state) {
        ImageScene *scene = *state;
        char *directories[] = { (char *)"/usr/share", NULL };

        scene->rules.directories = directories;
        scene->rules.apparmor = true;
        if (access("/usr/share/common-licenses/GPL-2", R_OK) < 0)
                skip();
        image_scene_expect(scene, "/usr/share/common-licenses/GPL-2", REFUSED, "AppArmor");
        scene->rules.apparmor = false;
        image_scene_expect(scene, "/usr/share/common-licenses/GPL-2", OK, NULL);
}

/* Asks as a user who is nobody, as root is on a server that squashes it: exits with how many of the
 * answers were wrong. */
static void as_nobody(ImageScene *scene, void (*ask)(const ImageScene *scene)) {
        int status;
        pid_t pid = fork();

        assert_return_code(pid, errno);
        if (pid == 0) {
                if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
                        _exit(1);
                ask(scene);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static bool answered(const ImageScene *scene, const char *path, ImageUse use, const char *words) {
        ImageAnswer *answer = image_scene_ask(scene, path, use);
        bool right =
                words ? answer->verdict == REFUSED && strstr(answer->why, words) && answer->remedy
                      : answer->verdict == OK;

        if (!right)
                fprintf(stderr, "%s: %s; %s\n", path, answer->why, answer->remedy);
        image_answer_free(answer);
        return right;
}

static void ask_squashed(const ImageScene *scene) {
        if (!answered(scene, "disk.img", IMAGE_AS_QCOW2,
                      "could not be read by root: Permission denied") ||
            !answered(scene, "disk.img", IMAGE_AS_FILE, "nor by QEMU's user") ||
            !answered(scene, "R/linked/deep/below.img", IMAGE_AS_FILE, NULL) ||
            !answered(scene, "only.img", IMAGE_AS_FILE, NULL))
                _exit(2);
}

static void test_squashed_root(void **state) {
        ImageScene *scene = *state;

        require_root();
        image_scene_own(scene, "images/disk.img", OTHER, OTHER);
        image_scene_mode(scene, "images/disk.img", 0600);
        image_scene_own(scene, "images/deep/below.img", QEMU, OTHER);
        image_scene_mode(scene, "images/deep/below.img", 0600);
        image_scene_mode(scene, "second/only.img", 0640); /* QEMU may be in the group */
        scene->rules.qemu_uid = QEMU;
        as_nobody(scene, ask_squashed);
}

static void ask_shut(const ImageScene *scene) {
        if (!answered(scene, "disk.img", IMAGE_AS_FILE, "Permission denied") ||
            !answered(scene, "only.img", IMAGE_AS_FILE, "Permission denied") ||
            !answered(scene, "R/second/disk.img", IMAGE_AS_FILE, NULL))
                _exit(2);
}

/* The directory that could not be looked into may have it. */
static void test_directory_shut_to_root(void **state) {
        ImageScene *scene = *state;

        require_root();
        image_scene_mode(scene, "images", 0700);
        as_nobody(scene, ask_shut);
}

static void test_immutable_file(void **state) {
        ImageScene *scene = *state;
        g_autofree char *path = image_scene_path(scene, "images/disk.img");
        int fd = open(path, O_RDONLY | O_CLOEXEC), flags = FS_IMMUTABLE_FL;
        ImageAnswer *answer = image_scene_ask(scene, "disk.img", IMAGE_AS_FILE);

        assert_false(answer->read_only);
        image_answer_free(answer);
        assert_return_code(fd, errno);
        if (ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0) {
                close(fd);
                skip();
        }
        answer = image_scene_ask(scene, "disk.img", IMAGE_AS_FILE);
        flags = 0;
        assert_return_code(ioctl(fd, FS_IOC_SETFLAGS, &flags), errno);
        close(fd);
        assert_int_equal(answer->verdict, IMAGE_OK);
        assert_true(answer->read_only);
        image_answer_free(answer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, image_scene_teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(test_folder_of_another),
                TEST(test_folder_that_others_write),
                TEST(test_sticky_folder),
                TEST(test_link_of_another),
                TEST(test_outside_stays_untold),
                TEST(test_folder_shut_to_qemu),
                TEST(test_apparmor),
                TEST(test_apparmor_places),
                TEST(test_squashed_root),
                TEST(test_directory_shut_to_root),
                TEST(test_immutable_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
