/* From the wire to a Request. Knows D-Bus types and nothing of what an option means or which values
 * it may have: core/request.h says which options there are and of which type. Touches no state. */
#include "request-parse.h"

#include <errno.h>

#define OPTIONS_MAX 64

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
static int read_option(sd_bus_message *m, const char *key, Request *request, GPtrArray *findings) {
        const char *type = request_option_type(key);
        const char *got;
        RequestValue value;
        int r;

        r = sd_bus_message_peek_type(m, NULL, &got);
        if (r < 0)
                return r;
        if (!type || !g_str_equal(type, got)) {
                if (!type)
                        request_refuse_unknown_option(key, findings);
                else
                        request_refuse_option_type(key, got, findings);
                return sd_bus_message_skip(m, "v");
        }
        r = read_value(m, type, &value);
        if (r >= 0)
                request_set_option(request, key, value, findings);
        return r;
}

static int read_options(sd_bus_message *m, Request *request, GPtrArray *findings) {
        /* The keys live in the message. */
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
        const char *key;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        for (unsigned n = 0; (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0; n++) {
                if (n == OPTIONS_MAX) {
                        findings_error(findings, REFUSAL_INVALID_OPTION, "options",
                                       "Send each option once, and only those there are.",
                                       "More than %u options are given.", OPTIONS_MAX);
                        return 0;
                }
                r = sd_bus_message_read_basic(m, 's', &key);
                if (r < 0)
                        return r;
                if (g_hash_table_add(seen, (char *)key))
                        r = read_option(m, key, request, findings);
                else {
                        g_autofree char *shown = refusal_show(key);

                        findings_error(findings, REFUSAL_INVALID_OPTION, shown,
                                       "Send each option once.",
                                       "Option \"%s\" is given more than once.", shown);
                        r = sd_bus_message_skip(m, "v");
                }
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
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
        r = read_options(m, request, findings);
        if (r < 0)
                return r;
        request_finish(request, findings);
        *ret = g_steal_pointer(&request);
        return 0;
}
