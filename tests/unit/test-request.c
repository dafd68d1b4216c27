/* A Create request option by option: every bound from both sides. */
#include "core/request.h"
#include "testing.h"

#include <string.h>

static Request *request_with(const char *key, RequestValue value, GPtrArray *findings) {
        Request *request = request_new("box", NULL, findings);

        request_set_option(request, key, value, findings);
        request_finish(request, findings);
        return request;
}

static void assert_option(const char *key, RequestValue value, bool good) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request G_GNUC_UNUSED = request_with(key, value, findings);
        const Refusal *error = findings_first_error(findings);

        if (good) {
                assert_null(error);
                return;
        }
        assert_non_null(error);
        assert_int_equal(error->code, REFUSAL_INVALID_OPTION);
        assert_string_equal(error->subject, key);
        assert_true(strlen(error->message) > 0 && strlen(error->remedy) > 0);
}

static void names_are_bounded(void **state) {
        g_autofree char *longest = g_strnfill(64, 'a');
        g_autofree char *too_long = g_strnfill(65, 'a');
        const char *good[] = { "a", "9", "box", "A.b-c_9", longest };
        const char *bad[] = { "",     ".box", "-box",  "_box", "bo x",
                              "bo/x", "bö",   "box\n", "../x", too_long };

        for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
                assert_true(machine_name_is_valid(good[i]));
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(GPtrArray) findings = findings_new();
                g_autoptr(Request) request G_GNUC_UNUSED = request_new(bad[i], NULL, findings);

                assert_false(machine_name_is_valid(bad[i]));
                assert_int_equal(findings_first_error(findings)->code, REFUSAL_INVALID_NAME);
        }
}

static void a_malformed_address_is_named(void **state) {
        const char *gpus[] = { "0000:01:00.0", "nonsense", NULL };
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = request_new("box", gpus, findings);

        assert_int_equal(findings->len, 1);
        assert_int_equal(findings_first_error(findings)->code, REFUSAL_INVALID_ADDRESS);
        assert_string_equal(findings_first_error(findings)->subject, "nonsense");
        assert_int_equal(request->gpus->len, 1);
}

