/* What is read of sysfs, against umockdev's. Runs under umockdev-wrapper. */
#include "host/pci-facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/resource.h>
#include <umockdev.h>
#include <unistd.h>

#define RESOURCE                                                     \
        "0x00000000f6000000 0x00000000f6ffffff 0x0000000000040200\n" \
        "0x0000000000000000 0x00000000ffffffff 0x000000000014220c\n" \
        "0x0000000000000000 0x0000000000000000 0x0000000000000000\n" \
        "0x000000000000e000 0x000000000000e07f 0x0000000000040101\n"

/* The testbed's own folder, where links and folders can be made that umockdev knows no call for. */
static char *sys_path(UMockdevTestbed *testbed, const char *path) {
        g_autofree char *root = umockdev_testbed_get_root_dir(testbed);

        return g_build_filename(root, path, NULL);
}

static void write_file(UMockdevTestbed *testbed, const char *path, const char *text) {
        g_autofree char *at = sys_path(testbed, path);
        g_autofree char *folder = g_path_get_dirname(at);

        assert_return_code(g_mkdir_with_parents(folder, 0755), errno);
        assert_true(g_file_set_contents(at, text, -1, NULL));
}

static void make_link(UMockdevTestbed *testbed, const char *path, const char *target) {
        g_autofree char *at = sys_path(testbed, path);
        g_autofree char *folder = g_path_get_dirname(at);

        assert_return_code(g_mkdir_with_parents(folder, 0755), errno);
        assert_return_code(symlink(target, at), errno);
}

static void add_function(UMockdevTestbed *testbed, const char *address, const char *class,
                         const char *driver, const char *group) {
        g_autofree char *path = umockdev_testbed_add_device(
                testbed, "pci", address, NULL, "class", class, "vendor", "0x10de", "device",
                "0x1eb8", "subsystem_vendor", "0x10de", "subsystem_device", "0x12a2", "numa_node",
                "1", NULL, NULL);

        assert_non_null(path);
        if (driver) {
                g_autofree char *link = g_strdup_printf("%s/driver", path);
                g_autofree char *target = g_strdup_printf("/sys/bus/pci/drivers/%s", driver);

                make_link(testbed, link, target);
        }
        if (group) {
                g_autofree char *link = g_strdup_printf("%s/iommu_group", path);
                g_autofree char *target = g_strdup_printf("/sys/kernel/iommu_groups/%s", group);
                g_autofree char *member =
                        g_strdup_printf("/sys/kernel/iommu_groups/%s/devices/%s", group, address);

                make_link(testbed, link, target);
                make_link(testbed, member, path);
        }
}

static PciAddress parse(const char *text) {
        PciAddress address;

        assert_true(pci_address_parse(text, &address));
        return address;
}

static void assert_function(const GArray *functions, guint index, const char *address,
                            const char *driver) {
        const PciFunction *function = &g_array_index(functions, PciFunction, index);

        assert_true(index < functions->len);
        assert_true(pci_address_equal(function->address, parse(address)));
        assert_string_equal(function->driver, driver);
}

