/* Looks at a kernel's first bytes as QEMU does (hw/i386/x86.c, x86_load_linux() in 7.2: Linux's own
 * header, else Multiboot or ELF; QEMU ends where it finds none of them and is to load a ramdisk
 * too). What is for EFI is left to the firmware. */
#include "survey-bootable.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOKED_AT 8192

/* Linux, Documentation/x86/boot.rst and Documentation/arm64/booting.rst. */
#define AT_SETUP_SECTORS   0x1f1
#define AT_MAGIC           0x202
#define AT_ARM64_MAGIC     0x38
#define SETUP_SECTORS_LEFT 4 /* what 0 means */
#define SECTOR             512

#define MULTIBOOT_MAGIC 0x1badb002u

typedef struct Head {
        unsigned char bytes[LOOKED_AT];
        size_t length;
} Head;

static bool head_has(const Head *head, size_t at, const char *magic, size_t length) {
        return head->length >= at + length && memcmp(head->bytes + at, magic, length) == 0;
}

static bool head_has_multiboot(const Head *head) {
        for (size_t at = 0; at + sizeof(uint32_t) <= head->length; at += sizeof(uint32_t)) {
                uint32_t word;

                memcpy(&word, head->bytes + at, sizeof word);
                if (le32toh(word) == MULTIBOOT_MAGIC)
                        return true;
        }
        return false;
}

static bool setup_is_whole(const Head *head, uint64_t size) {
        unsigned sectors = head->bytes[AT_SETUP_SECTORS];

        return (uint64_t)(1 + (sectors > 0 ? sectors : SETUP_SECTORS_LEFT)) * SECTOR <= size;
}

const char *bootable_survey(int fd, const char **ret_remedy) {
        struct stat status;
        Head head = { 0 };
        ssize_t n = fstat(fd, &status) < 0 ? -1 : pread(fd, head.bytes, sizeof head.bytes, 0);

        *ret_remedy = "See whether its file system or disk is in order.";
        if (n < 0)
                return "could not be read";
        head.length = (size_t)n;

        *ret_remedy = "Use the kernel as its package installs it, such as /boot/vmlinuz-*.";
        if (head_has(&head, AT_ARM64_MAGIC, "ARM\x64", 4))
                return "is a kernel for other processors than the machine's (arm64)";
        if (head_has(&head, AT_MAGIC, "HdrS", 4))
                return setup_is_whole(&head, (uint64_t)status.st_size) ? NULL
                                                                       : "is a truncated kernel";
        if (head_has(&head, 0, "MZ", 2) ||
            head_has(&head, 0,
                     "\x7f"
                     "ELF",
                     4) ||
            head_has_multiboot(&head))
                return NULL;
        return "is not a kernel that QEMU can boot";
}
