/* Machines: a table of them, one in full, and what may be done with one. Making one is create.c's,
 * its console console.c's. */
#include "machines.h"

#include "bus.h"
#include "complaint.h"
#include "device-options.h"
#include "fields.h"
#include "host.h"
#include "json.h"
#include "progress.h"
#include "size.h"

#include <stdio.h>

#define MIB (UINT64_C(1) << 20)

Style machine_style(const char *state) {
        static const struct {
                const char *state;
                Style style;
        } styles[] = {
                { "running", STYLE_GOOD }, { "starting", STYLE_BUSY }, { "stopping", STYLE_BUSY },
                { "paused", STYLE_BUSY },  { "crashed", STYLE_BAD },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(styles); i++)
                if (g_str_equal(styles[i].state, state))
                        return styles[i].style;
        return STYLE_QUIET;
}

Table *machines_table(json_object *machines, const Terminal *terminal) {
        static const char *const headings[] = { "",       "MACHINE", "STATE", "VCPUS",
                                                "MEMORY", "GPUS",    NULL };
        Table *table = table_new(headings + !terminal->tty);

        table_align_right(table, 3 - !terminal->tty);
        table_align_right(table, 4 - !terminal->tty);
        for (size_t i = 0; i < json_length(machines); i++) {
                json_object *machine = json_object_array_get_idx(machines, i);
                const char *state = json_text(machine, "State");
                g_autofree char *vcpus =
                        g_strdup_printf("%" G_GINT64_FORMAT, json_number(machine, "VCPUs"));
                g_autofree char *memory =
                        size_format((uint64_t)json_number(machine, "MemoryMiB") * MIB);
                g_autofree char *gpus = json_join(machine, "GPUAddresses", ",");

                if (terminal->tty)
                        table_add(table, terminal_dot(terminal, machine_style(state)),
                                  machine_style(state));
                table_add(table, json_text(machine, "Name"), STYLE_PLAIN);
                table_add(table, state, machine_style(state));
                table_add(table, vcpus, STYLE_PLAIN);
                table_add(table, memory, STYLE_PLAIN);
                table_add(table, gpus, STYLE_PLAIN);
                if (terminal->tty && g_str_equal(state, "crashed") &&
                    *json_text(machine, "StateReason"))
                        table_note(table, json_text(machine, "StateReason"), STYLE_BAD);
        }
        return table;
}

char *machine_format(json_object *machine, const Terminal *terminal) {
        g_autofree char *memory = size_format((uint64_t)json_number(machine, "MemoryMiB") * MIB);
        g_autofree char *gpus = json_join(machine, "GPUAddresses", ", ");
        const char *state = json_text(machine, "State"), *name = json_text(machine, "Name");
        g_autoptr(Fields) fields = fields_new();
        g_autofree char *words = NULL;
        g_autofree char *lines = NULL;
        Style style = machine_style(state);

        words = *json_text(machine, "StateReason")
                        ? g_strdup_printf("%s: %s", state, json_text(machine, "StateReason"))
                        : g_strdup(state);
        fields_add(fields, "State", words, style);
        fields_add(fields, "UUID", json_text(machine, "UUID"), STYLE_PLAIN);
        fields_add(fields, "GPUs", *gpus ? gpus : "none", STYLE_PLAIN);
        fields_addf(fields, "vCPUs", "%" G_GINT64_FORMAT, json_number(machine, "VCPUs"));
        fields_add(fields, "Memory", memory, STYLE_PLAIN);
        if (json_number(machine, "LeaderPID") > 0)
                fields_addf(fields, "Leader", "%" G_GINT64_FORMAT " (QEMU)",
                            json_number(machine, "LeaderPID"));
        fields_add(fields, "Autostart", json_flag(machine, "Autostart") ? "with the host" : "no",
                   STYLE_PLAIN);
        fields_addf(fields, "Console log", "/var/log/feos/%s/console.log", name);
        lines = fields_format(fields, terminal);
        return g_strdup_printf("%s%s%s %s%s%s\n%s", style_begin(terminal, style),
                               terminal_dot(terminal, style), style_end(terminal, style),
                               style_begin(terminal, STYLE_STRONG), name,
                               style_end(terminal, STYLE_STRONG), lines);
}

