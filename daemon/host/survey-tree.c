/* Walks sysfs beneath a PCI function: DRM and sound cards, inputs, and what hangs on a card's USB
 * controller. */
#include "survey-tree.h"

#include "reading.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define DEPTH_MAX 16 /* folders beneath a function; sysfs is not that deep */

typedef DIR Dir;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Dir, closedir)

typedef struct Walk {
        PciAddress function;
        TreeVisit visit;
        void *userdata;
} Walk;

char *tree_function_path(PciAddress function) {
        char address[PCI_ADDRESS_BUFFER];

        return g_build_filename("/sys/bus/pci/devices", pci_address_print(function, address), NULL);
}

static int folder_visit(const Walk *walk, const char *path) {
        g_autofree char *link = g_build_filename(path, "subsystem", NULL);
        g_autofree char *subsystem = NULL;
        int r = reading_link_name(AT_FDCWD, link, &subsystem);
        TreeFolder folder = {
                .function = walk->function,
                .path = path,
                .name = strrchr(path, '/') + 1,
                .subsystem = subsystem,
        };

        return r < 0 ? r : walk->visit(&folder, walk->userdata);
}

/* Links lead elsewhere and are not followed. */
static int folder_walk(const Walk *walk, const char *path, unsigned depth) {
        g_autoptr(Dir) dir = opendir(path);
        int r = dir ? folder_visit(walk, path) : -errno;

        if (!dir && reading_is_absence(r))
                return 0;
        while (r == 0) {
                g_autofree char *inner = NULL;
                struct dirent *entry;

                errno = 0;
                entry = readdir(dir);
                if (!entry)
                        return reading_is_absence(-errno) ? 0 : -errno;
                if (entry->d_type != DT_DIR || entry->d_name[0] == '.' || depth == DEPTH_MAX)
                        continue;
                inner = g_build_filename(path, entry->d_name, NULL);
                r = folder_walk(walk, inner, depth + 1);
        }
        return r;
}

int tree_walk(PciAddress function, const char *path, TreeVisit visit, void *userdata) {
        Walk walk = { function, visit, userdata };

        return folder_walk(&walk, path, 0);
}

int tree_walk_function(PciAddress function, TreeVisit visit, void *userdata) {
        g_autofree char *path = tree_function_path(function);

        return tree_walk(function, path, visit, userdata);
}
