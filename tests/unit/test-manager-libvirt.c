/* The manager against a world in memory: libvirt is away, is lost at every step, refuses, or says
 * what is not so. */
#include "manager-scene.h"
#include "testing.h"

#include <string.h>

static void without_libvirt_create_is_refused_and_nothing_touched(void **state) {
        World *world = scene();
        Caller caller = { 0 };

        world->connected = false;
        world_boot(world);
        world_run(world);
        create_box(world, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        assert_everything_home(world);
        world_free(world);
}

/* A daemon that has been started while libvirt takes calls and does not answer yet. */
static World *scene_that_connects(void) {
        World *world = scene();

        world->connected = false;
        world->connecting = world->awaited = true;
        world_boot(world);
        world_run(world);
        return world;
}

static void what_comes_while_the_service_connects_waits_for_libvirt(void **state) {
        World *world = scene_that_connects();
        Caller create = { 0 }, check = { 0 };

        manager_check(world->manager, request_for("other", THIRD_CARD, NULL), findings_new(),
                      caller_checked, &check);
        create_box(world, &create);
        world_run(world);
        assert_int_equal(create.answers + check.answers, 0);
        assert_everything_home(world);
        world->connecting = false;
        world_set_connected(world, true);
        world_run(world);
        assert_done(&create);
        assert_done(&check);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

static void so_does_a_start_while_libvirt_is_started_again(void **state) {
        World *world = booted_scene();
        Request *request = request_for("box", AUDIO_CARD, NULL);
        Caller caller = { 0 };

        request->start = false;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world->connecting = true;
        world_set_connected(world, false);
        world_run(world);
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_int_equal(caller.answers, 0);
        world->connecting = false;
        world_set_connected(world, true);
        world_run(world);
        assert_done(&caller);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

static void nobody_waits_longer_than_libvirt_may_take(void **state) {
        World *world = scene_that_connects();
        Caller caller = { 0 };

        create_box(world, &caller);
        world_run(world);
        world_tire_of_libvirt(world);
        world_run(world);
        assert_non_null(strstr(caller.message, "has not answered within 30 s"));
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        /* Nor does who comes after that wait as long once more. */
        create_box(world, &caller);
        world_run(world);
        assert_non_null(strstr(caller.message, "has not answered within 30 s"));
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        assert_everything_home(world);
        world_free(world);
}

static void a_libvirt_that_refuses_is_not_waited_for(void **state) {
        World *world = scene_that_connects();
        Caller caller = { 0 };

        create_box(world, &caller);
        world->connecting = false;
        world_set_connected(world, false);
        world_run(world);
        assert_non_null(strstr(caller.message, "cannot be reached"));
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        world_free(world);
}

/* It has been started a moment ago, and the next attempt to connect is not due yet. */
static void a_libvirt_that_is_back_is_asked_at_once(void **state) {
        World *world = scene();
        Caller caller = { 0 };

        world->connected = false;
        world_boot(world);
        world_run(world);
        world->connects_when_asked = true;
        create_box(world, &caller);
        world_run(world);
        assert_done(&caller);
        world_free(world);
}

static void libvirt_lost_at_any_step_of_create_leaves_no_lie(void **state) {
        bool over = false;

        for (unsigned steps = 0; !over; steps++) {
                World *world = booted_scene();
                Caller caller = { 0 };
                const WorldDomain *domain;

                create_box(world, &caller);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                world_set_connected(world, false);
                world_run(world);
                world_set_connected(world, true);
                world_run(world);
                assert_int_equal(caller.answers, 1);
                domain = world_domain(world, "box");
                if (!caller.refused) {
                        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
                        assert_int_equal(manager_machine(world->manager, "box")->state,
                                         MACHINE_RUNNING);
                } else {
                        /* An error means that nothing is left, once libvirt can be told. */
                        assert_null(domain);
                        assert_everything_home(world);
                        assert_no_machine(world);
                }
                g_free(caller.message);
                world_free(world);
        }
}

static void libvirt_lost_at_any_step_of_create_without_start_leaves_no_lie(void **state) {
        bool over = false;

        for (unsigned steps = 0; !over; steps++) {
                World *world = booted_scene();
                Request *request = request_for("box", AUDIO_CARD, NULL);
                Caller caller = { 0 };

                request->start = false;
                manager_create(world->manager, request, caller_done, &caller);
                for (unsigned i = 0; i < steps && !over; i++)
                        over = !world_step(world);
                world_set_connected(world, false);
                world_run(world);
                world_set_connected(world, true);
                world_run(world);
                assert_int_equal(caller.answers, 1);
                assert_int_equal(caller.refused, world_domain(world, "box") == NULL);
                assert_int_equal(caller.refused, manager_machine(world->manager, "box") == NULL);
                g_free(caller.message);
                world_free(world);
        }
}

static void an_unfinished_create_that_libvirt_keeps_is_shown_and_can_be_deleted(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        world->fail_verb[HYPERVISOR_START] = world->fail_verb[HYPERVISOR_UNDEFINE] = true;
        create_box(world, &caller);
        world_run(world); /* and comes to rest: libvirt is not asked for ever */
        assert_refused(&caller, REFUSAL_HYPERVISOR_FAILED);
        assert_everything_home(world);
        assert_non_null(manager_machine(world->manager, "box"));
        world->fail_verb[HYPERVISOR_UNDEFINE] = false;
        manager_delete_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        assert_no_machine(world);
        world_free(world);
}

static void without_libvirt_a_card_of_a_machine_is_not_released(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        world_kill_daemon(world);
        world->connected = false;
        world_boot(world);
        world_run(world);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        world_set_connected(world, true);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_free(world);
}

static void a_machine_that_is_renamed_elsewhere_follows(void **state) {
        World *world = booted_scene();
        WorldDomain *domain;

        run_box(world);
        domain = world_domain(world, "box");
        world_end_domain(world, domain, DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        g_free(domain->name);
        domain->name = g_strdup("chest");
        world_end_domain(world, domain, DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        assert_null(manager_machine(world->manager, "box"));
        assert_non_null(manager_machine(world->manager, "chest"));
        world_free(world);
}

/* libvirt, when it is back, resets the cards of whom it finds dead, unless they are on vfio-pci. */
static void a_qemu_that_dies_while_libvirt_is_away_keeps_its_cards_until_that_is_through(
        void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };
        WorldDomain *domain;

        run_box(world);
        domain = world_domain(world, "box");
        world_set_connected(world, false);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        world_kill_qemu(world, domain);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_CRASHED);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        assert_int_equal(world->helpers->len, 0);

        /* Back, it thinks that the domain runs; */
        domain->active = true;
        domain->pid = 0;
        world_set_connected(world, true);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_CRASHED);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        /* then it is through with that. */
        domain->active = false;
        domain->off_reason = DOMAIN_OFF_CRASHED;
        world_look_again(world, domain);
        world_run(world);
        assert_everything_home(world);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_CRASHED);
        world_free(world);
}

/* While libvirt starts. */
static void assert_death_of_qemu_waits_for_libvirt(World *world) {
        world_kill_qemu(world, world_domain(world, "box"));
        world_run(world);
        assert_string_equal(world_driver(world, AUDIO_CARD), "vfio-pci");
        assert_int_equal(world->helpers->len, 0);
        world->connecting = false;
        world_set_connected(world, true);
        world_run(world);
        assert_everything_home(world);
}

static void a_qemu_that_dies_while_libvirt_starts_keeps_its_cards_until_that_answers(void **state) {
        World *world = booted_scene();

        run_box(world);
        world->connecting = true;
        world_set_connected(world, false);
        assert_death_of_qemu_waits_for_libvirt(world);
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_CRASHED);
        world_free(world);
}

