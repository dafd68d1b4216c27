/* Rows and columns that line up, and fit into a terminal. */
#pragma once

#include "terminal.h"

typedef struct Table Table;

/* A table with these columns; @headings is NULL-terminated, "" = a column without a heading. */
Table *table_new(const char *const *headings);
void table_free(Table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Table, table_free)

/* The next cell, from left to right and row by row; cleaned and copied, "-" where it is empty. */
void table_add(Table *table, const char *text, Style style);

/* A line beneath the row begun last, over the whole width; cleaned and copied. None
 * where @text is empty. */
void table_note(Table *table, const char *text, Style style);

/* Numbers stand to the right. */
void table_align_right(Table *table, unsigned column);

/* The table as text, a line a row, each line behind @indent spaces; with headings where @legend.
 * Where a width is given, the widest columns are cut until a row fits. Caller frees. */
char *table_format(const Table *table, const Terminal *terminal, unsigned indent, bool legend);
