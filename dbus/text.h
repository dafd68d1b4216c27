/* Text from elsewhere, made fit for the bus. */
#pragma once

#include <systemd/sd-bus.h>

/* Appends @text to @m as a string; what is no UTF-8 in it is replaced. D-Bus carries nothing else,
 * and a process may call itself anything: one bad byte must not make a whole list unreadable. 0 or
 * a negative errno. */
int append_text(sd_bus_message *m, const char *text);

/* The same for several strings, NULL-terminated. */
int append_texts(sd_bus_message *m, ...) __attribute__((sentinel));
