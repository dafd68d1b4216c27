/* Listens to the service's signals, and tells each once: a change of state from StateChanged, what
 * that does not say from PropertiesChanged. */
#include "monitor.h"

#include "bus.h"
#include "complaint.h"
#include "json.h"
#include "value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OBJECTS "type='signal',sender='" VM1_NAME "',path_namespace='" VM1_PATH "'"
#define OWNER                                                                           \
        "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus'," \
        "member='NameOwnerChanged',arg0='" VM1_NAME "'"

typedef struct Monitor {
        Ctl *ctl;
        char **names; /* of those that are wanted, addresses in full; empty = all */
} Monitor;

/* Which changes of properties are told, and as what. State has a signal of its own. */
static const char *const told[] = { "Pending", "Fault", "HypervisorState", "IOMMUEnabled", NULL };

static bool is_wanted(const Monitor *monitor, const char *name) {
        if (!*monitor->names)
                return true;
        return name && g_strv_contains((const char *const *)monitor->names, name);
}

static json_object *event_new(const char *event, ObjectKind kind, const char *name) {
        json_object *object = json_object_new_object();

        json_object_object_add(object, "Time", json_object_new_int64(g_get_real_time()));
        json_put(object, "Event", event);
        if (kind == OBJECT_GPU)
                json_put(object, "GPU", name);
        else if (kind == OBJECT_MACHINE)
                json_put(object, "Machine", name);
        return object;
}

char *event_format(json_object *event, const Terminal *terminal) {
        g_autoptr(GDateTime) time =
                g_date_time_new_from_unix_local(json_number(event, "Time") / G_USEC_PER_SEC);
        g_autofree char *clock = g_date_time_format(time, "%H:%M:%S");
        const char *kind = *json_text(event, "GPU")       ? "GPU "
                           : *json_text(event, "Machine") ? "machine "
                                                          : "feos-vmd";
        const char *name =
                *json_text(event, "GPU") ? json_text(event, "GPU") : json_text(event, "Machine");
        const char *old = json_text(event, "Old"), *new = json_text(event, "New");
        const char *reason = json_text(event, "Reason");
        g_autofree char *what = NULL;
        g_autofree char *line = NULL;

        if (g_str_equal(json_text(event, "Event"), "StateChanged"))
                what = g_strdup_printf("%s %s %s", old, terminal_arrow(terminal), new);
        else if (*new)
                what = g_strdup_printf("%s %s", json_text(event, "Event"), new);
        else
                what = g_strdup(json_text(event, "Event"));
        line = g_strdup_printf("%s  %s%-14s %s%s%s", clock, kind, name, what, *reason ? ": " : "",
                               reason);
        return text_clean(line);
}

/* Tells @event, and takes it. */
static void tell(const Monitor *monitor, json_object *event) {
        if (monitor->ctl->json)
                json_print(event, false);
        else {
                g_autofree char *line = event_format(event, &monitor->ctl->out);

                puts(line);
        }
        fflush(stdout);
        json_object_put(event);
}

static void on_state(const Monitor *monitor, sd_bus_message *m, ObjectKind kind, const char *name) {
        const char *old, *new, *reason;
        json_object *event;

        if (sd_bus_message_read(m, "sss", &old, &new, &reason) < 0)
                return;
        event = event_new("StateChanged", kind, name);
        json_put(event, "Old", old);
        json_put(event, "New", new);
        json_put(event, "Reason", reason);
        tell(monitor, event);
}

/* One property's change, where it is one that is told. */
static void on_property(const Monitor *monitor, const char *property, json_object *changed,
                        ObjectKind kind, const char *name) {
        json_object *value = json_member(changed, property);
        json_object *event;

        if (!value)
                return;
        event = event_new(property, kind, name);
        json_put(event, "New", json_object_get_string(value));
        if (g_str_equal(property, "Fault"))
                json_put(event, "Reason", json_text(changed, "FaultMessage"));
        tell(monitor, event);
}

static void on_properties(const Monitor *monitor, sd_bus_message *m, ObjectKind kind,
                          const char *name) {
        g_autoptr(json_object) changed = NULL;

        if (sd_bus_message_skip(m, "s") < 0 || json_read(m, &changed) < 0)
                return;
        for (const char *const *property = told; *property; property++)
                on_property(monitor, *property, changed, kind, name);
}

static void on_objects(const Monitor *monitor, sd_bus_message *m, const char *event) {
        g_autofree char *name = NULL;
        const char *path;
        ObjectKind kind;

        if (sd_bus_message_read(m, "o", &path) < 0)
                return;
        kind = object_of_path(path, &name);
        if (name && is_wanted(monitor, name))
                tell(monitor, event_new(event, kind, name));
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *member = sd_bus_message_get_member(m);
        g_autofree char *name = NULL;
        Monitor *monitor = userdata;
        ObjectKind kind = object_of_path(sd_bus_message_get_path(m), &name);

        if (g_str_equal(member, "InterfacesAdded"))
                on_objects(monitor, m, "Added");
        else if (g_str_equal(member, "InterfacesRemoved"))
                on_objects(monitor, m, "Removed");
        else if (!is_wanted(monitor, name))
                return 0;
        else if (g_str_equal(member, "StateChanged"))
                on_state(monitor, m, kind, name);
        else if (g_str_equal(member, "PropertiesChanged"))
                on_properties(monitor, m, kind, name);
        return 0;
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *name, *old, *new;
        Monitor *monitor = userdata;

        if (sd_bus_message_read(m, "sss", &name, &old, &new) >= 0 && is_wanted(monitor, NULL))
                tell(monitor, event_new(*new ? "Started" : "Stopped", OBJECT_SERVICE, NULL));
        return 0;
}

/* Addresses in full, as events have them. Caller frees. */
static char **canonical_names(char **arguments) {
        char **names = g_strdupv(arguments);

        for (char **name = names; *name; name++) {
                char *address = address_canonical(*name);

                if (!address)
                        continue;
                g_free(*name);
                *name = address;
        }
        return names;
}

int monitor_run(Ctl *ctl, char **arguments) {
        g_auto(GStrv) names = canonical_names(arguments);
        Monitor monitor = { .ctl = ctl, .names = names };
        int r;

        if (!bus_connect(ctl))
                return EXIT_FAILURE;
        r = sd_bus_add_match(ctl->bus, NULL, OBJECTS, on_signal, &monitor);
        if (r >= 0)
                r = sd_bus_add_match(ctl->bus, NULL, OWNER, on_owner, &monitor);
        if (r >= 0 && !ctl->quiet)
                fputs("Waiting for events; Ctrl-C ends.\n", stderr);
        while (r >= 0 || r == -EINTR) {
                r = sd_bus_process(ctl->bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(ctl->bus, UINT64_MAX);
        }
        complain(ctl, "Failed", "See whether it runs: systemctl status dbus",
                 "The connection to the system bus is lost: %s.", g_strerror(-r));
        return EXIT_FAILURE;
}
