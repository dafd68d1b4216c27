/* Create's options. One table says how each is written and sent; which values are good the service
 * says. */
#include "create-options.h"

#include "device-options.h"
#include "size.h"
#include "value.h"

#include "cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MIB            (UINT64_C(1) << 20)
#define IGNITION_BYTES (2 * 1024 * 1024) /* more than the service takes, so that it can say so */

typedef struct Spec {
        const char *key;  /* the API's */
        const char *type; /* likewise */
        const char *option;
        const char *argument; /* NULL = a switch */
        const char *help;
} Spec;

static const Spec specs[] = {
        { "vcpus", "u", "vcpus", "N", "Processors (2)" },
        { "max-vcpus", "u", "max-vcpus", "N", "How many it may have" },
        { "memory-mib", "t", "memory", "SIZE", "Memory, as in 64G (2G)" },
        { "hugepages", "s", "hugepages", "SIZE", "Make its memory of huge pages: 2M, 1G" },
        { "firmware", "s", "firmware", "WORD", "bios or uefi" },
        { "image", "s", "image", "FILE", "Boot disk, in an image directory of the service" },
        { "image-format", "s", "image-format", "WORD", "raw or qcow2 (by its name)" },
        { "kernel", "s", "kernel", "FILE", "Boot this kernel directly" },
        { "initrd", "s", "initrd", "FILE", "Its initial ramdisk" },
        { "cmdline", "s", "cmdline", "TEXT", "Its command line" },
        { "disks", "aa{sv}", "disk", "PATH[,KEY=VALUE...]",
          "A further disk: path, format, read-only, id; may be repeated" },
        { "nics", "aa{sv}", "nic", "SOURCE[,KEY=VALUE...]",
          "A network interface: source, type, mac, id; may be repeated" },
        { "ignition", "s", "ignition", "FILE",
          "Ignition configuration, read from here; - = input" },
        { "uuid", "s", "uuid", "UUID", "Its UUID (made)" },
        { "start", "b", "start", NULL, "Start it; =no only defines it (yes)" },
        { "wait", "b", "wait", NULL, "Wait until it runs (yes)" },
        { "autostart", "b", "autostart", NULL, "Start it when the host has booted (no)" },
        { "allow-boot-display", "b", "allow-boot-display", NULL,
          "Take even the GPU that shows the host's console (no)" },
};

/* What was given for one key. */
typedef struct Given {
        bool there;
        char *text;
        uint64_t number;
        bool flag;
        GPtrArray *devices; /* DeviceOptions; NULL for all else */
} Given;

struct CreateOptions {
        GPtrArray *gpus; /* char *, NULL-terminated */
        Given given[G_N_ELEMENTS(specs)];
};

CreateOptions *create_options_new(void) {
        CreateOptions *options = g_new0(CreateOptions, 1);

        options->gpus = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(options->gpus, NULL);
        return options;
}

void create_options_free(CreateOptions *options) {
        if (!options)
                return;
        for (size_t i = 0; i < G_N_ELEMENTS(specs); i++) {
                g_free(options->given[i].text);
                if (options->given[i].devices)
                        g_ptr_array_unref(options->given[i].devices);
        }
        g_ptr_array_unref(options->gpus);
        g_free(options);
}

static bool is_bad(GError **error, const char *option, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Always false, for callers to return. */
static bool is_bad(GError **error, const char *option, const char *format, ...) {
        g_autofree char *text = NULL;
        va_list args;

        va_start(args, format);
        text = g_strdup_vprintf(format, args);
        va_end(args);
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE, "Option %s %s", option, text);
        return false;
}

/* The whole of a file, or of standard input. */
static char *read_file(const char *path, GError **error) {
        g_autoptr(GString) text = g_string_new(NULL);
        FILE *file = g_str_equal(path, "-") ? stdin : fopen(path, "re");
        char data[4096];
        size_t n;

        if (!file) {
                is_bad(error, "--ignition", "cannot read %s: %s.", path, g_strerror(errno));
                return NULL;
        }
        while (text->len <= IGNITION_BYTES && (n = fread(data, 1, sizeof data, file)) > 0)
                g_string_append_len(text, data, (gssize)n);
        n = (size_t)ferror(file);
        if (file != stdin)
                fclose(file);
        if (n != 0)
                is_bad(error, "--ignition", "cannot read %s.", path);
        else if (strlen(text->str) != text->len || !g_utf8_validate(text->str, -1, NULL))
                is_bad(error, "--ignition", "takes text; %s is none.", path);
        else
                return g_strdup(text->str);
        return NULL;
}

static bool take_number(Given *given, const char *option, const char *value, GError **error) {
        uint32_t number;

        if (!unsigned_parse(value, 0, UINT32_MAX, &number))
                return is_bad(error, option, "takes a number, not \"%s\".", value);
        given->number = number;
        return true;
}

static bool take_memory(Given *given, const char *option, const char *value, GError **error) {
        uint64_t bytes;

        if (!size_parse(value, &bytes))
                return is_bad(error, option, "takes a size such as 64G or 512M, not \"%s\".",
                              value);
        if (bytes % MIB != 0)
                return is_bad(error, option, "takes whole MiB; %s is none.", value);
        given->number = bytes / MIB;
        return true;
}

static bool take_flag(Given *given, const char *option, const char *value, GError **error) {
        if (!boolean_parse(value, &given->flag))
                return is_bad(error, option, "takes yes or no, not \"%s\".", value);
        return true;
}

