/* What is read in qcow2 headers, on files that hold little else: a header that QEMU opens, and one
 * field of it changed. That these verdicts are QEMU's was tried with qemu-io. */
#include "host/survey-qcow2.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where the fields are (QEMU, docs/interop/qcow2.txt). */
enum {
        AT_MAGIC = 0,
        AT_VERSION = 4,
        AT_BACKING_OFFSET = 8,
        AT_BACKING_SIZE = 16,
        AT_CLUSTER_BITS = 20,
        AT_SIZE = 24,
        AT_CRYPT_METHOD = 32,
        AT_L1_ENTRIES = 36,
        AT_L1_OFFSET = 40,
        AT_REFCOUNT_OFFSET = 48,
        AT_REFCOUNT_CLUSTERS = 56,
        AT_SNAPSHOTS = 60,
        AT_SNAPSHOTS_OFFSET = 64,
        AT_INCOMPATIBLE = 72,
        AT_REFCOUNT_ORDER = 96,
        AT_LENGTH = 100,
        AT_COMPRESSION = 104,
        AT_EXTENSIONS = 112,
};

typedef struct Image {
        unsigned char bytes[4096];
} Image;

static void put(Image *image, size_t at, size_t count, uint64_t value) {
        while (count-- > 0) {
                image->bytes[at + count] = (unsigned char)value;
                value >>= 8;
        }
}

/* As qemu-img makes it: 64 MiB in clusters of 64 KiB. */
static Image image_new(unsigned version) {
        Image image = { 0 };

        put(&image, AT_MAGIC, 4, 0x514649fb);
        put(&image, AT_VERSION, 4, version);
        put(&image, AT_CLUSTER_BITS, 4, 16);
        put(&image, AT_SIZE, 8, UINT64_C(64) << 20);
        put(&image, AT_L1_ENTRIES, 4, 1);
        put(&image, AT_L1_OFFSET, 8, 3 << 16);
        put(&image, AT_REFCOUNT_OFFSET, 8, 1 << 16);
        put(&image, AT_REFCOUNT_CLUSTERS, 4, 1);
        if (version < 3)
                return image;
        put(&image, AT_REFCOUNT_ORDER, 4, 4);
        put(&image, AT_LENGTH, 4, AT_EXTENSIONS);
        return image;
}

static int image_open(const Image *image, size_t bytes) {
        int fd = memfd_create("image", MFD_CLOEXEC);

        assert_return_code(fd, errno);
        assert_int_equal(write(fd, image->bytes, bytes), (ssize_t)bytes);
        return fd;
}

/* @words: of the reason; NULL = it may be opened. */
static void expect_bytes(const Image *image, size_t bytes, const char *words) {
        int fd = image_open(image, bytes);
        const char *remedy, *why = qcow2_survey(fd, &remedy);

        close(fd);
        if (words ? !why || !strstr(why, words) : why != NULL)
                fail_msg("\"%s\", not \"%s\"", why ?: "", words ?: "");
        assert_true(!why || remedy);
}

static void expect(const Image *image, const char *words) {
        expect_bytes(image, sizeof image->bytes, words);
}

