/* Makes sure of UTF-8 where text was not ours: names from hardware databases, libvirt's words,
 * other processes' names. It does not know what the text says. */
#include "text.h"

#include <glib.h>
#include <stdarg.h>

int append_text(sd_bus_message *m, const char *text) {
        g_autofree char *valid = g_utf8_make_valid(text, -1);

        return sd_bus_message_append_basic(m, 's', valid);
}

int append_texts(sd_bus_message *m, ...) {
        const char *text;
        va_list args;
        int r = 0;

        va_start(args, m);
        while (r >= 0 && (text = va_arg(args, const char *)))
                r = append_text(m, text);
        va_end(args);
        return r < 0 ? r : 0;
}
