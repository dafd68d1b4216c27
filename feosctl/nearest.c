/* The distance between words: how many letters were left out, put in, changed or swapped (optimal
 * string alignment). */
#include "nearest.h"

#include <glib.h>
#include <string.h>

#define LENGTH_MAX 32

static unsigned distance(const char *a, const char *b) {
        unsigned table[LENGTH_MAX + 1][LENGTH_MAX + 1];
        size_t n = strlen(a), m = strlen(b);

        for (size_t i = 0; i <= n; i++)
                table[i][0] = (unsigned)i;
        for (size_t j = 0; j <= m; j++)
                table[0][j] = (unsigned)j;
        for (size_t i = 1; i <= n; i++)
                for (size_t j = 1; j <= m; j++) {
                        unsigned best = table[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

                        best = MIN(best, table[i - 1][j] + 1);
                        best = MIN(best, table[i][j - 1] + 1);
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                best = MIN(best, table[i - 2][j - 2] + 1);
                        table[i][j] = best;
                }
        return table[n][m];
}

const char *nearest_word(const char *word, const char *const *words) {
        size_t length = strlen(word);
        /* A short word is soon near to anything. */
        unsigned best = length <= 4 ? 1 : length <= 8 ? 2 : 3;
        const char *found = NULL;

        if (length > LENGTH_MAX)
                return NULL;
        for (; *words; words++) {
                unsigned d = strlen(*words) <= LENGTH_MAX ? distance(word, *words) : LENGTH_MAX;

                /* One that is equally near does not take the place of the first. */
                if (d < best || (d == best && !found)) {
                        best = d;
                        found = *words;
                }
        }
        return found;
}
