/* Calls of the service. Whatever cannot be had is complained about here; callers only stop. */
#pragma once

#include "ctl.h"
#include "object.h"

/* Connects to the system bus, of the host that was asked for. */
bool bus_connect(Ctl *ctl);

/* A new call of an object of the service; the caller fills it. NULL = complained. */
sd_bus_message *bus_call_new(Ctl *ctl, const char *path, const char *interface, const char *member);

/* Makes a call that only reads, and waits for the answer. @m is taken. NULL = complained. */
sd_bus_message *bus_read(Ctl *ctl, sd_bus_message *m);

/* Makes a call, and waits for as long as it takes, while signals that are matched are handled. @m
 * is taken. NULL = complained. */
sd_bus_message *bus_wait(Ctl *ctl, sd_bus_message *m);

/* The same for one that not everybody may make: polkit may ask for a password. */
sd_bus_message *bus_change(Ctl *ctl, sd_bus_message *m);

/* Both in one for a call without arguments. False = complained. */
bool bus_do(Ctl *ctl, const char *path, const char *interface, const char *member);

/* Makes a call that only those may who are let without being asked for a password: NULL, without a
 * complaint, when the caller is none of them, or when the answer takes long. */
sd_bus_message *bus_try(Ctl *ctl, const char *path, const char *interface, const char *member);

/* The path of the machine with that name or UUID, or the GPU at that address. Caller frees; NULL =
 * complained. */
char *bus_find_machine(Ctl *ctl, const char *name);
char *bus_find_gpu(Ctl *ctl, const char *address);

/* The properties of the object at @path, with its "Path". NULL = complained. */
json_object *bus_properties(Ctl *ctl, const char *path, const char *interface);
