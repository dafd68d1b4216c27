/* What is known of one thing, a line each: names to the right, values to the left. */
#pragma once

#include "terminal.h"

typedef struct Fields Fields;

Fields *fields_new(void);
void fields_free(Fields *fields);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Fields, fields_free)

/* Adds one; cleaned and copied. Nothing is added where @value is NULL or empty. With "" for @name
 * it goes on with the field before. */
void fields_add(Fields *fields, const char *name, const char *value, Style style);
void fields_addf(Fields *fields, const char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* Caller frees. */
char *fields_format(const Fields *fields, const Terminal *terminal);
