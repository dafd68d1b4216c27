/* Booleans, numbers and addresses. What they are for is not known here. */
#include "value.h"

#include <glib.h>
#include <string.h>

bool boolean_parse(const char *text, bool *ret) {
        static const char *const yes[] = { "yes", "y", "true", "t", "on", "1" };
        static const char *const no[] = { "no", "n", "false", "f", "off", "0" };

        for (size_t i = 0; i < G_N_ELEMENTS(yes); i++)
                if (g_ascii_strcasecmp(text, yes[i]) == 0) {
                        *ret = true;
                        return true;
                }
        for (size_t i = 0; i < G_N_ELEMENTS(no); i++)
                if (g_ascii_strcasecmp(text, no[i]) == 0) {
                        *ret = false;
                        return true;
                }
        return false;
}

bool unsigned_parse(const char *text, uint32_t min, uint32_t max, uint32_t *ret) {
        guint64 number;

        if (!g_ascii_string_to_unsigned(text, 10, min, max, &number, NULL))
                return false;
        *ret = (uint32_t)number;
        return true;
}

char *address_canonical(const char *text) {
        g_autofree char *lower = NULL;

        if (!g_regex_match_simple("^([0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]$", text,
                                  G_REGEX_CASELESS | G_REGEX_DOLLAR_ENDONLY, 0))
                return NULL;
        lower = g_ascii_strdown(text, -1);
        return g_strconcat(strchr(lower, ':') == strrchr(lower, ':') ? "0000:" : "", lower, NULL);
}
