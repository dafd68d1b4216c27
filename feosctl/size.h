/* Amounts of memory as people write them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Reads "64G", "512M", "1.5T", also with "iB" or "i" behind the letter, in either case: powers of
 * 1024. A number without a letter is refused, for it could mean bytes, KiB or MiB; so is a part of
 * a byte. False, and @ret is left alone, when @text is no size or too large. */
bool size_parse(const char *text, uint64_t *ret);

/* "64 GiB", "1.5 TiB", "16 KiB", "512 B": at most one digit behind the point. Caller frees. */
char *size_format(uint64_t bytes);
