/* The ledger: a key file for each card. It knows files and refuses to know what its records are
 * for.
 *
 * A record is written to a file beside, synced, and renamed over the old one, so a reader sees the
 * old one or the new one and nothing between. The last line is a checksum of all before it: a file
 * that was cut short or altered is no record, for a half of one would send a card to the wrong
 * place. */
#include "ledger.h"

#include "reading.h"

#include "autoptr.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>

#define VERSION        1
#define SUFFIX         ".card"
#define CHECKSUM_BEGIN "# sha256 "
#define FILE_BYTES_MAX (64 * 1024)

struct Ledger {
        int dir;
};

int ledger_open(const char *state_dir, Ledger **ret) {
        g_autofd int dir = -1;

        if (g_mkdir_with_parents(state_dir, 0700) < 0)
                return -errno;
        dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0)
                return -errno;

        *ret = g_new0(Ledger, 1);
        (*ret)->dir = dir;
        dir = -1;
        return 0;
}

void ledger_close(Ledger *ledger) {
        if (!ledger)
                return;

        close(ledger->dir);
        g_free(ledger);
}

static char *file_name(PciAddress card) {
        char text[PCI_ADDRESS_BUFFER];

        return g_strconcat(pci_address_print(card, text), SUFFIX, NULL);
}

static char *ids_print(const FunctionIds *ids) {
        return g_strdup_printf("%04x:%04x:%04x:%04x", ids->vendor, ids->device,
                               ids->subsystem_vendor, ids->subsystem_device);
}

static char *record_print(const CardRecord *record) {
        g_autoptr(GKeyFile) file = g_key_file_new();
        g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
        g_auto(GStrv) functions = NULL;
        g_autofree char *body = NULL;
        g_autofree char *checksum = NULL;
        char text[PCI_ADDRESS_BUFFER];

        g_key_file_set_integer(file, "Card", "Version", VERSION);
        g_key_file_set_string(file, "Card", "Address", pci_address_print(record->card, text));
        g_key_file_set_string(file, "Card", "Machine", record->machine_uuid);
        g_key_file_set_boolean(file, "Card", "ReturnToHost", record->return_to_host);
        g_key_file_set_boolean(file, "Card", "AnyHostDriver", record->any_host_driver);

        for (guint i = 0; i < record->origins->len; i++) {
                const FunctionOrigin *origin = &g_array_index(record->origins, FunctionOrigin, i);

                g_autofree char *ids = ids_print(&origin->ids);

                pci_address_print(origin->address, text);
                g_strv_builder_add(builder, text);
                g_key_file_set_string(file, text, "Ids", ids);
                g_key_file_set_boolean(file, text, "Known", origin->known);
                g_key_file_set_string(file, text, "Driver", origin->driver);
                g_key_file_set_string(file, text, "DriverOverride", origin->driver_override);
                g_key_file_set_string(file, text, "D3coldAllowed", origin->power.d3cold_allowed);
                g_key_file_set_string(file, text, "PowerControl", origin->power.control);
        }
        functions = g_strv_builder_end(builder);
        g_key_file_set_string_list(file, "Card", "Functions", (const char *const *)functions,
                                   g_strv_length(functions));

        body = g_key_file_to_data(file, NULL, NULL);
        checksum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, body, -1);
        return g_strconcat(body, CHECKSUM_BEGIN, checksum, "\n", NULL);
}

/* A string that must be there and fit @size bytes. */
static bool string_take(GKeyFile *file, const char *group, const char *key, char *ret,
                        size_t size) {
        g_autofree char *value = g_key_file_get_string(file, group, key, NULL);

        return value && g_strlcpy(ret, value, size) < size;
}

/* One that records had not always: "" where it is missing. */
static bool string_take_new(GKeyFile *file, const char *group, const char *key, char *ret,
                            size_t size) {
        ret[0] = '\0';
        return !g_key_file_has_key(file, group, key, NULL) ||
               string_take(file, group, key, ret, size);
}

