/* Terminals and the text they take. Knows no state of any GPU or machine. */
#include "terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool terminal_size(int fd, unsigned *columns, unsigned *rows) {
        struct winsize size;

        if (ioctl(fd, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
                return false;
        *columns = size.ws_col;
        *rows = size.ws_row;
        return true;
}

static unsigned width_of(int fd) {
        const char *wish = g_getenv("COLUMNS");
        unsigned columns, rows;
        guint64 number;

        if (wish && g_ascii_string_to_unsigned(wish, 10, 1, 10000, &number, NULL))
                return (unsigned)number;
        return terminal_size(fd, &columns, &rows) ? columns : 80;
}

Terminal terminal_of(int fd) {
        const char *term = g_getenv("TERM");
        /* https://no-color.org: set and not empty, whatever it is. */
        const char *no_colour = g_getenv("NO_COLOR");
        Terminal terminal = { .tty = isatty(fd) };

        terminal.utf8 = g_get_charset(NULL);
        terminal.moves = terminal.tty && term && !g_str_equal(term, "dumb");
        terminal.colour = terminal.moves && !(no_colour && *no_colour);
        terminal.width = terminal.tty ? width_of(fd) : 0;
        return terminal;
}

const char *style_begin(const Terminal *terminal, Style style) {
        static const char *const begin[] = {
                [STYLE_PLAIN] = "",        [STYLE_STRONG] = "\033[1m", [STYLE_QUIET] = "\033[90m",
                [STYLE_GOOD] = "\033[32m", [STYLE_READY] = "\033[36m", [STYLE_BUSY] = "\033[33m",
                [STYLE_BAD] = "\033[31m",
        };

        return terminal->colour ? begin[style] : "";
}

const char *style_end(const Terminal *terminal, Style style) {
        return terminal->colour && style != STYLE_PLAIN ? "\033[0m" : "";
}

const char *terminal_dot(const Terminal *terminal, Style style) {
        if (!terminal->utf8)
                return style == STYLE_BAD ? "x" : style == STYLE_QUIET ? "-" : "*";
        return style == STYLE_BAD ? "×" : style == STYLE_QUIET ? "○" : "●";
}

const char *terminal_arrow(const Terminal *terminal) {
        return terminal->utf8 ? "→" : "->";
}

char *text_clean(const char *text) {
        g_autofree char *valid = g_utf8_make_valid(text, -1);
        GString *clean = g_string_new(NULL);

        for (const char *c = valid; *c; c = g_utf8_next_char(c)) {
                gunichar u = g_utf8_get_char(c);
                GUnicodeType type = g_unichar_type(u);

                /* Formatting characters can turn the direction of writing. */
                if (type == G_UNICODE_CONTROL || type == G_UNICODE_FORMAT)
                        g_string_append_c(clean, u == '\n' || u == '\t' ? ' ' : '?');
                else
                        g_string_append_unichar(clean, u);
        }
        return g_string_free(clean, FALSE);
}

static unsigned char_width(gunichar u) {
        return g_unichar_iszerowidth(u) ? 0 : g_unichar_iswide(u) ? 2 : 1;
}

unsigned text_width(const char *text) {
        unsigned width = 0;

        for (const char *c = text; *c; c = g_utf8_next_char(c))
                width += char_width(g_utf8_get_char(c));
        return width;
}

char *text_shorten(const char *text, unsigned width, bool utf8) {
        const char *ellipsis = utf8 ? "…" : "...";
        unsigned room, taken = 0;
        const char *c;

        if (text_width(text) <= width)
                return g_strdup(text);
        if (width < text_width(ellipsis))
                return g_strndup("...", width);
        room = width - text_width(ellipsis);
        for (c = text; taken + char_width(g_utf8_get_char(c)) <= room; c = g_utf8_next_char(c))
                taken += char_width(g_utf8_get_char(c));
        return g_strdup_printf("%.*s%s", (int)(c - text), text, ellipsis);
}