static void test_card(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autoptr(DeviceFacts) facts = NULL;
        g_autoptr(GArray) card = NULL;

        add_function(testbed, "0000:01:00.0", "0x030000\n", "nouveau", "7");
        add_function(testbed, "0000:01:00.1", "0x040300\n", "snd_hda_intel", "7");
        add_function(testbed, "0000:01:00.2", "0x0c0330\n", NULL, "8");
        add_function(testbed, "0000:02:00.0", "0x020000\n", "e1000e", "7");
        add_function(testbed, "0000:00:01.0", "0x060400\n", "pcieport", "7");
        add_function(testbed, "0000:00:00.0", "0x060000\n", NULL, "7");
        umockdev_testbed_set_attribute(testbed, "/sys/devices/0000:01:00.0", "boot_vga", "1\n");
        umockdev_testbed_set_attribute(testbed, "/sys/devices/0000:01:00.0", "resource", RESOURCE);
        umockdev_testbed_set_attribute(testbed, "/sys/devices/0000:01:00.0", "reset_method",
                                       "flr bus\n");

        assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), 0);
        assert_int_equal(facts->function.class, 0x030000);
        assert_int_equal(facts->function.vendor, 0x10de);
        assert_int_equal(facts->function.device, 0x1eb8);
        assert_int_equal(facts->function.subsystem_vendor, 0x10de);
        assert_int_equal(facts->function.subsystem_device, 0x12a2);
        assert_string_equal(facts->function.driver, "nouveau");
        assert_false(facts->function.virtual_function);
        assert_int_equal(facts->function.enabled_vfs, 0);
        assert_true(pci_function_is_gpu(&facts->function));
        assert_int_equal(facts->iommu_group, 7);
        assert_int_equal(facts->numa_node, 1);
        assert_true(facts->boot_display);

        assert_int_equal(facts->companions->len, 1);
        assert_function(facts->companions, 0, "0000:01:00.1", "snd_hda_intel");
        assert_int_equal(facts->neighbours->len, 3);
        assert_function(facts->neighbours, 0, "0000:00:00.0", "");
        assert_function(facts->neighbours, 1, "0000:00:01.0", "pcieport");
        assert_true(pci_function_is_bridge(&g_array_index(facts->neighbours, PciFunction, 1)));
        assert_function(facts->neighbours, 2, "0000:02:00.0", "e1000e");
        assert_false(pci_function_is_bridge(&g_array_index(facts->neighbours, PciFunction, 2)));

        assert_int_equal(facts->bar_sizes->len, 6);
        assert_int_equal(g_array_index(facts->bar_sizes, uint64_t, 0), 16 << 20);
        assert_int_equal(g_array_index(facts->bar_sizes, uint64_t, 1), UINT64_C(4) << 30);
        assert_int_equal(g_array_index(facts->bar_sizes, uint64_t, 2), 0);
        assert_int_equal(g_array_index(facts->bar_sizes, uint64_t, 3), 128);
        assert_int_equal(g_array_index(facts->bar_sizes, uint64_t, 5), 0);
        assert_int_equal(g_strv_length(facts->reset_methods), 2);
        assert_string_equal(facts->reset_methods[1], "bus");

        assert_int_equal(pci_facts_read_card(parse("01:00.0"), &card), 0);
        assert_int_equal(card->len, 2);
        assert_function(card, 0, "0000:01:00.0", "nouveau");
        assert_function(card, 1, "0000:01:00.1", "snd_hda_intel");
}

/* Without an IOMMU a function travels alone. */
static void test_no_group(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autoptr(DeviceFacts) facts = NULL;
        HostFacts host;

        add_function(testbed, "0000:01:00.0", "0x030200\n", NULL, NULL);
        add_function(testbed, "0000:01:00.1", "0x040300\n", NULL, NULL);
        assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), 0);
        assert_int_equal(facts->iommu_group, -1);
        assert_int_equal(facts->companions->len, 0);
        assert_int_equal(facts->neighbours->len, 0);
        assert_string_equal(facts->function.driver, "");
        assert_false(facts->boot_display);
        assert_int_equal(facts->bar_sizes->len, 6);
        assert_int_equal(g_strv_length(facts->reset_methods), 0);

        pci_facts_read_host(&host);
        assert_false(host.iommu);
        assert_false(host.vfio);
        assert_true(host.cpus > 0);
        assert_true(host.memory_mib > 0);
}

static void test_noiommu_group_is_none(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autoptr(DeviceFacts) facts = NULL;
        g_autofree char *name = NULL;

        add_function(testbed, "0000:01:00.0", "0x030000\n", "vfio-pci", "0");
        name = sys_path(testbed, "/sys/kernel/iommu_groups/0/name");
        assert_true(g_file_set_contents(name, "vfio-noiommu\n", -1, NULL));
        assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), 0);
        assert_int_equal(facts->iommu_group, -1);
}

static void test_host(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *driver = sys_path(testbed, "/sys/bus/pci/drivers/vfio-pci");
        HostFacts host;

        add_function(testbed, "0000:01:00.0", "0x030000\n", NULL, "0");
        assert_return_code(g_mkdir_with_parents(driver, 0755), errno);
        pci_facts_read_host(&host);
        assert_true(host.iommu);
        assert_true(host.vfio);
}

/* Only what is known to be refused is: interrupts that are not remapped, and nobody has taken the
 * risk. */
