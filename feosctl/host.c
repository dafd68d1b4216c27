/* Reads all of the object tree in two calls, so that what is shown fits together. */
#include "host.h"

#include "bus.h"
#include "complaint.h"
#include "json.h"

#include <errno.h>
#include <string.h>

static const char *const holder_fields[] = { "PID", "Command", "Unit", "Node", NULL };

static int compare(const void *a, const void *b, const char *key) {
        return strcmp(json_text(*(json_object *const *)a, key),
                      json_text(*(json_object *const *)b, key));
}

static int compare_gpus(const void *a, const void *b) {
        return compare(a, b, "Address");
}

static int compare_machines(const void *a, const void *b) {
        return compare(a, b, "Name");
}

/* Sorts the objects of the tree, as the ObjectManager tells them, into two lists. */
static void sort_objects(json_object *objects, json_object *gpus, json_object *machines) {
        json_object_object_foreach(objects, path, interfaces) {
                json_object *gpu = json_member(interfaces, GPU_INTERFACE);
                json_object *machine = json_member(interfaces, MACHINE_INTERFACE);
                json_object *object = gpu ?: machine;

                if (!object)
                        continue;
                json_put(object, "Path", path);
                json_object_array_add(gpu ? gpus : machines, json_object_get(object));
        }
        json_object_array_sort(gpus, compare_gpus);
        json_object_array_sort(machines, compare_machines);
}

json_object *host_read(Ctl *ctl) {
        g_autoptr(json_object) host = bus_properties(ctl, VM1_PATH, VM1_INTERFACE);
        g_autoptr(json_object) objects = NULL;
        g_autoptr(sd_bus_message) reply = NULL;
        json_object *gpus, *machines;
        int r;

        if (!host)
                return NULL;
        reply = bus_read(ctl, bus_call_new(ctl, VM1_PATH, "org.freedesktop.DBus.ObjectManager",
                                           "GetManagedObjects"));
        if (!reply)
                return NULL;
        r = json_read(reply, &objects);
        if (r < 0) {
                complain_of(ctl, NULL, r);
                return NULL;
        }
        gpus = json_object_new_array();
        machines = json_object_new_array();
        json_object_object_add(host, "GPUs", gpus);
        json_object_object_add(host, "Machines", machines);
        sort_objects(objects, gpus, machines);
        return g_steal_pointer(&host);
}

bool host_read_gpu_holders(Ctl *ctl, json_object *gpu) {
        g_autoptr(sd_bus_message) reply =
                bus_try(ctl, json_text(gpu, "Path"), GPU_INTERFACE, "ListHolders");
        json_object *holders;

        if (!reply || json_read_records(reply, holder_fields, &holders) < 0)
                return false;
        json_object_object_add(gpu, "Holders", holders);
        return true;
}

void host_read_holders(Ctl *ctl, json_object *gpus) {
        for (size_t i = 0; i < json_length(gpus); i++) {
                json_object *gpu = json_object_array_get_idx(gpus, i);

                if (!g_str_equal(json_text(gpu, "State"), "host-bound") ||
                    *json_text(gpu, "Pending"))
                        continue;
                /* Who may not ask of one may not ask of any. */
                if (!host_read_gpu_holders(ctl, gpu))
                        return;
        }
}
