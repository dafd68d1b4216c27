/* What an image is found to be used for already, and whether a kernel is one, on a tree of files.
 */
#include "image-scene.h"

#include "autoptr.h"
#include "testing.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* As QEMU and its tools do: byte 100 + n for what is done, 200 + n for what nobody else may do. */
static void lock_byte(int fd, off_t byte) {
        struct flock lock = {
                .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1
        };

        assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
}

static void assert_use(const ImageScene *scene, bool kept, bool written) {
        ImageAnswer *answer = image_scene_ask(scene, "disk.img", IMAGE_AS_FILE);

        assert_int_equal(answer->verdict, IMAGE_OK);
        assert_int_equal(answer->kept, kept);
        assert_int_equal(answer->written, written);
        image_answer_free(answer);
}

static void test_locks_of_others(void **state) {
        ImageScene *scene = *state;
        g_autofree char *path = image_scene_path(scene, "images/disk.img");
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_use(scene, false, false);
        lock_byte(fd, 100); /* reads, and lets others do what they like */
        assert_use(scene, false, false);
        lock_byte(fd, 201);
        assert_use(scene, true, false);
        lock_byte(fd, 101);
        assert_use(scene, true, true);
        close(fd);
        assert_use(scene, false, false);
}

static void expect_kernel(ImageScene *scene, size_t at, const char *magic, size_t length,
                          size_t size, const char *words) {
        g_autofree char *bytes = g_malloc0(size);
        ImageAnswer *answer;

        memcpy(bytes + at, magic, length);
        image_scene_file(scene, "images/kernel", bytes, size);
        answer = image_scene_ask(scene, "kernel", IMAGE_AS_KERNEL);
        assert_int_equal(answer->verdict, words ? IMAGE_NOT_ALLOWED : IMAGE_OK);
        if (words) {
                assert_non_null(strstr(answer->why, words));
                assert_non_null(answer->remedy);
        }
        image_answer_free(answer);
}

static void test_kernels(void **state) {
        expect_kernel(*state, 0x202, "HdrS", 4, 4096, NULL);
        expect_kernel(*state, 0x202, "HdrS", 4, 2048, "truncated kernel");
        expect_kernel(*state, 0, "\177ELF", 4, 64, NULL);
        expect_kernel(*state, 0, "MZ", 2, 4096, NULL); /* for the firmware */
        expect_kernel(*state, 512, "\x02\xb0\xad\x1b", 4, 4096, NULL);
        expect_kernel(*state, 0x38, "ARM\x64", 4, 4096, "arm64");
        expect_kernel(*state, 0, "\x1f\x8b", 2, 4096, "not a kernel");
        expect_kernel(*state, 513, "\x02\xb0\xad\x1b", 4, 4096, "not a kernel");
        expect_kernel(*state, 8192, "\x02\xb0\xad\x1b", 4, 9000, "not a kernel");
        expect_kernel(*state, 0, "HdrS", 4, 5, "not a kernel");
}

static void test_only_a_kernel_is_looked_at_as_one(void **state) {
        image_scene_expect(*state, "disk.img", IMAGE_OK, NULL);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_locks_of_others, image_scene_setup,
                                                image_scene_teardown),
                cmocka_unit_test_setup_teardown(test_kernels, image_scene_setup,
                                                image_scene_teardown),
                cmocka_unit_test_setup_teardown(test_only_a_kernel_is_looked_at_as_one,
                                                image_scene_setup, image_scene_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
