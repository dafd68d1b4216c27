/* CheckStart, on the bus and as feosctl shows it: what Start would say, for anybody who asks. */
#include "run-ctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define MACHINE_INTERFACE "org.feos.VM1.Machine"

static void set_image(Stage *stage, ImageVerdict verdict) {
        g_hash_table_insert(stage->world->images, g_strdup("data.raw"), GINT_TO_POINTER(verdict));
}

/* Machine vm-1 with both GPUs and the image data.raw, defined and not started. */
static Stage *stage_with_defined(void) {
        Stage *stage = stage_new(0);
        sd_bus_message *m = call_new(stage->root, VM1, "org.feos.VM1", "Create");
        g_auto(Answer) created = { 0 };

        set_image(stage, IMAGE_OK);
        assert_true(sd_bus_message_append(m, "sasa{sv}", "vm-1", 2, "02:00.0", "01:00.0", 2,
                                          "image", "s", "data.raw", "start", "b", false) >= 0);
        answer_expect(&created, stage->root, m);
        private_bus_wait(stage->private_bus, &created.there);
        assert_path(&created, MACHINE);
        return stage;
}

/* The first finding's code, severity first; "" = there is none. */
static char *first_found(Stage *stage, sd_bus *caller) {
        const char *severity, *code, *subject, *message, *remedy;
        g_auto(Answer) answer = { 0 };
        int r;

        call(stage, caller, MACHINE, MACHINE_INTERFACE, "CheckStart", &answer);
        assert_null(answer.error);
        assert_true(sd_bus_message_enter_container(answer.reply, 'a', "(sssss)") > 0);
        r = sd_bus_message_read(answer.reply, "(sssss)", &severity, &code, &subject, &message,
                                &remedy);
        assert_true(r >= 0);
        return r == 0 ? g_strdup("") : g_strconcat(severity, " ", code, NULL);
}

static void assert_first_found(Stage *stage, sd_bus *caller, const char *expected) {
        g_autofree char *found = first_found(stage, caller);

        assert_string_equal(found, expected);
}

static void anybody_may_ask_and_nothing_is_touched(void **state) {
        g_autoptr(Stage) stage = stage_with_defined();
        unsigned asked = stage->polkit->asked;

        assert_first_found(stage, stage->somebody, "");
        set_image(stage, IMAGE_NOT_FOUND);
        assert_first_found(stage, stage->somebody, "error ImageNotFound");
        set_image(stage, IMAGE_NOT_ALLOWED);
        assert_first_found(stage, stage->root, "error ImageNotAllowed");
        assert_int_equal(stage->polkit->asked, asked);
        assert_int_equal(stage->world->handovers_begun, 0);
        assert_text(stage, MACHINE, MACHINE_INTERFACE, "State", "created");
}

/* What it finds is what Start says. */
static void start_says_the_same(void **state) {
        g_autoptr(Stage) stage = stage_with_defined();
        g_auto(Answer) refused = { 0 };
        g_auto(Answer) started = { 0 };

        set_image(stage, IMAGE_NOT_FOUND);
        assert_first_found(stage, stage->root, "error ImageNotFound");
        call(stage, stage->root, MACHINE, MACHINE_INTERFACE, "Start", &refused);
        assert_error(&refused, ERROR "ImageNotFound", "/images/data.raw");
        set_image(stage, IMAGE_OK);
        assert_first_found(stage, stage->root, "");
        call(stage, stage->root, MACHINE, MACHINE_INTERFACE, "Start", &started);
        assert_null(started.error);
        assert_first_found(stage, stage->root, "error InvalidState");
}

static void a_machine_that_is_not_there(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_auto(Answer) answer = { 0 };

        call(stage, stage->root, MACHINE, MACHINE_INTERFACE, "CheckStart", &answer);
        assert_non_null(answer.error);
}

static void feosctl_shows_it(void **state) {
        g_autoptr(Stage) stage = stage_with_defined();
        g_autoptr(Run) fine = run(stage, 0, "check-start", "vm-1", NULL);
        g_autoptr(Run) wrong = NULL;
        g_autoptr(Run) told = NULL;
        g_autoptr(Run) warned = NULL;
        g_autoptr(Run) unknown = run(stage, 1, "check-start", "nobody", NULL);

        assert_string_equal(fine->out->str, "Nothing stands in the way of vm-1.\n");
        assert_err(unknown, "nobody");
        set_image(stage, IMAGE_NOT_FOUND);
        wrong = run(stage, 3, "check-start", "vm-1", NULL);
        assert_out(wrong, "× ImageNotFound: Image /images/data.raw is not there.");
        told = run(stage, 3, "check-start", "vm-1", "--json", NULL);
        assert_out(told, "\"Subject\"");
        set_image(stage, IMAGE_OK);
        stage->world->kvm = false;
        warned = run(stage, 0, "check-start", "vm-1", NULL);
        assert_out(warned, "● NoKVM: ");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(anybody_may_ask_and_nothing_is_touched),
                cmocka_unit_test(start_says_the_same),
                cmocka_unit_test(a_machine_that_is_not_there),
                cmocka_unit_test(feosctl_shows_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
