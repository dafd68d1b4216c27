/* Which GPUs are kept for machines, by vmd.conf and by udev's database. */
#include "host/gpu-policy.h"
#include "testing.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <unistd.h>

#define CARD "0000:01:00.0"

static PciAddress address(const char *text) {
        PciAddress parsed;

        assert_true(pci_address_parse(text, &parsed));
        return parsed;
}

static void vmd_conf_names_a_card_by_any_of_its_functions(void **unused) {
        g_autoptr(GpuPolicy) policy = gpu_policy_new("/nonexistent");
        g_autoptr(GArray) kept = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        PciAddress companion = address("0000:01:00.1");

        assert_int_equal(gpu_policy_keeps(policy, address(CARD)), 0);
        g_array_append_val(kept, companion);
        gpu_policy_set(policy, kept);
        assert_int_equal(gpu_policy_keeps(policy, address(CARD)), 1);
        assert_int_equal(gpu_policy_keeps(policy, address("0000:02:00.0")), 0);
        gpu_policy_set(policy, NULL);
        assert_int_equal(gpu_policy_keeps(policy, address(CARD)), 0);
}

/* The database as systemd 252 writes it. */
static void a_udev_rule_marks_a_card(void **unused) {
        static const struct {
                const char *data;
                bool keeps;
        } cases[] = {
                { "I:1234\nE:FEOS_GPU=1\nE:FEOS_GPU_POLICY=vfio\nG:feos-gpu\nQ:feos-gpu\nV:1\n",
                  true },
                { "E:FEOS_GPU_POLICY=vfio", true },
                { "I:1234\nE:FEOS_GPU=1\nG:feos-gpu\nV:1\n", false },
                { "E:FEOS_GPU_POLICY=vfio-pci\n", false },
                { "E:FEOS_GPU_POLICY=\n", false },
                { "E:NOTE=E:FEOS_GPU_POLICY=vfio\n", false },
                { "", false },
        };
        g_autofree char *folder = g_dir_make_tmp("udev-data-XXXXXX", NULL);
        g_autofree char *path = g_build_filename(folder, "+pci:" CARD, NULL);
        g_autoptr(GpuPolicy) policy = gpu_policy_new(folder);

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                assert_true(g_file_set_contents(path, cases[i].data, -1, NULL));
                assert_int_equal(gpu_policy_keeps(policy, address(CARD)), cases[i].keeps);
                assert_int_equal(gpu_policy_keeps(policy, address("0000:02:00.0")), 0);
        }
        g_remove(path);
        assert_int_equal(gpu_policy_keeps(policy, address(CARD)), 0);
        g_rmdir(folder);
}

static void what_udev_says_cannot_be_read(void **unused) {
        g_autofree char *folder = g_dir_make_tmp("udev-data-XXXXXX", NULL);
        g_autofree char *path = g_build_filename(folder, "+pci:" CARD, NULL);
        g_autoptr(GpuPolicy) policy = gpu_policy_new(folder);

        assert_return_code(symlink("+pci:" CARD, path), errno);
        assert_int_equal(gpu_policy_keeps(policy, address(CARD)), -ELOOP);
        g_remove(path);
        g_rmdir(folder);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(vmd_conf_names_a_card_by_any_of_its_functions),
                cmocka_unit_test(a_udev_rule_marks_a_card),
                cmocka_unit_test(what_udev_says_cannot_be_read),
        };

        return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
