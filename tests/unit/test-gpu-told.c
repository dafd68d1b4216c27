/* The manager against a world in memory: what is told of a GPU is what has changed, and what is
 * asked of one is for that card. */
#include "manager-scene.h"
#include "testing.h"

#include <string.h>

static void on_changed(void *userdata, const Gpu *gpu, unsigned changes) {
        unsigned *told = userdata;

        assert_int_not_equal(changes, 0);
        *told |= changes;
}

static void listen(World *world, unsigned *told) {
        static const Observer observer = { .gpu_changed = on_changed };

        manager_set_observer(world->manager, &observer, told);
}

static void only_what_has_changed_of_a_gpu_is_told(void **state) {
        World *world = booted_scene();
        unsigned told = 0;

        listen(world, &told);
        world_uevent(world, THIRD_CARD);
        world_run(world);
        assert_int_equal(told, 0);
        world_function(world, THIRD_CARD)->boot_display = true;
        world_uevent(world, THIRD_CARD);
        world_run(world);
        assert_int_equal(told, GPU_CHANGED_BOOT_DISPLAY);
        world_free(world);
}

/* Its machine is not ours any more, and has its name all the same. */
static void a_gpu_whose_machine_leaves_the_bus_tells_that_alone(void **state) {
        World *world = booted_scene();
        WorldDomain *domain;
        unsigned told = 0;

        run_box(world);
        domain = world_domain(world, "box");
        listen(world, &told);
        domain->ours = false;
        world_look_again(world, domain);
        world_run(world);
        assert_int_equal(told, GPU_CHANGED_MACHINE);
        assert_string_equal(gpu_at(world, AUDIO_CARD)->machine_name, "box");
        world_free(world);
}

/* Its holders are being looked for while the card is replaced by another of its model. */
static void a_bind_is_for_the_card_that_it_was_asked_for(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        manager_bind_gpu(world->manager, at(THIRD_CARD), caller_done, &caller);
        world_remove(world, THIRD_CARD);
        world->host_events->device_removed(world->manager, at(THIRD_CARD));
        world_add(world, THIRD_CARD, 0x038000, 3, "bochs-drm");
        world->host_events->device_changed(world->manager, at(THIRD_CARD));
        world_run(world);
        assert_non_null(strstr(caller.message, "Another card"));
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        assert_int_equal(world->handovers_begun, 0);
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(only_what_has_changed_of_a_gpu_is_told),
                cmocka_unit_test(a_gpu_whose_machine_leaves_the_bus_tells_that_alone),
                cmocka_unit_test(a_bind_is_for_the_card_that_it_was_asked_for),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
