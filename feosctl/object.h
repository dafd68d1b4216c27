/* The service's objects on the bus: where they are, and what their paths stand for. */
#pragma once

#include <glib.h>

#define VM1_NAME          "org.feos.VM1"
#define VM1_PATH          "/org/feos/VM1"
#define VM1_INTERFACE     "org.feos.VM1"
#define GPU_INTERFACE     "org.feos.VM1.GPU"
#define MACHINE_INTERFACE "org.feos.VM1.Machine"

typedef enum ObjectKind {
        OBJECT_SERVICE,
        OBJECT_GPU,
        OBJECT_MACHINE,
        OBJECT_OTHER, /* none of ours */
} ObjectKind;

/* What is at @path; a GPU's address or a machine's name goes to @ret_name, which the caller frees,
 * else NULL. */
ObjectKind object_of_path(const char *path, char **ret_name);
