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
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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
        FunctionOrigin gpu = { .ids = { 0x10de, 0x1eb8, 0x10de, 0x12a2 },
                               .driver = "nvidia",
                               .power = { "1", "auto" },
                               .known = true };
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
                assert_memory_equal(&x->ids, &y->ids, sizeof x->ids);
        }
}

/* The card's record; the test fails where it has none. */
static CardRecord *record_of(Fixture *fixture, const char *card) {
        CardRecord *record = NULL;
        PciAddress address;

        assert_true(pci_address_parse(card, &address));
        assert_int_equal(ledger_read(fixture->ledger, address, &record), 1);
        return record;
}

/* What is said of a card of which there is no record to be had. */
static int no_record_of(Fixture *fixture, const char *card) {
        CardRecord *record = (CardRecord *)"";
        PciAddress address;
        int r;

        assert_true(pci_address_parse(card, &address));
        r = ledger_read(fixture->ledger, address, &record);
        assert_null(record);
        return r;
}

static bool has_file(Fixture *fixture, const char *name) {
        g_autofree char *path = g_build_filename(fixture->state_dir, name, NULL);

        return g_file_test(path, G_FILE_TEST_EXISTS) || g_file_test(path, G_FILE_TEST_IS_SYMLINK);
}

static guint listed(Fixture *fixture) {
        g_autoptr(GArray) cards = NULL;

        assert_int_equal(ledger_list(fixture->ledger, &cards), 0);
        return cards->len;
}

static void test_round_trip(void **state) {
        Fixture *fixture = *state;
        g_autoptr(CardRecord) first = record_make(CARD);
        g_autoptr(CardRecord) second = record_make("0000:02:00.0");
        g_autoptr(CardRecord) copy = NULL;
        g_autoptr(CardRecord) read = NULL;
        g_autoptr(CardRecord) other = NULL;
        struct stat status;

        assert_return_code(stat(fixture->state_dir, &status), errno);
        assert_int_equal(status.st_mode & 0777, 0700);

        second->machine_uuid[0] = '\0';
        second->any_host_driver = true;
        assert_int_equal(ledger_write(fixture->ledger, second), 0);
        assert_int_equal(ledger_write(fixture->ledger, first), 0);
        first->return_to_host = false;
        assert_int_equal(ledger_write(fixture->ledger, first), 0);

        assert_int_equal(listed(fixture), 2);
        read = record_of(fixture, CARD);
        assert_same(read, first);
        other = record_of(fixture, "0000:02:00.0");
        assert_same(other, second);
        copy = card_record_copy(read);
        assert_same(copy, first);
}

/* A record of an earlier version lacks what is new since: then it says no, and knows nothing. */
static void test_earlier_version(void **state) {
        static const char *const new[] = { "Ids=10de:1eb8:10de:12a2\n",
                                           "Ids=0000:0000:0000:0000\n",
                                           "AnyHostDriver=false\n",
                                           "D3coldAllowed=1\n",
                                           "D3coldAllowed=\n",
                                           "PowerControl=auto\n",
                                           "PowerControl=\n" };
        Fixture *fixture = *state;
        g_autofree char *path = g_build_filename(fixture->state_dir, CARD ".card", NULL);
        g_autoptr(CardRecord) record = record_make(CARD);
        g_autoptr(CardRecord) read = NULL;
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

        read = record_of(fixture, CARD);
        g_array_index(record->origins, FunctionOrigin, 0).power = (FunctionPower){ 0 };
        g_array_index(record->origins, FunctionOrigin, 0).ids = (FunctionIds){ 0 };
        assert_same(read, record);
}

static void test_remove(void **state) {
        Fixture *fixture = *state;
        g_autoptr(CardRecord) record = record_make(CARD);

        assert_int_equal(ledger_remove(fixture->ledger, record->card), 0);
        assert_int_equal(ledger_write(fixture->ledger, record), 0);
        assert_int_equal(ledger_remove(fixture->ledger, record->card), 0);
        assert_int_equal(no_record_of(fixture, CARD), 0);
        assert_int_equal(listed(fixture), 0);
}

/* Writes @data as the card's file. Whether it is taken for a record; the file is gone afterwards.
 */
static bool is_record(Fixture *fixture, const char *data, gsize length) {
        g_autofree char *path = g_build_filename(fixture->state_dir, CARD ".card", NULL);
        g_autofree char *aside = g_strconcat(path, ".corrupt", NULL);
        g_autoptr(CardRecord) record = NULL;
        PciAddress card;
        int r;

        assert_true(pci_address_parse(CARD, &card));
        assert_true(g_file_set_contents(path, data, (gssize)length, NULL));
        r = ledger_read(fixture->ledger, card, &record);
        assert_int_equal(r, record ? 1 : 0);
        assert_int_equal(g_file_test(aside, G_FILE_TEST_EXISTS), r == 0);
        assert_int_equal(g_file_test(path, G_FILE_TEST_EXISTS), r == 1);
        g_remove(aside);
        g_remove(path);
        return r == 1;
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

        assert_true(g_file_set_contents(other, data, (gssize)length, NULL));
        assert_true(g_file_set_contents(odd, data, (gssize)length, NULL));
        assert_true(g_file_set_contents(lock, "", 0, NULL));
        assert_true(g_file_set_contents(half, data, 7, NULL));
        assert_int_equal(listed(fixture), 2);
        assert_int_equal(no_record_of(fixture, "0000:02:00.0"), 0);
        assert_false(g_file_test(other, G_FILE_TEST_EXISTS));
        assert_true(g_file_test(odd, G_FILE_TEST_EXISTS));
        assert_true(g_file_test(lock, G_FILE_TEST_EXISTS));
        assert_int_equal(listed(fixture), 1);
}

