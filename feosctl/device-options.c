/* key=value lists. Which values are good the service says; only what cannot be sent is refused
 * here. */
#include "device-options.h"

#include "nearest.h"
#include "value.h"

#include <string.h>

typedef struct Key {
        const char *name;
        char type;
} Key;

/* The first is the one that may stand alone. */
static const Key disk_keys[] = {
        { "path", 's' }, { "id", 's' }, { "format", 's' }, { "read-only", 'b' }, { NULL }
};
static const Key nic_keys[] = {
        { "source", 's' }, { "id", 's' }, { "type", 's' }, { "mac", 's' }, { NULL }
};

typedef struct Option {
        const Key *key;
        char *text;
        bool flag;
} Option;

struct DeviceOptions {
        GArray *options;
};

static const Key *keys_of(DeviceKind kind) {
        return kind == DEVICE_DISK ? disk_keys : nic_keys;
}

static const Key *key_find(DeviceKind kind, const char *name) {
        for (const Key *key = keys_of(kind); key->name; key++)
                if (g_str_equal(key->name, name))
                        return key;
        return NULL;
}

const char *device_options_type(DeviceKind kind, const char *name) {
        const Key *key = key_find(kind, name);

        return !key ? NULL : key->type == 'b' ? "b" : "s";
}

static void option_clear(void *option) {
        g_free(((Option *)option)->text);
}

void device_options_free(DeviceOptions *device) {
        if (!device)
                return;
        g_array_unref(device->options);
        g_free(device);
}

static char *unknown_key(DeviceKind kind, const char *name) {
        const char *names[G_N_ELEMENTS(disk_keys) + G_N_ELEMENTS(nic_keys)] = { NULL };
        const char *meant;
        size_t n = 0;

        for (const Key *key = keys_of(kind); key->name; key++)
                names[n++] = key->name;
        meant = nearest_word(name, names);
        if (meant)
                return g_strdup_printf("A %s has no \"%s\". Did you mean \"%s\"?",
                                       kind == DEVICE_DISK ? "disk" : "NIC", name, meant);
        return g_strdup_printf("A %s has no \"%s\": it has %s, %s, %s and %s.",
                               kind == DEVICE_DISK ? "disk" : "NIC", name, names[0], names[1],
                               names[2], names[3]);
}

/* Adds one "key=value" or "key" or, when it is the @first, "value". Returns what is wrong. */
static char *add(DeviceOptions *device, DeviceKind kind, const char *part, bool first) {
        const char *sign = strchr(part, '=');
        g_autofree char *name = g_strndup(part, sign ? (gsize)(sign - part) : strlen(part));
        const Key *key = key_find(kind, name);
        Option option = { .flag = true };

        if (!sign && first && !key)
                key = keys_of(kind);
        else if (!key)
                return unknown_key(kind, name);
        else if (!sign && key->type != 'b')
                return g_strdup_printf("\"%s\" has no value.", name);
        for (guint i = 0; i < device->options->len; i++)
                if (g_array_index(device->options, Option, i).key == key)
                        return g_strdup_printf("\"%s\" is given twice.", key->name);
        option.key = key;
        if (key->type == 'b' && sign && !boolean_parse(sign + 1, &option.flag))
                return g_strdup_printf("\"%s\" is yes or no, not \"%s\".", name, sign + 1);
        if (key->type == 's')
                option.text = g_strdup(sign ? sign + 1 : part);
        g_array_append_val(device->options, option);
        return NULL;
}

/* The parts between commas, with "," for ",,". */
static GPtrArray *split(const char *text) {
        GPtrArray *parts = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GString) part = g_string_new(NULL);

        for (const char *c = text; *c; c++) {
                if (*c == ',' && c[1] != ',') {
                        g_ptr_array_add(parts, g_strdup(part->str));
                        g_string_truncate(part, 0);
                        continue;
                }
                if (*c == ',')
                        c++;
                g_string_append_c(part, *c);
        }
        g_ptr_array_add(parts, g_strdup(part->str));
        return parts;
}

DeviceOptions *device_options_parse(DeviceKind kind, const char *text, char **ret_wrong) {
        g_autoptr(DeviceOptions) device = g_new0(DeviceOptions, 1);
        g_autoptr(GPtrArray) parts = split(text);

        device->options = g_array_new(FALSE, TRUE, sizeof(Option));
        g_array_set_clear_func(device->options, option_clear);
        for (guint i = 0; i < parts->len; i++) {
                *ret_wrong = add(device, kind, g_ptr_array_index(parts, i), i == 0);
                if (*ret_wrong)
                        return NULL;
        }
        return g_steal_pointer(&device);
}

int device_options_append(const DeviceOptions *device, sd_bus_message *m) {
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        for (guint i = 0; r >= 0 && i < device->options->len; i++) {
                const Option *option = &g_array_index(device->options, Option, i);

                r = option->key->type == 'b'
                            ? sd_bus_message_append(m, "{sv}", option->key->name, "b", option->flag)
                            : sd_bus_message_append(m, "{sv}", option->key->name, "s",
                                                    option->text);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}
