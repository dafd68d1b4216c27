/* Parses and bounds one disk or NIC, key by key. Whether its file or its network is there is
 * check.c's question. */
#include "core/device-request.h"

#include <string.h>

#define ID_MAX    32
#define PATH_MOST 4095

typedef void (*DeviceSetter)(DeviceRequest *device, const char *key, RequestValue value,
                             GPtrArray *findings);

typedef struct DeviceOption {
        DeviceKind kind;
        const char *key;
        const char *type;
        DeviceSetter set;
} DeviceOption;

const char *device_kind_to_string(DeviceKind kind) {
        return kind == DEVICE_DISK ? "disk" : "NIC";
}

bool device_id_is_valid(const char *id) {
        size_t length = strlen(id);

        return length >= 1 && length <= ID_MAX &&
               strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") ==
                       length;
}

static void set_id(DeviceRequest *device, const char *key, RequestValue value,
                   GPtrArray *findings) {
        if (!device_id_is_valid(value.s)) {
                findings_error(findings, REFUSAL_INVALID_OPTION, key,
                               "Use 1 to 32 of A-Z a-z 0-9 _ -, or leave it out.",
                               "The id of a %s is malformed.", device_kind_to_string(device->kind));
                return;
        }
        g_free(device->id);
        device->id = g_strdup(value.s);
}

static void set_path(DeviceRequest *device, const char *key, RequestValue value,
                     GPtrArray *findings) {
        if (!value.s[0] || strlen(value.s) > PATH_MOST) {
                findings_error(findings, REFUSAL_INVALID_OPTION, key,
                               "Name a file in an image directory.", "The path of a disk is %s.",
                               value.s[0] ? "too long" : "empty");
                return;
        }
        g_free(device->path);
        device->path = g_strdup(value.s);
}

static void set_format(DeviceRequest *device, const char *key, RequestValue value,
                       GPtrArray *findings) {
        if (g_str_equal(value.s, "raw"))
                device->format = IMAGE_RAW;
        else if (g_str_equal(value.s, "qcow2"))
                device->format = IMAGE_QCOW2;
        else {
                findings_error(findings, REFUSAL_INVALID_OPTION, key, "Use \"raw\" or \"qcow2\".",
                               "The format of a disk has no such value.");
                return;
        }
        device->format_given = true;
}

static void set_read_only(DeviceRequest *device, const char *key, RequestValue value,
                          GPtrArray *findings) {
        device->read_only = value.b;
}

static void set_type(DeviceRequest *device, const char *key, RequestValue value,
                     GPtrArray *findings) {
        static const char *const words[] = {
                [NIC_NETWORK] = "network",
                [NIC_BRIDGE] = "bridge",
                [NIC_TAP] = "tap",
        };

        for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
                if (g_str_equal(words[i], value.s)) {
                        device->type = i;
                        return;
                }
        findings_error(findings, REFUSAL_INVALID_OPTION, key,
                       "Use \"network\", \"bridge\" or \"tap\".",
                       "The type of a NIC has no such value.");
}

/* What libvirt calls a network is freer than what the kernel calls an interface; neither may hold
 * what is no name at all. */
static void set_source(DeviceRequest *device, const char *key, RequestValue value,
                       GPtrArray *findings) {
        bool plain = g_utf8_validate(value.s, -1, NULL) && value.s[0] && strlen(value.s) <= 64;

        for (const char *c = value.s; plain && *c; c++)
                plain = !g_ascii_iscntrl(*c) && *c != '/';
        if (!plain) {
                findings_error(findings, REFUSAL_INVALID_OPTION, key,
                               "Name a libvirt network, a bridge, or a tap device.",
                               "The source of a NIC is malformed.");
                return;
        }
        g_free(device->source);
        device->source = g_strdup(value.s);
}

