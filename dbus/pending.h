/* Calls that wait for the manager's answer. */
#pragma once

#include "bus-private.h"

/* Authorises the call @m as authorize() does and, when it may go on, keeps it in *@ret until one of
 * the functions below answers it. Returns 1 and *@ret; or what the handler returns at once, with
 * *@ret NULL: 1 when it is to be run again, a negative errno and @error when not. */
typedef struct Pending Pending;

int pending_begin(Bus *bus, sd_bus_message *m, const char *action, const AuthorizeDetails *details,
                  sd_bus_error *error, Pending **ret);

/* Keeps the call @m, which counts like any other, until libvirt has said which machines there are;
 * then the handler is run again. Returns as a handler does. */
int pending_hold(Bus *bus, sd_bus_message *m, const char *verb, sd_bus_error *error);

/* Who calls. */
uid_t pending_uid(const Pending *pending);

/* What Create answers with: copies @path. */
void pending_set_path(Pending *pending, const char *path);

/* The answers; each one ends the pending call. As ManagerDone, ManagerChecked, ManagerHolders,
 * ManagerAttached, HypervisorXML and HypervisorConsole. */
void pending_done(void *userdata, const Refusal *refusal);
void pending_checked(void *userdata, const GPtrArray *findings);
void pending_holders(void *userdata, const GPtrArray *holders, const Refusal *refusal);
void pending_attached(void *userdata, const char *id, const Refusal *refusal);
void pending_xml(void *userdata, const char *xml, const Refusal *refusal);
void pending_console(void *userdata, int fd, const Refusal *refusal);

/* For a call that goes on after its answer: pending_answered() is as pending_done(), but it is
 * under way, and counts, until pending_ended(). */
void pending_answered(void *userdata, const Refusal *refusal);
void pending_ended(void *userdata);

/* Answers @pending, unless that was done, with an error because the service ends, and frees it. */
void pending_abandon(Pending *pending);
