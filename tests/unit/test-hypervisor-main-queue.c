/* The queue to the main thread. */
#include "hypervisor/main-queue.h"

#include "autoptr-bus.h"
#include "libvirt-fixture.h"
#include "testing.h"

#include <string.h>

static void on_item(void *owner, void *data) {
        g_string_append_printf(owner, "%s ", (const char *)data);
        g_free(data);
}

static void *post_many(void *data) {
        MainQueue *queue = data;

        for (unsigned i = 0; i < 1000; i++)
                main_queue_post(queue, on_item, g_strdup("x"), g_free);
        main_queue_unref(queue);
        return NULL;
}

static void test_main_queue(void **state) {
        g_autoptr(GString) seen = g_string_new(NULL);
        g_autoptr(sd_event) event = NULL;
        MainQueue *queue = NULL;
        GThread *threads[4];

        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(main_queue_new(event, seen, &queue), 0);
        main_queue_post(queue, on_item, g_strdup("a"), g_free);
        main_queue_post(queue, on_item, g_strdup("b"), g_free);
        assert_string_equal(seen->str, "");
        assert_true(sd_event_run(event, DEADLINE_USEC) > 0);
        assert_string_equal(seen->str, "a b ");

        for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                threads[i] = g_thread_new("post", post_many, main_queue_ref(queue));
        while (seen->len < strlen("a b ") + strlen("x ") * 1000 * G_N_ELEMENTS(threads))
                assert_true(sd_event_run(event, DEADLINE_USEC) > 0);
        for (unsigned i = 0; i < G_N_ELEMENTS(threads); i++)
                g_thread_join(threads[i]);

        g_string_truncate(seen, 0);
        main_queue_post(queue, on_item, g_strdup("dropped"), g_free);
        main_queue_close(queue);
        main_queue_post(queue, on_item, g_strdup("late"), g_free);
        main_queue_unref(queue);
        assert_string_equal(seen->str, "");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_main_queue),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