static void the_same_gpu_twice_is_refused_also_once_short_and_once_long(void **state) {
        const char *const pairs[][3] = {
                { "0000:01:00.0", "0000:01:00.0", NULL },
                { "0000:01:00.0", "01:00.0", NULL },
                { "0a:00.0", "0000:0A:00.0", NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
                g_autoptr(GPtrArray) findings = findings_new();
                g_autoptr(Request) request G_GNUC_UNUSED = request_new("box", pairs[i], findings);

                assert_int_equal(findings_first_error(findings)->code, REFUSAL_INVALID_OPTION);
        }
}

static void sizes_are_bounded(void **state) {
        assert_option("vcpus", (RequestValue){ .u = 0 }, false);
        assert_option("vcpus", (RequestValue){ .u = 1 }, true);
        assert_option("vcpus", (RequestValue){ .u = 4096 }, true);
        assert_option("vcpus", (RequestValue){ .u = 4097 }, false);
        assert_option("memory-mib", (RequestValue){ .t = 0 }, false);
        assert_option("memory-mib", (RequestValue){ .t = 1 }, true);
        assert_option("memory-mib", (RequestValue){ .t = UINT64_MAX }, false);
}

static void words_are_taken_from_their_lists(void **state) {
        assert_option("firmware", (RequestValue){ .s = "bios" }, true);
        assert_option("firmware", (RequestValue){ .s = "uefi" }, true);
        assert_option("firmware", (RequestValue){ .s = "coreboot" }, false);
        assert_option("firmware", (RequestValue){ .s = "" }, false);
        assert_option("image-format", (RequestValue){ .s = "vmdk" }, false);
        assert_option("uuid", (RequestValue){ .s = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0" }, true);
        assert_option("uuid", (RequestValue){ .s = "4dea22b31d52d8f32516782e98ab3fa0" }, false);
        assert_option("image", (RequestValue){ .s = "" }, false);
        assert_option("kernel", (RequestValue){ .s = "vmlinuz" }, true);
}

static void more_vcpus_than_max_are_refused_and_max_follows_vcpus(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = request_new("box", NULL, findings);

        request_set_option(request, "vcpus", (RequestValue){ .u = 4 }, findings);
        request_finish(request, findings);
        assert_int_equal(request->max_vcpus, 4);
        request->max_vcpus = 3;
        request_finish(request, findings);
        assert_int_equal(findings->len, 1);
        assert_int_equal(findings_first_error(findings)->code, REFUSAL_INVALID_OPTION);
}

static void huge_pages_have_two_sizes(void **state) {
        assert_option("hugepages", (RequestValue){ .s = "" }, true);
        assert_option("hugepages", (RequestValue){ .s = "2M" }, true);
        assert_option("hugepages", (RequestValue){ .s = "1G" }, true);
        assert_option("hugepages", (RequestValue){ .s = "4K" }, false);
}

static void ignition_is_one_json_object_of_at_most_a_mebibyte(void **state) {
        g_autofree char *filler = g_strnfill(1024 * 1024 - 8, 'x');
        g_autofree char *longest = g_strdup_printf("{\"a\":\"%s\"}", filler);
        g_autofree char *too_long = g_strdup_printf("{\"a\":\"%s\"} ", filler);
        const char *bad[] = { "",         "[]",  "1",          "{",          "{} {}",
                              "{\"a\":}", "{,}", "{\"a\":1,}", "{} // text", too_long };

        assert_int_equal(strlen(longest), 1024 * 1024);
        assert_option("ignition", (RequestValue){ .s = longest }, true);
        assert_option("ignition", (RequestValue){ .s = "{\"ignition\":{\"version\":\"3.4.0\"}}\n" },
                      true);
        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
                assert_option("ignition", (RequestValue){ .s = bad[i] }, false);
}

static void nothing_of_an_ignition_text_reaches_a_message(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request G_GNUC_UNUSED =
                request_with("ignition", (RequestValue){ .s = "{\"password\": geheim" }, findings);

        assert_null(strstr(findings_first_error(findings)->message, "geheim"));
        assert_null(strstr(findings_first_error(findings)->remedy, "geheim"));
}

static DeviceRequest *device_with(DeviceKind kind, const char *key, const char *value,
                                  GPtrArray *findings) {
        DeviceRequest *device = device_request_new(kind);

        device_set_option(device, key, (RequestValue){ .s = value }, findings);
        return device;
}

static void assert_device_option(DeviceKind kind, const char *key, const char *value, bool good) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(DeviceRequest) device G_GNUC_UNUSED = device_with(kind, key, value, findings);

        assert_int_equal(findings->len, good ? 0 : 1);
}

static void a_mac_is_a_unicast_mac(void **state) {
        assert_device_option(DEVICE_NIC, "mac", "52:54:00:12:34:56", true);
        assert_device_option(DEVICE_NIC, "mac", "52:54:00:AB:cd:EF", true);
        assert_device_option(DEVICE_NIC, "mac", "53:54:00:12:34:56", false);
        assert_device_option(DEVICE_NIC, "mac", "ff:ff:ff:ff:ff:ff", false);
        assert_device_option(DEVICE_NIC, "mac", "00:00:00:00:00:00", false);
        assert_device_option(DEVICE_NIC, "mac", "52-54-00-12-34-56", false);
        assert_device_option(DEVICE_NIC, "mac", "52:54:00:12:34", false);
        assert_device_option(DEVICE_NIC, "mac", "52:54:00:12:34:5g", false);
        assert_device_option(DEVICE_NIC, "mac", "", false);
}

static void device_options_are_bounded(void **state) {
        assert_device_option(DEVICE_DISK, "id", "data-1_A", true);
        assert_device_option(DEVICE_DISK, "id", "", false);
        assert_device_option(DEVICE_DISK, "id", "a b", false);
        assert_device_option(DEVICE_DISK, "id", "a.b", false);
        assert_device_option(DEVICE_DISK, "format", "qcow2", true);
        assert_device_option(DEVICE_DISK, "format", "vdi", false);
        assert_device_option(DEVICE_DISK, "path", "", false);
        assert_device_option(DEVICE_NIC, "type", "tap", true);
        assert_device_option(DEVICE_NIC, "type", "vdpa", false);
        assert_device_option(DEVICE_NIC, "source", "br0", true);
        assert_device_option(DEVICE_NIC, "source", "../br0", false);
        assert_device_option(DEVICE_NIC, "source", "a\nb", false);
        assert_null(device_option_type(DEVICE_NIC, "path"));
        assert_null(device_option_type(DEVICE_DISK, "mac"));
}

static void a_disk_needs_a_path_and_a_nic_a_source(void **state) {
        for (DeviceKind kind = DEVICE_DISK; kind <= DEVICE_NIC; kind++) {
                g_autoptr(GPtrArray) findings = findings_new();
                g_autoptr(DeviceRequest) device = device_request_new(kind);

                device_request_finish(device, findings);
                assert_int_equal(findings->len, 1);
        }
}

static void devices_without_an_id_get_the_next_free_one(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = request_new("box", NULL, findings);
        static const char *const ids[] = { NULL, "disk1", NULL };
        static const char *const expected[] = { "disk2", "disk1", "disk3" };

        for (size_t i = 0; i < 3; i++) {
                DeviceRequest *disk = device_request_new(DEVICE_DISK);

                disk->id = g_strdup(ids[i]);
                disk->path = g_strdup_printf("%zu.img", i);
                request_add_device(request, disk, findings);
        }
        request_finish(request, findings);
        assert_int_equal(findings->len, 0);
        for (guint i = 0; i < 3; i++)
                assert_string_equal(((DeviceRequest *)g_ptr_array_index(request->disks, i))->id,
                                    expected[i]);
}

/* Whether two names are one file is seen when they are looked at. */
static void one_id_twice_is_refused(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = request_new("box", NULL, findings);

        for (size_t i = 0; i < 2; i++) {
                DeviceRequest *disk = device_request_new(DEVICE_DISK);

                disk->id = g_strdup("same");
                disk->path = g_strdup("same.img");
                request_add_device(request, disk, findings);
        }
        request_finish(request, findings);
        assert_int_equal(findings->len, 1);
}

static void a_request_names_its_files_in_one_order(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = request_new("box", NULL, findings);
        g_autoptr(Request) copy = NULL;
        g_autoptr(GArray) images = NULL;
        static const char *const paths[] = { "boot", "vmlinuz", "initrd", "a", "b" };

        request->image = g_strdup("boot");
        request->kernel = g_strdup("vmlinuz");
        request->initrd = g_strdup("initrd");
        for (size_t i = 0; i < 3; i++) {
                DeviceRequest *disk = device_request_new(DEVICE_DISK);

                disk->path = g_strdup(i == 0 ? "a" : i == 1 ? "pool/volume" : "b");
                disk->volume_unknown = i == 1;
                disk->read_only = i == 2;
                g_ptr_array_add(request->disks, disk);
        }
        copy = request_copy(request);
        images = request_images(copy);
        assert_int_equal(images->len, G_N_ELEMENTS(paths));
        for (guint i = 0; i < images->len; i++) {
                const RequestImage *image = &g_array_index(images, RequestImage, i);

                assert_string_equal(image->path, paths[i]);
                assert_int_equal(image->disk, i != 1 && i != 2);
                assert_int_equal(image->writes, i == 0 || i == 3);
        }
}

static void what_a_caller_wrote_is_cut_before_it_is_told_back(void **state) {
        g_autofree char *huge = g_strnfill(1 << 20, '\x01');
        const char *gpus[] = { huge, NULL };
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = request_new(huge, gpus, findings);

        request_refuse_unknown_option(huge, findings);
        assert_int_equal(findings->len, 3);
        for (guint i = 0; i < findings->len; i++) {
                const Refusal *finding = g_ptr_array_index(findings, i);

                assert_true(strlen(finding->subject) < 300);
                assert_true(strlen(finding->message) < 400);
        }
        assert_true(strlen(request->name) < 100);
}

static void a_uuid_is_kept_in_lower_case(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = request_with(
                "uuid", (RequestValue){ .s = "4DEA22B3-1D52-D8F3-2516-782E98AB3FA0" }, findings);

        assert_string_equal(request->uuid, "4dea22b3-1d52-d8f3-2516-782e98ab3fa0");
}

static void what_belongs_to_a_kernel_needs_a_kernel(void **state) {
        assert_option("initrd", (RequestValue){ .s = "guest.img" }, false);
        assert_option("cmdline", (RequestValue){ .s = "quiet" }, false);
        assert_option("image-format", (RequestValue){ .s = "raw" }, false);
}

static void a_kernel_command_line_is_one_line_of_at_most_2047_bytes(void **state) {
        g_autofree char *longest = g_strnfill(2047, 'x');
        g_autofree char *too_long = g_strnfill(2048, 'x');
        const char *bad[] = { "a\nb",
                              "a\x01"
                              "b",
                              too_long };

        for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
                g_autoptr(GPtrArray) findings = findings_new();
                g_autoptr(Request) request = request_new("box", NULL, findings);

                request_set_option(request, "kernel", (RequestValue){ .s = "vmlinuz" }, findings);
                request_set_option(request, "cmdline", (RequestValue){ .s = bad[i] }, findings);
                assert_int_equal(findings->len, 1);
                assert_null(request->cmdline);
        }
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = request_new("box", NULL, findings);

        request_set_option(request, "cmdline", (RequestValue){ .s = longest }, findings);
        assert_int_equal(findings->len, 0);
}

static void the_format_follows_the_name_and_never_the_content(void **state) {
        static const struct {
                const char *image;
                ImageFormat format;
        } names[] = {
                { "disk.qcow2", IMAGE_QCOW2 },
                { "disk.img", IMAGE_RAW },
                { "qcow2", IMAGE_RAW },
                { "disk.qcow2.raw", IMAGE_RAW },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
                g_autoptr(GPtrArray) findings = findings_new();
                g_autoptr(Request) request =
                        request_with("image", (RequestValue){ .s = names[i].image }, findings);

                assert_int_equal(request->image_format, names[i].format);
        }
}

static void an_unknown_option_is_refused_with_the_known_ones(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();

        assert_null(request_option_type("gpu"));
        request_refuse_unknown_option("gpu", findings);
        assert_int_equal(findings_first_error(findings)->code, REFUSAL_INVALID_OPTION);
        assert_string_equal(findings_first_error(findings)->subject, "gpu");
        assert_non_null(strstr(findings_first_error(findings)->remedy, "memory-mib"));
}

static void an_option_of_another_type_is_refused_with_the_right_one(void **state) {
        g_autoptr(GPtrArray) findings = findings_new();

        request_refuse_option_type("vcpus", "s", findings);
        assert_non_null(strstr(findings_first_error(findings)->remedy, "\"u\""));
}

static void the_addresses_for_polkit_are_sorted_and_in_full(void **state) {
        const char *gpus[] = { "41:00.0", "0000:01:00.0", NULL };
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = request_new("box", gpus, findings);
        g_autofree char *text = addresses_to_string(request->gpus);

        assert_string_equal(text, "0000:01:00.0,0000:41:00.0");
}

static void every_refusal_code_has_a_name_of_its_own(void **state) {
        for (int i = 0; i < _REFUSAL_CODE_MAX; i++) {
                assert_non_null(refusal_code_to_string(i));
                for (int j = 0; j < i; j++)
                        assert_string_not_equal(refusal_code_to_string(i),
                                                refusal_code_to_string(j));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(names_are_bounded),
                cmocka_unit_test(a_malformed_address_is_named),
                cmocka_unit_test(the_same_gpu_twice_is_refused_also_once_short_and_once_long),
                cmocka_unit_test(sizes_are_bounded),
                cmocka_unit_test(words_are_taken_from_their_lists),
                cmocka_unit_test(more_vcpus_than_max_are_refused_and_max_follows_vcpus),
                cmocka_unit_test(huge_pages_have_two_sizes),
                cmocka_unit_test(ignition_is_one_json_object_of_at_most_a_mebibyte),
                cmocka_unit_test(nothing_of_an_ignition_text_reaches_a_message),
                cmocka_unit_test(a_mac_is_a_unicast_mac),
                cmocka_unit_test(device_options_are_bounded),
                cmocka_unit_test(a_disk_needs_a_path_and_a_nic_a_source),
                cmocka_unit_test(devices_without_an_id_get_the_next_free_one),
                cmocka_unit_test(one_id_twice_is_refused),
                cmocka_unit_test(a_request_names_its_files_in_one_order),
                cmocka_unit_test(what_a_caller_wrote_is_cut_before_it_is_told_back),
                cmocka_unit_test(a_uuid_is_kept_in_lower_case),
                cmocka_unit_test(what_belongs_to_a_kernel_needs_a_kernel),
                cmocka_unit_test(a_kernel_command_line_is_one_line_of_at_most_2047_bytes),
                cmocka_unit_test(the_format_follows_the_name_and_never_the_content),
                cmocka_unit_test(an_unknown_option_is_refused_with_the_known_ones),
                cmocka_unit_test(an_option_of_another_type_is_refused_with_the_right_one),
                cmocka_unit_test(the_addresses_for_polkit_are_sorted_and_in_full),
                cmocka_unit_test(every_refusal_code_has_a_name_of_its_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