static bool take_device(Given *given, DeviceKind kind, const char *option, const char *value,
                        GError **error) {
        g_autofree char *wrong = NULL;
        DeviceOptions *device = device_options_parse(kind, value, &wrong);

        if (!device)
                return is_bad(error, option, "%s: %s", value, wrong);
        if (!given->devices)
                given->devices =
                        g_ptr_array_new_with_free_func((GDestroyNotify)device_options_free);
        g_ptr_array_add(given->devices, device);
        return true;
}

static bool take_text(Given *given, const Spec *spec, const char *value, GError **error) {
        g_autofree char *text =
                g_str_equal(spec->key, "ignition") ? read_file(value, error) : g_strdup(value);

        if (!text)
                return false;
        g_free(given->text);
        given->text = g_steal_pointer(&text);
        return true;
}

static bool take(CreateOptions *options, size_t i, const char *option, const char *value,
                 GError **error) {
        Given *given = &options->given[i];
        const Spec *spec = &specs[i];

        given->there = true;
        switch (spec->type[0]) {
        case 'u':
                return take_number(given, option, value, error);
        case 't':
                return take_memory(given, option, value, error);
        case 'b':
                return take_flag(given, option, value, error);
        case 'a':
                return take_device(given,
                                   g_str_equal(spec->key, "disks") ? DEVICE_DISK : DEVICE_NIC,
                                   option, value, error);
        default:
                return take_text(given, spec, value, error);
        }
}

/* GLib's callback; @option is as in "--vcpus". What is given twice counts as it was given last. */
static gboolean on_option(const char *option, const char *value, void *data, GError **error) {
        CreateOptions *options = data;

        if (!g_utf8_validate(value, -1, NULL))
                return is_bad(error, option, "is not written in UTF-8.");
        if (g_str_equal(option, "--gpu")) {
                g_ptr_array_insert(options->gpus, (int)options->gpus->len - 1, g_strdup(value));
                return true;
        }
        for (size_t i = 0; i < G_N_ELEMENTS(specs); i++)
                if (g_str_equal(option + strlen("--"), specs[i].option))
                        return take(options, i, option, value, error);
        return is_bad(error, option, "is not known.");
}

/* All as file names: GLib would take bytes for the locale's, and the service takes UTF-8. */
void create_options_add_to(GOptionGroup *group) {
        GOptionEntry gpu[] = {
                { "gpu", 0, G_OPTION_FLAG_FILENAME, G_OPTION_ARG_CALLBACK, on_option,
                  "A GPU, as in 01:00.0; may be repeated", "ADDRESS" },
                { NULL },
        };

        g_option_group_add_entries(group, gpu);
        for (size_t i = 0; i < G_N_ELEMENTS(specs); i++) {
                GOptionEntry entry[] = {
                        { specs[i].option, 0, G_OPTION_FLAG_FILENAME, G_OPTION_ARG_CALLBACK,
                          on_option, specs[i].help, specs[i].argument ?: "BOOL" },
                        { NULL },
                };

                g_option_group_add_entries(group, entry);
        }
}

/* GLib would give a switch the next argument for its value, "box" in "--autostart box". */
void create_options_expand(char **arguments) {
        for (; *arguments && !g_str_equal(*arguments, "--"); arguments++)
                for (size_t i = 0; i < G_N_ELEMENTS(specs); i++)
                        if (!specs[i].argument && g_str_has_prefix(*arguments, "--") &&
                            g_str_equal(*arguments + strlen("--"), specs[i].option)) {
                                char *expanded = g_strconcat(*arguments, "=yes", NULL);

                                g_free(*arguments);
                                *arguments = expanded;
                                break;
                        }
}

static int append_devices(sd_bus_message *m, const GPtrArray *devices) {
        int r = sd_bus_message_open_container(m, 'v', "aa{sv}");

        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "a{sv}");
        for (guint i = 0; r >= 0 && i < devices->len; i++)
                r = device_options_append(g_ptr_array_index(devices, i), m);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_value(sd_bus_message *m, const Spec *spec, const Given *given) {
        switch (spec->type[0]) {
        case 'u':
                return sd_bus_message_append(m, "v", "u", (uint32_t)given->number);
        case 't':
                return sd_bus_message_append(m, "v", "t", given->number);
        case 'b':
                return sd_bus_message_append(m, "v", "b", given->flag);
        case 'a':
                return append_devices(m, given->devices);
        default:
                return sd_bus_message_append(m, "v", "s", given->text);
        }
}

int create_options_append(const CreateOptions *options, sd_bus_message *m) {
        int r = sd_bus_message_append_strv(m, (char **)options->gpus->pdata);

        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        for (size_t i = 0; r >= 0 && i < G_N_ELEMENTS(specs); i++) {
                if (!options->given[i].there)
                        continue;
                r = sd_bus_message_open_container(m, 'e', "sv");
                if (r >= 0)
                        r = sd_bus_message_append(m, "s", specs[i].key);
                if (r >= 0)
                        r = append_value(m, &specs[i], &options->given[i]);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

const char *const *create_options_gpus(const CreateOptions *options) {
        return (const char *const *)options->gpus->pdata;
}

static size_t spec_find(const char *key) {
        size_t i = 0;

        while (i < G_N_ELEMENTS(specs) && !g_str_equal(specs[i].key, key))
                i++;
        return i;
}

bool create_options_flag(const CreateOptions *options, const char *key, bool otherwise) {
        const Given *given = &options->given[spec_find(key)];

        return given->there ? given->flag : otherwise;
}

const char *create_options_long(const char *key) {
        size_t i = spec_find(key);

        return i < G_N_ELEMENTS(specs) ? specs[i].option : NULL;
}

const char *create_options_type(const char *key) {
        size_t i = spec_find(key);

        return i < G_N_ELEMENTS(specs) ? specs[i].type : NULL;
}
