/* What the bus tells, as JSON values: they are shown, printed and looked into in one way, and a
 * property that a newer service has is shown by this program too. */
#pragma once

#include "cleanup.h"

#include <stdbool.h>
#include <stdint.h>

/* Reads the next complete value out of @m: dictionaries become objects, arrays and structures
 * arrays, a variant what is in it. 0, or a negative errno. */
int json_read(sd_bus_message *m, json_object **ret);

/* Reads an array of structures whose fields have these names (NULL-terminated) into an array of
 * objects. */
int json_read_records(sd_bus_message *m, const char *const *names, json_object **ret);

/* A member of @object: "" or 0 or false or an empty array where it is not there or of another type.
 * Lent. */
const char *json_text(json_object *object, const char *key);
int64_t json_number(json_object *object, const char *key);
bool json_flag(json_object *object, const char *key);
json_object *json_member(json_object *object, const char *key);
size_t json_length(json_object *array);

/* A member that is an array of strings, put together. Caller frees. */
char *json_join(json_object *object, const char *key, const char *separator);

/* Whether that array has @text. */
bool json_has(json_object *object, const char *key, const char *text);

/* Adds a string member. */
void json_put(json_object *object, const char *key, const char *text);

/* Writes @object to standard output: on one line, or, with @pretty, for a person. */
void json_print(json_object *object, bool pretty);
