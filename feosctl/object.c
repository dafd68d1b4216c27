/* Object paths, read as the API says that they are written. Whether there is such an object the
 * service knows. */
#include "object.h"

#include "value.h"

#include <string.h>
#include <systemd/sd-bus.h>

static char *address_of_label(const char *label) {
        g_autofree char *text = g_strdelimit(g_strdup(label), "_", ':');
        char *function = strrchr(text, ':');

        if (function)
                *function = '.';
        return address_canonical(text);
}

ObjectKind object_of_path(const char *path, char **ret_name) {
        g_autofree char *name = NULL;

        *ret_name = NULL;
        if (g_str_equal(path, VM1_PATH))
                return OBJECT_SERVICE;
        if (g_str_has_prefix(path, VM1_PATH "/gpu/")) {
                *ret_name = address_of_label(path + strlen(VM1_PATH "/gpu/"));
                return *ret_name ? OBJECT_GPU : OBJECT_OTHER;
        }
        /* libc's memory, as GLib's is. */
        if (sd_bus_path_decode(path, VM1_PATH "/machine", &name) <= 0)
                return OBJECT_OTHER;
        *ret_name = g_steal_pointer(&name);
        return OBJECT_MACHINE;
}
