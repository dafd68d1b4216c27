/* What an administrator wants to see first: what is wrong, in words and with what to do; then the
 * GPUs and the machines. It judges by what the service shows, and asks nothing else. */
#include "overview.h"

#include "bus.h"
#include "complaint.h"
#include "fields.h"
#include "gpus.h"
#include "host.h"
#include "json.h"
#include "machines.h"

#include <stdio.h>

/* What stands in the way, as lines of text. */
typedef struct Troubles {
        GString *text;
        const Terminal *terminal;
} Troubles;

static void trouble(Troubles *troubles, const char *remedy, const char *format, ...)
        G_GNUC_PRINTF(3, 4);

static void trouble(Troubles *troubles, const char *remedy, const char *format, ...) {
        const Terminal *terminal = troubles->terminal;
        g_autofree char *text = NULL;
        g_autofree char *clean = NULL;
        va_list args;

        va_start(args, format);
        text = g_strdup_vprintf(format, args);
        va_end(args);
        clean = text_clean(text);
        g_string_append_printf(troubles->text, "\n%s%s %s%s\n", style_begin(terminal, STYLE_BAD),
                               terminal_dot(terminal, STYLE_BAD), clean,
                               style_end(terminal, STYLE_BAD));
        if (remedy)
                g_string_append_printf(troubles->text, "  %s %s\n", terminal_arrow(terminal),
                                       remedy);
}

static void look_at_service(Troubles *troubles, json_object *host) {
        if (!json_flag(host, "IOMMUEnabled"))
                trouble(troubles,
                        "Switch VT-d or AMD-Vi on in the firmware, and boot an Intel host with "
                        "intel_iommu=on.",
                        "This host has no IOMMU at work: no GPU can go to a machine.");
        if (!g_str_equal(json_text(host, "HypervisorState"), "connected"))
                trouble(troubles, "Start libvirt: systemctl start libvirtd (or virtqemud).",
                        "libvirt does not answer at %s: no machine can be started.",
                        json_text(host, "HypervisorURI"));
        if (json_length(json_member(host, "GPUs")) == 0)
                trouble(troubles, NULL, "This host has no GPU.");
}

static void look_at_gpu(Troubles *troubles, json_object *gpu, bool iommu) {
        const char *address = json_text(gpu, "Address"), *fault = json_text(gpu, "Fault");
        g_autofree char *remedy = NULL;

        if (*fault) {
                remedy = g_strdup_printf("Remove the cause; then: feosctl recover %s", address);
                trouble(troubles, remedy, "GPU %s is faulted (%s): %s", address, fault,
                        json_text(gpu, "FaultMessage"));
        } else if (iommu && json_number(gpu, "IOMMUGroup") < 0)
                trouble(troubles, NULL,
                        "GPU %s has no IOMMU group, though others may: it can go to no machine.",
                        address);
}

static void look_at_machine(Troubles *troubles, json_object *machine) {
        const char *name = json_text(machine, "Name"), *reason = json_text(machine, "StateReason");
        g_autofree char *remedy = g_strdup_printf("See what went before: feosctl log %s", name);

        if (g_str_equal(json_text(machine, "State"), "crashed"))
                trouble(troubles, remedy, "Machine %s has crashed%s%s.", name, *reason ? ": " : "",
                        reason);
        else if (json_number(machine, "LeaderPID") > 0 &&
                 json_length(json_member(machine, "GPUs")) <
                         json_length(json_member(machine, "GPUAddresses")))
                trouble(troubles, remedy, "Machine %s runs without all of its GPUs%s%s.", name,
                        *reason ? ": " : "", reason);
}

static void look(Troubles *troubles, json_object *host) {
        json_object *gpus = json_member(host, "GPUs"), *machines = json_member(host, "Machines");

        look_at_service(troubles, host);
        for (size_t i = 0; i < json_length(gpus); i++)
                look_at_gpu(troubles, json_object_array_get_idx(gpus, i),
                            json_flag(host, "IOMMUEnabled"));
        for (size_t i = 0; i < json_length(machines); i++)
                look_at_machine(troubles, json_object_array_get_idx(machines, i));
}

