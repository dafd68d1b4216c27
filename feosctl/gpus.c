/* GPUs: a table of them, one in full, and what may be done with one. */
#include "gpus.h"

#include "bus.h"
#include "complaint.h"
#include "fields.h"
#include "host.h"
#include "json.h"
#include "progress.h"
#include "size.h"

#include <stdio.h>

Style gpu_style(json_object *gpu) {
        const char *state = json_text(gpu, "State");

        if (*json_text(gpu, "Fault"))
                return STYLE_BAD;
        if (*json_text(gpu, "Pending"))
                return STYLE_BUSY;
        if (g_str_equal(state, "attached"))
                return STYLE_GOOD;
        return g_str_equal(state, "vfio-bound") ? STYLE_READY : STYLE_QUIET;
}

/* The state, and what goes beyond it. Caller frees. */
static char *state_words(json_object *gpu) {
        const char *more =
                *json_text(gpu, "Fault") ? json_text(gpu, "Fault") : json_text(gpu, "Pending");

        return *more ? g_strdup_printf("%s, %s", json_text(gpu, "State"), more)
                     : g_strdup(json_text(gpu, "State"));
}

static char *number_or_dash(int64_t number) {
        return number < 0 ? g_strdup("-") : g_strdup_printf("%" G_GINT64_FORMAT, number);
}

/* "Xorg [42]", and without a process what the kernel does. Caller frees. */
static char *holder_words(json_object *holder) {
        const char *command = json_text(holder, "Command");
        int64_t pid = json_number(holder, "PID");

        return pid == 0 ? g_strdup(command)
                        : g_strdup_printf("%s [%" G_GINT64_FORMAT "]", command, pid);
}

/* The machine that has it, else what holds it on the host. Caller frees. */
static char *user_words(json_object *gpu) {
        json_object *holders = json_member(gpu, "Holders");
        g_autofree char *first = NULL;

        if (*json_text(gpu, "MachineName"))
                return g_strdup(json_text(gpu, "MachineName"));
        if (json_length(holders) == 0)
                return g_strdup("");
        first = holder_words(json_object_array_get_idx(holders, 0));
        if (json_length(holders) > 1)
                return g_strdup_printf("%s +%zu", first, json_length(holders) - 1);
        return g_steal_pointer(&first);
}

/* The name that hardware databases have, else the numbers. Caller frees. */
static char *model_words(json_object *gpu) {
        if (*json_text(gpu, "Model"))
                return g_strdup(json_text(gpu, "Model"));
        return g_strdup_printf("%04x:%04x", (unsigned)json_number(gpu, "VendorID"),
                               (unsigned)json_number(gpu, "DeviceID"));
}

static void add_row(Table *table, json_object *gpu, const Terminal *terminal) {
        g_autofree char *state = state_words(gpu);
        g_autofree char *group = number_or_dash(json_number(gpu, "IOMMUGroup"));
        g_autofree char *node = number_or_dash(json_number(gpu, "NUMANode"));
        g_autofree char *model = model_words(gpu);
        g_autofree char *user = user_words(gpu);

        if (terminal->tty)
                table_add(table, terminal_dot(terminal, gpu_style(gpu)), gpu_style(gpu));
        table_add(table, json_text(gpu, "Address"), STYLE_PLAIN);
        table_add(table, state, gpu_style(gpu));
        table_add(table, json_text(gpu, "Driver"), STYLE_PLAIN);
        table_add(table, group, STYLE_PLAIN);
        table_add(table, node, STYLE_PLAIN);
        table_add(table, model, STYLE_PLAIN);
        table_add(table, user, STYLE_PLAIN);
        /* For people; a program reads a row a line. */
        if (terminal->tty)
                table_note(table, json_text(gpu, "FaultMessage"), STYLE_BAD);
}

Table *gpus_table(json_object *gpus, const Terminal *terminal) {
        static const char *const headings[] = { "",     "GPU",   "STATE",   "DRIVER", "GROUP",
                                                "NODE", "MODEL", "USED BY", NULL };
        Table *table = table_new(headings + !terminal->tty);

        table_align_right(table, 4 - !terminal->tty);
        table_align_right(table, 5 - !terminal->tty);
        for (size_t i = 0; i < json_length(gpus); i++)
                add_row(table, json_object_array_get_idx(gpus, i), terminal);
        return table;
}