static void test_interrupts(void **state) {
        static const struct {
                const char *chip;    /* of interrupt 1 */
                const char *allowed; /* VFIO's parameter, NULL = its driver is not there */
                bool unsafe;
        } rows[] = {
                { "IO-APIC\n", "N\n", true },   { "IO-APIC\n", "Y\n", false },
                { "IO-APIC\n", NULL, false },   { "IR-IO-APIC\n", "N\n", false },
                { "xen-pirq\n", "N\n", false }, { "GICv3\n", "N\n", false },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                HostFacts host;

                write_file(testbed, "/sys/kernel/irq/0/chip_name", "XT-PIC\n");
                write_file(testbed, "/sys/kernel/irq/1/chip_name", rows[i].chip);
                if (rows[i].allowed)
                        write_file(testbed,
                                   "/sys/module/vfio_iommu_type1/parameters/"
                                   "allow_unsafe_interrupts",
                                   rows[i].allowed);
                pci_facts_read_host(&host);
                assert_int_equal(host.unsafe_interrupts, rows[i].unsafe);
        }
}

static void test_virtual_functions(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autoptr(GArray) gpus = NULL;
        PciFunction function;

        add_function(testbed, "0000:01:00.0", "0x030200\n", "nvidia", "1");
        add_function(testbed, "0000:01:00.4", "0x030200\n", NULL, "2");
        make_link(testbed, "/sys/devices/0000:01:00.0/virtfn0", "../0000:01:00.4");
        make_link(testbed, "/sys/devices/0000:01:00.0/virtfn1", "../0000:01:00.5");
        make_link(testbed, "/sys/devices/0000:01:00.4/physfn", "../0000:01:00.0");

        assert_int_equal(pci_facts_read_function(parse("01:00.0"), &function), 0);
        assert_int_equal(function.enabled_vfs, 2);
        assert_false(function.virtual_function);
        assert_int_equal(pci_facts_read_function(parse("01:00.4"), &function), 0);
        assert_true(function.virtual_function);

        assert_int_equal(pci_facts_read_slot_gpus(parse("01:00.4"), &gpus), 0);
        assert_int_equal(gpus->len, 1);
        assert_true(pci_address_equal(g_array_index(gpus, PciAddress, 0), parse("01:00.0")));
}

/* No descriptor, and the device is still there: that must not be taken for its absence. One is
 * enough, for nothing is held open while the next is read. */
static void test_no_descriptors(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        struct rlimit before, limit;
        int first = dup(STDIN_FILENO);

        assert_return_code(first, errno);
        close(first);
        add_function(testbed, "0000:01:00.0", "0x030000\n", "nouveau", "7");
        add_function(testbed, "0000:01:00.1", "0x040300\n", "snd_hda_intel", "7");
        assert_return_code(getrlimit(RLIMIT_NOFILE, &before), errno);
        for (rlim_t count = 0; count < 2; count++) {
                g_autoptr(DeviceFacts) facts = NULL;
                g_autoptr(GArray) gpus = NULL, slot = NULL, card = NULL;
                int r[4];

                limit = before;
                limit.rlim_cur = (rlim_t)first + count;
                assert_return_code(setrlimit(RLIMIT_NOFILE, &limit), errno);
                r[0] = pci_facts_read(parse("01:00.0"), &facts);
                r[1] = pci_facts_read_gpus(&gpus);
                r[2] = pci_facts_read_slot_gpus(parse("01:00.0"), &slot);
                r[3] = pci_facts_read_card(parse("01:00.0"), &card);
                assert_return_code(setrlimit(RLIMIT_NOFILE, &before), errno);

                for (size_t i = 0; i < G_N_ELEMENTS(r); i++)
                        assert_int_equal(r[i], count == 0 ? -EMFILE : 0);
                assert_true(!facts || facts->companions->len == 1);
                assert_true(!gpus || gpus->len == 1);
                assert_true(!slot || slot->len == 1);
                assert_true(!card || card->len == 2);
        }
}

