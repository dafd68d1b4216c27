/* Finds a device's serial number in its configuration space (PCI Express Base Specification, 7.9.3:
 * Device Serial Number extended capability). It goes from one capability to the next and reads
 * nothing beside them: there are chips that hang when undefined registers are read (Linux,
 * drivers/pci/pci-sysfs.c, pci_read_config()). */
#include "survey-serial.h"

#include "autoptr.h"

#include <fcntl.h>
#include <stdio.h>

#define EXTENDED_SPACE 0x100  /* where it begins, and with it the first capability */
#define CONFIG_SPACE   0x1000 /* where it ends */

#define CAPABILITY_SERIAL 0x0003

/* A capability is two words at least, so there are never more; a longer chain goes in circles. */
#define CAPABILITIES_MAX ((CONFIG_SPACE - EXTENDED_SPACE) / 8)

#define ALL_ONES UINT32_MAX /* what a device that is not there reads as */

static bool word_read(int config, unsigned at, uint32_t *ret) {
        uint32_t word;

        if (pread(config, &word, sizeof word, at) != (ssize_t)sizeof word)
                return false;
        *ret = GUINT32_FROM_LE(word);
        return *ret != ALL_ONES;
}

static void serial_print(uint32_t upper, uint32_t lower, char ret[static PCI_SERIAL_BUFFER]) {
        g_snprintf(ret, PCI_SERIAL_BUFFER, "%02x-%02x-%02x-%02x-%02x-%02x-%02x-%02x", upper >> 24,
                   upper >> 16 & 0xff, upper >> 8 & 0xff, upper & 0xff, lower >> 24,
                   lower >> 16 & 0xff, lower >> 8 & 0xff, lower & 0xff);
}

bool serial_read(int config, char ret[static PCI_SERIAL_BUFFER]) {
        unsigned at = EXTENDED_SPACE;
        uint32_t header;

        for (unsigned i = 0; i < CAPABILITIES_MAX && at >= EXTENDED_SPACE; i++) {
                if (!word_read(config, at, &header) || header == 0)
                        return false;
                if ((header & 0xffff) == CAPABILITY_SERIAL) {
                        uint32_t words[2]; /* one that is all ones may be half a number */

                        if (pread(config, words, sizeof words, at + 4) != (ssize_t)sizeof words)
                                return false;
                        if ((words[0] | words[1]) == 0 || (words[0] & words[1]) == ALL_ONES)
                                return false;
                        serial_print(GUINT32_FROM_LE(words[1]), GUINT32_FROM_LE(words[0]), ret);
                        return true;
                }
                at = header >> 20 & ~3u;
        }
        return false;
}

bool serial_survey(PciAddress address, char ret[static PCI_SERIAL_BUFFER]) {
        char text[PCI_ADDRESS_BUFFER];
        g_autofree char *path = g_build_filename("/sys/bus/pci/devices",
                                                 pci_address_print(address, text), "config", NULL);
        g_autofd int config = open(path, O_RDONLY | O_CLOEXEC);

        return config >= 0 && serial_read(config, ret);
}
