/* Small values as people write them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* yes, true, on, 1, y, t and their opposites, in either case, as systemd takes them. False, and
 * @ret is left alone, when @text is none of them. */
bool boolean_parse(const char *text, bool *ret);

/* A decimal number from @min to @max. */
bool unsigned_parse(const char *text, uint32_t min, uint32_t max, uint32_t *ret);

/* @text written in full and in lower case, "0000:01:00.0", where it has the form of a PCI address;
 * else NULL. Caller frees. */
char *address_canonical(const char *text);
