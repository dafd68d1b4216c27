/* The one place that sends. Reading has the bus's own time limit; what changes something may wait
 * for drivers, guests and passwords, and has none. */
#include "bus.h"

#include "complaint.h"
#include "json.h"

#include <errno.h>

#define TRY_USEC (3 * G_USEC_PER_SEC)

/* Longer than the service waits for libvirt, which is 30 s, and for its survey. */
#define READ_USEC (60 * G_USEC_PER_SEC)

/* Without a time limit: UINT64_MAX to sd-bus, whose 0 means its default. */
#define NO_LIMIT UINT64_MAX

bool bus_connect(Ctl *ctl) {
        int r;

        if (ctl->bus)
                return true;
        r = ctl->host ? sd_bus_open_system_remote(&ctl->bus, ctl->host)
                      : sd_bus_open_system(&ctl->bus);
        if (r >= 0)
                /* sd-bus connects on the way; this waits until the bus has taken us in. */
                r = sd_bus_get_unique_name(ctl->bus, &(const char *){ NULL });
        if (r < 0 && ctl->host)
                complain(ctl, "Failed", "See whether this works: ssh HOST systemd-stdio-bridge",
                         "Cannot reach the system bus of %s: %s.", ctl->host, g_strerror(-r));
        else if (r < 0)
                complain(ctl, "Failed", "See whether it runs: systemctl status dbus",
                         "Cannot reach the system bus: %s.", g_strerror(-r));
        return r >= 0;
}

sd_bus_message *bus_call_new(Ctl *ctl, const char *path, const char *interface,
                             const char *member) {
        sd_bus_message *m = NULL;
        int r;

        if (!bus_connect(ctl))
                return NULL;
        r = sd_bus_message_new_method_call(ctl->bus, &m, VM1_NAME, path, interface, member);
        if (r < 0)
                complain_of(ctl, NULL, r);
        return m;
}

sd_bus_message *bus_read(Ctl *ctl, sd_bus_message *m) {
        g_autoptr(sd_bus_message) call = m;
        g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int r;

        if (!call)
                return NULL;
        r = sd_bus_call(ctl->bus, call, READ_USEC, &error, &reply);
        if (r < 0)
                complain_of(ctl, &error, r);
        return reply;
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        sd_bus_message **reply = userdata;

        *reply = sd_bus_message_ref(m);
        return 1;
}

/* Handles what comes until the answer is there. */
static int wait_for(sd_bus *bus, sd_bus_message **reply) {
        int r = 0;

        while (r >= 0 && !*reply) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, UINT64_MAX);
                if (r == -EINTR)
                        r = 0;
        }
        return r < 0 && !*reply ? r : 0;
}

sd_bus_message *bus_wait(Ctl *ctl, sd_bus_message *m) {
        g_autoptr(sd_bus_message) call = m;
        g_autoptr(sd_bus_message) reply = NULL;
        g_autoptr(sd_bus_slot) slot = NULL;
        int r;

        if (!call)
                return NULL;
        r = sd_bus_call_async(ctl->bus, &slot, call, on_reply, &reply, NO_LIMIT);
        if (r >= 0)
                r = wait_for(ctl->bus, &reply);
        if (r < 0) {
                complain_of(ctl, NULL, r);
                return NULL;
        }
        if (sd_bus_message_is_method_error(reply, NULL)) {
                complain_of(ctl, sd_bus_message_get_error(reply), 0);
                return NULL;
        }
        return g_steal_pointer(&reply);
}

sd_bus_message *bus_change(Ctl *ctl, sd_bus_message *m) {
        int r;

        if (!m)
                return NULL;
        if (!ctl->no_ask_password && !ctl->host)
                agent_start(&ctl->agent);
        r = sd_bus_message_set_allow_interactive_authorization(m, !ctl->no_ask_password);
        if (r >= 0)
                return bus_wait(ctl, m);
        sd_bus_message_unref(m);
        complain_of(ctl, NULL, r);
        return NULL;
}

bool bus_do(Ctl *ctl, const char *path, const char *interface, const char *member) {
        g_autoptr(sd_bus_message) reply =
                bus_change(ctl, bus_call_new(ctl, path, interface, member));

        return reply != NULL;
}

sd_bus_message *bus_try(Ctl *ctl, const char *path, const char *interface, const char *member) {
        g_autoptr(sd_bus_message) m = bus_call_new(ctl, path, interface, member);
        sd_bus_message *reply = NULL;

        if (m && sd_bus_call(ctl->bus, m, TRY_USEC, NULL, &reply) < 0)
                return NULL;
        return reply;
}

/* Asks the service itself where something is. */
static char *find(Ctl *ctl, const char *member, const char *name) {
        sd_bus_message *m = bus_call_new(ctl, VM1_PATH, VM1_INTERFACE, member);
        g_autoptr(sd_bus_message) reply = NULL;
        const char *path;
        int r;

        if (m && (r = sd_bus_message_append(m, "s", name)) < 0) {
                sd_bus_message_unref(m);
                complain_of(ctl, NULL, r);
                return NULL;
        }
        reply = bus_read(ctl, m);
        if (!reply)
                return NULL;
        r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                complain_of(ctl, NULL, r);
        return r < 0 ? NULL : g_strdup(path);
}

char *bus_find_machine(Ctl *ctl, const char *name) {
        return find(ctl, "GetMachine", name);
}

char *bus_find_gpu(Ctl *ctl, const char *address) {
        return find(ctl, "GetGPU", address);
}

json_object *bus_properties(Ctl *ctl, const char *path, const char *interface) {
        sd_bus_message *m = bus_call_new(ctl, path, "org.freedesktop.DBus.Properties", "GetAll");
        g_autoptr(sd_bus_message) reply = NULL;
        json_object *properties = NULL;
        int r = 0;

        if (m)
                r = sd_bus_message_append(m, "s", interface);
        reply = r < 0 ? NULL : bus_read(ctl, m);
        if (!reply)
                return NULL;
        r = json_read(reply, &properties);
        if (r < 0) {
                complain_of(ctl, NULL, r);
                return NULL;
        }
        json_put(properties, "Path", path);
        return properties;
}
