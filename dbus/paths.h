/* Object paths, and what they stand for. Each thing has one path, and only that path finds it. */
#pragma once

#include "core/pci-address.h"

#include <glib.h>

#define VM1_PATH     "/org/feos/VM1"
#define GPU_PATH     VM1_PATH "/gpu"
#define MACHINE_PATH VM1_PATH "/machine"

/* The path of the GPU at @address: .../gpu/0000_01_00_0. Caller frees. */
char *path_of_gpu(PciAddress address);

/* The path of the machine @name. Caller frees. */
char *path_of_machine(const char *name);

/* Reads a GPU's path. Returns false, and leaves @ret alone, when it is none or not written as
 * path_of_gpu() writes it. */
bool path_to_gpu(const char *path, PciAddress *ret);

/* The machine's name in @path, which the caller frees; NULL as above. */
char *path_to_machine(const char *path);