/* Those that every device has. */
static void write_numbers(UMockdevTestbed *testbed, const char *folder) {
        static const char *const numbers[][2] = {
                { "class", "0x030000\n" },          { "vendor", "0x10de\n" },
                { "device", "0x1eb8\n" },           { "subsystem_vendor", "0x10de\n" },
                { "subsystem_device", "0x12a2\n" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
                g_autofree char *path = g_build_filename(folder, numbers[i][0], NULL);

                write_file(testbed, path, numbers[i][1]);
        }
}

/* What is there and does not say what it is is not known; that is not gone. */
static void test_numberless(void **state) {
        static const char *const numbers[] = { "class", "vendor", "device", "subsystem_vendor",
                                               "subsystem_device" };

        for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autoptr(DeviceFacts) facts = NULL;
                g_autoptr(GArray) gpus = NULL;
                g_autofree char *path = g_strdup_printf("/sys/devices/0000:01:00.0/%s", numbers[i]);
                g_autofree char *at = sys_path(testbed, path);

                add_function(testbed, "0000:01:00.0", "0x030000\n", "nouveau", "7");
                assert_return_code(g_remove(at), errno);
                assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), -EIO);
                assert_int_equal(pci_facts_read_gpus(&gpus), 0);
                assert_int_equal(gpus->len, 1);
                write_file(testbed, path, "nonsense\n");
                assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), -EIO);
                write_file(testbed, path, "");
                assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), -EIO);
        }
}

/* A reset of its own, or of the whole bus where nothing else is on it. */
static void test_reset(void **state) {
        static const struct {
                bool reset;
                const char *methods; /* NULL = a kernel before 5.15, or none */
                bool neighbour;      /* another card is on the bus */
                bool root_bus;
                bool expected;
        } rows[] = {
                { true, NULL, true, false, false },   { true, "flr bus\n", true, false, false },
                { true, "\n", true, false, true },    { false, NULL, true, false, true },
                { false, NULL, false, false, false }, { false, NULL, false, true, true },
                { true, "pm\n", false, true, false },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autoptr(DeviceFacts) facts = NULL;
                const char *root = "/sys/devices/pci0000:00";
                g_autofree char *bridge = g_build_filename(root, "0000:00:02.0", NULL);
                const char *above = rows[i].root_bus ? root : bridge;
                static const char *const names[] = { "0000:01:00.0", "0000:01:00.1",
                                                     "0000:01:01.0" };

                for (size_t j = 0; j < (rows[i].neighbour ? 3 : 2); j++) {
                        g_autofree char *folder = g_build_filename(above, names[j], NULL);
                        g_autofree char *link =
                                g_build_filename("/sys/bus/pci/devices", names[j], NULL);
                        g_autofree char *target = g_strconcat("../../..", folder + 4, NULL);
                        g_autofree char *group = g_build_filename(folder, "iommu_group", NULL);
                        g_autofree char *member = g_build_filename(
                                "/sys/kernel/iommu_groups/7/devices", names[j], NULL);

                        write_numbers(testbed, folder);
                        make_link(testbed, link, target);
                        if (j == 2)
                                continue;
                        make_link(testbed, group, "/sys/kernel/iommu_groups/7");
                        make_link(testbed, member, folder);
                }
                if (!rows[i].root_bus)
                        make_link(testbed, "/sys/bus/pci/devices/0000:00:02.0",
                                  "../../../devices/pci0000:00/0000:00:02.0");
                if (rows[i].reset) {
                        g_autofree char *path = g_build_filename(above, names[0], "reset", NULL);

                        write_file(testbed, path, "");
                }
                if (rows[i].methods) {
                        g_autofree char *path =
                                g_build_filename(above, names[0], "reset_method", NULL);

                        write_file(testbed, path, rows[i].methods);
                }
                assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), 0);
                assert_int_equal(facts->companions->len, 1);
                assert_int_equal(facts->no_reset, rows[i].expected);
        }
}

static void test_power(void **state) {
        static const struct {
                const char *state, *status;
                DevicePower power;
        } rows[] = {
                { "D0\n", "active\n", POWER_ON },
                { "D3hot\n", "suspended\n", POWER_ON },
                { "unknown\n", "active\n", POWER_ON },
                { NULL, NULL, POWER_ON },
                { "D3cold\n", "suspended\n", POWER_ASLEEP },
                { "D3cold\n", "resuming\n", POWER_ASLEEP },
                { "D3cold\n", "active\n", POWER_OFF },
                { "D3cold\n", "error\n", POWER_OFF },
                { "D3cold\n", NULL, POWER_OFF },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autoptr(DeviceFacts) facts = NULL;

                add_function(testbed, "0000:01:00.0", "0x030000\n", "nouveau", "7");
                if (rows[i].state)
                        write_file(testbed, "/sys/devices/0000:01:00.0/power_state", rows[i].state);
                if (rows[i].status)
                        write_file(testbed, "/sys/devices/0000:01:00.0/power/runtime_status",
                                   rows[i].status);
                assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), 0);
                assert_int_equal(facts->power, rows[i].power);
        }
}

