/* The ledger: what is written is read back, and what is damaged is no record. */
#include "host/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

#define CARD "0000:01:00.0"

typedef struct Fixture {
        char *folder;
        char *state_dir;
        Ledger *ledger;
} Fixture;

static int setup(void **state) {
        Fixture *fixture = g_new0(Fixture, 1);

        fixture->folder = g_dir_make_tmp("test-ledger-XXXXXX", NULL);
        fixture->state_dir = g_build_filename(fixture->folder, "state", NULL);
        *state = fixture;
        return ledger_open(fixture->state_dir, &fixture->ledger);
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        g_autoptr(GDir) dir = g_dir_open(fixture->state_dir, 0, NULL);
        const char *name;

        while ((name = g_dir_read_name(dir))) {
                g_autofree char *path = g_build_filename(fixture->state_dir, name, NULL);

                g_remove(path);
        }
        g_rmdir(fixture->state_dir);
        g_rmdir(fixture->folder);
        ledger_close(fixture->ledger);
        g_free(fixture->state_dir);
        g_free(fixture->folder);
        g_free(fixture);
        return 0;
}

static CardRecord *record_make(const char *card) {
        CardRecord *record;
        FunctionOrigin gpu = { .driver = "nvidia", .power = { "1", "auto" }, .known = true };
        FunctionOrigin audio = { .driver_override = "odd;\\ one=#\t[x]", .known = false };

        assert_true(pci_address_parse(card, &gpu.address));
        audio.address = gpu.address;
        audio.address.function = 1;
        record = card_record_new(gpu.address);
        g_array_append_val(record->origins, gpu);
        g_array_append_val(record->origins, audio);
        g_strlcpy(record->machine_uuid, "8a1c6f0e-4c5c-4d0e-9d57-0d4d4f3f7e11",
                  sizeof record->machine_uuid);
        record->return_to_host = true;
        return record;
}

static void assert_same(const CardRecord *a, const CardRecord *b) {
        assert_true(pci_address_equal(a->card, b->card));
        assert_string_equal(a->machine_uuid, b->machine_uuid);
        assert_int_equal(a->return_to_host, b->return_to_host);
        assert_int_equal(a->any_host_driver, b->any_host_driver);
        assert_int_equal(a->origins->len, b->origins->len);
        for (guint i = 0; i < a->origins->len; i++) {
                const FunctionOrigin *x = &g_array_index(a->origins, FunctionOrigin, i);
                const FunctionOrigin *y = &g_array_index(b->origins, FunctionOrigin, i);

                assert_true(pci_address_equal(x->address, y->address));
                assert_string_equal(x->driver, y->driver);
                assert_string_equal(x->driver_override, y->driver_override);
                assert_string_equal(x->power.d3cold_allowed, y->power.d3cold_allowed);
                assert_string_equal(x->power.control, y->power.control);
                assert_int_equal(x->known, y->known);
        }
}

static void test_round_trip(void **state) {
        Fixture *fixture = *state;
        g_autoptr(CardRecord) first = record_make(CARD);
        g_autoptr(CardRecord) second = record_make("0000:02:00.0");
        g_autoptr(CardRecord) copy = NULL;
        g_autoptr(GPtrArray) records = NULL;
        struct stat status;

        assert_return_code(stat(fixture->state_dir, &status), errno);
        assert_int_equal(status.st_mode & 0777, 0700);

        second->machine_uuid[0] = '\0';
        second->any_host_driver = true;
        assert_int_equal(ledger_write(fixture->ledger, second), 0);
        assert_int_equal(ledger_write(fixture->ledger, first), 0);
        first->return_to_host = false;
        assert_int_equal(ledger_write(fixture->ledger, first), 0);

        records = ledger_read(fixture->ledger);
        assert_int_equal(records->len, 2);
        assert_same(g_ptr_array_index(records, 0), first);
        assert_same(g_ptr_array_index(records, 1), second);
        copy = card_record_copy(g_ptr_array_index(records, 0));
        assert_same(copy, first);
}

/* A record of an earlier version lacks what is new since: then it says no, and knows nothing. */
static void test_earlier_version(void **state) {
        static const char *const new[] = { "AnyHostDriver=false\n", "D3coldAllowed=1\n",
                                           "D3coldAllowed=\n", "PowerControl=auto\n",
                                           "PowerControl=\n" };
        Fixture *fixture = *state;
        g_autofree char *path = g_build_filename(fixture->state_dir, CARD ".card", NULL);
        g_autoptr(CardRecord) record = record_make(CARD);
        g_autoptr(GPtrArray) records = NULL;
        g_autoptr(GString) text = NULL;
        g_autofree char *data = NULL;
        g_autofree char *checksum = NULL;

        assert_int_equal(ledger_write(fixture->ledger, record), 0);
        assert_true(g_file_get_contents(path, &data, NULL, NULL));
        *strstr(data, "# sha256 ") = '\0';
        text = g_string_new(data);
        for (size_t i = 0; i < G_N_ELEMENTS(new); i++)
                assert_int_equal(g_string_replace(text, new[i], "", 0), 1);
        checksum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text->str, -1);
        g_string_append_printf(text, "# sha256 %s\n", checksum);
        assert_true(g_file_set_contents(path, text->str, -1, NULL));

        records = ledger_read(fixture->ledger);
        assert_int_equal(records->len, 1);
        g_array_index(record->origins, FunctionOrigin, 0).power = (FunctionPower){ 0 };
        assert_same(g_ptr_array_index(records, 0), record);
}