static bool boolean_take(GKeyFile *file, const char *group, const char *key, bool *ret) {
        g_autoptr(GError) error = NULL;

        *ret = g_key_file_get_boolean(file, group, key, &error);
        return !error;
}

/* Records had them not always. */
static bool ids_take(GKeyFile *file, const char *group, FunctionIds *ret) {
        g_autofree char *text = g_key_file_get_string(file, group, "Ids", NULL);

        return !text ||
               sscanf(text, "%4" SCNx16 ":%4" SCNx16 ":%4" SCNx16 ":%4" SCNx16, &ret->vendor,
                      &ret->device, &ret->subsystem_vendor, &ret->subsystem_device) == 4;
}

static bool origins_parse(GKeyFile *file, GArray *origins) {
        g_auto(GStrv) functions = g_key_file_get_string_list(file, "Card", "Functions", NULL, NULL);

        if (!functions)
                return false;

        for (char **name = functions; *name; name++) {
                FunctionOrigin origin = { 0 };
                FunctionPower *power = &origin.power;

                if (!pci_address_parse(*name, &origin.address) ||
                    !ids_take(file, *name, &origin.ids) ||
                    !boolean_take(file, *name, "Known", &origin.known) ||
                    !string_take(file, *name, "Driver", origin.driver, sizeof origin.driver) ||
                    !string_take(file, *name, "DriverOverride", origin.driver_override,
                                 sizeof origin.driver_override) ||
                    !string_take_new(file, *name, "D3coldAllowed", power->d3cold_allowed,
                                     sizeof power->d3cold_allowed) ||
                    !string_take_new(file, *name, "PowerControl", power->control,
                                     sizeof power->control))
                        return false;
                g_array_append_val(origins, origin);
        }
        return true;
}

/* Whether the last line is the checksum of what stands before it. */
static bool checksum_is_right(const char *data) {
        const char *line = g_strrstr(data, CHECKSUM_BEGIN);
        g_autofree char *checksum = NULL;
        g_autofree char *expected = NULL;

        if (!line || (line != data && line[-1] != '\n'))
                return false;

        checksum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)data,
                                               (gsize)(line - data));
        expected = g_strconcat(CHECKSUM_BEGIN, checksum, "\n", NULL);
        return strcmp(line, expected) == 0;
}

/* What no record of any version may lack. */
static bool body_parse(GKeyFile *file, CardRecord *record) {
        char text[PCI_ADDRESS_BUFFER];
        PciAddress address;

        return string_take(file, "Card", "Address", text, sizeof text) &&
               pci_address_parse(text, &address) && pci_address_equal(address, record->card) &&
               string_take(file, "Card", "Machine", record->machine_uuid,
                           sizeof record->machine_uuid) &&
               boolean_take(file, "Card", "ReturnToHost", &record->return_to_host) &&
               (!g_key_file_has_key(file, "Card", "AnyHostDriver", NULL) ||
                boolean_take(file, "Card", "AnyHostDriver", &record->any_host_driver)) &&
               origins_parse(file, record->origins);
}

/* 0, -EBADMSG when @data is not what ledger_write() writes for @card, or -EPROTONOSUPPORT when that
 * of a newer version has written it: every version ends its records with the checksum, so that the
 * number can be believed. */
static int record_parse(const char *data, PciAddress card, CardRecord **ret) {
        g_autoptr(GKeyFile) file = g_key_file_new();
        g_autoptr(CardRecord) record = card_record_new(card);
        int version;

        if (!checksum_is_right(data) ||
            !g_key_file_load_from_data(file, data, strlen(data), G_KEY_FILE_NONE, NULL))
                return -EBADMSG;
        version = g_key_file_get_integer(file, "Card", "Version", NULL);
        if (version > VERSION)
                return -EPROTONOSUPPORT;
        if (version < 1 || !body_parse(file, record))
                return -EBADMSG;

        *ret = g_steal_pointer(&record);
        return 0;
}

