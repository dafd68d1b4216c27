#include "image-scene.h"

#include "autoptr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

char *image_scene_path(const ImageScene *scene, const char *name) {
        return g_build_filename(scene->root, name, NULL);
}

void image_scene_file(const ImageScene *scene, const char *name, const void *data, size_t size) {
        g_autofree char *path = image_scene_path(scene, name);
        g_autofree char *folder = g_path_get_dirname(path);

        assert_return_code(g_mkdir_with_parents(folder, 0755), errno);
        assert_true(g_file_set_contents(path, data, (gssize)size, NULL));
}

void image_scene_link(const ImageScene *scene, const char *name, const char *target) {
        g_autofree char *path = image_scene_path(scene, name);

        assert_return_code(symlink(target, path), errno);
}

void image_scene_own(const ImageScene *scene, const char *name, uid_t uid, gid_t gid) {
        g_autofree char *path = image_scene_path(scene, name);

        assert_return_code(lchown(path, uid, gid), errno);
}

void image_scene_mode(const ImageScene *scene, const char *name, mode_t mode) {
        g_autofree char *path = image_scene_path(scene, name);

        assert_return_code(chmod(path, mode), errno);
}

char *image_scene_loop(ImageScene *scene) {
        g_autofree char *file = image_scene_path(scene, "images/disk.img");
        g_autofd int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
        g_autofd int fd = open(file, O_RDWR | O_CLOEXEC);
        int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
        g_autofree char *node = g_strdup_printf("/dev/loop%d", number);

        if (number < 0 || fd < 0 || ftruncate(fd, 1 << 20) < 0)
                return NULL;
        scene->loop = open(node, O_RDWR | O_CLOEXEC);
        if (scene->loop < 0 || ioctl(scene->loop, LOOP_SET_FD, fd) < 0)
                return NULL;
        return g_steal_pointer(&node);
}

int image_scene_setup(void **state) {
        ImageScene *scene = g_new0(ImageScene, 1);
        g_autofree char *made = g_dir_make_tmp("test-images-XXXXXX", NULL);
        g_autofree char *real = realpath(made, NULL);
        g_autofree char *fifo = NULL;
        g_autofree char *folder = NULL;

        umask(022);
        scene->loop = -1;
        scene->root = g_strdup(real);
        scene->directories[0] = image_scene_path(scene, "linked");
        scene->directories[1] = image_scene_path(scene, "second");
        scene->devices[0] = g_strdup("/dev/no-such-device-*");
        scene->devices[1] = image_scene_path(scene, "images/planted*");
        scene->rules =
                (ImageRules){ .directories = scene->directories, .block_devices = scene->devices };

        image_scene_file(scene, "images/disk.img", "first", 5);
        image_scene_file(scene, "images/deep/below.img", "", 0);
        image_scene_file(scene, "second/disk.img", "second", 6);
        image_scene_file(scene, "second/only.img", "", 0);
        image_scene_file(scene, "outside/secret.img", "", 0);
        image_scene_file(scene, "images-not/near.img", "", 0);
        image_scene_link(scene, "linked", "images");
        image_scene_link(scene, "images/in.img", "disk.img");
        image_scene_link(scene, "images/out.img", "../outside/secret.img");
        image_scene_link(scene, "images/gone.img", "nowhere");
        image_scene_link(scene, "images/loop.img", "loop.img");
        folder = image_scene_path(scene, "images/folder");
        assert_return_code(g_mkdir(folder, 0755), errno);
        fifo = image_scene_path(scene, "images/fifo");
        assert_return_code(mkfifo(fifo, 0600), errno);
        *state = scene;
        return 0;
}

int image_scene_teardown(void **state) {
        ImageScene *scene = *state;
        const char *argv[] = { "rm", "-rf", scene->root, NULL };

        assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                                 NULL, NULL, NULL));
        if (scene->loop >= 0) {
                (void)ioctl(scene->loop, LOOP_CLR_FD, 0);
                close(scene->loop);
        }
        for (size_t i = 0; i < 2; i++) {
                g_free(scene->directories[i]);
                g_free(scene->devices[i]);
        }
        g_free(scene->root);
        g_free(scene);
        return 0;
}

ImageAnswer *image_scene_ask(const ImageScene *scene, const char *path, ImageUse use) {
        g_autofree char *asked =
                g_str_has_prefix(path, "R/") ? image_scene_path(scene, path + 2) : g_strdup(path);
        ImageAnswer *answer = image_survey(&scene->rules, asked, use);

        assert_string_equal(answer->path, asked);
        assert_int_equal(answer->name != NULL, answer->verdict == IMAGE_OK);
        assert_int_equal(answer->resolved != NULL, answer->verdict == IMAGE_OK);
        assert_int_equal(answer->why == NULL, answer->verdict == IMAGE_OK);
        assert_int_equal(answer->identities->len > 0, answer->verdict == IMAGE_OK);
        return answer;
}

static void expect(const ImageScene *scene, const char *path, ImageUse use, ImageVerdict verdict,
                   const char *words) {
        ImageAnswer *answer = image_scene_ask(scene, path, use);

        if (answer->verdict != verdict || (words && (!answer->why || !strstr(answer->why, words)) &&
                                           (!answer->remedy || !strstr(answer->remedy, words))))
                fail_msg("%s: verdict %d, not %d, with \"%s\": %s; %s", path, answer->verdict,
                         verdict, words ?: "", answer->why, answer->remedy);
        image_answer_free(answer);
}

void image_scene_expect(const ImageScene *scene, const char *path, ImageVerdict verdict,
                        const char *words) {
        expect(scene, path, IMAGE_AS_FILE, verdict, words);
}

void image_scene_expect_qcow2(const ImageScene *scene, const char *path, ImageVerdict verdict,
                              const char *words) {
        expect(scene, path, IMAGE_AS_QCOW2, verdict, words);
}
