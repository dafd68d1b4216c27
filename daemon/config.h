/* The administrator's settings: vmd.conf and its drop-ins. */
#pragma once

#include <glib.h>

typedef struct Config {
        char *hypervisor_uri;
        unsigned handover_timeout_sec; /* 1 to 3600 */
        GArray *kept_gpus;             /* PciAddress: to be on vfio-pci ahead of any machine */
        char **image_directories;      /* absolute */
        char **block_devices;          /* absolute paths or globs */
        unsigned pending_per_user;     /* 1 to 4096 */
        char **files;                  /* those that were read, in their order */
} Config;

/* Reads @path and then the drop-ins, files NAME.conf of @folders, in the order of their names, each
 * overriding or adding to what came before. Of two with one name the one in the earlier folder
 * counts. @folders ends with NULL; none of all these need exist. Returns 0 and a new config
 * (config_free()), or a negative errno: -EINVAL when something is wrong, -EIO when something could
 * not be read and may be right, with *@ret_why (g_free()) naming file, line and key of everything
 * that is and what would be right, a line for each. */
int config_read(const char *path, const char *const *folders, Config **ret, char **ret_why);

/* All settings in use as such a file, with the files read in a comment. The caller's (g_free()). */
char *config_print(const Config *config);

void config_free(Config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)
