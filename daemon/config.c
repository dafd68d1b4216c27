/* Reads vmd.conf. Files that are wrong in any place are refused whole: a service that starts with
 * half of what its administrator wrote does something that nobody has asked for. */
#include "config.h"

#include "core/pci-address.h"
#include "key-file.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

typedef struct Key {
        const char *section;
        const char *name;
        const char *expects; /* for the message */
        bool (*parse)(Config *config, const char *value);
        char *(*print)(const Config *config);
} Key;

/* One file being read. */
typedef struct Reading {
        Config *config;
        const char *path;
        GString *why; /* of all files: everything that is wrong */
} Reading;

static bool parse_number(const char *value, unsigned most, unsigned *ret) {
        guint64 number;

        if (!g_ascii_string_to_unsigned(value, 10, 1, most, &number, NULL))
                return false;
        *ret = (unsigned)number;
        return true;
}

static char *print_number(unsigned number) {
        return g_strdup_printf("%u", number);
}

/* Adds the items between blanks to the list. An empty value empties it instead, and a list that was
 * never assigned is NULL, so that it can have a default. */
static bool parse_list(const char *value, bool (*is_item)(const char *item), char ***list) {
        g_auto(GStrv) split = g_strsplit_set(value, " \t", -1);
        g_autoptr(GStrvBuilder) items = g_strv_builder_new();

        if (value[0] && *list)
                g_strv_builder_addv(items, (const char **)*list);
        for (char **item = split; *item; item++) {
                if (!(*item)[0])
                        continue;
                if (!is_item(*item))
                        return false;
                g_strv_builder_add(items, *item);
        }
        g_strfreev(*list);
        *list = g_strv_builder_end(items);
        return true;
}

static bool is_path(const char *item) {
        return g_path_is_absolute(item);
}

static bool parse_uri(Config *config, const char *value) {
        g_autofree char *scheme = g_uri_parse_scheme(value);

        if (!scheme)
                return false;
        g_free(config->hypervisor_uri);
        config->hypervisor_uri = g_strdup(value);
        return true;
}

static char *print_uri(const Config *config) {
        return g_strdup(config->hypervisor_uri);
}

static bool parse_timeout(Config *config, const char *value) {
        return parse_number(value, 3600, &config->handover_timeout_sec);
}

static char *print_timeout(const Config *config) {
        return print_number(config->handover_timeout_sec);
}

static bool parse_kept_gpus(Config *config, const char *value) {
        g_auto(GStrv) split = g_strsplit_set(value, " \t", -1);

        if (!value[0])
                g_array_set_size(config->kept_gpus, 0);
        for (char **item = split; *item; item++) {
                PciAddress address;

                if (!(*item)[0])
                        continue;
                if (!pci_address_parse(*item, &address))
                        return false;
                g_array_append_val(config->kept_gpus, address);
        }
        return true;
}

static char *print_kept_gpus(const Config *config) {
        g_autoptr(GString) text = g_string_new(NULL);

        for (guint i = 0; i < config->kept_gpus->len; i++) {
                char shown[PCI_ADDRESS_BUFFER];

                pci_address_print(g_array_index(config->kept_gpus, PciAddress, i), shown);
                g_string_append_printf(text, "%s%s", i == 0 ? "" : " ", shown);
        }
        return g_string_free(g_steal_pointer(&text), FALSE);
}

static bool parse_directories(Config *config, const char *value) {
        return parse_list(value, is_path, &config->image_directories);
}

static char *print_directories(const Config *config) {
        return g_strjoinv(" ", config->image_directories);
}

static bool parse_block_devices(Config *config, const char *value) {
        return parse_list(value, is_path, &config->block_devices);
}

static char *print_block_devices(const Config *config) {
        return g_strjoinv(" ", config->block_devices);
}

static bool parse_pending(Config *config, const char *value) {
        return parse_number(value, 4096, &config->pending_per_user);
}

static char *print_pending(const Config *config) {
        return print_number(config->pending_per_user);
}

/* Those of one section stand together. */
static const Key keys[] = {
        { "Hypervisor", "URI", "a libvirt URI such as qemu:///system", parse_uri, print_uri },
        { "GPUs", "HandoverTimeoutSec", "a number of seconds from 1 to 3600", parse_timeout,
          print_timeout },
        { "GPUs", "KeepForMachines", "PCI addresses such as 0000:01:00.0, separated by spaces",
          parse_kept_gpus, print_kept_gpus },
        { "Images", "Directories", "absolute paths, separated by spaces", parse_directories,
          print_directories },
        { "Images", "BlockDevices", "absolute paths or globs, separated by spaces",
          parse_block_devices, print_block_devices },
        { "Limits", "PendingPerUser", "a number from 1 to 4096", parse_pending, print_pending },
};

static const Key *key_find(const char *section, const char *name, bool *ret_section) {
        *ret_section = false;
        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
                if (!g_str_equal(keys[i].section, section))
                        continue;
                *ret_section = true;
                if (g_str_equal(keys[i].name, name))
                        return keys + i;
        }
        return NULL;
}

static void on_wrong(void *userdata, unsigned line, const char *why) {
        Reading *reading = userdata;

        g_string_append_printf(reading->why, "%s:%u: %s\n", reading->path, line, why);
}

