/* From D-Bus to JSON, and how JSON is looked into and printed. It knows no property by name. */
#include "json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int read_number(sd_bus_message *m, char type, json_object **ret) {
        union {
                uint8_t y;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
                double d;
                int b;
        } value;
        int r = sd_bus_message_read_basic(m, type, &value);

        if (r < 0)
                return r;
        switch (type) {
        case 'y':
                *ret = json_object_new_int(value.y);
                return 0;
        case 'n':
                *ret = json_object_new_int(value.n);
                return 0;
        case 'q':
                *ret = json_object_new_int(value.q);
                return 0;
        case 'i':
                *ret = json_object_new_int(value.i);
                return 0;
        case 'u':
                *ret = json_object_new_int64(value.u);
                return 0;
        case 'x':
                *ret = json_object_new_int64(value.x);
                return 0;
        case 't':
                *ret = json_object_new_uint64(value.t);
                return 0;
        case 'd':
                *ret = json_object_new_double(value.d);
                return 0;
        case 'b':
                *ret = json_object_new_boolean(value.b);
                return 0;
        default:
                return -EOPNOTSUPP;
        }
}

static int read_list(sd_bus_message *m, char type, const char *contents, json_object **ret) {
        g_autoptr(json_object) array = json_object_new_array();
        int r;

        r = sd_bus_message_enter_container(m, type, contents);
        if (r < 0)
                return r;
        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                json_object *element;

                r = json_read(m, &element);
                if (r < 0)
                        return r;
                json_object_array_add(array, element);
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;
        *ret = g_steal_pointer(&array);
        return 0;
}

static int read_entry(sd_bus_message *m, json_object *object, const char *types) {
        json_object *value;
        const char *key;
        int r;

        r = sd_bus_message_enter_container(m, 'e', types);
        if (r >= 0)
                r = sd_bus_message_read_basic(m, types[0], &key);
        if (r >= 0)
                r = json_read(m, &value);
        if (r < 0)
                return r;
        json_object_object_add(object, key, value);
        return sd_bus_message_exit_container(m);
}

/* @contents is as in "{sv}"; keys that are no strings there are none. */
static int read_dictionary(sd_bus_message *m, const char *contents, json_object **ret) {
        g_autofree char *types = g_strndup(contents + 1, strlen(contents) - 2);
        g_autoptr(json_object) object = json_object_new_object();
        int r;

        if (!strchr("sog", types[0]))
                return -EOPNOTSUPP;
        r = sd_bus_message_enter_container(m, 'a', contents);
        if (r < 0)
                return r;
        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                r = read_entry(m, object, types);
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;
        *ret = g_steal_pointer(&object);
        return 0;
}

int json_read(sd_bus_message *m, json_object **ret) {
        const char *contents, *text;
        char type;
        int r;

        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r <= 0)
                return r < 0 ? r : -ENXIO;
        switch (type) {
        case 's':
        case 'o':
        case 'g':
                r = sd_bus_message_read_basic(m, type, &text);
                if (r >= 0)
                        *ret = json_object_new_string(text);
                return r < 0 ? r : 0;
        case 'a':
                return contents[0] == '{' ? read_dictionary(m, contents, ret)
                                          : read_list(m, type, contents, ret);
        case 'r':
                return read_list(m, type, contents, ret);
        case 'v':
                r = sd_bus_message_enter_container(m, type, contents);
                if (r >= 0)
                        r = json_read(m, ret);
                if (r < 0)
                        return r;
                return sd_bus_message_exit_container(m);
        default:
                return read_number(m, type, ret);
        }
}

int json_read_records(sd_bus_message *m, const char *const *names, json_object **ret) {
        g_autoptr(json_object) lists = NULL;
        g_autoptr(json_object) records = json_object_new_array();
        int r;

        r = json_read(m, &lists);
        if (r < 0)
                return r;
        for (size_t i = 0; i < json_length(lists); i++) {
                json_object *list = json_object_array_get_idx(lists, i);
                json_object *record = json_object_new_object();

                json_object_array_add(records, record);
                for (size_t j = 0; names[j]; j++)
                        json_object_object_add(record, names[j],
                                               json_object_get(json_object_array_get_idx(list, j)));
        }
        *ret = g_steal_pointer(&records);
        return 0;
}

json_object *json_member(json_object *object, const char *key) {
        json_object *member = NULL;

        json_object_object_get_ex(object, key, &member);
        return member;
}

const char *json_text(json_object *object, const char *key) {
        json_object *member = json_member(object, key);

        return json_object_is_type(member, json_type_string) ? json_object_get_string(member) : "";
}

int64_t json_number(json_object *object, const char *key) {
        return json_object_get_int64(json_member(object, key));
}

bool json_flag(json_object *object, const char *key) {
        return json_object_get_boolean(json_member(object, key));
}

size_t json_length(json_object *array) {
        return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

char *json_join(json_object *object, const char *key, const char *separator) {
        json_object *array = json_member(object, key);
        GString *joined = g_string_new(NULL);

        for (size_t i = 0; i < json_length(array); i++)
                g_string_append_printf(joined, "%s%s", i == 0 ? "" : separator,
                                       json_object_get_string(json_object_array_get_idx(array, i)));
        return g_string_free(joined, FALSE);
}

bool json_has(json_object *object, const char *key, const char *text) {
        json_object *array = json_member(object, key);

        for (size_t i = 0; i < json_length(array); i++)
                if (g_str_equal(json_object_get_string(json_object_array_get_idx(array, i)), text))
                        return true;
        return false;
}

void json_put(json_object *object, const char *key, const char *text) {
        json_object_object_add(object, key, json_object_new_string(text));
}

void json_print(json_object *object, bool pretty) {
        puts(json_object_to_json_string_ext(
                object, JSON_C_TO_STRING_NOSLASHESCAPE |
                                (pretty ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED
                                        : JSON_C_TO_STRING_PLAIN)));
}
