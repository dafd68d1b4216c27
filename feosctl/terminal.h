/* What may be written to a descriptor: colours, a width to keep to, more than ASCII. */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct Terminal {
        bool tty;
        bool colour; /* never on what is no terminal */
        bool utf8;
        bool moves;     /* understands escape sequences: a line can be written anew */
        unsigned width; /* columns, 0 = no limit */
} Terminal;

/* How a text is to look; without colours they all look alike. */
typedef enum Style {
        STYLE_PLAIN,
        STYLE_STRONG, /* a heading */
        STYLE_QUIET,  /* at rest */
        STYLE_GOOD,   /* at work */
        STYLE_READY,  /* set aside */
        STYLE_BUSY,   /* on its way */
        STYLE_BAD,    /* wrong */
} Style;

/* Looks at @fd and at the environment: NO_COLOR, TERM, COLUMNS, and the locale's character set. */
Terminal terminal_of(int fd);

/* The window's size in columns and rows; false when @fd has none. */
bool terminal_size(int fd, unsigned *columns, unsigned *rows);

/* The sequences that begin and end @style, "" without colours. Constant. */
const char *style_begin(const Terminal *terminal, Style style);
const char *style_end(const Terminal *terminal, Style style);

/* The dot that stands for a state, and the words' arrow. Constant. */
const char *terminal_dot(const Terminal *terminal, Style style);
const char *terminal_arrow(const Terminal *terminal);

/* @text with what could move a terminal's cursor, or is no UTF-8, replaced: names come from
 * libvirt, hardware databases and other users. Caller frees. */
char *text_clean(const char *text);

/* The columns that @text takes. */
unsigned text_width(const char *text);

/* @text in at most @width columns, its end replaced by an ellipsis where it is longer. Caller
 * frees. */
char *text_shorten(const char *text, unsigned width, bool utf8);
