/* Reads key files as systemd's are: [Section], Key=Value, comments, lines continued with a
 * backslash. Knows which line it is at, and knows no section and no key. */
#pragma once

#include <stddef.h>

/* Called while the text is read, in its order. Lines count from 1; where one is continued, the
 * first of them is meant. All texts are lent. */
typedef struct KeyFileEvents {
        /* An assignment, with no white space around its parts; @value may be "". */
        void (*assigned)(void *userdata, unsigned line, const char *section, const char *key,
                         const char *value);
        /* A line that is none of the above. @why is a whole clause. The rest is read all the same.
         */
        void (*wrong)(void *userdata, unsigned line, const char *why);
} KeyFileEvents;

/* Reads the @size bytes at @text, which need not end with a NUL. */
void key_file_read(const char *text, size_t size, const KeyFileEvents *events, void *userdata);
