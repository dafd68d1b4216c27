/* What could not be looked at is neither there nor gone, and a record that could not be read is not
 * none: no card is lost by it, none is touched, and none is shown as what nobody knows. */
#include "manager-scene.h"
#include "testing.h"

#include <errno.h>
#include <string.h>

/* The daemon restarts while a machine runs with two cards, and something fails. */
static World *scene_with_a_new_daemon(void) {
        World *world = booted_scene();

        run_box(world);
        assert_int_equal(world->ledger->len, 2);
        world_kill_daemon(world);
        return world;
}

static void end_box(World *world) {
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_DESTROYED);
        world_run(world);
}

static void look_at_all(World *world) {
        world_uevent(world, AUDIO_CARD);
        world_uevent(world, OTHER_CARD);
        world_uevent(world, THIRD_CARD);
        world_run(world);
}

static void assert_faulted(World *world, const char *address, const char *why) {
        const Gpu *gpu = gpu_at(world, address);

        assert_string_equal(gpu_fault_to_string(gpu->view.fault), "handover-failed");
        assert_non_null(strstr(gpu->fault_message, why));
}

/* --- devices --- */

static void a_card_that_cannot_be_looked_at_at_the_start_goes_home_later(void **unused) {
        World *world = scene_with_a_new_daemon();

        world->fail_look = -ENOMEM;
        world_boot(world);
        world_run(world);
        assert_int_equal(world->ledger->len, 2);
        end_box(world);
        world->fail_look = 0;
        look_at_all(world);
        assert_everything_home(world);
        world_free(world);
}

/* Also over a listing that comes in between, and a further daemon. */
static void its_record_stays_as_long_as_nobody_knows(void **unused) {
        World *world = scene_with_a_new_daemon();

        world->fail_look = -EMFILE;
        world_boot(world);
        world_run(world);
        world_list(world);
        assert_int_equal(world->ledger->len, 2);
        world_kill_daemon(world);
        world->fail_look = 0;
        world_boot(world);
        world_run(world);
        assert_gpu(world, AUDIO_CARD, GPU_ATTACHED, "box");
        end_box(world);
        assert_everything_home(world);
        world_free(world);
}

static void the_record_of_a_card_that_is_gone_goes(void **unused) {
        World *world = scene_with_a_new_daemon();

        world_take_away(world, OTHER_CARD);
        world_boot(world);
        world_run(world);
        assert_int_equal(world->ledger->len, 1);
        world_free(world);
}

static void assert_unread(Caller *caller) {
        assert_int_equal(caller->answers, 1);
        assert_non_null(strstr(caller->message, "could not be read"));
        assert_refused(caller, REFUSAL_INVALID_STATE);
}

static void what_cannot_be_looked_at_is_not_said_to_be_missing(void **unused) {
        World *world = scene();
        Caller caller = { 0 };

        world->fail_look = -EMFILE;
        world_boot(world);
        world_run(world);
        create_box(world, &caller);
        world_run(world);
        assert_unread(&caller);
        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_unread(&caller);
        world->fail_look = 0;
        look_at_all(world);
        run_box(world);
        world_free(world);
}

static void nothing_is_begun_with_what_is_known_from_before_alone(void **unused) {
        World *world = booted_scene();
        Caller caller = { 0 };

        world->fail_look = -EIO;
        create_box(world, &caller);
        world_run(world);
        assert_unread(&caller);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_unread(&caller);
        world->fail_look = 0;
        assert_everything_home(world);
        world_free(world);
}

static void nor_when_nobody_knows_what_the_host_has(void **unused) {
        World *world = booted_scene();
        Caller caller = { 0 };

        world->host_facts.unread = true;
        create_box(world, &caller);
        world_run(world);
        assert_int_equal(caller.answers, 1);
        assert_non_null(strstr(caller.message, "could not be read (host)"));
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        world->host_facts.unread = false;
        run_box(world);
        world_free(world);
}