static void test_fields(void **state) {
        static const char damaged[] = "damaged", unknown[] = "unknown version";
        static const struct {
                size_t at, count;
                uint64_t value;
                const char *words, *words_v2; /* of version 3 and 2; "-" = not tried */
        } cases[] = {
                { AT_MAGIC, 1, 'q', "is not in the format qcow2", "is not in the format qcow2" },
                { AT_VERSION, 4, 1, unknown, unknown },
                { AT_VERSION, 4, 4, unknown, "-" },
                { AT_BACKING_OFFSET, 8, 200, "backing file", "backing file" },
                { AT_CLUSTER_BITS, 4, 8, damaged, damaged },
                { AT_CLUSTER_BITS, 4, 22, damaged, damaged },
                { AT_CLUSTER_BITS, 4, UINT32_MAX, damaged, damaged },
                { AT_SIZE, 8, 0, NULL, NULL },
                { AT_SIZE, 8, UINT64_C(512) << 20, NULL, NULL }, /* what one entry covers */
                { AT_SIZE, 8, (UINT64_C(512) << 20) + 1, damaged, damaged },
                { AT_SIZE, 8, UINT64_MAX, damaged, damaged },
                { AT_SIZE, 8, INT64_MAX, damaged, damaged },
                { AT_CRYPT_METHOD, 4, 1, "encrypted", "encrypted" }, /* AES */
                { AT_CRYPT_METHOD, 4, 2, "encrypted", "encrypted" }, /* LUKS */
                { AT_L1_ENTRIES, 4, 0, damaged, damaged },
                { AT_L1_ENTRIES, 4, (32 << 20) / 8, NULL, NULL },
                { AT_L1_ENTRIES, 4, (32 << 20) / 8 + 1, damaged, damaged },
                { AT_L1_OFFSET, 8, (3 << 16) + 512, damaged, damaged },
                { AT_L1_OFFSET, 8, UINT64_MAX << 16, damaged, damaged },
                { AT_REFCOUNT_OFFSET, 8, 512, damaged, damaged },
                { AT_REFCOUNT_CLUSTERS, 4, 0, damaged, damaged },
                { AT_REFCOUNT_CLUSTERS, 4, 128, NULL, NULL },
                { AT_REFCOUNT_CLUSTERS, 4, 129, damaged, damaged },
                { AT_SNAPSHOTS, 4, 65536, NULL, NULL },
                { AT_SNAPSHOTS, 4, 65537, damaged, damaged },
                { AT_SNAPSHOTS_OFFSET, 8, 8, damaged, damaged },
                { AT_INCOMPATIBLE, 8, 1, NULL, "-" }, /* dirty: it is repaired */
                { AT_INCOMPATIBLE, 8, 2, "corrupt", "-" },
                { AT_INCOMPATIBLE, 8, 3, "corrupt", "-" },
                { AT_INCOMPATIBLE, 8, 4, "another file", "-" },
                { AT_INCOMPATIBLE, 8, 5, "another file", "-" },
                { AT_INCOMPATIBLE, 8, 8, damaged, "-" }, /* a compression that is the default one */
                { AT_INCOMPATIBLE, 8, 16, NULL, "-" },   /* extended L2 */
                { AT_INCOMPATIBLE, 8, 32, "unknown feature", "-" },
                { AT_INCOMPATIBLE, 8, 128, "unknown feature", "-" },
                { AT_INCOMPATIBLE, 8, UINT64_C(1) << 63, "unknown feature", "-" },
                { AT_REFCOUNT_ORDER, 4, 6, NULL, "-" },
                { AT_REFCOUNT_ORDER, 4, 7, damaged, "-" },
                { AT_LENGTH, 4, 104, NULL, "-" },
                { AT_LENGTH, 4, 103, damaged, "-" },
                { AT_LENGTH, 4, 65537, damaged, "-" },
                { AT_COMPRESSION, 1, 1, damaged, "-" }, /* without the feature's bit */
                { AT_COMPRESSION, 1, 2, damaged, "-" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                Image image = image_new(3);

                put(&image, cases[i].at, cases[i].count, cases[i].value);
                expect(&image, cases[i].words);
                if (g_strcmp0(cases[i].words_v2, "-") == 0)
                        continue;
                image = image_new(2);
                put(&image, cases[i].at, cases[i].count, cases[i].value);
                expect(&image, cases[i].words_v2);
        }
}

static void test_zstd(void **state) {
        Image image = image_new(3);

        put(&image, AT_INCOMPATIBLE, 8, 8);
        put(&image, AT_COMPRESSION, 1, 1);
        expect(&image, NULL);
        put(&image, AT_COMPRESSION, 1, 2);
        expect(&image, "damaged");
}

/* Subclusters are a 32nd of a cluster, and no smaller than a sector. */
static void test_extended_l2(void **state) {
        Image image = image_new(3);

        put(&image, AT_INCOMPATIBLE, 8, 16);
        put(&image, AT_CLUSTER_BITS, 4, 14);
        put(&image, AT_SIZE, 8, 1 << 20);
        expect(&image, NULL);
        put(&image, AT_CLUSTER_BITS, 4, 13);
        expect(&image, "damaged");
}

static void test_cut_short(void **state) {
        Image image = image_new(3);

        expect_bytes(&image, 103, "is not in the format qcow2");
        expect_bytes(&image, 104, NULL);
        image = image_new(2);
        expect_bytes(&image, 71, "is not in the format qcow2");
        expect_bytes(&image, 72, NULL);
        expect_bytes(&image, 0, "is not in the format qcow2");
}

static size_t put_extension(Image *image, size_t at, uint32_t type, const char *text) {
        put(image, at, 4, type);
        put(image, at + 4, 4, strlen(text));
        memcpy(image->bytes + at + 8, text, strlen(text));
        return at + 8 + (strlen(text) + 7) / 8 * 8;
}

static void test_extensions(void **state) {
        Image image = image_new(3);
        size_t at = put_extension(&image, AT_EXTENSIONS, 0x6803f857, "feature names");

        expect(&image, NULL);
        put(&image, at, 4, 1);
        put(&image, at + 4, 4, 1 << 16); /* beyond the cluster */
        expect(&image, "damaged");
}

static void expect_names(const Image *image, const char *const *names, bool backing_qcow2) {
        int fd = image_open(image, sizeof image->bytes);
        bool backed, qcow2;
        g_autoptr(GPtrArray) found = qcow2_read_names(fd, &backed, &qcow2);

        close(fd);
        assert_non_null(found);
        assert_int_equal(found->len, g_strv_length((char **)names));
        for (guint i = 0; i < found->len; i++)
                assert_string_equal(g_ptr_array_index(found, i), names[i]);
        assert_int_equal(qcow2, backing_qcow2);
        assert_int_equal(backed, g_strcmp0(names[0], "base.img") == 0);
}

static void test_names(void **state) {
        static const char *const none[] = { NULL };
        static const char *const data[] = { "data.raw", NULL };
        static const char *const both[] = { "base.img", "data.raw", NULL };
        Image image = image_new(3), raw = { 0 };
        size_t at;

        expect_names(&raw, none, false);
        expect_names(&image, none, false);
        at = put_extension(&image, AT_EXTENSIONS, 0x44415441, "data.raw");
        expect_names(&image, none, false); /* it has the name, and does not use it */
        put(&image, AT_INCOMPATIBLE, 8, 4);
        expect_names(&image, data, false);
        memcpy(image.bytes + 1000, "base.img", 8);
        put(&image, AT_BACKING_OFFSET, 8, 1000);
        put(&image, AT_BACKING_SIZE, 4, 8);
        expect_names(&image, both, true);
        (void)put_extension(&image, at, 0xe2792aca, "raw");
        expect_names(&image, both, false);
        (void)put_extension(&image, at, 0xe2792aca, "qcow2");
        expect_names(&image, both, true);
        /* What lies outside the header is no name. */
        put(&image, AT_BACKING_OFFSET, 8, 5000);
        put(&image, AT_BACKING_SIZE, 4, 8);
        expect_names(&image, data, false);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fields),      cmocka_unit_test(test_zstd),
                cmocka_unit_test(test_extended_l2), cmocka_unit_test(test_cut_short),
                cmocka_unit_test(test_extensions),  cmocka_unit_test(test_names),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
