/* What the rig's files share. Nobody else includes this. */
#pragma once

#include "rig.h"

/* --- rig.c --- */

/* Starts a program that dies with us. What it complains of lies in the rig's folder. */
pid_t rig_program_start(const Rig *rig, char *const argv[], char **environment);

/* Runs the loop until it says READY=1 to sd_notify()'s socket; @what is its name. */
void rig_ready_await(Rig *rig, pid_t pid, const char *what);

/* A call of the service, to be filled. */
sd_bus_message *rig_call_new(sd_bus *caller, const char *path, const char *interface,
                             const char *member);

/* --- rig-libvirt.c --- */

void rig_libvirt_start(Rig *rig);
/* The caller's. */
char *rig_libvirt_uri(const Rig *rig);
GPtrArray *rig_holds_new(void);

/* Calls @each with every domain that is the daemon's. */
void rig_domains_walk(Rig *rig, void (*each)(virDomainPtr domain, void *userdata), void *userdata);

/* Whether the function is among the domain's host devices. */
bool rig_domain_has(virDomainPtr domain, const char *address);

/* Notes what must never happen and did. */
void rig_violation(Rig *rig, const char *format, ...) G_GNUC_PRINTF(2, 3);
