/* Machines as people see them, and the commands about them. */
#pragma once

#include "ctl.h"
#include "table.h"

Style machine_style(const char *state);

/* A table of @machines. Caller frees. */
Table *machines_table(json_object *machines, const Terminal *terminal);

/* Everything that is known of one. Caller frees. */
char *machine_format(json_object *machine, const Terminal *terminal);

/* The commands; @arguments as commands.h has it. */
int machines_list(Ctl *ctl, char **arguments);
int machines_show(Ctl *ctl, char **arguments);
int machines_start(Ctl *ctl, char **arguments);
int machines_shutdown(Ctl *ctl, char **arguments);
int machines_power_off(Ctl *ctl, char **arguments);
int machines_reboot(Ctl *ctl, char **arguments);
int machines_pause(Ctl *ctl, char **arguments);
int machines_resume(Ctl *ctl, char **arguments);
int machines_delete(Ctl *ctl, char **arguments);
int machines_xml(Ctl *ctl, char **arguments);
int machines_attach_disk(Ctl *ctl, char **arguments);
int machines_detach_disk(Ctl *ctl, char **arguments);
int machines_attach_nic(Ctl *ctl, char **arguments);
int machines_detach_nic(Ctl *ctl, char **arguments);