/* "Vendor Corporation (10de:2235, subsystem 10de:145a)". */
static void add_identity(Fields *fields, json_object *gpu) {
        fields_addf(fields, "Vendor", "%s%s%04x:%04x, subsystem %04x:%04x%s",
                    json_text(gpu, "Vendor"), *json_text(gpu, "Vendor") ? " (" : "",
                    (unsigned)json_number(gpu, "VendorID"), (unsigned)json_number(gpu, "DeviceID"),
                    (unsigned)json_number(gpu, "SubsystemVendorID"),
                    (unsigned)json_number(gpu, "SubsystemDeviceID"),
                    *json_text(gpu, "Vendor") ? ")" : "");
        fields_addf(fields, "Class", "%06x", (unsigned)json_number(gpu, "Class"));
}

static void add_place(Fields *fields, json_object *gpu) {
        int64_t group = json_number(gpu, "IOMMUGroup"), node = json_number(gpu, "NUMANode");
        g_autofree char *companions = json_join(gpu, "Companions", ", ");

        if (group < 0)
                fields_add(fields, "IOMMU group", "none: it can go to no machine", STYLE_BAD);
        else
                fields_addf(fields, "IOMMU group", "%" G_GINT64_FORMAT, group);
        if (node >= 0)
                fields_addf(fields, "NUMA node", "%" G_GINT64_FORMAT, node);
        if (*companions)
                fields_addf(fields, "Goes with", "%s", companions);
        if (json_flag(gpu, "BootDisplay"))
                fields_add(fields, "Display", "shows the host's console", STYLE_PLAIN);
}

static void add_hardware(Fields *fields, json_object *gpu) {
        g_autofree char *resets = json_join(gpu, "ResetMethods", ", ");
        json_object *bars = json_member(gpu, "BARSizes");
        g_autoptr(GString) sizes = g_string_new(NULL);

        if (*json_text(gpu, "LinkSpeed"))
                fields_addf(fields, "Link", "%s, x%" G_GINT64_FORMAT, json_text(gpu, "LinkSpeed"),
                            json_number(gpu, "LinkWidth"));
        for (size_t i = 0; i < json_length(bars); i++) {
                uint64_t bytes = json_object_get_uint64(json_object_array_get_idx(bars, i));
                g_autofree char *size = size_format(bytes);

                if (bytes > 0)
                        g_string_append_printf(sizes, "%s%s", sizes->len > 0 ? ", " : "", size);
        }
        fields_add(fields, "Memory regions", sizes->str, STYLE_PLAIN);
        fields_add(fields, "Resets", *resets ? resets : "none", STYLE_PLAIN);
}

static void add_holders(Fields *fields, json_object *gpu) {
        json_object *holders = json_member(gpu, "Holders");

        for (size_t i = 0; i < json_length(holders); i++) {
                json_object *holder = json_object_array_get_idx(holders, i);
                g_autofree char *words = holder_words(holder);
                const char *unit = json_text(holder, "Unit");
                const char *node = json_text(holder, "Node");

                fields_addf(fields, i == 0 ? "Held by" : "", "%s%s%s%s%s", words,
                            *unit ? " of " : "", unit, *node ? ": " : "", node);
        }
}

static void add_driver(Fields *fields, json_object *gpu) {
        const char *driver = json_text(gpu, "Driver"), *home = json_text(gpu, "HostDriver");

        if (*home && !g_str_equal(driver, home))
                fields_addf(fields, "Driver", "%s; goes back to %s", *driver ? driver : "none",
                            home);
        else
                fields_add(fields, "Driver", *driver ? driver : "none", STYLE_PLAIN);
}

char *gpu_format(json_object *gpu, const Terminal *terminal) {
        g_autoptr(Fields) fields = fields_new();
        g_autofree char *state = state_words(gpu);
        g_autofree char *model = model_words(gpu);
        g_autofree char *clean = text_clean(model);
        g_autofree char *lines = NULL;
        Style style = gpu_style(gpu);

        fields_add(fields, "State", state, style);
        fields_add(fields, "Fault", json_text(gpu, "FaultMessage"), STYLE_BAD);
        fields_add(fields, "Machine", json_text(gpu, "MachineName"), STYLE_PLAIN);
        add_driver(fields, gpu);
        add_holders(fields, gpu);
        add_place(fields, gpu);
        add_identity(fields, gpu);
        add_hardware(fields, gpu);
        lines = fields_format(fields, terminal);
        return g_strdup_printf("%s%s%s %s%s%s - %s\n%s", style_begin(terminal, style),
                               terminal_dot(terminal, style), style_end(terminal, style),
                               style_begin(terminal, STYLE_STRONG), json_text(gpu, "Address"),
                               style_end(terminal, STYLE_STRONG), clean, lines);
}

