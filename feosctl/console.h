/* A machine's serial console on this terminal. */
#pragma once

#include "ctl.h"

/* Ctrl and ], as in telnet and virsh. */
#define CONSOLE_ESCAPE 0x1d

typedef enum ConsoleEnd {
        CONSOLE_LEFT,   /* with the escape character */
        CONSOLE_ENDED,  /* the machine has ended it */
        CONSOLE_KILLED, /* a signal has asked us to go, or the terminal is gone */
} ConsoleEnd;

/* Copies between @console, which is non-blocking, and the terminal (or pipe) at @in and @out until
 * one of them ends it. A terminal is raw meanwhile, and afterwards as it was before, whatever the
 * guest has written to it. In *@ret_signal: the signal of CONSOLE_KILLED, 0 = none. */
ConsoleEnd console_copy(int console, int in, int out, int *ret_signal);

/* The command; @arguments as commands.h has it. */
int console_run(Ctl *ctl, char **arguments);