/* What cannot be read is neither damage nor no record: it stays as it is, and can be read later. */
static void test_unreadable(void **state) {
        Fixture *fixture = *state;
        g_autoptr(CardRecord) record = record_make(CARD);
        g_autoptr(CardRecord) read = NULL;
        g_autoptr(GArray) cards = NULL;
        struct rlimit limit, none;

        assert_int_equal(ledger_write(fixture->ledger, record), 0);
        assert_return_code(getrlimit(RLIMIT_NOFILE, &limit), errno);
        none = (struct rlimit){ 0, limit.rlim_max };
        assert_return_code(setrlimit(RLIMIT_NOFILE, &none), errno);
        assert_int_equal(no_record_of(fixture, CARD), -EMFILE);
        assert_int_equal(ledger_list(fixture->ledger, &cards), -EMFILE);
        assert_null(cards);
        assert_return_code(setrlimit(RLIMIT_NOFILE, &limit), errno);
        read = record_of(fixture, CARD);
        assert_same(read, record);
}

/* Nor is what lies there and is no file. */
static void test_no_file(void **state) {
        Fixture *fixture = *state;
        g_autofree char *path = g_build_filename(fixture->state_dir, CARD ".card", NULL);

        assert_return_code(symlink("/dev/null", path), errno);
        assert_int_equal(no_record_of(fixture, CARD), -ELOOP);
        assert_true(has_file(fixture, CARD ".card"));
        g_remove(path);
        assert_return_code(mkdir(path, 0700), errno);
        assert_int_equal(no_record_of(fixture, CARD), -EISDIR);
        assert_true(has_file(fixture, CARD ".card"));
}

/* Whole, and with the version @version. */
static void version_write(Fixture *fixture, const char *version) {
        g_autofree char *path = g_build_filename(fixture->state_dir, CARD ".card", NULL);
        g_autofree char *data = file_make(fixture, NULL);
        g_autofree char *line = g_strdup_printf("Version=%s\n", version);
        g_autofree char *checksum = NULL;
        g_autoptr(GString) text = NULL;

        *strstr(data, "# sha256 ") = '\0';
        text = g_string_new(data);
        assert_int_equal(g_string_replace(text, "Version=1\n", line, 0), 1);
        checksum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text->str, -1);
        g_string_append_printf(text, "# sha256 %s\n", checksum);
        assert_true(g_file_set_contents(path, text->str, -1, NULL));
}

static void test_newer_version(void **state) {
        Fixture *fixture = *state;

        version_write(fixture, "2");
        assert_int_equal(no_record_of(fixture, CARD), -EPROTONOSUPPORT);
        assert_true(has_file(fixture, CARD ".card"));
        assert_false(has_file(fixture, CARD ".card.corrupt"));
        version_write(fixture, "0");
        assert_int_equal(no_record_of(fixture, CARD), 0);
        assert_true(has_file(fixture, CARD ".card.corrupt"));
}

/* Where it cannot be moved aside it is still in the way, and must not be written over. */
static void test_damage_that_cannot_be_moved(void **state) {
        Fixture *fixture = *state;
        g_autofree char *path = g_build_filename(fixture->state_dir, CARD ".card", NULL);
        g_autofree char *aside = g_strconcat(path, ".corrupt", NULL);

        assert_true(g_file_set_contents(path, "damaged", -1, NULL));
        assert_return_code(mkdir(aside, 0700), errno);
        assert_int_equal(no_record_of(fixture, CARD), -EISDIR);
        assert_true(has_file(fixture, CARD ".card"));
}

static void test_another_card(void **state) {
        Fixture *fixture = *state;
        g_autoptr(CardRecord) record = record_make(CARD);

        assert_int_equal(ledger_write(fixture->ledger, record), 0);
        assert_int_equal(ledger_set_aside(fixture->ledger, record->card), 0);
        assert_int_equal(no_record_of(fixture, CARD), 0);
        assert_true(has_file(fixture, CARD ".card.other"));
        assert_int_equal(ledger_set_aside(fixture->ledger, record->card), -ENOENT);
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
                cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
                cmocka_unit_test_setup_teardown(test_no_file, setup, teardown),
                cmocka_unit_test_setup_teardown(test_newer_version, setup, teardown),
                cmocka_unit_test_setup_teardown(test_damage_that_cannot_be_moved, setup, teardown),
                cmocka_unit_test_setup_teardown(test_another_card, setup, teardown),
                cmocka_unit_test(test_no_folder),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