int machines_list(Ctl *ctl, char **arguments) {
        g_autoptr(json_object) host = host_read(ctl);
        g_autoptr(Table) table = NULL;
        g_autofree char *text = NULL;
        json_object *machines;

        if (!host)
                return EXIT_FAILURE;
        machines = json_member(host, "Machines");
        if (ctl->json) {
                ctl_print_json(ctl, machines);
                return EXIT_SUCCESS;
        }
        if (json_length(machines) == 0) {
                if (!ctl->no_legend)
                        ctl_say(ctl, "No machines. Make one with: feosctl create NAME");
                return EXIT_SUCCESS;
        }
        table = machines_table(machines, &ctl->out);
        text = table_format(table, &ctl->out, 0, !ctl->no_legend);
        fputs(text, stdout);
        return EXIT_SUCCESS;
}

int machines_show(Ctl *ctl, char **arguments) {
        g_autoptr(json_object) shown = json_object_new_array();
        int status = EXIT_SUCCESS;

        for (; *arguments; arguments++) {
                g_autofree char *path = bus_find_machine(ctl, *arguments);
                json_object *machine = path ? bus_properties(ctl, path, MACHINE_INTERFACE) : NULL;

                if (!machine) {
                        status = EXIT_FAILURE;
                        continue;
                }
                json_object_array_add(shown, machine);
                if (!ctl->json) {
                        g_autofree char *text = machine_format(machine, &ctl->out);

                        printf("%s%s", json_length(shown) > 1 ? "\n" : "", text);
                }
        }
        if (ctl->json)
                ctl_print_json(ctl, shown);
        return status;
}

/* The path and the name of the machine that a person calls @text; the caller frees both. False =
 * complained. */
static bool find(Ctl *ctl, const char *text, char **ret_path, char **ret_name) {
        *ret_name = NULL;
        *ret_path = bus_find_machine(ctl, text);
        return *ret_path && object_of_path(*ret_path, ret_name) == OBJECT_MACHINE;
}

/* Shows what becomes of the machine at @path and of its GPUs. */
static Progress *follow(Ctl *ctl, const char *path, const char *name) {
        g_autoptr(json_object) machine = bus_properties(ctl, path, MACHINE_INTERFACE);
        g_autofree char *gpus = machine ? json_join(machine, "GPUAddresses", ",") : NULL;
        g_auto(GStrv) addresses = g_strsplit(gpus ?: "", ",", -1);

        return progress_new(ctl, name, (const char *const *)addresses);
}

/* Calls @member of each machine, and says of each what has come of it. */
static int each(Ctl *ctl, char **arguments, const char *member, const char *done) {
        int status = EXIT_SUCCESS;

        for (; *arguments; arguments++) {
                g_autofree char *path = NULL;
                g_autofree char *name = NULL;
                g_autoptr(Progress) progress = NULL;

                if (!find(ctl, *arguments, &path, &name)) {
                        status = EXIT_FAILURE;
                        continue;
                }
                progress = follow(ctl, path, name);
                if (bus_do(ctl, path, MACHINE_INTERFACE, member)) {
                        progress_end(progress);
                        ctl_say(ctl, "Machine %s %s.", name, done);
                } else
                        status = EXIT_FAILURE;
        }
        return status;
}

int machines_start(Ctl *ctl, char **arguments) {
        return each(ctl, arguments, "Start", "is running");
}

int machines_shutdown(Ctl *ctl, char **arguments) {
        return each(ctl, arguments, "Shutdown", "has been asked to shut down");
}

int machines_power_off(Ctl *ctl, char **arguments) {
        return each(ctl, arguments, "PowerOff", "is off");
}

int machines_reboot(Ctl *ctl, char **arguments) {
        return each(ctl, arguments, "Reboot", "has been asked to reboot");
}

int machines_pause(Ctl *ctl, char **arguments) {
        return each(ctl, arguments, "Pause", "is paused");
}

int machines_resume(Ctl *ctl, char **arguments) {
        return each(ctl, arguments, "Resume", "is running");
}

