/* Serial numbers out of configuration spaces, well-formed and not. Each space is written here byte
 * for byte, as a device would answer. */
#include "host/survey-serial.h"

#include "autoptr.h"
#include "testing.h"

#include <string.h>
#include <sys/mman.h>
#include <umockdev.h>
#include <unistd.h>

#define ALL   4096
#define BASIC 256 /* a conventional device's space, or all that one without rights may read: 64 */

typedef struct Word {
        unsigned at;
        uint32_t value;
} Word;

typedef struct Space {
        const char *what;
        const char *serial; /* NULL = none */
        size_t length;
        int fill;       /* the byte that all else reads as */
        Word words[10]; /* up to the first at 0 */
} Space;

#define HEADER(id, next) ((uint32_t)(next) << 20 | 1u << 16 | (id))

static const Space spaces[] = {
        { "the first capability",
          "00-1b-21-ff-ff-12-34-56",
          ALL,
          0,
          { { 0x100, HEADER(3, 0) }, { 0x104, 0xff123456 }, { 0x108, 0x001b21ff } } },
        { "behind two others, the later of them further down",
          "01-02-03-04-05-06-07-08",
          ALL,
          0,
          { { 0x100, HEADER(1, 0x300) },
            { 0x300, HEADER(2, 0x148) },
            { 0x148, HEADER(3, 0x400) },
            { 0x14c, 0x05060708 },
            { 0x150, 0x01020304 } } },
        { "at the very end",
          "01-02-03-04-05-06-07-08",
          ALL,
          0,
          { { 0x100, HEADER(1, 0xff4) },
            { 0xff4, HEADER(3, 0) },
            { 0xff8, 0x05060708 },
            { 0xffc, 0x01020304 } } },
        { "one half all ones",
          "ff-ff-ff-ff-00-00-00-01",
          ALL,
          0,
          { { 0x100, HEADER(3, 0) }, { 0x104, 1 }, { 0x108, 0xffffffff } } },
        { "low bits of the next pointer set, which are reserved",
          "00-00-00-00-00-00-00-01",
          ALL,
          0,
          { { 0x100, HEADER(1, 0x203) }, { 0x200, HEADER(3, 0) }, { 0x204, 1 } } },
        { "no capability at all", NULL, ALL, 0, { { 0 } } },
        { "other capabilities alone",
          NULL,
          ALL,
          0,
          { { 0x100, HEADER(1, 0x140) }, { 0x140, HEADER(0x10, 0) } } },
        { "no extended space", NULL, BASIC, 0, { { 0 } } },
        { "no rights to more than the beginning", NULL, 64, 0, { { 0 } } },
        { "an empty file", NULL, 0, 0, { { 0 } } },
        { "a device that does not answer", NULL, ALL, 0xff, { { 0 } } },
        { "one that stopped answering at the second capability",
          NULL,
          ALL,
          0xff,
          { { 0x100, HEADER(1, 0x140) } } },
        { "one that stopped answering at the number",
          NULL,
          ALL,
          0xff,
          { { 0x100, HEADER(3, 0) } } },
        { "a number that was never written", NULL, ALL, 0, { { 0x100, HEADER(3, 0) } } },
        { "a chain to itself", NULL, ALL, 0, { { 0x100, HEADER(1, 0x100) } } },
        { "a chain in a circle",
          NULL,
          ALL,
          0,
          { { 0x100, HEADER(1, 0x200) }, { 0x200, HEADER(2, 0x100) } } },
        { "a chain into the basic space",
          NULL,
          ALL,
          0,
          { { 0x40, HEADER(3, 0) }, { 0x44, 1 }, { 0x100, HEADER(1, 0x40) } } },
        { "a number cut off by the end",
          NULL,
          0x10a,
          0,
          { { 0x100, HEADER(3, 0) }, { 0x104, 1 } } },
        { "a number that would go past the end",
          NULL,
          ALL,
          0,
          { { 0x100, HEADER(1, 0xff8) }, { 0xff8, HEADER(3, 0) }, { 0xffc, 1 } } },
};

static void space_fill(const Space *space, uint8_t bytes[static ALL]) {
        memset(bytes, space->fill, ALL);
        for (const Word *word = space->words; word->at != 0; word++) {
                uint32_t value = GUINT32_TO_LE(word->value);

                if (word->at + sizeof value <= ALL)
                        memcpy(bytes + word->at, &value, sizeof value);
        }
}

static void serial_numbers_are_found_where_there_are_some(void **state) {
        for (size_t i = 0; i < G_N_ELEMENTS(spaces); i++) {
                g_autofd int config = memfd_create("config", MFD_CLOEXEC);
                char serial[PCI_SERIAL_BUFFER] = "untouched";
                uint8_t bytes[ALL];
                bool found;

                space_fill(&spaces[i], bytes);
                assert_true(config >= 0);
                assert_int_equal(write(config, bytes, spaces[i].length), spaces[i].length);
                found = serial_read(config, serial);
                if (found != (spaces[i].serial != NULL))
                        fail_msg("%s: %s", spaces[i].what, found ? serial : "none");
                assert_string_equal(serial, spaces[i].serial ?: "untouched");
        }
}

static void a_functions_serial_number_is_read_from_sysfs(void **state) {
        g_autoptr(UMockdevTestbed) testbed = umockdev_testbed_new();
        g_autofree char *device =
                umockdev_testbed_add_device(testbed, "pci", "0000:01:00.1", NULL, NULL, NULL);
        char serial[PCI_SERIAL_BUFFER];
        PciAddress address;
        uint8_t bytes[ALL];

        space_fill(&spaces[0], bytes);
        umockdev_testbed_set_attribute_binary(testbed, device, "config", bytes, sizeof bytes);
        assert_true(pci_address_parse("0000:01:00.1", &address));
        assert_true(serial_survey(address, serial));
        assert_string_equal(serial, "00-1b-21-ff-ff-12-34-56");
        address.function = 2;
        assert_false(serial_survey(address, serial));
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(serial_numbers_are_found_where_there_are_some),
                cmocka_unit_test(a_functions_serial_number_is_read_from_sysfs),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