static void on_assigned(void *userdata, unsigned line, const char *section, const char *name,
                        const char *value) {
        Reading *reading = userdata;
        g_autofree char *why = NULL;
        bool has_section;
        const Key *key = key_find(section, name, &has_section);

        if (!has_section)
                why = g_strdup_printf("[%s] %s=: there is no section [%s]", section, name, section);
        else if (!key)
                why = g_strdup_printf("[%s] %s=: there is no such key in this section", section,
                                      name);
        else if (!key->parse(reading->config, value))
                why = g_strdup_printf("[%s] %s=%s: expected is %s", section, name, value,
                                      key->expects);
        if (why)
                on_wrong(reading, line, why);
}

/* Whether it lies in what the administrator has written, and trying again cures nothing. */
static bool error_is_mistake(const GError *error) {
        return g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT) ||
               g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOTDIR) ||
               g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_ISDIR) ||
               g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_LOOP) ||
               g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NAMETOOLONG);
}

/* A file that is not there is no mistake, unless it is @listed in its folder. */
static void config_read_file(Config *config, const char *path, bool listed, GStrvBuilder *files,
                             GString *why, bool *ret_unread) {
        static const KeyFileEvents events = { .assigned = on_assigned, .wrong = on_wrong };
        Reading reading = { .config = config, .path = path, .why = why };
        g_autoptr(GError) error = NULL;
        g_autofree char *text = NULL;
        gsize size;

        if (g_file_get_contents(path, &text, &size, &error)) {
                g_strv_builder_add(files, path);
                key_file_read(text, size, &events, &reading);
        } else if (listed || !g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT)) {
                g_string_append_printf(why, "%s\n", error->message);
                *ret_unread |= !error_is_mistake(error);
        }
}

/* The next name in the folder; NULL at its end, or with an errno when that was not reached. */
static const char *folder_next(GDir *dir, int *ret_error) {
        const char *name;

        errno = 0;
        name = g_dir_read_name(dir);
        *ret_error = name ? 0 : errno;
        return name;
}

static int name_order(const void *a, const void *b) {
        g_autofree char *x = g_path_get_basename(*(const char *const *)a);
        g_autofree char *y = g_path_get_basename(*(const char *const *)b);

        return strcmp(x, y);
}

/* The drop-ins' paths in their order, a new array. */
static GPtrArray *drop_ins_find(const char *const *folders, GString *why, bool *ret_unread) {
        g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);

        for (; *folders; folders++) {
                g_autoptr(GError) error = NULL;
                g_autoptr(GDir) dir = g_dir_open(*folders, 0, &error);
                const char *name;
                int failed = 0;

                while (dir && (name = folder_next(dir, &failed)))
                        if (g_str_has_suffix(name, ".conf") &&
                            g_hash_table_add(names, g_strdup(name)))
                                g_ptr_array_add(paths, g_build_filename(*folders, name, NULL));
                if (failed != 0)
                        error = g_error_new(G_FILE_ERROR, g_file_error_from_errno(failed), "%s: %s",
                                            *folders, g_strerror(failed));
                if (!error || g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
                        continue;
                g_string_append_printf(why, "%s\n", error->message);
                *ret_unread |= !error_is_mistake(error);
        }
        g_ptr_array_sort(paths, name_order);
        return paths;
}

int config_read(const char *path, const char *const *folders, Config **ret, char **ret_why) {
        g_autoptr(Config) config = g_new0(Config, 1);
        g_autoptr(GString) why = g_string_new(NULL);
        bool unread = false;
        g_autoptr(GPtrArray) more = drop_ins_find(folders, why, &unread);
        g_autoptr(GStrvBuilder) files = g_strv_builder_new();

        config->hypervisor_uri = g_strdup("qemu:///system");
        config->handover_timeout_sec = 30;
        config->kept_gpus = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        config->pending_per_user = 16;

        config_read_file(config, path, false, files, why, &unread);
        for (guint i = 0; i < more->len; i++)
                config_read_file(config, g_ptr_array_index(more, i), true, files, why, &unread);

        if (!config->image_directories)
                config->image_directories =
                        g_strsplit("/var/lib/feos/images /var/lib/libvirt/images", " ", -1);
        if (!config->block_devices)
                config->block_devices = g_new0(char *, 1);
        config->files = g_strv_builder_end(files);
        if (why->len > 0) {
                g_string_truncate(why, why->len - 1);
                *ret_why = g_strdup(why->str);
                return unread ? -EIO : -EINVAL;
        }
        *ret = g_steal_pointer(&config);
        return 0;
}

char *config_print(const Config *config) {
        g_autofree char *files = g_strjoinv(" ", config->files);
        g_autoptr(GString) text = g_string_new(NULL);
        const char *section = "";

        g_string_append_printf(text, "# %s%s\n", files[0] ? "From " : "From no file: the defaults",
                               files);
        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
                g_autofree char *value = keys[i].print(config);

                if (!g_str_equal(section, keys[i].section))
                        g_string_append_printf(text, "\n[%s]\n", keys[i].section);
                section = keys[i].section;
                g_string_append_printf(text, "%s=%s\n", keys[i].name, value);
        }
        return g_string_free(g_steal_pointer(&text), FALSE);
}

void config_free(Config *config) {
        if (!config)
                return;
        g_free(config->hypervisor_uri);
        if (config->kept_gpus)
                g_array_unref(config->kept_gpus);
        g_strfreev(config->image_directories);
        g_strfreev(config->block_devices);
        g_strfreev(config->files);
        g_free(config);
}
