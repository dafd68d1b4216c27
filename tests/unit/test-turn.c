/* What follows from an event is done when its turn ends: whoever looks at a card, or answers a
 * call, finds what it holds still there. What goes wrong here is seen by the address sanitizer. */
#include "manager-scene.h"
#include "testing.h"

#include <string.h>

typedef struct Scene {
        World *world;
        const char *vanishing; /* goes from the bus when a keep has failed */
        unsigned keeps_failed;
        unsigned removed;
} Scene;

static void on_keep_failed(void *userdata, PciAddress gpu, const Refusal *refusal) {
        Scene *scene = userdata;

        scene->keeps_failed++;
        if (scene->vanishing)
                world_take_away(scene->world, scene->vanishing);
}

static void on_gpu_removed(void *userdata, const Gpu *gpu) {
        Scene *scene = userdata;

        scene->removed++;
}

static const Observer observer = { .keep_failed = on_keep_failed, .gpu_removed = on_gpu_removed };

static void create(World *world, const char *name, const char *gpu) {
        Request *request = request_for(name, gpu, NULL);
        Caller caller = { 0 };

        request->autostart = true;
        request->start = false;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
}

/* The host has been booted, one card is on its way to being kept, which does not end, and a machine
 * is to start when it has. */
static void boot_with_a_keep_that_waits(Scene *s, const char *machines, const char *kept) {
        s->world = scene();
        world_boot(s->world);
        world_run(s->world);
        create(s->world, "box", machines);
        world_kill_daemon(s->world);
        s->world->booted_before = false;
        world_function(s->world, kept)->kept = true;
        world_mark(s->world->stuck, kept);
        world_boot(s->world);
        manager_set_observer(s->world->manager, &observer, s);
        world_run(s->world);
        assert_int_equal(s->keeps_failed, 0);
}

static void the_card_whose_keep_has_failed_may_go_in_the_start_that_follows(void **unused) {
        Scene s = { .vanishing = THIRD_CARD };

        boot_with_a_keep_that_waits(&s, THIRD_CARD, THIRD_CARD);
        world_end_helper(s.world, THIRD_CARD, HANDOVER_LOST);
        world_run(s.world);
        assert_int_equal(s.keeps_failed, 1);
        assert_int_equal(s.removed, 1);
        assert_null(manager_gpu(s.world->manager, at(THIRD_CARD)));
        world_free(s.world);
}

static void a_card_missing_from_a_listing_may_take_another_along(void **unused) {
        g_autoptr(GArray) listed = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        PciAddress there = at(AUDIO_CARD);
        Caller caller = { 0 };
        Scene s = { 0 };

        boot_with_a_keep_that_waits(&s, OTHER_CARD, THIRD_CARD);
        /* A faulted card is not asked about, so the start that needs it is judged at once. */
        world_mark(s.world->stuck, OTHER_CARD);
        manager_bind_gpu(s.world->manager, at(OTHER_CARD), caller_done, &caller);
        world_run(s.world);
        world_end_helper(s.world, OTHER_CARD, HANDOVER_LOST);
        world_run(s.world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);

        world_take_away(s.world, OTHER_CARD);
        world_take_away(s.world, THIRD_CARD);
        g_array_append_val(listed, there);
        s.world->host_events->devices_listed(s.world->manager, listed);
        world_run(s.world);
        assert_int_equal(s.removed, 2);
        assert_int_equal(s.keeps_failed, 1);
        assert_null(manager_gpu(s.world->manager, at(OTHER_CARD)));
        assert_null(manager_gpu(s.world->manager, at(THIRD_CARD)));
        world_free(s.world);
}

/* A caller that binds the next card as soon as it is answered. */
typedef struct Insatiable {
        World *world;
        const char *next;
        Caller first, second;
} Insatiable;

static void bind_the_next(void *userdata, const Refusal *refusal) {
        Insatiable *caller = userdata;

        caller_done(&caller->first, refusal);
        manager_bind_gpu(caller->world->manager, at(caller->next), caller_done, &caller->second);
}

static void who_is_answered_may_call_again_at_once(void **unused) {
        Insatiable caller = { .world = booted_scene(), .next = THIRD_CARD };

        manager_bind_gpu(caller.world->manager, at(OTHER_CARD), bind_the_next, &caller);
        world_run(caller.world);
        assert_done(&caller.first);
        assert_done(&caller.second);
        assert_gpu(caller.world, OTHER_CARD, GPU_VFIO_BOUND, "");
        assert_gpu(caller.world, THIRD_CARD, GPU_VFIO_BOUND, "");
        world_free(caller.world);
}

/* The look before the start is the first that sees it. */
static void a_launch_whose_card_is_gone_at_the_last_look_is_undone(void **unused) {
        World *world = booted_scene();
        Caller caller = { 0 };

        create_box(world, &caller);
        while (world->handovers_begun < 2)
                assert_true(world_step(world));
        world_take_away(world, OTHER_CARD);
        world_run(world);
        assert_refused(&caller, REFUSAL_NO_SUCH_GPU);
        assert_no_machine(world);
        assert_null(manager_gpu(world->manager, at(OTHER_CARD)));
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {

                cmocka_unit_test(the_card_whose_keep_has_failed_may_go_in_the_start_that_follows),
                cmocka_unit_test(a_card_missing_from_a_listing_may_take_another_along),
                cmocka_unit_test(who_is_answered_may_call_again_at_once),
                cmocka_unit_test(a_launch_whose_card_is_gone_at_the_last_look_is_undone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
