/* org.feos.VM1.GPU, one physical GPU. */
#pragma once

#include <systemd/sd-bus.h>

/* Userdata is the Bus, which gpu_find() hands on; the handlers go by the object path. */
extern const sd_bus_vtable gpu_vtable[];

int gpu_find(sd_bus *sd, const char *path, const char *interface, void *userdata, void **ret,
             sd_bus_error *error);
int gpu_enumerate(sd_bus *sd, const char *prefix, void *userdata, char ***ret, sd_bus_error *error);
