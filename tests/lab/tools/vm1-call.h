#pragma once

#include <systemd/sd-bus.h>

/* Connects to the system bus, or says why not and ends the program. */
sd_bus *vm1_connect(void);

/* Makes a call that may take as long as a machine's start, or says in busctl's words what was
 * answered, with the error's name, and ends the program. */
sd_bus_message *vm1_call(sd_bus *bus, sd_bus_message *call);

/* Ends the program when @r is an errno. */
void vm1_check(int r, const char *what);
