/* Lays a table out: widths, cuts, colours. It neither sorts nor knows what it shows. */
#include "table.h"

#include <string.h>

#define GAP        2
#define COLUMN_MIN 4

typedef struct Cell {
        char *text;
        Style style;
        bool note; /* no cell of a column: a line of its own */
} Cell;

typedef struct Column {
        const char *heading;
        unsigned width; /* of its widest cell */
        bool right;
} Column;

struct Table {
        GArray *columns;
        GArray *cells;
        unsigned next; /* the column of the next cell */
};

static void cell_clear(void *cell) {
        g_free(((Cell *)cell)->text);
}

Table *table_new(const char *const *headings) {
        Table *table = g_new0(Table, 1);

        table->columns = g_array_new(FALSE, TRUE, sizeof(Column));
        table->cells = g_array_new(FALSE, TRUE, sizeof(Cell));
        g_array_set_clear_func(table->cells, cell_clear);
        for (; *headings; headings++) {
                Column column = { .heading = *headings };

                g_array_append_val(table->columns, column);
        }
        return table;
}

void table_free(Table *table) {
        if (!table)
                return;
        g_array_unref(table->columns);
        g_array_unref(table->cells);
        g_free(table);
}

void table_add(Table *table, const char *text, Style style) {
        Cell cell = { .text = text_clean(*text ? text : "-"), .style = style };
        Column *column = &g_array_index(table->columns, Column, table->next);

        column->width = MAX(column->width, text_width(cell.text));
        g_array_append_val(table->cells, cell);
        table->next = (table->next + 1) % table->columns->len;
}

void table_note(Table *table, const char *text, Style style) {
        Cell cell = { .style = style, .note = true };

        if (!*text)
                return;
        cell.text = text_clean(text);
        g_array_append_val(table->cells, cell);
}

void table_align_right(Table *table, unsigned column) {
        g_array_index(table->columns, Column, column).right = true;
}

/* Takes from the widest column, one by one, until a row has @room; a column keeps a few columns,
 * and what is too narrow even for these has its lines broken by the terminal. */
static void fit(unsigned *widths, guint n, unsigned room) {
        for (;;) {
                unsigned sum = GAP * (n - 1);
                guint widest = 0;

                for (guint i = 0; i < n; i++) {
                        sum += widths[i];
                        if (widths[i] > widths[widest])
                                widest = i;
                }
                if (sum <= room || widths[widest] <= COLUMN_MIN)
                        return;
                widths[widest]--;
        }
}

static unsigned *lay_out(const Table *table, const Terminal *terminal, unsigned indent,
                         bool legend) {
        unsigned *widths = g_new(unsigned, table->columns->len);

        for (guint i = 0; i < table->columns->len; i++) {
                const Column *column = &g_array_index(table->columns, Column, i);

                widths[i] = MAX(column->width, legend ? text_width(column->heading) : 0);
        }
        if (terminal->width > 0)
                fit(widths, table->columns->len,
                    terminal->width > indent ? terminal->width - indent : 0);
        return widths;
}

/* One cell, padded; behind the last column of a row nothing is. */
static void append_cell(GString *line, const Terminal *terminal, const char *text, Style style,
                        const Column *column, unsigned width, bool last) {
        g_autofree char *shown = text_shorten(text, width, terminal->utf8);
        unsigned padding = width - text_width(shown);

        if (column->right)
                g_string_append_printf(line, "%*s", (int)padding, "");
        g_string_append_printf(line, "%s%s%s", style_begin(terminal, style), shown,
                               style_end(terminal, style));
        if (!last)
                g_string_append_printf(line, "%*s", (int)(column->right ? GAP : padding + GAP), "");
}

static void append_note(GString *text, const Terminal *terminal, const Cell *note,
                        unsigned indent) {
        g_string_append_printf(text, "%*s%s%s%s\n", (int)indent + 2 * GAP, "",
                               style_begin(terminal, note->style), note->text,
                               style_end(terminal, note->style));
}

char *table_format(const Table *table, const Terminal *terminal, unsigned indent, bool legend) {
        g_autofree unsigned *widths = lay_out(table, terminal, indent, legend);
        GString *text = g_string_new(NULL);
        guint n = table->columns->len, at = 0;

        for (guint i = 0; legend && i < n; i++) {
                const Column *column = &g_array_index(table->columns, Column, i);

                if (i == 0)
                        g_string_append_printf(text, "%*s", (int)indent, "");
                append_cell(text, terminal, column->heading,
                            *column->heading ? STYLE_STRONG : STYLE_PLAIN, column, widths[i],
                            i == n - 1);
        }
        if (legend)
                g_string_append_c(text, '\n');
        for (guint i = 0; i < table->cells->len; i++) {
                const Cell *cell = &g_array_index(table->cells, Cell, i);

                if (cell->note) {
                        append_note(text, terminal, cell, indent);
                        continue;
                }
                if (at == 0)
                        g_string_append_printf(text, "%*s", (int)indent, "");
                append_cell(text, terminal, cell->text, cell->style,
                            &g_array_index(table->columns, Column, at), widths[at], at == n - 1);
                at = (at + 1) % n;
                if (at == 0)
                        g_string_append_c(text, '\n');
        }
        return g_string_free(text, FALSE);
}
