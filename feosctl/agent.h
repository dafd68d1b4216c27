/* The agent that asks for a password on the terminal, where no other does: a desktop has its own.
 */
#pragma once

#include <sys/types.h>

typedef struct Agent {
        pid_t pid; /* 0 = none */
} Agent;

/* Starts polkit's pkttyagent and waits until it is ready. Does nothing where it is there already,
 * where the caller is root, where there is no terminal to ask on, or where there is no such
 * program: the call is then refused by the service, with its own words. */
void agent_start(Agent *agent);

/* Ends it and waits for that, so that the terminal is left as it was. */
void agent_stop(Agent *agent);
