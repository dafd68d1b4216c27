/* What could not be read is looked at again without an event, later and later, until it could. */
#include "autoptr-bus.h"
#include "host/look-again.h"
#include "testing.h"

#include <errno.h>
#include <string.h>

#define SECOND UINT64_C(1000000)

typedef struct Scene {
        sd_event *event;
        LookAgain *again;
        GString *told; /* the last digits of the addresses */
        int device;    /* what reading the device gives */
        int record;    /* and its record; 1 = it is not read at all */
} Scene;

static PciAddress at(unsigned slot) {
        return (PciAddress){ .bus = 1, .slot = (uint8_t)slot };
}

static void on_look(void *userdata, PciAddress address) {
        Scene *scene = userdata;

        g_string_append_printf(scene->told, "%u ", address.slot);
        if (scene->device <= 0)
                look_again_note(scene->again, address, LOOK_AT_DEVICE, scene->device);
        if (scene->record <= 0)
                look_again_note(scene->again, address, LOOK_AT_RECORD, scene->record);
}

static int setup(void **state) {
        Scene *scene = g_new0(Scene, 1);

        *state = scene;
        scene->told = g_string_new(NULL);
        scene->record = 1;
        if (sd_event_new(&scene->event) < 0)
                return 1;
        return look_again_new(scene->event, on_look, scene, &scene->again) < 0;
}

static int teardown(void **state) {
        Scene *scene = *state;

        look_again_free(scene->again);
        sd_event_unref(scene->event);
        g_string_free(scene->told, TRUE);
        g_free(scene);
        return 0;
}

/* What is told within @usec, up to the first; "" for nothing. */
static void assert_told(Scene *scene, uint64_t usec, const char *expected) {
        g_string_truncate(scene->told, 0);
        assert_return_code(sd_event_run(scene->event, usec), errno);
        assert_string_equal(scene->told->str, expected);
}

static void what_has_failed_is_told_again_until_it_is_read(void **state) {
        Scene *scene = *state;

        scene->device = -EIO;
        look_again_note(scene->again, at(1), LOOK_AT_DEVICE, -EIO);
        assert_told(scene, SECOND / 2, "");
        assert_told(scene, SECOND, "1 ");
        /* It waits twice as long. */
        assert_told(scene, SECOND * 3 / 2, "");
        scene->device = 0;
        assert_told(scene, SECOND, "1 ");
        assert_told(scene, SECOND * 3 / 2, "");
}

static void both_of_what_there_is_to_read_have_to_be_read(void **state) {
        Scene *scene = *state;

        scene->record = -EMFILE;
        look_again_note(scene->again, at(2), LOOK_AT_DEVICE, -EIO);
        look_again_note(scene->again, at(2), LOOK_AT_RECORD, -EMFILE);
        look_again_note(scene->again, at(2), LOOK_AT_DEVICE, 0);
        assert_told(scene, SECOND * 3 / 2, "2 ");
        scene->record = 0;
        assert_told(scene, SECOND * 5 / 2, "2 ");
        assert_told(scene, SECOND, "");
}

/* A look that comes by an event meanwhile does not put it off. */
static void many_failures_are_told_once_each(void **state) {
        Scene *scene = *state;

        look_again_note(scene->again, at(3), LOOK_AT_DEVICE, -EIO);
        look_again_note(scene->again, at(3), LOOK_AT_DEVICE, -EIO);
        look_again_note(scene->again, at(4), LOOK_AT_DEVICE, -EIO);
        assert_return_code(sd_event_run(scene->event, SECOND * 3 / 2), errno);
        while (sd_event_run(scene->event, SECOND / 10) > 0)
                continue;
        assert_non_null(strstr(scene->told->str, "3 "));
        assert_non_null(strstr(scene->told->str, "4 "));
        assert_int_equal(scene->told->len, 4);
}

/* Whoever has read it, it may have been for something else than what the first one wanted. */
static void an_answer_that_comes_meanwhile_saves_no_look(void **state) {
        Scene *scene = *state;

        look_again_note(scene->again, at(5), LOOK_AT_DEVICE, -EIO);
        look_again_note(scene->again, at(5), LOOK_AT_DEVICE, 0);
        assert_told(scene, SECOND * 3 / 2, "5 ");
        assert_told(scene, SECOND * 5 / 2, "");
}

static void what_nobody_looks_at_any_more_is_forgotten(void **state) {
        Scene *scene = *state;

        scene->device = 1;
        look_again_note(scene->again, at(6), LOOK_AT_DEVICE, -EIO);
        assert_told(scene, SECOND * 3 / 2, "6 ");
        assert_told(scene, SECOND * 5 / 2, "");
}

/* Who uses a card is told only when other processes were looked at. */
static void an_answer_that_comes_late_has_the_next_look_wait_longer(void **state) {
        Scene *scene = *state;

        scene->device = 1;
        look_again_note(scene->again, at(7), LOOK_TO_RETRY, -EBUSY);
        assert_told(scene, SECOND * 3 / 2, "7 ");
        assert_told(scene, SECOND * 3 / 2, "");
        look_again_note(scene->again, at(7), LOOK_TO_RETRY, -EBUSY);
        assert_told(scene, SECOND * 3 / 2, "");
        assert_told(scene, SECOND, "7 ");
        look_again_note(scene->again, at(7), LOOK_TO_RETRY, 0);
        look_again_note(scene->again, at(7), LOOK_TO_RETRY, -EBUSY);
        assert_told(scene, SECOND * 3 / 2, "7 ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(what_has_failed_is_told_again_until_it_is_read),
                TEST(both_of_what_there_is_to_read_have_to_be_read),
                TEST(many_failures_are_told_once_each),
                TEST(an_answer_that_comes_meanwhile_saves_no_look),
                TEST(what_nobody_looks_at_any_more_is_forgotten),
                TEST(an_answer_that_comes_late_has_the_next_look_wait_longer),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
