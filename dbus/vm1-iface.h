/* org.feos.VM1, the service itself. */
#pragma once

#include <systemd/sd-bus.h>

/* Userdata is the Bus. */
extern const sd_bus_vtable vm1_vtable[];
