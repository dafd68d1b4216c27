/* From the wire to a Request. Knows D-Bus types and nothing of what an option means or which values
 * it may have: core/request.h and core/device-request.h say which options there are and of which
 * type. Touches no state, and repeats no value: one may be a secret. */
#include "request-parse.h"

#include <errno.h>

#define OPTIONS_MAX        64
#define DEVICES_MAX        16
#define DEVICE_OPTIONS_MAX 16

/* What a dictionary is read into: one of the two. */
typedef struct Target {
        Request *request;
        DeviceRequest *device;
        GPtrArray *findings;
} Target;

/* All that read here return a negative errno when the message cannot be read, 0 when they have read
 * what they should, and 1 when there is more than anybody needs: then nothing further is read. */
static int read_dictionary(sd_bus_message *m, const Target *target);

static const char *target_type(const Target *target, const char *key) {
        return target->request ? request_option_type(key)
                               : device_option_type(target->device->kind, key);
}

static void target_set(const Target *target, const char *key, RequestValue value) {
        if (target->request)
                request_set_option(target->request, key, value, target->findings);
        else
                device_set_option(target->device, key, value, target->findings);
}

static void target_refuse_unknown(const Target *target, const char *key) {
        if (target->request)
                request_refuse_unknown_option(key, target->findings);
        else
                device_refuse_unknown_option(target->device->kind, key, target->findings);
}

static void target_refuse_type(const Target *target, const char *key, const char *got) {
        g_autofree char *remedy = NULL;

        if (target->request) {
                request_refuse_option_type(key, got, target->findings);
                return;
        }
        remedy = g_strdup_printf("Send it as D-Bus type \"%s\".", target_type(target, key));
        findings_error(target->findings, REFUSAL_INVALID_OPTION, key, remedy,
                       "Option %s has D-Bus type \"%s\".", key, got);
}

static void target_refuse_many(const Target *target, unsigned max) {
        findings_error(target->findings, REFUSAL_INVALID_OPTION, "options",
                       "Send each option once, and only those there are.",
                       "More than %u options are given.", max);
}

/* Says of the findings from @first on where in the caller's lists they belong. The subject stays
 * the key that they are about; @key is put in its place when they are about a value. */
static void place_findings(GPtrArray *findings, guint first, const char *list, unsigned n,
                           const char *key) {
        for (guint i = first; i < findings->len; i++) {
                Refusal *finding = g_ptr_array_index(findings, i);
                char *subject = g_strdup_printf("%s[%u].%s", list, n, key ?: finding->subject);
                char *message = g_strdup_printf("%s[%u]: %s", list, n, finding->message);

                g_free(finding->subject);
                finding->subject = subject;
                g_free(finding->message);
                finding->message = message;
        }
}

/* Reads number @n of the list @key. One with an error is not taken: it may lack anything. */
static int read_device(sd_bus_message *m, const Target *target, DeviceKind kind, const char *key,
                       unsigned n) {
        g_autoptr(DeviceRequest) device = device_request_new(kind);
        const Target inner = { .device = device, .findings = target->findings };
        guint before = target->findings->len;
        int r;

        r = read_dictionary(m, &inner);
        if (r < 0)
                return r;
        if (r == 0)
                device_request_finish(device, target->findings);
        place_findings(target->findings, before, key, n, NULL);
        if (target->findings->len == before) {
                request_add_device(target->request, g_steal_pointer(&device), target->findings);
                place_findings(target->findings, before, key, n, "id");
        }
        return r;
}