static void an_interface_that_cannot_be_looked_at_is_not_missing(void **unused) {
        World *world = booted_scene();
        Request *request = request_for("box", NULL);
        DeviceRequest *nic = device_request_new(DEVICE_NIC);
        Caller caller = { 0 };

        nic->type = NIC_BRIDGE;
        nic->source = g_strdup("br0");
        g_ptr_array_add(request->nics, nic);
        g_hash_table_insert(world->netdevs, g_strdup("br0"), GINT_TO_POINTER(NETDEV_UNKNOWN));
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_int_equal(caller.answers, 1);
        assert_non_null(strstr(caller.message, "could not be read (br0)"));
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        world_free(world);
}

/* The helper has looked, and we could not. */
static void a_handover_is_not_undone_for_a_look_that_fails(void **unused) {
        World *world = booted_scene();
        Caller caller = { 0 };

        world_mark(world->stuck, AUDIO_CARD);
        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        world->fail_look = -ENOMEM;
        world_unstick(world, AUDIO_CARD);
        world_run(world);
        assert_done(&caller);
        world->fail_look = 0;
        world_uevent(world, AUDIO_CARD);
        assert_gpu(world, AUDIO_CARD, GPU_VFIO_BOUND, "");
        world_free(world);
}

/* --- records --- */

static void a_card_whose_record_cannot_be_read_is_not_touched(void **unused) {
        World *world = scene_with_a_new_daemon();
        Caller caller = { 0 };

        world->fail_ledger_read = -EIO;
        world_boot(world);
        world_run(world);
        assert_faulted(world, AUDIO_CARD, "0000:01:00.0.card");
        end_box(world);
        assert_string_equal(world_driver(world, AUDIO_CARD), "vfio-pci");
        assert_int_equal(world->ledger->len, 2);
        assert_int_equal(world->handovers_begun, 2);

        create_box(world, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);
        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);
        manager_release_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);
        manager_recover_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_refused(&caller, REFUSAL_GPU_FAULTED);
        assert_int_equal(world->handovers_begun, 2);

        world->fail_ledger_read = 0;
        look_at_all(world);
        assert_everything_home(world);
        world_free(world);
}

static void recover_reads_it_again(void **unused) {
        World *world = scene_with_a_new_daemon();
        Caller caller = { 0 };

        world->fail_ledger_read = -EMFILE;
        world_boot(world);
        world_run(world);
        end_box(world);
        world->fail_ledger_read = 0;
        manager_recover_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        manager_recover_gpu(world->manager, at(OTHER_CARD), caller_done, &caller);
        world_run(world);
        assert_int_equal(caller.answers, 2);
        assert_false(caller.refused);
        manager_recover_gpu(world->manager, at(THIRD_CARD), caller_done, &caller);
        world_run(world);
        caller_forget(&caller);
        assert_everything_home(world);
        world_free(world);
}

static void a_card_with_a_record_of_a_newer_version_says_so(void **unused) {
        World *world = scene_with_a_new_daemon();

        world->fail_ledger_read = -EPROTONOSUPPORT;
        world_boot(world);
        world_run(world);
        assert_faulted(world, AUDIO_CARD, "newer version");
        end_box(world);
        assert_int_equal(world->ledger->len, 2);
        assert_string_equal(world_driver(world, AUDIO_CARD), "vfio-pci");
        world_free(world);
}

/* What the ledger has of it says enough. */
static void a_half_bind_is_undone_while_nothing_can_be_written(void **unused) {
        World *world = booted_scene();
        Caller caller = { 0 };

        world_mark(world->stuck, AUDIO_CARD);
        manager_bind_gpu(world->manager, at(AUDIO_CARD), caller_done, &caller);
        world_run(world);
        assert_int_equal(world->ledger->len, 1);
        world_kill_daemon(world);
        world->fail_ledger = -ENOSPC;
        g_array_set_size(world->stuck, 0);
        world_boot(world);
        world_run(world);
        assert_everything_home(world);
        world_free(world);
}

/* --- another card --- */

static void swap(World *world, const char *address) {
        WorldFunction *function = world_function(world, address);

        function->facts.device = 0x2222;
        g_strlcpy(function->facts.driver, "", sizeof(function->facts.driver));
        function->driver_override[0] = '\0';
}

