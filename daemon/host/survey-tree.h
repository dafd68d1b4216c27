/* What sysfs shows beneath a PCI function. Part of the survey helper: reading it can block. */
#pragma once

#include "core/pci-address.h"

/* A folder beneath a function, or the function's own. */
typedef struct TreeFolder {
        PciAddress function;
        const char *path;
        const char *name;      /* the last part of @path */
        const char *subsystem; /* of the device that the folder is; NULL = it is none */
} TreeFolder;

/* 0, or a negative errno that ends the walk. */
typedef int (*TreeVisit)(const TreeFolder *folder, void *userdata);

/* Visits the folder at @path, of @function, and every one beneath it. What goes meanwhile is left
 * out. 0 or a negative errno: then not all was seen. */
int tree_walk(PciAddress function, const char *path, TreeVisit visit, void *userdata);

/* The same, of the function's own folder. */
int tree_walk_function(PciAddress function, TreeVisit visit, void *userdata);

/* Where sysfs has the function: a new string. */
char *tree_function_path(PciAddress function);