int gpus_list(Ctl *ctl, char **arguments) {
        g_autoptr(json_object) host = host_read(ctl);
        g_autoptr(Table) table = NULL;
        g_autofree char *text = NULL;
        json_object *gpus;

        if (!host)
                return EXIT_FAILURE;
        gpus = json_member(host, "GPUs");
        if (ctl->json) {
                ctl_print_json(ctl, gpus);
                return EXIT_SUCCESS;
        }
        if (json_length(gpus) == 0) {
                if (!ctl->no_legend)
                        ctl_say(ctl, "This host has no GPU.");
                return EXIT_SUCCESS;
        }
        table = gpus_table(gpus, &ctl->out);
        text = table_format(table, &ctl->out, 0, !ctl->no_legend);
        fputs(text, stdout);
        return EXIT_SUCCESS;
}

int gpus_show(Ctl *ctl, char **arguments) {
        g_autoptr(json_object) shown = json_object_new_array();
        int status = EXIT_SUCCESS;

        for (; *arguments; arguments++) {
                g_autofree char *path = bus_find_gpu(ctl, *arguments);
                json_object *gpu = path ? bus_properties(ctl, path, GPU_INTERFACE) : NULL;

                if (!gpu) {
                        status = EXIT_FAILURE;
                        continue;
                }
                json_object_array_add(shown, gpu);
                host_read_gpu_holders(ctl, gpu);
                if (!ctl->json) {
                        g_autofree char *text = gpu_format(gpu, &ctl->out);

                        printf("%s%s", json_length(shown) > 1 ? "\n" : "", text);
                }
        }
        if (ctl->json)
                ctl_print_json(ctl, shown);
        return status;
}

/* Calls @member of each, and says of each what it is then. */
static int each(Ctl *ctl, char **arguments, const char *member, const char *done) {
        int status = EXIT_SUCCESS;

        for (; *arguments; arguments++) {
                g_autofree char *path = bus_find_gpu(ctl, *arguments);
                g_autofree char *address = NULL;
                g_autoptr(Progress) progress = NULL;

                if (!path || object_of_path(path, &address) != OBJECT_GPU) {
                        status = EXIT_FAILURE;
                        continue;
                }
                progress = progress_new(ctl, NULL, (const char *const[]){ address, NULL });
                if (bus_do(ctl, path, GPU_INTERFACE, member)) {
                        progress_end(progress);
                        ctl_say(ctl, "GPU %s %s.", address, done);
                } else
                        status = EXIT_FAILURE;
        }
        return status;
}

int gpus_bind(Ctl *ctl, char **arguments) {
        return each(ctl, arguments, "Bind", "is set aside on vfio-pci");
}

int gpus_release(Ctl *ctl, char **arguments) {
        return each(ctl, arguments, "Release", "is back with the host");
}

int gpus_recover(Ctl *ctl, char **arguments) {
        return each(ctl, arguments, "Recover", "is well");
}

static void print_holders(Ctl *ctl, json_object *holders) {
        static const char *const headings[] = { "PID", "COMMAND", "UNIT", "NODE", NULL };
        g_autoptr(Table) table = table_new(headings);
        g_autofree char *text = NULL;

        table_align_right(table, 0);
        for (size_t i = 0; i < json_length(holders); i++) {
                json_object *holder = json_object_array_get_idx(holders, i);
                g_autofree char *pid =
                        g_strdup_printf("%" G_GINT64_FORMAT, json_number(holder, "PID"));

                table_add(table, pid, STYLE_PLAIN);
                table_add(table, json_text(holder, "Command"), STYLE_PLAIN);
                table_add(table, json_text(holder, "Unit"), STYLE_PLAIN);
                table_add(table, json_text(holder, "Node"), STYLE_PLAIN);
        }
        text = table_format(table, &ctl->out, 0, !ctl->no_legend);
        fputs(text, stdout);
}

int gpus_holders(Ctl *ctl, char **arguments) {
        static const char *const names[] = { "PID", "Command", "Unit", "Node", NULL };
        g_autofree char *path = bus_find_gpu(ctl, *arguments);
        g_autoptr(sd_bus_message) reply = NULL;
        g_autoptr(json_object) holders = NULL;
        g_autofree char *address = NULL;
        int r;

        if (!path || object_of_path(path, &address) != OBJECT_GPU)
                return EXIT_FAILURE;
        reply = bus_change(ctl, bus_call_new(ctl, path, GPU_INTERFACE, "ListHolders"));
        if (!reply)
                return EXIT_FAILURE;
        r = json_read_records(reply, names, &holders);
        if (r < 0) {
                complain_of(ctl, NULL, r);
                return EXIT_FAILURE;
        }
        if (ctl->json)
                ctl_print_json(ctl, holders);
        else if (json_length(holders) == 0)
                ctl_say(ctl, "Nothing on the host holds GPU %s.", address);
        else
                print_holders(ctl, holders);
        return EXIT_SUCCESS;
}
