/* Lines the fields of one thing up. It knows none of them. */
#include "fields.h"

#include <stdarg.h>

typedef struct Field {
        const char *name;
        char *value;
        Style style;
} Field;

struct Fields {
        GArray *all;
};

static void field_clear(void *field) {
        g_free(((Field *)field)->value);
}

Fields *fields_new(void) {
        Fields *fields = g_new0(Fields, 1);

        fields->all = g_array_new(FALSE, TRUE, sizeof(Field));
        g_array_set_clear_func(fields->all, field_clear);
        return fields;
}

void fields_free(Fields *fields) {
        if (!fields)
                return;
        g_array_unref(fields->all);
        g_free(fields);
}

void fields_add(Fields *fields, const char *name, const char *value, Style style) {
        Field field = { .name = name, .style = style };

        if (!value || !*value)
                return;
        field.value = text_clean(value);
        g_array_append_val(fields->all, field);
}

void fields_addf(Fields *fields, const char *name, const char *format, ...) {
        g_autofree char *value = NULL;
        va_list args;

        va_start(args, format);
        value = g_strdup_vprintf(format, args);
        va_end(args);
        fields_add(fields, name, value, STYLE_PLAIN);
}

char *fields_format(const Fields *fields, const Terminal *terminal) {
        GString *text = g_string_new(NULL);
        unsigned width = 0;

        for (guint i = 0; i < fields->all->len; i++)
                width = MAX(width, text_width(g_array_index(fields->all, Field, i).name));
        for (guint i = 0; i < fields->all->len; i++) {
                const Field *field = &g_array_index(fields->all, Field, i);

                g_string_append_printf(text, "  %*s%s %s%s%s\n", (int)width, field->name,
                                       *field->name ? ":" : " ",
                                       style_begin(terminal, field->style), field->value,
                                       style_end(terminal, field->style));
        }
        return g_string_free(text, FALSE);
}
