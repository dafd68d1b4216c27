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
