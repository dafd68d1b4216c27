/* Reads qcow2 headers as QEMU does (docs/interop/qcow2.txt; what is refused and what is not is
 * qcow2_do_open()'s in block/qcow2.c), so that it need not refuse when the cards have been moved. A
 * header may name other files, which QEMU would open as well. */
#include "survey-qcow2.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define QCOW2_MAGIC           0x514649fbu
#define QCOW2_HEADER_BYTES_V2 72
#define QCOW2_HEADER_BYTES_V3 104

#define FEATURE_CORRUPT       (UINT64_C(1) << 1)
#define FEATURE_EXTERNAL_DATA (UINT64_C(1) << 2)
#define FEATURE_COMPRESSION   (UINT64_C(1) << 3)
#define FEATURE_EXTENDED_L2   (UINT64_C(1) << 4)
#define FEATURES_KNOWN        UINT64_C(0x1f) /* and the first one, "dirty", which is repaired */

#define COMPRESSION_ZLIB 0
#define COMPRESSION_ZSTD 1

#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define EXTENSION_DATA_FILE      0x44415441u

/* QEMU's bounds (block/qcow2.h). */
#define CLUSTER_BITS_MIN          9
#define CLUSTER_BITS_MIN_EXTENDED 14 /* 32 subclusters of 512 bytes */
#define CLUSTER_BITS_MAX          21
#define REFCOUNT_TABLE_BYTES_MAX  (UINT64_C(8) << 20)
#define L1_BYTES_MAX              (UINT64_C(32) << 20)
#define SNAPSHOTS_MAX             65536
#define SNAPSHOT_BYTES            40
#define BACKING_NAME_BYTES_MAX    1023

#define DAMAGED        "has a damaged qcow2 header"
#define REMEDY_DAMAGED "Repair it with qemu-img check -r all, or use an intact copy."

typedef struct Qcow2Header {
        uint32_t magic, version;
        uint64_t backing_offset;
        uint32_t backing_size, cluster_bits;
        uint64_t size;
        uint32_t crypt_method, l1_entries;
        uint64_t l1_offset, refcount_offset;
        uint32_t refcount_clusters, snapshots;
        uint64_t snapshots_offset;
        /* From version 3 on; else what version 2 means by their absence. */
        uint64_t incompatible;
        uint32_t refcount_order, length;
        uint8_t compression;
        bool whole; /* the file is no shorter than its header */
} Qcow2Header;

static uint64_t take(const unsigned char **bytes, size_t count) {
        uint64_t value = 0;

        while (count-- > 0)
                value = value << 8 | *(*bytes)++;
        return value;
}

/* The fields follow each other without gaps, big-endian. */
static void header_take(Qcow2Header *header, const unsigned char *bytes, size_t count) {
        header->magic = (uint32_t)take(&bytes, 4);
        header->version = (uint32_t)take(&bytes, 4);
        header->backing_offset = take(&bytes, 8);
        header->backing_size = (uint32_t)take(&bytes, 4);
        header->cluster_bits = (uint32_t)take(&bytes, 4);
        header->size = take(&bytes, 8);
        header->crypt_method = (uint32_t)take(&bytes, 4);
        header->l1_entries = (uint32_t)take(&bytes, 4);
        header->l1_offset = take(&bytes, 8);
        header->refcount_offset = take(&bytes, 8);
        header->refcount_clusters = (uint32_t)take(&bytes, 4);
        header->snapshots = (uint32_t)take(&bytes, 4);
        header->snapshots_offset = take(&bytes, 8);
        header->refcount_order = 4;
        header->length = QCOW2_HEADER_BYTES_V2;
        header->whole = count >= QCOW2_HEADER_BYTES_V2;
        if (header->version < 3)
                return;

        header->incompatible = take(&bytes, 8);
        (void)take(&bytes, 16); /* compatible features, and those that are cleared */
        header->refcount_order = (uint32_t)take(&bytes, 4);
        header->length = (uint32_t)take(&bytes, 4);
        if (header->length > QCOW2_HEADER_BYTES_V3)
                header->compression = (uint8_t)take(&bytes, 1);
        header->whole = count >= QCOW2_HEADER_BYTES_V3;
}

