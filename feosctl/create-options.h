/* The options of create and check: as long options, and as Create's a{sv}. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>

typedef struct CreateOptions CreateOptions;

CreateOptions *create_options_new(void);
void create_options_free(CreateOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CreateOptions, create_options_free)

/* Adds the long options to @group, whose user data must be @options; each that is given is kept
 * there. */
void create_options_add_to(GOptionGroup *group);

/* Writes the switches that stand alone among @arguments as --switch=yes; to be done before they are
 * parsed. */
void create_options_expand(char **arguments);

/* Appends the GPUs as "as" and the options as "a{sv}". 0 or a negative errno. */
int create_options_append(const CreateOptions *options, sd_bus_message *m);

/* The addresses of the GPUs as they were written, NULL-terminated; lent. */
const char *const *create_options_gpus(const CreateOptions *options);

/* The value of the switch @key of the API; @otherwise when it was not given. */
bool create_options_flag(const CreateOptions *options, const char *key, bool otherwise);

/* The long option, without its dashes, for key @key of the API, and the key's D-Bus type; NULL =
 * there is none. */
const char *create_options_long(const char *key);
const char *create_options_type(const char *key);
