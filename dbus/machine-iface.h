/* org.feos.VM1.Machine, one machine of ours. */
#pragma once

#include <systemd/sd-bus.h>

/* Userdata is the Bus, which machine_find() hands on; the handlers go by the object path. */
extern const sd_bus_vtable machine_vtable[];

int machine_find(sd_bus *sd, const char *path, const char *interface, void *userdata, void **ret,
                 sd_bus_error *error);
int machine_enumerate(sd_bus *sd, const char *prefix, void *userdata, char ***ret,
                      sd_bus_error *error);