static void set_mac(DeviceRequest *device, const char *key, RequestValue value,
                    GPtrArray *findings) {
        bool good = strlen(value.s) == 17;

        for (int i = 0; good && i < 17; i++)
                good = i % 3 == 2 ? value.s[i] == ':' : g_ascii_isxdigit(value.s[i]);
        /* The lowest bit of the first byte marks a group, and no interface may have such an address
         * (IEEE 802). */
        if (!good || g_ascii_xdigit_value(value.s[1]) % 2 != 0 ||
            g_str_equal(value.s, "00:00:00:00:00:00")) {
                findings_error(findings, REFUSAL_INVALID_OPTION, key,
                               "Write it as 52:54:00:12:34:56, or leave it out.",
                               "The mac of a NIC is no unicast MAC address.");
                return;
        }
        g_free(device->mac);
        device->mac = g_ascii_strdown(value.s, -1);
}

static const DeviceOption options[] = {
        { DEVICE_DISK, "id", "s", set_id },
        { DEVICE_DISK, "path", "s", set_path },
        { DEVICE_DISK, "format", "s", set_format },
        { DEVICE_DISK, "read-only", "b", set_read_only },
        { DEVICE_NIC, "id", "s", set_id },
        { DEVICE_NIC, "type", "s", set_type },
        { DEVICE_NIC, "source", "s", set_source },
        { DEVICE_NIC, "mac", "s", set_mac },
};

static const DeviceOption *option_find(DeviceKind kind, const char *key) {
        for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
                if (options[i].kind == kind && g_str_equal(options[i].key, key))
                        return options + i;
        return NULL;
}

const char *device_option_type(DeviceKind kind, const char *key) {
        const DeviceOption *option = option_find(kind, key);

        return option ? option->type : NULL;
}

void device_set_option(DeviceRequest *device, const char *key, RequestValue value,
                       GPtrArray *findings) {
        option_find(device->kind, key)->set(device, key, value, findings);
}

void device_refuse_unknown_option(DeviceKind kind, const char *key, GPtrArray *findings) {
        g_autoptr(GString) known = g_string_new("Known are ");
        g_autofree char *shown = refusal_show(key);
        bool first = true;

        for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
                if (options[i].kind == kind) {
                        g_string_append_printf(known, "%s%s", first ? "" : ", ", options[i].key);
                        first = false;
                }
        g_string_append_c(known, '.');
        findings_error(findings, REFUSAL_INVALID_OPTION, shown, known->str,
                       "A %s has no option \"%s\".", device_kind_to_string(kind), shown);
}

DeviceRequest *device_request_new(DeviceKind kind) {
        DeviceRequest *device = g_new0(DeviceRequest, 1);

        device->kind = kind;
        return device;
}

DeviceRequest *device_request_copy(const DeviceRequest *device) {
        DeviceRequest *copy = g_new(DeviceRequest, 1);

        *copy = *device;
        copy->id = g_strdup(device->id);
        copy->path = g_strdup(device->path);
        copy->name = g_strdup(device->name);
        copy->source = g_strdup(device->source);
        copy->mac = g_strdup(device->mac);
        return copy;
}

void device_request_free(DeviceRequest *device) {
        if (!device)
                return;
        g_free(device->id);
        g_free(device->path);
        g_free(device->name);
        g_free(device->source);
        g_free(device->mac);
        g_free(device);
}

void device_request_finish(DeviceRequest *device, GPtrArray *findings) {
        if (device->kind == DEVICE_DISK) {
                if (!device->path)
                        findings_error(findings, REFUSAL_INVALID_OPTION, "path",
                                       "Name a file in an image directory.",
                                       "A disk is given without path.");
                else if (!device->format_given)
                        device->format =
                                g_str_has_suffix(device->path, ".qcow2") ? IMAGE_QCOW2 : IMAGE_RAW;
        } else if (!device->source)
                findings_error(findings, REFUSAL_INVALID_OPTION, "source",
                               "Name a libvirt network, a bridge, or a tap device.",
                               "A NIC is given without source.");
}

static bool is_taken(const GPtrArray *taken, const char *id) {
        for (guint i = 0; i < taken->len; i++)
                if (g_str_equal(g_ptr_array_index(taken, i), id))
                        return true;
        return false;
}

void device_request_name(DeviceRequest *device, const GPtrArray *taken) {
        for (unsigned i = 1; !device->id; i++) {
                g_autofree char *id =
                        g_strdup_printf(device->kind == DEVICE_DISK ? "disk%u" : "nic%u", i);

                if (!is_taken(taken, id))
                        device->id = g_steal_pointer(&id);
        }
}
