/* The order of looks, without libvirt. */
#include "hypervisor/looks.h"

#include "testing.h"

#include <string.h>

typedef struct LooksFixture {
        Looks *looks;
        GString *started; /* "A " a look at A, "* " a listing */
        GString *answered;
} LooksFixture;

static void on_start_look(void *self, const char *uuid) {
        g_string_append_printf(((LooksFixture *)self)->started, "%s ", uuid);
}

static void on_start_list(void *self) {
        g_string_append(((LooksFixture *)self)->started, "* ");
}

static void on_answer(void *self, void *waiter, LookOutcome outcome) {
        static const char *const words[] = { "delivered", "failed", "lost" };

        g_string_append_printf(((LooksFixture *)self)->answered, "%s:%s ", (const char *)waiter,
                               words[outcome]);
}

static void on_drop(void *waiter) {
}

static const LooksOps looks_ops = {
        .start_look = on_start_look,
        .start_list = on_start_list,
        .answer = on_answer,
        .drop = on_drop,
};

static int looks_setup(void **state) {
        LooksFixture *f = g_new0(LooksFixture, 1);

        f->looks = looks_new(&looks_ops, f);
        f->started = g_string_new(NULL);
        f->answered = g_string_new(NULL);
        *state = f;
        return 0;
}

static int looks_teardown(void **state) {
        LooksFixture *f = *state;

        looks_free(f->looks);
        g_string_free(f->started, TRUE);
        g_string_free(f->answered, TRUE);
        g_free(f);
        return 0;
}

static void test_looks_one_at_a_time(void **state) {
        LooksFixture *f = *state;

        looks_want(f->looks, "A", NULL);
        looks_want(f->looks, "A", NULL);
        looks_want(f->looks, "A", NULL);
        looks_want(f->looks, "B", NULL);
        assert_string_equal(f->started->str, "A B ");
        looks_looked(f->looks, "A", LOOK_DELIVERED);
        assert_string_equal(f->started->str, "A B A ");
        looks_looked(f->looks, "A", LOOK_DELIVERED);
        looks_looked(f->looks, "B", LOOK_DELIVERED);
        assert_string_equal(f->started->str, "A B A ");
}

/* A look that was under way when the waiter came has seen the time before: it does not count. */
static void test_looks_waiters(void **state) {
        LooksFixture *f = *state;

        looks_want(f->looks, "A", NULL);
        looks_want(f->looks, "A", (void *)"first");
        looks_looked(f->looks, "A", LOOK_DELIVERED);
        assert_string_equal(f->answered->str, "");
        looks_want(f->looks, "A", (void *)"second");
        looks_looked(f->looks, "A", LOOK_FAILED);
        assert_string_equal(f->answered->str, "first:failed ");
        looks_looked(f->looks, "A", LOOK_DELIVERED);
        assert_string_equal(f->answered->str, "first:failed second:delivered ");
        assert_string_equal(f->started->str, "A A A ");
}

static void test_looks_and_listing(void **state) {
        LooksFixture *f = *state;

        looks_want(f->looks, "A", NULL);
        looks_want_list(f->looks);
        looks_want(f->looks, "B", (void *)"b");
        assert_string_equal(f->started->str, "A ");
        looks_looked(f->looks, "A", LOOK_DELIVERED);
        assert_string_equal(f->started->str, "A * ");
        looks_want(f->looks, "A", NULL);
        looks_want_list(f->looks);
        assert_string_equal(f->started->str, "A * ");
        looks_listed(f->looks);
        assert_string_equal(f->started->str, "A * * ");
        looks_listed(f->looks);
        assert_int_equal(strlen(f->started->str), strlen("A * * A B "));
        assert_string_equal(f->answered->str, "");
        looks_looked(f->looks, "B", LOOK_DELIVERED);
        assert_string_equal(f->answered->str, "b:delivered ");
}

static void test_looks_reset(void **state) {
        LooksFixture *f = *state;

        looks_want(f->looks, "A", (void *)"now");
        looks_want(f->looks, "A", (void *)"later");
        looks_want_list(f->looks);
        looks_reset(f->looks);
        assert_string_equal(f->answered->str, "now:lost later:lost ");
        looks_want_list(f->looks);
        assert_string_equal(f->started->str, "A * ");
        looks_listed(f->looks);
        looks_want(f->looks, "A", NULL);
        assert_string_equal(f->started->str, "A * A ");
}

int main(void) {
#define LOOKS(func) cmocka_unit_test_setup_teardown(func, looks_setup, looks_teardown)
        const struct CMUnitTest tests[] = {
                LOOKS(test_looks_one_at_a_time),
                LOOKS(test_looks_waiters),
                LOOKS(test_looks_and_listing),
                LOOKS(test_looks_reset),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