/* The card's BARs: memory f6000000-f6ffffff and ports e000-e07f. */
static void test_framebuffer(void **state) {
        static const struct {
                const char *iomem, *name;
        } rows[] = {
                { "f6000000-f6ffffff : 0000:01:00.0\n  f6000000-f62fffff : BOOTFB\n", "BOOTFB" },
                { "  f6ff0000-f7ffffff : efifb\n", "efifb" },
                { "    f6000000-f6ffffff : simple-framebuffer.0\n", "simple-framebuffer.0" },
                { "f7000000-f7ffffff : efifb\n", "" },
                { "f5000000-f5ffffff : vesafb\n  f6000000-f6ffffff : vesafb\n", "vesafb" },
                { "f6000000-f6ffffff : nvidia\n", "" },
                { "0000e000-0000e07f : efifb\n", "" }, /* ports, not memory */
                { "00000000-00000000 : efifb\n", "" }, /* to those who may not know */
                { "f6000000-f6ffffff\nnonsense : efifb\n", "" },
                { "", "" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
                g_autoptr(DeviceFacts) facts = NULL;

                add_function(testbed, "0000:01:00.0", "0x030000\n", "nvidia", "7");
                write_file(testbed, "/sys/devices/0000:01:00.0/resource",
                           "0x00000000f6000000 0x00000000f6ffffff 0x0000000000040200\n"
                           "0x000000000000e000 0x000000000000e07f 0x0000000000040101\n"
                           "0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
                write_file(testbed, "/proc/iomem", rows[i].iomem);
                assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), 0);
                assert_string_equal(facts->boot_framebuffer, rows[i].name);
                assert_int_equal(facts->boot_display, rows[i].name[0] != '\0');
        }
}

/* Text where numbers should be, and no device at all. */
static void test_nonsense(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autoptr(DeviceFacts) facts = NULL;

        assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), -ENODEV);
        assert_null(facts);

        add_function(testbed, "0000:01:00.0", "0x030000\n", NULL, "no-number");
        umockdev_testbed_set_attribute(testbed, "/sys/devices/0000:01:00.0", "numa_node", "here\n");
        umockdev_testbed_set_attribute(testbed, "/sys/devices/0000:01:00.0", "resource",
                                       "\n0x10 0x0f 0x200\nnothing");
        assert_int_equal(pci_facts_read(parse("01:00.0"), &facts), 0);
        assert_int_equal(facts->numa_node, -1);
        assert_int_equal(facts->iommu_group, -1);
        for (guint i = 0; i < 6; i++)
                assert_int_equal(g_array_index(facts->bar_sizes, uint64_t, i), 0);
}

static void test_predicates(void **state) {
        static const struct {
                const char *driver;
                bool vfio, host;
        } cases[] = {
                { "", false, false },
                { "vfio-pci", true, false },
                { "pci-stub", false, false },
                { "nvidia", false, true },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                PciFunction function = { .class = 0x030000 };

                g_strlcpy(function.driver, cases[i].driver, sizeof function.driver);
                assert_int_equal(pci_function_on_vfio(&function), cases[i].vfio);
                assert_int_equal(pci_function_on_host_driver(&function), cases[i].host);
        }
        for (uint32_t class = 0; class < 0x100; class ++)
                assert_int_equal(pci_function_is_gpu(&(PciFunction){ .class = class << 16 }),
                                 class == 3);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_card),
                cmocka_unit_test(test_no_group),
                cmocka_unit_test(test_noiommu_group_is_none),
                cmocka_unit_test(test_host),
                cmocka_unit_test(test_interrupts),
                cmocka_unit_test(test_virtual_functions),
                cmocka_unit_test(test_no_descriptors),
                cmocka_unit_test(test_numberless),
                cmocka_unit_test(test_reset),
                cmocka_unit_test(test_power),
                cmocka_unit_test(test_framebuffer),
                cmocka_unit_test(test_nonsense),
                cmocka_unit_test(test_predicates),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