static void test_remove(void **state) {
        Fixture *fixture = *state;
        g_autoptr(CardRecord) record = record_make(CARD);
        g_autoptr(GPtrArray) records = NULL;

        assert_int_equal(ledger_remove(fixture->ledger, record->card), 0);
        assert_int_equal(ledger_write(fixture->ledger, record), 0);
        assert_int_equal(ledger_remove(fixture->ledger, record->card), 0);
        records = ledger_read(fixture->ledger);
        assert_int_equal(records->len, 0);
}

/* Writes @data as the card's file. Whether it is taken for a record; the file is gone afterwards.
 */
static bool is_record(Fixture *fixture, const char *data, gsize length) {
        g_autofree char *path = g_build_filename(fixture->state_dir, CARD ".card", NULL);
        g_autofree char *aside = g_strconcat(path, ".corrupt", NULL);
        g_autoptr(GPtrArray) records = NULL;

        assert_true(g_file_set_contents(path, data, (gssize)length, NULL));
        records = ledger_read(fixture->ledger);
        assert_int_equal(g_file_test(aside, G_FILE_TEST_EXISTS), records->len == 0);
        assert_int_equal(g_file_test(path, G_FILE_TEST_EXISTS), records->len == 1);
        g_remove(aside);
        g_remove(path);
        return records->len == 1;
}

static char *file_make(Fixture *fixture, gsize *ret_length) {
        g_autofree char *path = g_build_filename(fixture->state_dir, CARD ".card", NULL);
        g_autoptr(CardRecord) record = record_make(CARD);
        char *data;

        assert_int_equal(ledger_write(fixture->ledger, record), 0);
        assert_true(g_file_get_contents(path, &data, ret_length, NULL));
        return data;
}

static void test_every_truncation(void **state) {
        Fixture *fixture = *state;
        gsize length;
        g_autofree char *data = file_make(fixture, &length);

        assert_true(is_record(fixture, data, length));
        for (gsize cut = 0; cut < length; cut++)
                assert_false(is_record(fixture, data, cut));
}

static void test_every_changed_byte(void **state) {
        Fixture *fixture = *state;
        gsize length;
        g_autofree char *data = file_make(fixture, &length);

        for (gsize at = 0; at < length; at++)
                for (unsigned bit = 0; bit < 8; bit++) {
                        data[at] = (char)(data[at] ^ 1 << bit);
                        assert_false(is_record(fixture, data, length));
                        data[at] = (char)(data[at] ^ 1 << bit);
                }
        assert_true(is_record(fixture, data, length));
}

/* A record that is whole but lies under another card's name, and files that are none of ours. */
static void test_foreign_files(void **state) {
        Fixture *fixture = *state;
        gsize length;
        g_autofree char *data = file_make(fixture, &length);
        g_autofree char *other = g_build_filename(fixture->state_dir, "0000:02:00.0.card", NULL);
        g_autofree char *odd = g_build_filename(fixture->state_dir, "odd.card", NULL);
        g_autofree char *lock = g_build_filename(fixture->state_dir, CARD ".lock", NULL);
        g_autofree char *half = g_build_filename(fixture->state_dir, CARD ".card.new", NULL);
        g_autoptr(GPtrArray) records = NULL;

        assert_true(g_file_set_contents(other, data, (gssize)length, NULL));
        assert_true(g_file_set_contents(odd, data, (gssize)length, NULL));
        assert_true(g_file_set_contents(lock, "", 0, NULL));
        assert_true(g_file_set_contents(half, data, 7, NULL));
        records = ledger_read(fixture->ledger);
        assert_int_equal(records->len, 1);
        assert_false(g_file_test(other, G_FILE_TEST_EXISTS));
        assert_false(g_file_test(odd, G_FILE_TEST_EXISTS));
        assert_true(g_file_test(lock, G_FILE_TEST_EXISTS));
}

static void test_no_folder(void **state) {
        Ledger *ledger = NULL;

        assert_true(ledger_open("/proc/no-such-folder", &ledger) < 0);
        assert_null(ledger);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
                cmocka_unit_test_setup_teardown(test_earlier_version, setup, teardown),
                cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
                cmocka_unit_test_setup_teardown(test_every_truncation, setup, teardown),
                cmocka_unit_test_setup_teardown(test_every_changed_byte, setup, teardown),
                cmocka_unit_test_setup_teardown(test_foreign_files, setup, teardown),
                cmocka_unit_test(test_no_folder),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
