/* Sends a request of the command line's options, as Create or as Check. */
#include "create.h"

#include "bus.h"
#include "complaint.h"
#include "json.h"
#include "progress.h"
#include "value.h"

#include <stdio.h>

static sd_bus_message *request_new(Ctl *ctl, const char *member, const char *name) {
        sd_bus_message *m = bus_call_new(ctl, VM1_PATH, VM1_INTERFACE, member);
        int r;

        if (!m)
                return NULL;
        r = sd_bus_message_append(m, "s", name);
        if (r >= 0)
                r = create_options_append(ctl->create, m);
        if (r >= 0)
                return m;
        sd_bus_message_unref(m);
        complain_of(ctl, NULL, r);
        return NULL;
}

static Progress *follow(Ctl *ctl, const char *name) {
        const char *const *gpus = create_options_gpus(ctl->create);
        g_autoptr(GPtrArray) addresses = g_ptr_array_new_with_free_func(g_free);

        /* What is no address the service will refuse. */
        for (; *gpus; gpus++)
                g_ptr_array_add(addresses, address_canonical(*gpus) ?: g_strdup(*gpus));
        g_ptr_array_add(addresses, NULL);
        return progress_new(ctl, name, (const char *const *)addresses->pdata);
}

static void say_created(Ctl *ctl, const char *name) {
        if (!create_options_flag(ctl->create, "start", true))
                ctl_say(ctl, "Machine %s is defined. Start it with: feosctl start %s", name, name);
        else if (!create_options_flag(ctl->create, "wait", true))
                ctl_say(ctl, "Machine %s is starting. See how it ends: feosctl monitor %s", name,
                        name);
        else
                ctl_say(ctl, "Machine %s is running.", name);
}

int create_run(Ctl *ctl, char **arguments) {
        sd_bus_message *m = request_new(ctl, "Create", *arguments);
        g_autoptr(sd_bus_message) reply = NULL;
        g_autoptr(Progress) progress = NULL;
        const char *path;
        int r;

        if (!m)
                return EXIT_FAILURE;
        progress = follow(ctl, *arguments);
        reply = bus_change(ctl, m);
        if (!reply)
                return EXIT_FAILURE;
        progress_end(progress);
        r = sd_bus_message_read(reply, "o", &path);
        if (r < 0) {
                complain_of(ctl, NULL, r);
                return EXIT_FAILURE;
        }
        if (ctl->json) {
                g_autoptr(json_object) object = json_object_new_object();

                json_put(object, "Machine", path);
                ctl_print_json(ctl, object);
        }
        say_created(ctl, *arguments);
        return EXIT_SUCCESS;
}

static bool is_error(json_object *finding) {
        return g_str_equal(json_text(finding, "Severity"), "error");
}

char *findings_format(json_object *findings, const char *name, const Terminal *terminal) {
        GString *text = g_string_new(NULL);

        if (json_length(findings) == 0)
                g_string_append_printf(text, "Nothing stands in the way of %s.\n", name);
        for (size_t i = 0; i < json_length(findings); i++) {
                json_object *finding = json_object_array_get_idx(findings, i);
                Style style = is_error(finding) ? STYLE_BAD : STYLE_BUSY;
                g_autofree char *message = text_clean(json_text(finding, "Message"));
                g_autofree char *remedy = complaint_translate(json_text(finding, "Remedy"));
                g_autofree char *clean = text_clean(remedy);

                g_string_append_printf(text, "%s%s %s%s: %s\n  %s %s\n",
                                       style_begin(terminal, style), terminal_dot(terminal, style),
                                       json_text(finding, "Code"), style_end(terminal, style),
                                       message, terminal_arrow(terminal), clean);
        }
        return g_string_free(text, FALSE);
}

/* Sends @m, which asks for findings about machine @name, and shows them. Anybody may ask; it waits
 * for the host's file systems. */
static int findings_run(Ctl *ctl, sd_bus_message *m, const char *name) {
        static const char *const names[] = { "Severity", "Code",   "Subject",
                                             "Message",  "Remedy", NULL };
        g_autoptr(sd_bus_message) reply = bus_wait(ctl, m);
        g_autoptr(json_object) findings = NULL;
        int r, status = EXIT_SUCCESS;

        if (!reply)
                return EXIT_FAILURE;
        r = json_read_records(reply, names, &findings);
        if (r < 0) {
                complain_of(ctl, NULL, r);
                return EXIT_FAILURE;
        }
        for (size_t i = 0; i < json_length(findings); i++)
                if (is_error(json_object_array_get_idx(findings, i)))
                        status = EXIT_FINDINGS;
        if (ctl->json)
                ctl_print_json(ctl, findings);
        else if (!ctl->quiet) {
                g_autofree char *text = findings_format(findings, name, &ctl->out);

                fputs(text, stdout);
        }
        return status;
}

int check_run(Ctl *ctl, char **arguments) {
        sd_bus_message *m = request_new(ctl, "Check", *arguments);

        return m ? findings_run(ctl, m, *arguments) : EXIT_FAILURE;
}

int check_start_run(Ctl *ctl, char **arguments) {
        g_autofree char *path = bus_find_machine(ctl, *arguments);
        sd_bus_message *m = path ? bus_call_new(ctl, path, MACHINE_INTERFACE, "CheckStart") : NULL;

        return m ? findings_run(ctl, m, *arguments) : EXIT_FAILURE;
}