static void a_record_of_another_card_is_not_applied(void **unused) {
        World *world = scene_with_a_new_daemon();

        end_box(world);
        swap(world, OTHER_CARD);
        world_boot(world);
        world_run(world);
        assert_int_equal(world->set_aside, 1);
        assert_int_equal(world->ledger->len, 0);
        /* The other card of the two has gone home, and this one is where the kernel has put it. */
        assert_gpu(world, AUDIO_CARD, GPU_HOST_BOUND, "");
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
        assert_string_equal(world_driver(world, OTHER_CARD), "");
        assert_int_equal(world->handovers_begun, 3);
        world_free(world);
}

static void nor_where_only_a_companion_is_another(void **unused) {
        World *world = scene_with_a_new_daemon();

        end_box(world);
        swap(world, AUDIO);
        world_boot(world);
        world_run(world);
        assert_int_equal(world->set_aside, 1);
        world_free(world);
}

static void one_that_cannot_be_set_aside_is_in_the_way(void **unused) {
        World *world = scene_with_a_new_daemon();

        end_box(world);
        swap(world, OTHER_CARD);
        world->fail_ledger = -EROFS;
        world_boot(world);
        world_run(world);
        assert_faulted(world, OTHER_CARD, "could not be read or written");
        world->fail_ledger = 0;
        world_uevent(world, OTHER_CARD);
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
        assert_int_equal(world->set_aside, 1);
        world_free(world);
}

/* It says nothing of which card it is of, and is taken as it was then. */
static void a_record_of_an_earlier_version_is_taken(void **unused) {
        World *world = scene_with_a_new_daemon();

        end_box(world);
        for (guint i = 0; i < world->ledger->len; i++) {
                const CardRecord *record = g_ptr_array_index(world->ledger, i);

                for (guint j = 0; j < record->origins->len; j++)
                        g_array_index(record->origins, FunctionOrigin, j).ids = (FunctionIds){ 0 };
        }
        world_boot(world);
        world_run(world);
        assert_int_equal(world->set_aside, 0);
        assert_everything_home(world);
        world_free(world);
}

static void a_record_whose_slot_has_another_device_is_kept_aside(void **unused) {
        World *world = scene_with_a_new_daemon();

        end_box(world);
        swap(world, OTHER_CARD);
        world_function(world, OTHER_CARD)->facts.class = 0x020000;
        world_boot(world);
        world_run(world);
        assert_int_equal(world->set_aside, 1);
        assert_int_equal(world->ledger->len, 0);
        world_free(world);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_card_that_cannot_be_looked_at_at_the_start_goes_home_later),
                cmocka_unit_test(its_record_stays_as_long_as_nobody_knows),
                cmocka_unit_test(the_record_of_a_card_that_is_gone_goes),
                cmocka_unit_test(what_cannot_be_looked_at_is_not_said_to_be_missing),
                cmocka_unit_test(nothing_is_begun_with_what_is_known_from_before_alone),
                cmocka_unit_test(nor_when_nobody_knows_what_the_host_has),
                cmocka_unit_test(an_interface_that_cannot_be_looked_at_is_not_missing),
                cmocka_unit_test(a_handover_is_not_undone_for_a_look_that_fails),
                cmocka_unit_test(a_card_whose_record_cannot_be_read_is_not_touched),
                cmocka_unit_test(recover_reads_it_again),
                cmocka_unit_test(a_card_with_a_record_of_a_newer_version_says_so),
                cmocka_unit_test(a_half_bind_is_undone_while_nothing_can_be_written),
                cmocka_unit_test(a_record_of_another_card_is_not_applied),
                cmocka_unit_test(nor_where_only_a_companion_is_another),
                cmocka_unit_test(one_that_cannot_be_set_aside_is_in_the_way),
                cmocka_unit_test(a_record_of_an_earlier_version_is_taken),
                cmocka_unit_test(a_record_whose_slot_has_another_device_is_kept_aside),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