/* 0 or a negative errno. */
static int header_read(int fd, Qcow2Header *ret) {
        unsigned char bytes[QCOW2_HEADER_BYTES_V3 + 1] = { 0 };
        ssize_t n = pread(fd, bytes, sizeof bytes, 0);

        *ret = (Qcow2Header){ 0 };
        if (n < 0)
                return -errno;
        header_take(ret, bytes, (size_t)n);
        return 0;
}

static bool header_is_qcow2(const Qcow2Header *header) {
        return header->magic == QCOW2_MAGIC && header->whole;
}

static bool table_is_sound(const Qcow2Header *header, uint64_t offset, uint64_t entries,
                           uint64_t entry_bytes, uint64_t bytes_max) {
        return entries <= bytes_max / entry_bytes &&
               offset <= (uint64_t)INT64_MAX - entries * entry_bytes &&
               (offset & ((UINT64_C(1) << header->cluster_bits) - 1)) == 0;
}

static bool compression_is_sound(const Qcow2Header *header) {
        return header->compression == COMPRESSION_ZLIB
                       ? (header->incompatible & FEATURE_COMPRESSION) == 0
                       : header->compression == COMPRESSION_ZSTD &&
                                 (header->incompatible & FEATURE_COMPRESSION) != 0;
}

/* Whether the first table has an entry for each part of the disk. */
static bool l1_is_long_enough(const Qcow2Header *header) {
        bool extended = (header->incompatible & FEATURE_EXTENDED_L2) != 0;
        unsigned covered_bits = 2 * header->cluster_bits - (extended ? 4 : 3);
        uint64_t needed;

        if (header->size > (uint64_t)INT64_MAX)
                return false;
        needed = covered_bits < 64
                         ? (header->size + ((UINT64_C(1) << covered_bits) - 1)) >> covered_bits
                         : header->size > 0;
        return header->l1_entries >= needed;
}

static bool header_is_sound(const Qcow2Header *header) {
        unsigned least = header->incompatible & FEATURE_EXTENDED_L2 ? CLUSTER_BITS_MIN_EXTENDED
                                                                    : CLUSTER_BITS_MIN;
        uint64_t cluster;

        if (header->cluster_bits < least || header->cluster_bits > CLUSTER_BITS_MAX)
                return false;
        cluster = UINT64_C(1) << header->cluster_bits;
        return (header->version == 2 || header->length >= QCOW2_HEADER_BYTES_V3) &&
               header->length <= cluster && compression_is_sound(header) &&
               header->refcount_order <= 6 && header->refcount_clusters > 0 &&
               table_is_sound(header, header->refcount_offset, header->refcount_clusters, cluster,
                              REFCOUNT_TABLE_BYTES_MAX) &&
               table_is_sound(header, header->snapshots_offset, header->snapshots, SNAPSHOT_BYTES,
                              (uint64_t)SNAPSHOTS_MAX * SNAPSHOT_BYTES) &&
               table_is_sound(header, header->l1_offset, header->l1_entries, 8, L1_BYTES_MAX) &&
               l1_is_long_enough(header);
}

/* The file's first cluster, in which all of the header is: as much of it as there is. NULL and
 * errno. */
static GByteArray *cluster_read(int fd, unsigned cluster_bits) {
        g_autoptr(GByteArray) cluster = g_byte_array_new();
        size_t got = 0;
        ssize_t n;

        g_byte_array_set_size(cluster, 1u << cluster_bits);
        while (got < cluster->len &&
               (n = pread(fd, cluster->data + got, cluster->len - got, (off_t)got)) != 0) {
                if (n < 0)
                        return NULL;
                got += (size_t)n;
        }
        g_byte_array_set_size(cluster, (guint)got);
        return g_steal_pointer(&cluster);
}

/* @length bytes at @offset as a string; NULL when there are none such. */
static char *name_take(const GByteArray *cluster, uint64_t offset, uint64_t length) {
        if (length == 0 || length > BACKING_NAME_BYTES_MAX || offset > cluster->len ||
            length > cluster->len - offset)
                return NULL;
        return g_strndup((const char *)cluster->data + offset, length);
}

/* Goes over what follows the header, up to the backing file's name or the end of the cluster. False
 * where it does not end well; @ret is the first extension of that type as a string, NULL when there
 * is none. */
