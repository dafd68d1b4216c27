/* The administrator's settings: vmd.conf and its drop-ins. */
#pragma once

#include <glib.h>

typedef struct Config {
        char *hypervisor_uri;
        unsigned handover_timeout_sec; /* 1 to 3600 */
        char **image_directories;      /* absolute */
        char **block_devices;          /* absolute paths or globs */
        unsigned pending_per_user;     /* 1 to 4096 */
} Config;

/* Reads @path and then @path.d/?*.conf in the order of their names, each overriding what came
 * before; none of them need exist. Returns 0 and a new config (config_free()), or a negative errno:
 * -EINVAL when a file is wrong, with *@ret_why (g_free()) naming file, key and what would be right.
 */
int config_read(const char *path, Config **ret, char **ret_why);

void config_free(Config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)
