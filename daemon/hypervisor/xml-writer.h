/* libxml2's writer, wrapped so that a description reads as its XML does. Whatever fails on the way
 * is remembered, and asked for once, at the end. */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct Writer Writer;

/* A new, empty text (writer_finish() or writer_free()). @indent: a line for each element. */
Writer *writer_new(bool indent);
void writer_free(Writer *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Writer, writer_free)

/* Opens an element with attributes: name and value in turns, up to NULL. */
void writer_open(Writer *writer, const char *name, ...) G_GNUC_NULL_TERMINATED;
void writer_close(Writer *writer);

/* An element with attributes and nothing in it. */
void writer_leaf(Writer *writer, const char *name, ...) G_GNUC_NULL_TERMINATED;

/* An element with nothing but text; and text in the one that is open. */
void writer_text(Writer *writer, const char *name, const char *text);
void writer_string(Writer *writer, const char *text);

/* Writes what was said into @ret, a new string (g_free()). Returns 0 or -ENOMEM. */
int writer_finish(Writer *writer, char **ret);

/* Whether XML can say @text: 1.0 has no way to say most control characters, not even escaped, nor
 * U+FFFE and U+FFFF. NULL is nothing to say, and so can be. */
bool writer_can_say(const char *text);
