/* The syntax of systemd.syntax(7), without its quoting. GLib's key files tell no line, and of a key
 * that is assigned twice only the last. */
#include "key-file.h"

#include "autoptr.h"

#include <glib.h>
#include <stdbool.h>
#include <string.h>

typedef struct Reader {
        const KeyFileEvents *events;
        void *userdata;
        char *section; /* NULL before the first, and after one that cannot be read */
        bool excused;  /* the section's own line was wrong, so its keys are not */
} Reader;

static bool is_comment(const char *line) {
        return line[0] == '#' || line[0] == ';';
}

static void section_read(Reader *reader, unsigned number, char *line) {
        char *end = strchr(line, ']');

        g_clear_pointer(&reader->section, g_free);
        reader->excused = !end || end[1] || end == line + 1;
        if (reader->excused)
                reader->events->wrong(reader->userdata, number,
                                      "a section is a line of its own, [Name]");
        else
                reader->section = g_strndup(line + 1, (gsize)(end - line - 1));
}

/* @line is without white space around it. */
static void line_read(Reader *reader, unsigned number, char *line) {
        char *equals = strchr(line, '=');

        if (!line[0] || is_comment(line))
                return;
        if (line[0] == '[') {
                section_read(reader, number, line);
                return;
        }
        if (!equals || equals == line) {
                reader->events->wrong(reader->userdata, number, "expected is Key=Value");
                return;
        }
        *equals = '\0';
        if (reader->section)
                reader->events->assigned(reader->userdata, number, reader->section,
                                         g_strchomp(line), g_strchug(equals + 1));
        else if (!reader->excused)
                reader->events->wrong(reader->userdata, number,
                                      "an assignment stands before the first [Section]");
}

/* Takes the backslash off the end of @line, if there is one. */
static bool line_continues(char *line) {
        size_t length = strlen(line);

        if (length == 0 || line[length - 1] != '\\')
                return false;
        line[length - 1] = '\0';
        return true;
}

static void lines_read(Reader *reader, char **lines) {
        g_autoptr(GString) whole = g_string_new(NULL);
        unsigned number = 0, first = 0;

        while (*lines) {
                char *line = g_strstrip(*lines++);
                bool continues;

                number++;
                /* A comment between the parts of a line ends nothing. */
                if (first != 0 && is_comment(line))
                        continue;
                continues = !is_comment(line) && line_continues(line);
                if (first == 0)
                        first = number;
                g_string_append(whole, line);
                if (continues) {
                        g_string_append_c(whole, ' ');
                        continue;
                }
                line_read(reader, first, g_strstrip(whole->str));
                g_string_truncate(whole, 0);
                first = 0;
        }
        if (first != 0)
                line_read(reader, first, g_strstrip(whole->str));
}

void key_file_read(const char *text, size_t size, const KeyFileEvents *events, void *userdata) {
        Reader reader = { .events = events, .userdata = userdata };
        g_autofree char *copy = g_strndup(text, size);
        g_auto(GStrv) lines = NULL;
        const char *end;

        if (!g_utf8_validate_len(text, size, &end)) {
                unsigned number = 1;

                for (const char *at = text; at < end; at++)
                        number += *at == '\n';
                events->wrong(userdata, number, "this is no UTF-8 text");
                return;
        }
        lines = g_strsplit(copy, "\n", -1);
        lines_read(&reader, lines);
        g_free(reader.section);
}