static int data_write(int fd, const char *data) {
        size_t length = strlen(data);

        while (length > 0) {
                ssize_t n = write(fd, data, length);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                length -= (size_t)n;
        }
        return fsync(fd) < 0 ? -errno : 0;
}

static int file_replace(int dir, const char *name, const char *data) {
        g_autofree char *beside = g_strconcat(name, ".new", NULL);
        g_autofd int fd =
                openat(dir, beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        int r;

        if (fd < 0)
                return -errno;

        r = data_write(fd, data);
        if (r >= 0 && renameat(dir, beside, dir, name) < 0)
                r = -errno;
        if (r < 0) {
                (void)unlinkat(dir, beside, 0);
                return r;
        }
        return fsync(dir) < 0 ? -errno : 0;
}

int ledger_write(Ledger *ledger, const CardRecord *record) {
        g_autofree char *name = file_name(record->card);
        g_autofree char *data = record_print(record);

        return file_replace(ledger->dir, name, data);
}

int ledger_remove(Ledger *ledger, PciAddress card) {
        g_autofree char *name = file_name(card);

        if (unlinkat(ledger->dir, name, 0) < 0 && errno != ENOENT) {
                int r = -errno;

                sd_journal_print(LOG_ERR, "cannot remove the ledger's %s: %s", name,
                                 g_strerror(-r));
                return r;
        }
        return fsync(ledger->dir) < 0 ? -errno : 0;
}

/* Where that is lost in a power failure it is done again. */
static int file_move_aside(Ledger *ledger, const char *name, const char *aside) {
        return renameat(ledger->dir, name, ledger->dir, aside) < 0 ? -errno : 0;
}

int ledger_read(Ledger *ledger, PciAddress card, CardRecord **ret) {
        g_autofree char *name = file_name(card);
        g_autofree char *aside = g_strconcat(name, ".corrupt", NULL);
        g_autofree char *data = NULL;
        size_t length;
        int r = reading_bytes(ledger->dir, name, FILE_BYTES_MAX, &data, &length);

        *ret = NULL;
        if (r <= 0 && r != -EFBIG)
                return r;

        r = r > 0 && strlen(data) == length ? record_parse(data, card, ret) : -EBADMSG;
        if (r != -EBADMSG)
                return r < 0 ? r : 1;
        r = file_move_aside(ledger, name, aside);
        if (r >= 0)
                sd_journal_print(LOG_WARNING,
                                 "the ledger's %s is damaged and was moved aside to %s", name,
                                 aside);
        return r;
}

int ledger_list(Ledger *ledger, GArray **ret) {
        g_autoptr(GArray) cards = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_folder(ledger->dir, ".", &names);

        for (guint i = 0; r > 0 && i < names->len; i++) {
                const char *name = g_ptr_array_index(names, i);
                g_autofree char *stem = NULL;
                PciAddress card;

                if (!g_str_has_suffix(name, SUFFIX))
                        continue;
                stem = g_strndup(name, strlen(name) - strlen(SUFFIX));
                if (pci_address_parse(stem, &card))
                        g_array_append_val(cards, card);
        }
        if (r < 0) {
                sd_journal_print(LOG_ERR, "cannot list the ledger: %s", g_strerror(-r));
                return r;
        }
        *ret = g_steal_pointer(&cards);
        return 0;
}

int ledger_set_aside(Ledger *ledger, PciAddress card) {
        g_autofree char *name = file_name(card);
        g_autofree char *aside = g_strconcat(name, ".other", NULL);
        int r = file_move_aside(ledger, name, aside);

        if (r >= 0)
                sd_journal_print(LOG_WARNING,
                                 "the ledger's %s is not of the card that is there now; it was "
                                 "moved aside to %s",
                                 name, aside);
        return r;
}
