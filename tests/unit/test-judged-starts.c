/* One judgement: a Start, and a device that comes later, are judged as a Create is, of what the
 * definition says by then. */
#include "manager-scene.h"

#include "testing.h"

#include <errno.h>
#include <string.h>

#define IMAGE           "x.raw"
#define OTHER           "y.raw"
#define AS_NAMED(image) "/images/" image

/* --- the scene --- */

static void set_image(World *world, const char *path, ImageVerdict verdict) {
        g_hash_table_insert(world->images, g_strdup(path), GINT_TO_POINTER(verdict));
}

/* The first name leads to what the other one is. */
static void set_lead(World *world, const char *path, const char *target) {
        g_hash_table_insert(world->leads, g_strdup(path), g_strdup(target));
}

static World *scene_with_images(void) {
        World *world = booted_scene();

        set_image(world, IMAGE, IMAGE_OK);
        set_image(world, OTHER, IMAGE_OK);
        return world;
}

static void make(World *world, const char *name, const char *gpu, const char *image) {
        Request *request = request_for(name, gpu, NULL);
        Caller caller = { 0 };

        request->image = g_strdup(image);
        request->start = false;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
}

static void start(World *world, const char *name, Caller *caller) {
        manager_start_machine(world->manager, world_machine(world, name), caller_done, caller);
        world_run(world);
}

static void start_well(World *world, const char *name) {
        Caller caller = { 0 };

        start(world, name, &caller);
        assert_done(&caller);
        assert_true(world_domain(world, name)->active);
}

/* Refused with these words, and nothing was moved for it. */
static void start_refused(World *world, const char *name, RefusalCode code, const char *says) {
        unsigned handovers = world->handovers_begun;
        Caller caller = { 0 };

        start(world, name, &caller);
        if (!caller.message || !strstr(caller.message, says))
                fail_msg("\"%s\" does not say \"%s\"", caller.message, says);
        assert_refused(&caller, code);
        assert_int_equal(world->handovers_begun, handovers);
        assert_false(world_domain(world, name)->active);
}

static void take_findings(void *userdata, const GPtrArray *findings) {
        GPtrArray **ret = userdata;

        assert_null(*ret);
        *ret = findings_new();
        for (guint i = 0; i < findings->len; i++)
                g_ptr_array_add(*ret, refusal_copy(g_ptr_array_index(findings, i)));
}

static GPtrArray *check_start(World *world, const char *name) {
        GPtrArray *findings = NULL;

        manager_check_start(world->manager, world_machine(world, name), take_findings, &findings);
        world_run(world);
        assert_non_null(findings);
        return findings;
}

/* What CheckStart finds, and nothing else. */
static void assert_found(World *world, const char *name, RefusalSeverity severity, RefusalCode code,
                         const char *says) {
        g_autoptr(GPtrArray) findings = check_start(world, name);
        const Refusal *finding;

        assert_int_equal(findings->len, 1);
        finding = g_ptr_array_index(findings, 0);
        assert_int_equal(finding->severity, severity);
        assert_string_equal(refusal_code_to_string(finding->code), refusal_code_to_string(code));
        if (!strstr(finding->message, says))
                fail_msg("\"%s\" does not say \"%s\"", finding->message, says);
}

static void look_again(World *world, const char *name) {
        world_look_again(world, world_domain(world, name));
        world_run(world);
}

/* --- images --- */

static void an_image_is_looked_at_before_each_start(void **state) {
        World *world = scene_with_images();

        make(world, "box", OTHER_CARD, IMAGE);
        set_image(world, IMAGE, IMAGE_NOT_ALLOWED);
        start_refused(world, "box", REFUSAL_IMAGE_NOT_ALLOWED, "Image " AS_NAMED(IMAGE));
        set_image(world, IMAGE, IMAGE_NOT_FOUND);
        start_refused(world, "box", REFUSAL_IMAGE_NOT_FOUND, "is not there");
        assert_found(world, "box", SEVERITY_ERROR, REFUSAL_IMAGE_NOT_FOUND, "is not there");
        set_image(world, IMAGE, IMAGE_OK);
        start_well(world, "box");
        world_free(world);
}

