/* Sizes: text to bytes and back. */
#include "size.h"

#include <glib.h>
#include <string.h>

static const char letters[] = "KMGTP";

/* The power of 1024 that @unit stands for; 0 = none. */
static unsigned unit_parse(const char *unit) {
        const char *letter = *unit ? strchr(letters, g_ascii_toupper(*unit)) : NULL;

        if (!letter || (unit[1] && g_ascii_strcasecmp(unit + 1, "i") != 0 &&
                        g_ascii_strcasecmp(unit + 1, "iB") != 0))
                return 0;
        return (unsigned)(letter - letters) + 1;
}

/* The digits at *@text, which moves behind them; false when there are none or too many. */
static bool digits_parse(const char **text, uint64_t *ret, uint64_t *ret_scale) {
        const char *from = *text;

        *ret = 0;
        *ret_scale = 1;
        for (; g_ascii_isdigit(**text); (*text)++) {
                if (*text - from == 12)
                        return false;
                *ret = *ret * 10 + (uint64_t)(**text - '0');
                *ret_scale *= 10;
        }
        return *text > from;
}

bool size_parse(const char *text, uint64_t *ret) {
        uint64_t whole, part = 0, scale = 1, unit, bytes, rest;
        unsigned power;

        if (!digits_parse(&text, &whole, &scale))
                return false;
        scale = 1;
        if (*text == '.') {
                text++;
                if (!digits_parse(&text, &part, &scale))
                        return false;
        }
        power = unit_parse(text);
        if (power == 0)
                return false;
        unit = UINT64_C(1) << (10 * power);
        if (__builtin_mul_overflow(whole, unit, &bytes) ||
            __builtin_mul_overflow(part, unit, &rest) || rest % scale != 0 ||
            __builtin_add_overflow(bytes, rest / scale, &bytes))
                return false;
        *ret = bytes;
        return true;
}

char *size_format(uint64_t bytes) {
        unsigned power = 0;
        uint64_t unit = 1, tenths;

        while (power < strlen(letters) && bytes / unit >= 1024) {
                unit *= 1024;
                power++;
        }
        if (power == 0)
                return g_strdup_printf("%" G_GUINT64_FORMAT " B", bytes);
        tenths = bytes % unit / (unit / 1024) * 10 / 1024;
        if (tenths == 0)
                return g_strdup_printf("%" G_GUINT64_FORMAT " %ciB", bytes / unit,
                                       letters[power - 1]);
        return g_strdup_printf("%" G_GUINT64_FORMAT ".%u %ciB", bytes / unit, (unsigned)tenths,
                               letters[power - 1]);
}