static bool extensions_take(const GByteArray *cluster, const Qcow2Header *header, uint32_t type,
                            char **ret) {
        uint64_t end = header->backing_offset ?: UINT64_C(1) << header->cluster_bits;
        uint64_t offset = header->length;

        *ret = NULL;
        while (offset + 8 <= MIN(end, cluster->len)) {
                const unsigned char *at = cluster->data + offset;
                uint32_t found = (uint32_t)take(&at, 4);
                uint64_t length = take(&at, 4);

                offset += 8;
                if (length > end - offset)
                        return false;
                if (found == 0)
                        return true;
                if (found == type && !*ret)
                        *ret = name_take(cluster, offset, length);
                offset += (length + 7) & ~UINT64_C(7);
        }
        return true;
}

static const char *header_refuse(const Qcow2Header *header, const char **ret_remedy) {
        *ret_remedy = "Use qemu-img convert to make one file of it all.";
        if (header->backing_offset != 0)
                return "has a backing file";
        if (header->incompatible & FEATURE_EXTERNAL_DATA)
                return "keeps its data in another file";

        *ret_remedy = "Use qemu-img convert to make an unencrypted copy, and let the guest encrypt "
                      "what is in it.";
        if (header->crypt_method != 0)
                return "is encrypted, and QEMU gets no key for it";

        *ret_remedy = "Use qemu-img convert, of the version that made the image, to make a copy "
                      "without that feature.";
        if (header->incompatible & ~FEATURES_KNOWN)
                return "needs an unknown feature of the format qcow2";

        *ret_remedy = REMEDY_DAMAGED;
        if (header->incompatible & FEATURE_CORRUPT)
                return "is marked as corrupt, and QEMU will not write to it";
        if (!header_is_sound(header))
                return DAMAGED;
        *ret_remedy = NULL;
        return NULL;
}

const char *qcow2_survey(int fd, const char **ret_remedy) {
        g_autoptr(GByteArray) cluster = NULL;
        g_autofree char *none = NULL;
        Qcow2Header header;
        const char *why;

        *ret_remedy = NULL;
        if (header_read(fd, &header) < 0)
                return "could not be read";
        *ret_remedy = "Name its format, or convert it with qemu-img convert -O qcow2.";
        if (!header_is_qcow2(&header))
                return "is not in the format qcow2";
        if (header.version != 2 && header.version != 3)
                return "is of an unknown version of the format qcow2";
        why = header_refuse(&header, ret_remedy);
        if (why)
                return why;
        cluster = cluster_read(fd, header.cluster_bits);
        if (!cluster)
                return "could not be read";
        if (!extensions_take(cluster, &header, 0, &none)) {
                *ret_remedy = REMEDY_DAMAGED;
                return DAMAGED;
        }
        return NULL;
}

GPtrArray *qcow2_read_names(int fd, bool *ret_backed, bool *ret_backing_qcow2) {
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GByteArray) cluster = NULL;
        g_autofree char *format = NULL;
        g_autofree char *data_file = NULL;
        char *backing;
        Qcow2Header header;
        int r = header_read(fd, &header);

        *ret_backed = *ret_backing_qcow2 = false;
        if (r < 0) {
                errno = -r;
                return NULL;
        }
        if (!header_is_qcow2(&header) || header.cluster_bits > CLUSTER_BITS_MAX)
                return g_steal_pointer(&names);
        cluster = cluster_read(fd, header.cluster_bits);
        if (!cluster)
                return NULL;

        backing = header.backing_offset != 0
                          ? name_take(cluster, header.backing_offset, header.backing_size)
                          : NULL;
        if (backing) {
                /* Without a format it is found out by looking, which finds qcow2. */
                (void)extensions_take(cluster, &header, EXTENSION_BACKING_FORMAT, &format);
                *ret_backing_qcow2 = !format || strcmp(format, "qcow2") == 0;
                *ret_backed = true;
                g_ptr_array_add(names, backing);
        }
        (void)extensions_take(cluster, &header, EXTENSION_DATA_FILE, &data_file);
        if (data_file && (header.incompatible & FEATURE_EXTERNAL_DATA))
                g_ptr_array_add(names, g_steal_pointer(&data_file));
        return g_steal_pointer(&names);
}
