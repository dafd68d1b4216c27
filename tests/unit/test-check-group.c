/* What the kernel asks of the IOMMU and of a card's group, one thing wrong at a time. */
#include "core/check.h"
#include "testing.h"

#include <string.h>

/* Judges a card of group 7 beside one other function of @class on @driver (NULL = beside nothing).
 * New findings. */
static GPtrArray *judge(uint32_t class, const char *driver, bool unsafe_interrupts) {
        g_autoptr(DeviceFacts) gpu = device_facts_new();
        g_autoptr(GArray) cards = g_array_new(FALSE, TRUE, sizeof(CheckCard));
        CheckFacts facts = {
                .host = { .iommu = true, .vfio = true, .unsafe_interrupts = unsafe_interrupts },
                .cards = cards,
        };
        PciFunction other = { .class = class };
        GPtrArray *findings = findings_new();
        CheckCard card = { .facts = gpu };

        assert_true(pci_address_parse("07:01.0", &card.address));
        assert_true(pci_address_parse("06:00.0", &other.address));
        gpu->function.class = 0x030000;
        gpu->function.address = card.address;
        gpu->iommu_group = 7;
        if (driver) {
                g_strlcpy(other.driver, driver, sizeof other.driver);
                g_array_append_val(gpu->neighbours, other);
        }
        g_array_append_val(cards, card);
        check_group(&facts, &card, findings);
        return findings;
}

/* The one thing that is wrong is this. Frees the findings. */
static void expect(GPtrArray *findings, RefusalCode code, const char *says, const char *remedy) {
        const Refusal *finding = g_ptr_array_index(findings, 0);

        assert_int_equal(findings->len, 1);
        assert_int_equal(finding->severity, SEVERITY_ERROR);
        assert_string_equal(refusal_code_to_string(finding->code), refusal_code_to_string(code));
        assert_string_equal(finding->subject, "0000:07:01.0");
        assert_non_null(strstr(finding->message, says));
        assert_non_null(strstr(finding->remedy, remedy));
        g_ptr_array_unref(findings);
}

static void a_bridge_on_a_driver_that_does_dma_takes_the_group_from_vfio(void **state) {
        expect(judge(0x060400, "shpchp", false), REFUSAL_GROUP_NOT_VIABLE, "0000:06:00.0 (shpchp)",
               "echo 0000:06:00.0 > /sys/bus/pci/drivers/shpchp/unbind, or boot with "
               "initcall_blacklist=shpcd_init");
        expect(judge(0x060000, "ie31200_edac", false), REFUSAL_GROUP_NOT_VIABLE,
               "bridges whose drivers keep VFIO out of the group: 0000:06:00.0 (ie31200_edac)",
               "echo 0000:06:00.0 > /sys/bus/pci/drivers/ie31200_edac/unbind");
}

/* What it is does not matter, what its driver is does. */
static void a_driver_that_leaves_dma_alone_leaves_the_group_to_vfio(void **state) {
        static const char *const drivers[] = {
                "", "pcieport", "pci-stub", "vfio-pci", "mlx5_vfio_pci", "nvgrace_gpu_vfio_pci",
        };
        static const uint32_t classes[] = { 0x060400, 0x060000, 0x080700, 0x020000 };

        for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++)
                for (size_t j = 0; j < G_N_ELEMENTS(classes); j++) {
                        g_autoptr(GPtrArray) findings = judge(classes[j], drivers[i], false);

                        assert_int_equal(findings->len, 0);
                }
        expect(judge(0x080700, "nobody_knows", false), REFUSAL_GROUP_NOT_VIABLE,
               "devices that the host uses: 0000:06:00.0 (nobody_knows)", "Unbind");
}

static void interrupts_that_are_not_remapped_are_found_before_qemu_is(void **state) {
        expect(judge(0, NULL, true), REFUSAL_NO_IOMMU, "does not remap interrupts",
               "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_bridge_on_a_driver_that_does_dma_takes_the_group_from_vfio),
                cmocka_unit_test(a_driver_that_leaves_dma_alone_leaves_the_group_to_vfio),
                cmocka_unit_test(interrupts_that_are_not_remapped_are_found_before_qemu_is),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