static void one_image_is_in_one_running_machine(void **state) {
        World *world = scene_with_images();

        make(world, "a", OTHER_CARD, IMAGE);
        make(world, "b", THIRD_CARD, IMAGE);
        assert_found(world, "b", SEVERITY_WARNING, REFUSAL_INVALID_OPTION,
                     "is also a disk of machine a, which does not run");
        start_well(world, "a");
        start_refused(world, "b", REFUSAL_INVALID_OPTION, "is in use by machine a.");
        world_end_domain(world, world_domain(world, "a"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        start_well(world, "b");
        world_free(world);
}

static void whatever_it_is_called(void **state) {
        World *world = scene_with_images();

        set_lead(world, AS_NAMED(OTHER), "/dev/dm-3");
        set_lead(world, AS_NAMED(IMAGE), "/dev/dm-3");
        make(world, "a", OTHER_CARD, IMAGE);
        make(world, "b", THIRD_CARD, OTHER);
        start_well(world, "a");
        start_refused(world, "b", REFUSAL_INVALID_OPTION,
                      "File " AS_NAMED(OTHER) " (/dev/dm-3) is in use by machine a, which has it "
                                              "as " AS_NAMED(IMAGE));
        world_free(world);
}

/* Neither has been seen to have it when the other is judged. */
static void two_that_start_at_once(void **state) {
        World *world = scene_with_images();
        Caller a = { 0 }, b = { 0 };

        make(world, "a", OTHER_CARD, IMAGE);
        make(world, "b", THIRD_CARD, IMAGE);
        manager_start_machine(world->manager, world_machine(world, "a"), caller_done, &a);
        manager_start_machine(world->manager, world_machine(world, "b"), caller_done, &b);
        world_run(world);
        assert_done(&a);
        assert_refused(&b, REFUSAL_INVALID_OPTION);
        world_free(world);
}

static void a_disk_of_somebody_elses_domain(void **state) {
        World *world = scene_with_images();
        WorldDomain *theirs = world_add_foreign(world, "theirs", NIC);

        make(world, "box", OTHER_CARD, IMAGE);
        world_add_file(theirs, "/pool/volume", true, false);
        set_lead(world, "/pool/volume", AS_NAMED(IMAGE));
        look_again(world, "theirs");
        start_refused(world, "box", REFUSAL_INVALID_OPTION,
                      "in use by machine theirs, which has it as /pool/volume");
        world_end_domain(world, theirs, DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        start_well(world, "box");
        world_free(world);
}

static void a_disk_that_nobody_can_look_at_is_a_warning(void **state) {
        World *world = scene_with_images();

        make(world, "box", OTHER_CARD, IMAGE);
        world_add_file(world_add_foreign(world, "theirs", NIC), "/dead/disk", true, false);
        g_hash_table_insert(world->dark, g_strdup("/dead/disk"), GINT_TO_POINTER(-ETIMEDOUT));
        look_again(world, "theirs");
        assert_found(world, "box", SEVERITY_WARNING, REFUSAL_INVALID_OPTION,
                     "Machine theirs runs with file /dead/disk");
        start_well(world, "box");
        world_free(world);
}

/* A look that ends before the answer comes, as it may. */
static void their_disks_change(World *world) {
        WorldDomain *theirs = world_domain(world, "theirs");
        g_autofree char *path = g_strdup_printf("/images/new-%u", world->surveys);

        world_add_file(theirs, path, true, false);
        world_tell_domain(world, theirs);
}

static void their_disks_change_once(World *world) {
        world->before_answer = NULL;
        their_disks_change(world);
}

/* A domain that gets a disk while the host is asked has one that nobody has asked about. */
static void what_has_changed_meanwhile_is_asked_again(void **state) {
        World *world = scene_with_images();
        unsigned before;

        make(world, "box", OTHER_CARD, IMAGE);
        world_add_foreign(world, "theirs", NIC);
        look_again(world, "theirs");
        before = world->surveys;
        world->before_answer = their_disks_change_once;
        start_well(world, "box");
        assert_int_equal(world->surveys, before + 2);
        world->before_answer = NULL;
        world_end_domain(world, world_domain(world, "box"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        world->before_answer = their_disks_change;
        start_refused(world, "box", REFUSAL_INVALID_STATE, "kept changing");
        world->before_answer = NULL;
        start_well(world, "box");
        world_free(world);
}

/* As of a volume that was renamed, or a file that was moved: QEMU has what it has opened. */
static void what_a_machine_runs_with_stays_its_own(void **state) {
        World *world = scene_with_images();

        make(world, "a", OTHER_CARD, IMAGE);
        make(world, "b", THIRD_CARD, OTHER);
        set_lead(world, AS_NAMED(IMAGE), "/dev/dm-1");
        start_well(world, "a");
        set_lead(world, AS_NAMED(OTHER), "/dev/dm-1");
        set_lead(world, AS_NAMED(IMAGE), "/dev/dm-2");
        start_refused(world, "b", REFUSAL_INVALID_OPTION, "is in use by machine a");
        world_end_domain(world, world_domain(world, "a"), DOMAIN_OFF_SHUTDOWN);
        world_run(world);
        start_well(world, "b");
        world_free(world);
}

/* libvirt is through with it, and its QEMU is not dead. */
static void a_machine_that_is_ending_has_its_disks(void **state) {
        World *world = scene_with_images();
        WorldDomain *a;

        make(world, "a", OTHER_CARD, IMAGE);
        make(world, "b", THIRD_CARD, IMAGE);
        start_well(world, "a");
        a = world_domain(world, "a");
        a->active = false;
        g_ptr_array_set_size(a->files, 0); /* edited: the next start will have none */
        look_again(world, "a");
        start_refused(world, "b", REFUSAL_INVALID_OPTION, "is in use by machine a");
        world_kill_qemu(world, a);
        world_run(world);
        start_well(world, "b");
        world_free(world);
}

/* --- cards --- */

static void edit(World *world, const char *element, const char *hostdev) {
        WorldDomain *domain = world_domain(world, "box");

        g_array_set_size(domain->cards, 0);
        if (element) {
                g_array_set_size(domain->gpus, 0);
                world_mark(domain->gpus, element);
        }
        if (hostdev) {
                g_array_set_size(domain->hostdevs, 0);
                world_mark(domain->hostdevs, hostdev);
        }
        look_again(world, "box");
}

static void another_card_in_element_and_definition_is_the_one_that_is_moved(void **state) {
        World *world = scene_with_images();

        make(world, "box", OTHER_CARD, NULL);
        edit(world, THIRD_CARD, THIRD_CARD);
        start_well(world, "box");
        assert_gpu(world, THIRD_CARD, GPU_ATTACHED, "box");
        assert_gpu(world, OTHER_CARD, GPU_HOST_BOUND, "");
        world_free(world);
}

static void element_and_definition_that_differ_are_refused(void **state) {
        World *world = scene_with_images();

        make(world, "box", OTHER_CARD, NULL);
        edit(world, THIRD_CARD, NULL);
        start_refused(world, "box", REFUSAL_INVALID_STATE,
                      "has PCI device " OTHER_CARD " of GPU " OTHER_CARD
                      ", but the machine's GPUs are " THIRD_CARD);
        edit(world, OTHER_CARD, THIRD_CARD);
        start_refused(world, "box", REFUSAL_INVALID_STATE, THIRD_CARD);
        edit(world, NULL, OTHER_CARD);
        start_well(world, "box");
        world_free(world);
}

static void a_host_device_that_was_taken_out_is_missed(void **state) {
        World *world = scene_with_images();
        WorldDomain *domain;

        make(world, "box", AUDIO_CARD, NULL);
        domain = world_domain(world, "box");
        world_unlist(domain, AUDIO);
        look_again(world, "box");
        start_refused(world, "box", REFUSAL_INVALID_STATE,
                      "Machine box has GPU " AUDIO_CARD
                      ", but its definition lacks PCI device " AUDIO);
        world_free(world);
}

static void libvirt_is_not_to_move_our_cards(void **state) {
        World *world = scene_with_images();

        make(world, "box", OTHER_CARD, NULL);
        world_mark(world_domain(world, "box")->managed, OTHER_CARD);
        look_again(world, "box");
        start_refused(world, "box", REFUSAL_INVALID_STATE, "managed='yes'");
        world_mark(world_domain(world, "box")->hostdevs, NIC);
        world_mark(world_domain(world, "box")->managed, NIC);
        g_array_remove_index(world_domain(world, "box")->managed, 0);
        world_rebind(world, NIC, "vfio-pci"); /* as libvirt would at the start */
        world_set_power(world, NIC, "0", "on");
        look_again(world, "box");
        start_well(world, "box");
        world_free(world);
}

/* Edited after the judgement: libvirt starts what is there by then. */
static void a_machine_that_runs_without_its_card_was_not_started(void **state) {
        World *world = scene_with_images();
        Caller caller = { 0 };

        make(world, "box", OTHER_CARD, NULL);
        world->drop_hostdevs = true;
        start(world, "box", &caller);
        assert_non_null(strstr(caller.message, "without PCI device " OTHER_CARD));
        assert_refused(&caller, REFUSAL_INVALID_STATE);
        assert_false(world_domain(world, "box")->active);
        assert_everything_home(world);
        world_free(world);
}

/* --- the rest of the definition --- */

static void networks_are_looked_up_before_each_start(void **state) {
        World *world = scene_with_images();
        Request *request = request_for("box", OTHER_CARD, NULL);
        DeviceRequest *nic = device_request_new(DEVICE_NIC);
        Caller caller = { 0 };

        g_hash_table_insert(world->netdevs, g_strdup("br0"), GINT_TO_POINTER(NETDEV_BRIDGE));
        nic->type = NIC_BRIDGE;
        nic->source = g_strdup("br0");
        nic->id = g_strdup("lan");
        g_ptr_array_add(request->nics, nic);
        request->start = false;
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        g_hash_table_remove(world->netdevs, "br0");
        start_refused(world, "box", REFUSAL_INVALID_OPTION, "no bridge br0");
        world_free(world);
}

static void sizes_are_looked_at_before_each_start(void **state) {
        World *world = scene_with_images();

        make(world, "box", OTHER_CARD, NULL);
        world->host_facts.cpus = 1;
        world_domain(world, "box")->vcpus = 4;
        look_again(world, "box");
        start_refused(world, "box", REFUSAL_INVALID_OPTION,
                      "up to 4 CPUs (vcpus), more than the host has");
        world->host_facts.cpus = 16;
        world->host_facts.memory_mib = 1024;
        start_refused(world, "box", REFUSAL_INVALID_OPTION, "more than the host has");
        world->host_facts.memory_mib = 65536;
        world->host_facts.memory_available_mib = 64; /* an estimate */
        assert_found(world, "box", SEVERITY_WARNING, REFUSAL_INVALID_OPTION, "64 MiB available");
        start_well(world, "box");
        world_free(world);
}

/* What the first takes nobody sees yet. */
static void memory_is_promised_once(void **state) {
        World *world = scene_with_images();
        Caller a = { 0 }, b = { 0 };

        make(world, "a", OTHER_CARD, NULL);
        make(world, "b", THIRD_CARD, NULL);
        world->host_facts.machines_limit_mib = 3 * 2048 / 2;
        manager_start_machine(world->manager, world_machine(world, "a"), caller_done, &a);
        manager_start_machine(world->manager, world_machine(world, "b"), caller_done, &b);
        world_run(world);
        assert_done(&a);
        assert_non_null(strstr(b.message, "MemoryMax"));
        assert_refused(&b, REFUSAL_INVALID_OPTION);
        world_free(world);
}

static void a_running_machine_is_not_started(void **state) {
        World *world = scene_with_images();
        g_autoptr(GPtrArray) findings = NULL;

        make(world, "box", OTHER_CARD, NULL);
        findings = check_start(world, "box");
        assert_int_equal(findings->len, 0);
        start_well(world, "box");
        assert_found(world, "box", SEVERITY_ERROR, REFUSAL_INVALID_STATE, "box is running");
        assert_found(world, "nobody", SEVERITY_ERROR, REFUSAL_NO_SUCH_MACHINE, "nobody");
        world_free(world);
}

/* --- what comes later --- */

static void attach(World *world, const char *name, const char *path, Caller *caller) {
        DeviceRequest *disk = device_request_new(DEVICE_DISK);

        disk->path = g_strdup(path);
        manager_attach_device(world->manager, world_machine(world, name), disk, caller_attached,
                              caller);
}

static void two_that_get_one_disk_at_once(void **state) {
        World *world = scene_with_images();
        Caller a = { 0 }, b = { 0 };

        make(world, "a", OTHER_CARD, NULL);
        make(world, "b", THIRD_CARD, NULL);
        start_well(world, "a");
        start_well(world, "b");
        attach(world, "a", IMAGE, &a);
        attach(world, "b", IMAGE, &b);
        world_run(world);
        assert_done(&a);
        assert_refused(&b, REFUSAL_INVALID_OPTION);
        attach(world, "a", IMAGE, &a); /* it has it already */
        world_run(world);
        assert_refused(&a, REFUSAL_INVALID_OPTION);
        world_free(world);
}

/* The definition that was judged does not have it yet. */
static void a_machine_that_is_being_given_something_is_not_started(void **state) {
        World *world = scene_with_images();
        DeviceRequest *nic = device_request_new(DEVICE_NIC);
        Caller attached = { 0 }, started = { 0 };

        g_hash_table_insert(world->netdevs, g_strdup("br0"), GINT_TO_POINTER(NETDEV_BRIDGE));
        nic->type = NIC_BRIDGE;
        nic->source = g_strdup("br0");
        make(world, "box", OTHER_CARD, NULL);
        manager_start_machine(world->manager, world_machine(world, "box"), caller_done, &started);
        manager_attach_device(world->manager, world_machine(world, "box"), nic, caller_attached,
                              &attached);
        world_run(world);
        assert_done(&attached);
        assert_refused(&started, REFUSAL_INVALID_STATE);
        start_well(world, "box");
        world_free(world);
}

/* Both may have it, as only one can be started. */
static void a_disk_goes_from_one_machine_to_another(void **state) {
        World *world = scene_with_images();
        Caller caller = { 0 };

        make(world, "a", OTHER_CARD, IMAGE);
        make(world, "b", THIRD_CARD, NULL);
        attach(world, "b", IMAGE, &caller);
        world_run(world);
        assert_done(&caller);
        start_well(world, "b");
        start_refused(world, "a", REFUSAL_INVALID_OPTION, "in use by machine b");
        world_free(world);
}

/* The kernel has counted them as taken already when QEMU is at it, which takes long. */
static void huge_pages_that_are_taken_are_not_taken_twice(void **state) {
        World *world = scene_with_images();
        Request *one = request_for("one", OTHER_CARD, NULL);
        Request *two = request_for("two", THIRD_CARD, NULL);
        Caller a = { 0 }, b = { 0 };

        one->hugepages = two->hugepages = HUGEPAGES_2M;
        world->host_facts.hugepages_2m_total = world->host_facts.hugepages_2m_free = 2048;
        world->hold_verb[HYPERVISOR_START] = true;
        manager_create(world->manager, one, caller_done, &a);
        world_run(world);
        world->host_facts.hugepages_2m_free = 1024; /* the first's QEMU has got its own */
        manager_create(world->manager, two, caller_done, &b);
        world_run(world);
        if (b.message)
                fail_msg("%s", b.message);
        world_free(world);
}

/* Machine a has had a disk while its name led elsewhere than it does now. */
static World *scene_after_a_detach(void) {
        World *world = scene_with_images();
        Caller caller = { 0 }, gone = { 0 };
        g_autofree char *id = NULL;

        make(world, "a", OTHER_CARD, NULL);
        make(world, "b", THIRD_CARD, OTHER);
        start_well(world, "a");
        set_lead(world, AS_NAMED(IMAGE), "/dev/dm-1");
        attach(world, "a", IMAGE, &caller);
        world_run(world);
        assert_done(&caller);
        id = g_strdup(g_ptr_array_index(world_domain(world, "a")->disks, 0));
        manager_detach_device(world->manager, world_machine(world, "a"), DEVICE_DISK, id,
                              caller_done, &gone);
        world_run(world);
        assert_done(&gone);
        g_ptr_array_set_size(world_domain(world, "a")->files, 0);
        look_again(world, "a");
        set_lead(world, AS_NAMED(IMAGE), "/dev/dm-2");
        set_lead(world, AS_NAMED(OTHER), "/dev/dm-2");
        return world;
}

static void a_disk_that_was_detached_is_its_own_no_more(void **state) {
        World *world = scene_after_a_detach();
        Caller again = { 0 };

        attach(world, "a", IMAGE, &again);
        world_run(world);
        assert_done(&again);
        start_refused(world, "b", REFUSAL_INVALID_OPTION, "is in use by machine a");
        world_free(world);
        world = scene_after_a_detach();
        world_add_file(world_domain(world, "a"), AS_NAMED(IMAGE), true, false); /* by virsh */
        look_again(world, "a");
        start_refused(world, "b", REFUSAL_INVALID_OPTION, "is in use by machine a");
        world_free(world);
}

/* Somebody else's overlay is written, what is beneath it is only read. */
static void what_is_only_read_may_be_shared(void **state) {
        World *world = scene_with_images();
        WorldDomain *theirs = world_add_foreign(world, "theirs", NIC);
        Request *request = request_for("box", OTHER_CARD, NULL);
        DeviceRequest *disk = device_request_new(DEVICE_DISK);
        Caller caller = { 0 };

        world_add_file(theirs, "/pool/overlay.qcow2", true, true);
        g_hash_table_insert(world->backings, g_strdup("/pool/overlay.qcow2"),
                            g_strdup(AS_NAMED(IMAGE)));
        look_again(world, "theirs");
        make(world, "writer", THIRD_CARD, IMAGE);
        start_refused(world, "writer", REFUSAL_INVALID_OPTION, "in use by machine theirs");
        disk->id = g_strdup("base");
        disk->path = g_strdup(IMAGE);
        disk->read_only = true;
        g_ptr_array_add(request->disks, disk);
        manager_create(world->manager, request, caller_done, &caller);
        world_run(world);
        assert_done(&caller);
        world_free(world);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_image_is_looked_at_before_each_start),
                cmocka_unit_test(one_image_is_in_one_running_machine),
                cmocka_unit_test(whatever_it_is_called),
                cmocka_unit_test(two_that_start_at_once),
                cmocka_unit_test(a_disk_of_somebody_elses_domain),
                cmocka_unit_test(a_disk_that_nobody_can_look_at_is_a_warning),
                cmocka_unit_test(what_has_changed_meanwhile_is_asked_again),
                cmocka_unit_test(what_a_machine_runs_with_stays_its_own),
                cmocka_unit_test(a_machine_that_is_ending_has_its_disks),
                cmocka_unit_test(another_card_in_element_and_definition_is_the_one_that_is_moved),
                cmocka_unit_test(element_and_definition_that_differ_are_refused),
                cmocka_unit_test(a_host_device_that_was_taken_out_is_missed),
                cmocka_unit_test(libvirt_is_not_to_move_our_cards),
                cmocka_unit_test(a_machine_that_runs_without_its_card_was_not_started),
                cmocka_unit_test(networks_are_looked_up_before_each_start),
                cmocka_unit_test(sizes_are_looked_at_before_each_start),
                cmocka_unit_test(memory_is_promised_once),
                cmocka_unit_test(a_running_machine_is_not_started),
                cmocka_unit_test(a_machine_that_is_being_given_something_is_not_started),
                cmocka_unit_test(two_that_get_one_disk_at_once),
                cmocka_unit_test(a_disk_goes_from_one_machine_to_another),
                cmocka_unit_test(huge_pages_that_are_taken_are_not_taken_twice),
                cmocka_unit_test(a_disk_that_was_detached_is_its_own_no_more),
                cmocka_unit_test(what_is_only_read_may_be_shared),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