int machines_delete(Ctl *ctl, char **arguments) {
        return each(ctl, arguments, "Delete", "is deleted; its images stay");
}

int machines_xml(Ctl *ctl, char **arguments) {
        g_autofree char *path = bus_find_machine(ctl, *arguments);
        g_autoptr(sd_bus_message) reply = NULL;
        const char *xml;
        int r;

        if (!path)
                return EXIT_FAILURE;
        reply = bus_change(ctl, bus_call_new(ctl, path, MACHINE_INTERFACE, "GetXML"));
        if (!reply)
                return EXIT_FAILURE;
        r = sd_bus_message_read(reply, "s", &xml);
        if (r < 0) {
                complain_of(ctl, NULL, r);
                return EXIT_FAILURE;
        }
        if (ctl->json) {
                g_autoptr(json_object) object = json_object_new_object();

                json_put(object, "XML", xml);
                ctl_print_json(ctl, object);
        } else
                printf("%s%s", xml, g_str_has_suffix(xml, "\n") ? "" : "\n");
        return EXIT_SUCCESS;
}

/* Attaches what is written in @text, and says under which id. */
static int attach(Ctl *ctl, const char *machine, DeviceKind kind, const char *text,
                  const char *member) {
        g_autoptr(DeviceOptions) device = NULL;
        g_autoptr(sd_bus_message) reply = NULL;
        g_autofree char *wrong = NULL;
        g_autofree char *path = NULL;
        g_autofree char *name = NULL;
        sd_bus_message *m;
        const char *id;
        int r;

        device = device_options_parse(kind, text, &wrong);
        if (!device) {
                complain(ctl, "Usage", "See feosctl(1): KEY=VALUE, separated by commas.", "%s: %s",
                         text, wrong);
                return EXIT_USAGE;
        }
        if (!find(ctl, machine, &path, &name))
                return EXIT_FAILURE;
        m = bus_call_new(ctl, path, MACHINE_INTERFACE, member);
        r = m ? device_options_append(device, m) : 0;
        reply = bus_change(ctl, m);
        if (!reply)
                return EXIT_FAILURE;
        if (r >= 0)
                r = sd_bus_message_read(reply, "s", &id);
        if (r < 0) {
                complain_of(ctl, NULL, r);
                return EXIT_FAILURE;
        }
        if (ctl->json) {
                g_autoptr(json_object) object = json_object_new_object();

                json_put(object, "ID", id);
                ctl_print_json(ctl, object);
        }
        ctl_say(ctl, "Machine %s has %s %s.", name, kind == DEVICE_DISK ? "disk" : "NIC", id);
        return EXIT_SUCCESS;
}

static int detach(Ctl *ctl, char **arguments, DeviceKind kind, const char *member) {
        g_autofree char *path = NULL;
        g_autofree char *name = NULL;
        int status = EXIT_SUCCESS;

        if (!find(ctl, *arguments, &path, &name))
                return EXIT_FAILURE;
        for (char **id = arguments + 1; *id; id++) {
                sd_bus_message *m = bus_call_new(ctl, path, MACHINE_INTERFACE, member);
                g_autoptr(sd_bus_message) reply = NULL;

                if (m)
                        sd_bus_message_append(m, "s", *id);
                reply = bus_change(ctl, m);
                if (reply)
                        ctl_say(ctl, "Machine %s has given %s %s back.", name,
                                kind == DEVICE_DISK ? "disk" : "NIC", *id);
                else
                        status = EXIT_FAILURE;
        }
        return status;
}

int machines_attach_disk(Ctl *ctl, char **arguments) {
        return attach(ctl, arguments[0], DEVICE_DISK, arguments[1], "AttachDisk");
}

int machines_detach_disk(Ctl *ctl, char **arguments) {
        return detach(ctl, arguments, DEVICE_DISK, "DetachDisk");
}

int machines_attach_nic(Ctl *ctl, char **arguments) {
        return attach(ctl, arguments[0], DEVICE_NIC, arguments[1], "AttachNIC");
}

int machines_detach_nic(Ctl *ctl, char **arguments) {
        return detach(ctl, arguments, DEVICE_NIC, "DetachNIC");
}
