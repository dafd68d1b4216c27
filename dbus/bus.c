/* The service's connection to the system bus: builds the object tree over the manager's records,
 * ties the manager's observer to it, and takes the name when all else stands. What the methods do
 * is in the -iface files; nothing here reads or changes a GPU or a machine. */
#include "bus.h"

#include "bus-private.h"
#include "gpu-iface.h"
#include "machine-iface.h"
#include "observe.h"
#include "paths.h"
#include "pending.h"
#include "vm1-iface.h"

#include <errno.h>
#include <stdlib.h>
#include <systemd/sd-journal.h>

#define BUS_NAME "org.feos.VM1"

/* sd-bus makes this signal up itself when the connection ends. */
static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Bus *bus = userdata;

        sd_journal_print(LOG_ERR, "The connection to the system bus is lost, ending");
        sd_event_exit(bus->event, EXIT_FAILURE);
        return 0;
}

/* None of these keeps its slot: they live as long as the connection, which bus_free() closes. */
static int add_objects(Bus *bus) {
        int r;

        r = sd_bus_add_object_manager(bus->sd, NULL, VM1_PATH);
        if (r < 0)
                return r;
        r = sd_bus_add_object_vtable(bus->sd, NULL, VM1_PATH, VM1_INTERFACE, vm1_vtable, bus);
        if (r < 0)
                return r;
        r = sd_bus_add_fallback_vtable(bus->sd, NULL, GPU_PATH, GPU_INTERFACE, gpu_vtable, gpu_find,
                                       bus);
        if (r < 0)
                return r;
        r = sd_bus_add_node_enumerator(bus->sd, NULL, GPU_PATH, gpu_enumerate, bus);
        if (r < 0)
                return r;
        r = sd_bus_add_fallback_vtable(bus->sd, NULL, MACHINE_PATH, MACHINE_INTERFACE,
                                       machine_vtable, machine_find, bus);
        if (r < 0)
                return r;
        return sd_bus_add_node_enumerator(bus->sd, NULL, MACHINE_PATH, machine_enumerate, bus);
}

static int connect_bus(Bus *bus) {
        int r;

        r = sd_bus_open_system(&bus->sd);
        if (r < 0)
                return r;
        r = sd_bus_attach_event(bus->sd, bus->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        return sd_bus_match_signal(bus->sd, NULL, "org.freedesktop.DBus.Local",
                                   "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local",
                                   "Disconnected", on_disconnected, bus);
}

int bus_new(sd_event *event, Manager *manager, const BusConfig *config, Bus **ret) {
        g_autoptr(Bus) bus = g_new0(Bus, 1);
        HypervisorFacts facts;
        int r;

        manager_hypervisor_facts(manager, &facts);
        bus->event = sd_event_ref(event);
        bus->manager = manager;
        bus->version = g_strdup(config->version);
        bus->hypervisor_uri = g_strdup(facts.uri);
        bus->image_directories = g_strdupv((char **)config->image_directories);
        bus->pendings = g_hash_table_new(NULL, NULL);
        bus->faults = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

        r = connect_bus(bus);
        if (r < 0)
                return r;
        bus->authorizer = authorizer_new(
                bus->sd, &(AuthorizerConfig){ .pending_per_user = config->pending_per_user,
                                              .timeout_usec = config->authorize_timeout_usec });
        if (!bus->authorizer)
                return -ENOMEM;
        r = add_objects(bus);
        if (r < 0)
                return r;
        manager_set_observer(manager, &bus_observer, bus);
        *ret = g_steal_pointer(&bus);
        return 0;
}

void bus_configure(Bus *bus, const BusConfig *config) {
        authorizer_set_limit(bus->authorizer, config->pending_per_user);
        if (g_strv_equal((const char *const *)bus->image_directories, config->image_directories))
                return;
        g_strfreev(bus->image_directories);
        bus->image_directories = g_strdupv((char **)config->image_directories);
        observe_image_directories(bus);
}

int bus_take_name(Bus *bus) {
        int r = sd_bus_request_name(bus->sd, BUS_NAME, 0);

        return r < 0 ? r : 0;
}

void bus_free(Bus *bus) {
        g_autoptr(GList) pendings = NULL;

        if (!bus)
                return;
        manager_set_observer(bus->manager, &(Observer){ NULL }, NULL);
        pendings = g_hash_table_get_keys(bus->pendings);
        for (GList *pending = pendings; pending; pending = pending->next)
                pending_abandon(pending->data);
        g_hash_table_destroy(bus->pendings);
        g_hash_table_destroy(bus->faults);
        authorizer_free(bus->authorizer);
        sd_bus_flush_close_unref(bus->sd);
        sd_event_unref(bus->event);
        g_free(bus->version);
        g_free(bus->hypervisor_uri);
        g_strfreev(bus->image_directories);
        g_free(bus);
}
