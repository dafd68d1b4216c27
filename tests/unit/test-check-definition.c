/* The judgement of what a definition says beside what Create would be asked. */
#include "check-scene.h"

#include "testing.h"

static void a_definition_that_is_as_it_was_made(void **state) {
        Scene *scene = scene_new();

        scene_define(scene);
        expect_nothing(scene);
}

static void a_function_of_the_card_that_the_definition_lacks(void **state) {
        Scene *scene = scene_new();

        scene_define(scene);
        g_array_remove_index(scene->definition.hostdevs, 1);
        expect_remedy(scene, REFUSAL_INVALID_STATE, "0000:01:00.0",
                      "Machine box has GPU 0000:01:00.0, but its definition lacks PCI device "
                      "0000:01:00.1 of that card.",
                      "virsh edit");
}

static void a_gpu_of_the_definition_that_is_none_of_the_machines(void **state) {
        g_autoptr(DeviceFacts) other = device_facts_new();
        Scene *scene = scene_new();

        scene_define(scene);
        other->function.class = 0x040300;
        assert_true(pci_address_parse("03:00.1", &other->function.address));
        add_function(other->companions, "03:00.0", 0x030000, "nouveau");
        scene_add_hostdev(scene, "03:00.1", other);
        expect(scene, REFUSAL_INVALID_STATE, "0000:03:00.1",
               "The definition of machine box has PCI device 0000:03:00.1 of GPU 0000:03:00.0, "
               "but the machine's GPUs are 0000:01:00.0.");
}

static void a_card_that_libvirt_would_move_itself(void **state) {
        Scene *scene = scene_new();

        scene_define(scene);
        g_array_index(scene->definition.hostdevs, CheckHostdev, 1).managed = true;
        expect_remedy(scene, REFUSAL_INVALID_STATE, "0000:01:00.1", "managed='yes'",
                      "managed='no'");
}

/* It is for whoever has put it there. */
static void another_device_is_libvirts_business(void **state) {
        g_autoptr(DeviceFacts) nic = device_facts_new();
        Scene *scene = scene_new();

        scene_define(scene);
        nic->function.class = 0x020000;
        scene_add_hostdev(scene, "04:00.0", nic)->managed = true;
        expect_nothing(scene);
        scene = scene_new();
        scene_define(scene);
        nic->function.class = 0x030000; /* of a GPU that is split up */
        nic->function.virtual_function = true;
        scene_add_hostdev(scene, "04:00.0", nic)->managed = true;
        expect_nothing(scene);
}

static void a_device_that_is_not_there_or_cannot_be_looked_at(void **state) {
        Scene *scene = scene_new();

        scene_define(scene);
        scene_add_hostdev(scene, "04:00.0", NULL)->missing = true;
        expect(scene, REFUSAL_IDENTITY_MISMATCH, "0000:04:00.0", "there is none now");
        scene = scene_new();
        scene_define(scene);
        scene_add_hostdev(scene, "04:00.0", NULL);
        expect(scene, REFUSAL_INVALID_STATE, "0000:04:00.0", "could not be read");
}

static void another_card_than_it_was_made_with(void **state) {
        CardIdentity made_with = { .functions = { { .vendor = 0x10de } }, .n_functions = 1 };
        Scene *scene = scene_new();

        scene_define(scene);
        made_with.functions[0].address = scene->gpu->function.address;
        g_array_append_val(scene->made_with, made_with);
        expect(scene, REFUSAL_IDENTITY_MISMATCH, "0000:01:00.0", "was made with");
}

static void a_machine_of_kvm_on_a_host_without(void **state) {
        Scene *scene = scene_new();

        scene_define(scene);
        scene->definition.kvm = true;
        expect_nothing(scene);
        scene = scene_new();
        scene_define(scene);
        scene->definition.kvm = true;
        scene->facts.hypervisor.kvm = false;
        expect(scene, REFUSAL_INVALID_STATE, "box", "defined to run with KVM");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_definition_that_is_as_it_was_made),
                cmocka_unit_test(a_function_of_the_card_that_the_definition_lacks),
                cmocka_unit_test(a_gpu_of_the_definition_that_is_none_of_the_machines),
                cmocka_unit_test(a_card_that_libvirt_would_move_itself),
                cmocka_unit_test(another_device_is_libvirts_business),
                cmocka_unit_test(a_device_that_is_not_there_or_cannot_be_looked_at),
                cmocka_unit_test(another_card_than_it_was_made_with),
                cmocka_unit_test(a_machine_of_kvm_on_a_host_without),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
