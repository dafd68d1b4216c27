/* Whether the host was booted since: the mark in the state folder, and what systemd says, which is
 * asked over a bus of the test's own. */
#include "host/boot-mark.h"
#include "private-bus.h"
#include "testing.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <unistd.h>

typedef struct Scene {
        PrivateBus *bus;
        sd_bus *systemd;
        uint64_t reached; /* when sysinit.target was; 0 = systemd fails to say */
        char *state_dir;
        BootMark *mark;
        unsigned told;
} Scene;

static int on_get(sd_bus *bus, const char *path, const char *interface, const char *property,
                  sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const Scene *scene = userdata;

        if (scene->reached == 0)
                return sd_bus_error_set(error, SD_BUS_ERROR_TIMEOUT, "It is busy.");
        return sd_bus_message_append(reply, "t", scene->reached);
}

static void systemd_start(Scene *scene, uint64_t reached) {
        static const sd_bus_vtable unit[] = {
                SD_BUS_VTABLE_START(0),
                SD_BUS_PROPERTY("ActiveEnterTimestampMonotonic", "t", on_get, 0, 0),
                SD_BUS_VTABLE_END,
        };

        scene->reached = reached;
        scene->systemd = private_bus_connect(scene->bus, geteuid());
        assert_true(sd_bus_add_object_vtable(scene->systemd, NULL,
                                             "/org/freedesktop/systemd1/unit/sysinit_2etarget",
                                             "org.freedesktop.systemd1.Unit", unit, scene) >= 0);
        assert_true(sd_bus_request_name(scene->systemd, "org.freedesktop.systemd1", 0) >= 0);
}

static void on_told(void *userdata) {
        Scene *scene = userdata;

        scene->told++;
}

/* A daemon starts, and asks until it is told. */
static int first(Scene *scene) {
        bool over = false;
        int r;

        g_clear_pointer(&scene->mark, boot_mark_free);
        assert_int_equal(boot_mark_new(private_bus_event(scene->bus), scene->state_dir, on_told,
                                       scene, &scene->mark),
                         0);
        while (!over) {
                unsigned told = scene->told;

                r = boot_mark_first(scene->mark);
                over = r != -EAGAIN;
                while (!over && told == scene->told)
                        assert_return_code(sd_event_run(private_bus_event(scene->bus), UINT64_MAX),
                                           errno);
        }
        return r;
}

static int setup(void **state) {
        Scene *scene = g_new0(Scene, 1);

        scene->bus = private_bus_new(NULL);
        scene->state_dir = g_dir_make_tmp("feos-boot-XXXXXX", NULL);
        *state = scene;
        return 0;
}

static int teardown(void **state) {
        Scene *scene = *state;
        g_autofree char *path = g_build_filename(scene->state_dir, "booted", NULL);

        boot_mark_free(scene->mark);
        g_remove(path);
        g_rmdir(scene->state_dir);
        sd_bus_flush_close_unref(scene->systemd);
        private_bus_free(scene->bus);
        g_free(scene->state_dir);
        g_free(scene);
        return 0;
}

static void mark_write(const Scene *scene, const char *text) {
        g_autofree char *path = g_build_filename(scene->state_dir, "booted", NULL);

        assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void only_the_first_is_the_first(void **state) {
        Scene *scene = *state;

        systemd_start(scene, 5000000);
        assert_int_equal(first(scene), 1);
        assert_int_equal(boot_mark_first(scene->mark), 0);
        assert_int_equal(first(scene), 0);
}

static void a_soft_reboot_is_a_boot(void **state) {
        Scene *scene = *state;

        systemd_start(scene, 5000000);
        assert_int_equal(first(scene), 1);
        scene->reached = 7000000;
        assert_int_equal(first(scene), 1);
        assert_int_equal(first(scene), 0);
}

static void without_systemd_the_folder_tells(void **state) {
        Scene *scene = *state;
        g_autofree char *path = g_build_filename(scene->state_dir, "booted", NULL);

        assert_int_equal(first(scene), 1);
        assert_int_equal(first(scene), 0);
        g_remove(path);
        assert_int_equal(first(scene), 1);
}

/* It knew of no soft reboot, and its machines were stopped since by who wanted them to be. */
static void the_mark_of_an_earlier_version_is_a_mark(void **state) {
        Scene *scene = *state;

        systemd_start(scene, 5000000);
        mark_write(scene, "");
        assert_int_equal(first(scene), 0);
        scene->reached = 7000000;
        assert_int_equal(first(scene), 1);
}

static void a_systemd_that_does_not_say_is_asked_again(void **state) {
        Scene *scene = *state;

        systemd_start(scene, 0);
        assert_int_equal(boot_mark_new(private_bus_event(scene->bus), scene->state_dir, on_told,
                                       scene, &scene->mark),
                         0);
        assert_int_equal(boot_mark_first(scene->mark), -EAGAIN);
        while (scene->told == 0)
                assert_return_code(sd_event_run(private_bus_event(scene->bus), UINT64_MAX), errno);
        scene->reached = 5000000;
        assert_int_equal(boot_mark_first(scene->mark), -EAGAIN);
        while (scene->told == 1)
                assert_return_code(sd_event_run(private_bus_event(scene->bus), UINT64_MAX), errno);
        assert_int_equal(boot_mark_first(scene->mark), 1);
}

static void a_mark_that_cannot_be_read_is_not_one_that_is_there(void **state) {
        Scene *scene = *state;
        g_autofree char *path = g_build_filename(scene->state_dir, "booted", NULL);

        assert_return_code(symlink("booted", path), errno);
        assert_int_equal(first(scene), -ELOOP);
        assert_int_equal(boot_mark_first(scene->mark), -EAGAIN);
        g_remove(path);
        scene->told = 0;
        while (scene->told == 0)
                assert_return_code(sd_event_run(private_bus_event(scene->bus), UINT64_MAX), errno);
        assert_int_equal(boot_mark_first(scene->mark), 1);
}

/* Else every daemon would be the first. */
static void nor_is_one_that_cannot_be_made(void **state) {
        Scene *scene = *state;

        assert_return_code(g_rmdir(scene->state_dir), errno);
        assert_int_equal(first(scene), -EIO);
        assert_return_code(g_mkdir(scene->state_dir, 0700), errno);
        assert_int_equal(first(scene), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(only_the_first_is_the_first),
                TEST(a_soft_reboot_is_a_boot),
                TEST(without_systemd_the_folder_tells),
                TEST(the_mark_of_an_earlier_version_is_a_mark),
                TEST(a_systemd_that_does_not_say_is_asked_again),
                TEST(a_mark_that_cannot_be_read_is_not_one_that_is_there),
                TEST(nor_is_one_that_cannot_be_made),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