/* "4: 2 attached, 2 host-bound", in the order of @states. Caller frees. */
static char *count(json_object *array, const char *const *states) {
        GString *text = g_string_new(NULL);
        bool first = true;

        g_string_append_printf(text, "%zu", json_length(array));
        for (; *states; states++) {
                unsigned n = 0;

                for (size_t i = 0; i < json_length(array); i++)
                        n += g_str_equal(json_text(json_object_array_get_idx(array, i), "State"),
                                         *states);
                if (n > 0)
                        g_string_append_printf(text, "%s%u %s", first ? ": " : ", ", n, *states);
                first = first && n == 0;
        }
        return g_string_free(text, FALSE);
}

static char *format_head(json_object *host, const Terminal *terminal) {
        static const char *const gpu_states[] = { "attached", "vfio-bound", "host-bound", NULL };
        static const char *const machine_states[] = { "running", "paused",  "starting", "stopping",
                                                      "crashed", "stopped", "created",  NULL };
        g_autofree char *gpus = count(json_member(host, "GPUs"), gpu_states);
        g_autofree char *machines = count(json_member(host, "Machines"), machine_states);
        g_autofree char *images = json_join(host, "ImageDirectories", ", ");
        bool connected = g_str_equal(json_text(host, "HypervisorState"), "connected");
        g_autoptr(Fields) fields = fields_new();

        fields_add(fields, "IOMMU", json_flag(host, "IOMMUEnabled") ? "on" : "off",
                   json_flag(host, "IOMMUEnabled") ? STYLE_GOOD : STYLE_BAD);
        if (connected)
                fields_addf(fields, "libvirt", "%s, %s", json_text(host, "HypervisorVersion"),
                            json_text(host, "HypervisorURI"));
        else
                fields_add(fields, "libvirt", "does not answer", STYLE_BAD);
        fields_add(fields, "Images", images, STYLE_PLAIN);
        fields_add(fields, "GPUs", gpus, STYLE_PLAIN);
        fields_add(fields, "Machines", machines, STYLE_PLAIN);
        return fields_format(fields, terminal);
}

static void append_table(GString *text, Table *table, const Terminal *terminal) {
        g_autofree char *rows = table_format(table, terminal, 0, true);

        g_string_append_printf(text, "\n%s", rows);
}

char *overview_format(json_object *host, const char *name, const Terminal *terminal) {
        json_object *gpus = json_member(host, "GPUs"), *machines = json_member(host, "Machines");
        g_autoptr(GString) wrong = g_string_new(NULL);
        Troubles troubles = { .text = wrong, .terminal = terminal };
        g_autofree char *head = format_head(host, terminal);
        GString *text = g_string_new(NULL);
        Style style;

        look(&troubles, host);
        style = wrong->len > 0 ? STYLE_BAD : STYLE_GOOD;
        g_string_append_printf(text, "%s%s%s %s%s%s - feos-vmd %s\n%s%s",
                               style_begin(terminal, style), terminal_dot(terminal, style),
                               style_end(terminal, style), style_begin(terminal, STYLE_STRONG),
                               name, style_end(terminal, STYLE_STRONG), json_text(host, "Version"),
                               head, wrong->str);
        if (json_length(gpus) > 0) {
                g_autoptr(Table) table = gpus_table(gpus, terminal);

                append_table(text, table, terminal);
        }
        if (json_length(machines) > 0) {
                g_autoptr(Table) table = machines_table(machines, terminal);

                append_table(text, table, terminal);
        }
        return g_string_free(text, FALSE);
}

int overview_run(Ctl *ctl, char **arguments) {
        g_autoptr(json_object) host = host_read(ctl);

        if (!host)
                return EXIT_FAILURE;
        host_read_holders(ctl, json_member(host, "GPUs"));
        if (ctl->json)
                ctl_print_json(ctl, host);
        else {
                g_autofree char *name = text_clean(ctl->host ?: g_get_host_name());
                g_autofree char *text = overview_format(host, name, &ctl->out);

                fputs(text, stdout);
        }
        return EXIT_SUCCESS;
}