/* Not the first start, so the QEMU of an earlier one has been seen to die. */
static void a_start_that_libvirt_took_with_it_keeps_its_cards_until_that_answers(void **state) {
        World *world = booted_scene();
        Caller caller = { 0 };

        run_box(world);
        manager_power_off_machine(world->manager, world_machine(world, "box"), caller_done,
                                  &caller);
        world_run(world);
        assert_done(&caller);
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &caller);
        while (!world_domain(world, "box")->active)
                assert_true(world_step(world));
        world->connecting = true;
        world_set_connected(world, false);
        world_run(world);
        assert_refused(&caller, REFUSAL_HYPERVISOR_UNAVAILABLE);
        assert_death_of_qemu_waits_for_libvirt(world);
        world_free(world);
}

static void libvirts_word_that_it_is_off_is_not_believed_while_qemu_lives(void **state) {
        World *world = booted_scene();
        WorldDomain *domain;

        run_box(world);
        domain = world_domain(world, "box");
        domain->active = false; /* it gave up killing a QEMU that hangs in the kernel */
        domain->off_reason = DOMAIN_OFF_DESTROYED;
        world_look_again(world, domain);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        assert_int_equal(manager_machine(world->manager, "box")->state, MACHINE_STOPPING);
        assert_int_equal(world->helpers->len, 0);
        world_kill_qemu(world, domain);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(without_libvirt_create_is_refused_and_nothing_touched),
                cmocka_unit_test(what_comes_while_the_service_connects_waits_for_libvirt),
                cmocka_unit_test(so_does_a_start_while_libvirt_is_started_again),
                cmocka_unit_test(nobody_waits_longer_than_libvirt_may_take),
                cmocka_unit_test(a_libvirt_that_refuses_is_not_waited_for),
                cmocka_unit_test(a_libvirt_that_is_back_is_asked_at_once),
                cmocka_unit_test(libvirt_lost_at_any_step_of_create_leaves_no_lie),
                cmocka_unit_test(libvirt_lost_at_any_step_of_create_without_start_leaves_no_lie),
                cmocka_unit_test(
                        an_unfinished_create_that_libvirt_keeps_is_shown_and_can_be_deleted),
                cmocka_unit_test(without_libvirt_a_card_of_a_machine_is_not_released),
                cmocka_unit_test(a_machine_that_is_renamed_elsewhere_follows),
                cmocka_unit_test(
                        a_qemu_that_dies_while_libvirt_is_away_keeps_its_cards_until_that_is_through),
                cmocka_unit_test(
                        a_qemu_that_dies_while_libvirt_starts_keeps_its_cards_until_that_answers),
                cmocka_unit_test(
                        a_start_that_libvirt_took_with_it_keeps_its_cards_until_that_answers),
                cmocka_unit_test(libvirts_word_that_it_is_off_is_not_believed_while_qemu_lives),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
