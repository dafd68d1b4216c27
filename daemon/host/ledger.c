/* The ledger: a key file for each card. It knows files and refuses to know what its records are
 * for.
 *
 * A record is written to a file beside, synced, and renamed over the old one, so a reader sees the
 * old one or the new one and nothing between. The last line is a checksum of all before it: a file
 * that was cut short or altered is no record, for a half of one would send a card to the wrong
 * place. */
#include "ledger.h"

#include "autoptr.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

typedef DIR Dir;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Dir, closedir)

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

                pci_address_print(origin->address, text);
                g_strv_builder_add(builder, text);
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

static bool origins_parse(GKeyFile *file, GArray *origins) {
        g_auto(GStrv) functions = g_key_file_get_string_list(file, "Card", "Functions", NULL, NULL);

        if (!functions)
                return false;

        for (char **name = functions; *name; name++) {
                FunctionOrigin origin = { 0 };
                FunctionPower *power = &origin.power;

                if (!pci_address_parse(*name, &origin.address) ||
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

/* NULL when @data is not what ledger_write() writes for @card. */
static CardRecord *record_parse(const char *data, PciAddress card) {
        g_autoptr(GKeyFile) file = g_key_file_new();
        g_autoptr(CardRecord) record = card_record_new(card);
        char text[PCI_ADDRESS_BUFFER];
        PciAddress address;

        if (!checksum_is_right(data) ||
            !g_key_file_load_from_data(file, data, strlen(data), G_KEY_FILE_NONE, NULL) ||
            g_key_file_get_integer(file, "Card", "Version", NULL) != VERSION ||
            !string_take(file, "Card", "Address", text, sizeof text) ||
            !pci_address_parse(text, &address) || !pci_address_equal(address, card) ||
            !string_take(file, "Card", "Machine", record->machine_uuid,
                         sizeof record->machine_uuid) ||
            !boolean_take(file, "Card", "ReturnToHost", &record->return_to_host) ||
            (g_key_file_has_key(file, "Card", "AnyHostDriver", NULL) &&
             !boolean_take(file, "Card", "AnyHostDriver", &record->any_host_driver)) ||
            !origins_parse(file, record->origins))
                return NULL;

        return g_steal_pointer(&record);
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
        int r = file_replace(ledger->dir, name, data);

        if (r < 0)
                sd_journal_print(LOG_ERR, "cannot write the ledger's %s: %s", name, g_strerror(-r));
        return r;
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

/* A new string; NULL when the file cannot be read, is too long or holds a NUL. */
static char *data_read(int dir, const char *name) {
        g_autofd int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        g_autofree char *data = NULL;
        size_t length = 0;

        if (fd < 0)
                return NULL;

        data = g_malloc(FILE_BYTES_MAX + 1);
        for (;;) {
                ssize_t n = read(fd, data + length, FILE_BYTES_MAX + 1 - length);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return NULL;
                if (n == 0)
                        break;
                length += (size_t)n;
                if (length > FILE_BYTES_MAX)
                        return NULL;
        }

        data[length] = '\0';
        return strlen(data) == length ? g_steal_pointer(&data) : NULL;
}

/* @name is a record's file; its record, or NULL after it was moved aside. */
static CardRecord *file_read(Ledger *ledger, const char *name) {
        g_autofree char *stem = g_strndup(name, strlen(name) - strlen(SUFFIX));
        g_autofree char *data = data_read(ledger->dir, name);
        g_autofree char *aside = NULL;
        CardRecord *record = NULL;
        PciAddress card;

        if (data && pci_address_parse(stem, &card))
                record = record_parse(data, card);
        if (record)
                return record;

        aside = g_strconcat(name, ".corrupt", NULL);
        (void)renameat(ledger->dir, name, ledger->dir, aside);
        sd_journal_print(LOG_WARNING, "the ledger's %s is damaged and was moved aside to %s", name,
                         aside);
        return NULL;
}

static int record_compare(gconstpointer a, gconstpointer b) {
        return pci_address_compare((*(const CardRecord *const *)a)->card,
                                   (*(const CardRecord *const *)b)->card);
}

GPtrArray *ledger_read(Ledger *ledger) {
        GPtrArray *records = g_ptr_array_new_with_free_func((GDestroyNotify)card_record_free);
        g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
        int fd = openat(ledger->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_autoptr(Dir) dir = fd >= 0 ? fdopendir(fd) : NULL;
        struct dirent *entry;

        if (!dir) {
                sd_journal_print(LOG_ERR, "cannot read the ledger: %s", g_strerror(errno));
                if (fd >= 0)
                        close(fd);
                return records;
        }

        while ((entry = readdir(dir)))
                if (g_str_has_suffix(entry->d_name, SUFFIX))
                        g_ptr_array_add(names, g_strdup(entry->d_name));
        for (guint i = 0; i < names->len; i++) {
                CardRecord *record = file_read(ledger, g_ptr_array_index(names, i));

                if (record)
                        g_ptr_array_add(records, record);
        }
        g_ptr_array_sort(records, record_compare);
        return records;
}
