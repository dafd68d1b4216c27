/* Reads vmd.conf. A file that is wrong in any place is refused whole: a service that starts with
 * half of what its administrator wrote does something that nobody has asked for. */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

typedef bool (*Parse)(Config *config, const char *value);

typedef struct Key {
        const char *section;
        const char *name;
        const char *expects; /* for the message */
        Parse parse;
} Key;

static bool parse_number(const char *value, unsigned most, unsigned *ret) {
        guint64 number;

        if (!g_ascii_string_to_unsigned(value, 10, 1, most, &number, NULL))
                return false;
        *ret = (unsigned)number;
        return true;
}

/* Splits at blanks; every item must be an absolute path. */
static bool parse_paths(const char *value, char ***ret) {
        g_auto(GStrv) split = g_strsplit_set(value, " \t", -1);
        g_autoptr(GStrvBuilder) paths = g_strv_builder_new();

        for (char **item = split; *item; item++) {
                if (!(*item)[0])
                        continue;
                if (!g_path_is_absolute(*item))
                        return false;
                g_strv_builder_add(paths, *item);
        }
        g_strfreev(*ret);
        *ret = g_strv_builder_end(paths);
        return true;
}

static bool parse_uri(Config *config, const char *value) {
        g_autofree char *scheme = g_uri_parse_scheme(value);

        if (!scheme)
                return false;
        g_free(config->hypervisor_uri);
        config->hypervisor_uri = g_strdup(value);
        return true;
}

static bool parse_timeout(Config *config, const char *value) {
        return parse_number(value, 3600, &config->handover_timeout_sec);
}

static bool parse_directories(Config *config, const char *value) {
        return parse_paths(value, &config->image_directories);
}

static bool parse_block_devices(Config *config, const char *value) {
        return parse_paths(value, &config->block_devices);
}

static bool parse_pending(Config *config, const char *value) {
        return parse_number(value, 4096, &config->pending_per_user);
}

static const Key keys[] = {
        { "Hypervisor", "URI", "a libvirt URI such as qemu:///system", parse_uri },
        { "GPUs", "HandoverTimeoutSec", "a number of seconds from 1 to 3600", parse_timeout },
        { "Images", "Directories", "absolute paths, separated by spaces", parse_directories },
        { "Images", "BlockDevices", "absolute paths or globs, separated by spaces",
          parse_block_devices },
        { "Limits", "PendingPerUser", "a number from 1 to 4096", parse_pending },
};

static const Key *key_find(const char *section, const char *name) {
        for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
                if (g_str_equal(keys[i].section, section) && g_str_equal(keys[i].name, name))
                        return keys + i;
        return NULL;
}

static int config_read_section(Config *config, const char *path, GKeyFile *file,
                               const char *section, char **ret_why) {
        g_auto(GStrv) names = g_key_file_get_keys(file, section, NULL, NULL);

        for (char **name = names; *name; name++) {
                const Key *key = key_find(section, *name);
                g_autofree char *value = g_key_file_get_value(file, section, *name, NULL);

                if (!key) {
                        *ret_why = g_strdup_printf("%s: there is no key %s= in section [%s]", path,
                                                   *name, section);
                        return -EINVAL;
                }
                if (!key->parse(config, value)) {
                        *ret_why = g_strdup_printf("%s: [%s] %s=%s: expected is %s", path, section,
                                                   *name, value, key->expects);
                        return -EINVAL;
                }
        }
        return 0;
}

/* A file that is not there is no mistake. */
static int config_read_file(Config *config, const char *path, char **ret_why) {
        g_autoptr(GKeyFile) file = g_key_file_new();
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) sections = NULL;

        if (!g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &error)) {
                if (g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT))
                        return 0;
                *ret_why = g_strdup_printf("%s: %s", path, error->message);
                return -EINVAL;
        }
        sections = g_key_file_get_groups(file, NULL);
        for (char **section = sections; *section; section++) {
                int r = config_read_section(config, path, file, *section, ret_why);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int name_order(const void *a, const void *b) {
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *drop_ins(const char *path) {
        GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *folder = g_strconcat(path, ".d", NULL);
        g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir)))
                if (g_str_has_suffix(name, ".conf"))
                        g_ptr_array_add(names, g_build_filename(folder, name, NULL));
        g_ptr_array_sort(names, name_order);
        return names;
}

int config_read(const char *path, Config **ret, char **ret_why) {
        g_autoptr(Config) config = g_new0(Config, 1);
        g_autoptr(GPtrArray) more = drop_ins(path);
        int r;

        config->hypervisor_uri = g_strdup("qemu:///system");
        config->handover_timeout_sec = 30;
        config->image_directories =
                g_strsplit("/var/lib/feos/images /var/lib/libvirt/images", " ", -1);
        config->block_devices = g_new0(char *, 1);
        config->pending_per_user = 16;

        r = config_read_file(config, path, ret_why);
        for (guint i = 0; r >= 0 && i < more->len; i++)
                r = config_read_file(config, g_ptr_array_index(more, i), ret_why);
        if (r < 0)
                return r;
        *ret = g_steal_pointer(&config);
        return 0;
}

void config_free(Config *config) {
        if (!config)
                return;
        g_free(config->hypervisor_uri);
        g_strfreev(config->image_directories);
        g_strfreev(config->block_devices);
        g_free(config);
}