/* Reads the list of disks or NICs in the variant that @m stands at. */
static int read_devices(sd_bus_message *m, const Target *target, const char *key) {
        DeviceKind kind = g_str_equal(key, "disks") ? DEVICE_DISK : DEVICE_NIC;
        int r;

        r = sd_bus_message_enter_container(m, 'v', "aa{sv}");
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(m, 'a', "a{sv}");
        if (r < 0)
                return r;
        for (unsigned n = 0; (r = sd_bus_message_at_end(m, false)) == 0; n++) {
                if (n == DEVICES_MAX) {
                        findings_error(target->findings, REFUSAL_INVALID_OPTION, key, "Give fewer.",
                                       "More than %d %s are given.", DEVICES_MAX, key);
                        return 1;
                }
                r = read_device(m, target, kind, key, n);
                if (r != 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : 0;
}

/* Reads the variant that @m stands at, of which it is known that it holds one @type. */
static int read_value(sd_bus_message *m, const char *type, RequestValue *ret) {
        int r, b;

        r = sd_bus_message_enter_container(m, 'v', type);
        if (r < 0)
                return r;
        switch (type[0]) {
        case 's':
                r = sd_bus_message_read_basic(m, 's', &ret->s);
                break;
        case 'u':
                r = sd_bus_message_read_basic(m, 'u', &ret->u);
                break;
        case 't':
                r = sd_bus_message_read_basic(m, 't', &ret->t);
                break;
        case 'b':
                r = sd_bus_message_read_basic(m, 'b', &b);
                ret->b = r >= 0 && b;
                break;
        default:
                return -EOPNOTSUPP;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* Reads the value of option @key, which stands next. */
static int read_option(sd_bus_message *m, const char *key, const Target *target) {
        const char *type = target_type(target, key);
        const char *got;
        RequestValue value;
        int r;

        r = sd_bus_message_peek_type(m, NULL, &got);
        if (r < 0)
                return r;
        if (!type || !g_str_equal(type, got)) {
                if (!type)
                        target_refuse_unknown(target, key);
                else
                        target_refuse_type(target, key, got);
                r = sd_bus_message_skip(m, "v");
                return r < 0 ? r : 0;
        }
        if (g_str_equal(type, "aa{sv}"))
                return read_devices(m, target, key);
        r = read_value(m, type, &value);
        if (r < 0)
                return r;
        target_set(target, key, value);
        return 0;
}

/* Reads one key and its value, unless it was there before. */
static int read_entry(sd_bus_message *m, const Target *target, GHashTable *seen) {
        g_autofree char *shown = NULL;
        const char *key;
        int r;

        r = sd_bus_message_read_basic(m, 's', &key);
        if (r < 0)
                return r;
        /* The keys live in the message. */
        if (g_hash_table_add(seen, (char *)key))
                return read_option(m, key, target);
        shown = refusal_show(key);
        findings_error(target->findings, REFUSAL_INVALID_OPTION, shown, "Send each option once.",
                       "Option \"%s\" is given more than once.", shown);
        r = sd_bus_message_skip(m, "v");
        return r < 0 ? r : 0;
}

static int read_dictionary(sd_bus_message *m, const Target *target) {
        unsigned max = target->request ? OPTIONS_MAX : DEVICE_OPTIONS_MAX;
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        for (unsigned n = 0; (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0; n++) {
                if (n == max) {
                        target_refuse_many(target, max);
                        return 1;
                }
                r = read_entry(m, target, seen);
                if (r != 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : 0;
}

int request_parse(sd_bus_message *m, GPtrArray *findings, Request **ret) {
        g_autoptr(Request) request = NULL;
        g_auto(GStrv) gpus = NULL;
        const char *name;
        int r;

        r = sd_bus_message_read_basic(m, 's', &name);
        if (r < 0)
                return r;
        r = sd_bus_message_read_strv(m, &gpus);
        if (r < 0)
                return r;
        request = request_new(name, (const char *const *)gpus, findings);
        r = read_dictionary(m, &(Target){ .request = request, .findings = findings });
        if (r < 0)
                return r;
        request_finish(request, findings);
        *ret = g_steal_pointer(&request);
        return 0;
}

int device_parse(sd_bus_message *m, DeviceKind kind, GPtrArray *findings, DeviceRequest **ret) {
        g_autoptr(DeviceRequest) device = device_request_new(kind);
        int r;

        r = read_dictionary(m, &(Target){ .device = device, .findings = findings });
        if (r < 0)
                return r;
        device_request_finish(device, findings);
        *ret = g_steal_pointer(&device);
        return 0;
}
