/* The service's own interface: parse, authorise, ask the manager, answer. No rule of what may be
 * done is here: those are the manager's. */
#include "vm1-iface.h"

#include "errors.h"
#include "paths.h"
#include "pending.h"
#include "request-parse.h"
#include "text.h"

#include <string.h>

static int method_create(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = NULL;
        g_autofree char *gpus = NULL;
        g_autofree char *path = NULL;
        const Refusal *first;
        Bus *bus = userdata;
        Pending *pending;
        int r;

        r = request_parse(m, findings, &request);
        if (r < 0)
                return error_set_arguments(error, r);
        first = findings_first_error(findings);
        if (first)
                return error_set_refusal(error, first);

        gpus = addresses_to_string(request->gpus);
        r = pending_begin(
                bus, m, ACTION_CREATE,
                &(AuthorizeDetails){ .machine = request->name, .gpus = gpus, .verb = "Create" },
                error, &pending);
        if (!pending)
                return r;
        path = path_of_machine(request->name);
        pending_set_path(pending, path);
        /* With wait false it is answered early, and has its place until its end all the same. */
        manager_create_to_the_end(bus->manager, g_steal_pointer(&request), pending_answered,
                                  pending_ended, pending);
        return 1;
}

static int method_check(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(Request) request = NULL;
        Bus *bus = userdata;
        Pending *pending;
        int r;

        r = request_parse(m, findings, &request);
        if (r < 0)
                return error_set_arguments(error, r);
        r = pending_begin(bus, m, NULL, &(AuthorizeDetails){ .verb = "Check" }, error, &pending);
        if (!pending)
                return r;
        manager_check(bus->manager, g_steal_pointer(&request), g_steal_pointer(&findings),
                      pending_checked, pending);
        return 1;
}

static int append_gpus(sd_bus_message *reply, const GPtrArray *gpus) {
        char address[PCI_ADDRESS_BUFFER];
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(ssssso)");
        for (guint i = 0; r >= 0 && i < gpus->len; i++) {
                const Gpu *gpu = g_ptr_array_index(gpus, i);
                g_autofree char *path = path_of_gpu(gpu->address);

                r = sd_bus_message_open_container(reply, 'r', "ssssso");
                if (r >= 0)
                        r = append_texts(reply, pci_address_print(gpu->address, address),
                                         gpu_state_to_string(gpu->view.state),
                                         gpu->facts->function.driver, gpu->facts->model_name,
                                         gpu->machine_name, NULL);
                if (r >= 0)
                        r = sd_bus_message_append(reply, "o", path);
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_machine(sd_bus_message *reply, const Machine *machine) {
        g_autofree char *path = path_of_machine(machine->name);
        char address[PCI_ADDRESS_BUFFER];
        int r;

        r = sd_bus_message_open_container(reply, 'r', "sssaso");
        if (r >= 0)
                r = sd_bus_message_append(reply, "sss", machine->name, machine->uuid,
                                          machine_state_to_string(machine->state));
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "s");
        for (guint i = 0; r >= 0 && i < machine->gpus->len; i++)
                r = sd_bus_message_append(
                        reply, "s",
                        pci_address_print(g_array_index(machine->gpus, PciAddress, i), address));
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_message_append(reply, "o", path);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int method_list_gpus(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        g_autoptr(sd_bus_message) reply = NULL;
        g_autoptr(GPtrArray) gpus = NULL;
        Bus *bus = userdata;
        int r;

        gpus = manager_gpus(bus->manager);
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = append_gpus(reply, gpus);
        if (r >= 0)
                r = sd_bus_send(bus->sd, reply, NULL);
        return r < 0 ? error_set_failed(error, r, "The list of GPUs could not be sent.") : 1;
}

static int method_list_machines(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        g_autoptr(sd_bus_message) reply = NULL;
        g_autoptr(GPtrArray) machines = NULL;
        Bus *bus = userdata;
        int r;

        machines = manager_machines(bus->manager);
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sssaso)");
        for (guint i = 0; r >= 0 && i < machines->len; i++)
                r = append_machine(reply, g_ptr_array_index(machines, i));
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r >= 0)
                r = sd_bus_send(bus->sd, reply, NULL);
        return r < 0 ? error_set_failed(error, r, "The list of machines could not be sent.") : 1;
}

static int reply_path(sd_bus_message *m, const char *path, sd_bus_error *error) {
        int r = sd_bus_reply_method_return(m, "o", path);

        return r < 0 ? error_set_failed(error, r, "The object path could not be sent.") : 1;
}

/* A caller's text as it may stand in a sentence of ours. */
static char *quote(const char *text) {
        g_autofree char *escaped = g_strescape(text, NULL);

        return g_strdup_printf("\"%.80s\"", escaped);
}

static int method_get_gpu(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        g_autoptr(Refusal) refusal = NULL;
        g_autofree char *path = NULL;
        PciAddress address;
        Bus *bus = userdata;
        const char *text;
        int r;

        r = sd_bus_message_read_basic(m, 's', &text);
        if (r < 0)
                return error_set_arguments(error, r);
        if (!pci_address_parse(text, &address)) {
                g_autofree char *shown = quote(text);

                refusal = refusal_new(REFUSAL_INVALID_ADDRESS, shown,
                                      "Write it as 0000:01:00.0 or 01:00.0; ListGPUs shows those "
                                      "there are.",
                                      "%s is not a PCI address.", shown);
                return error_set_refusal(error, refusal);
        }
        refusal = manager_why_no_gpu(bus->manager, address);
        if (refusal)
                return error_set_refusal(error, refusal);
        path = path_of_gpu(address);
        return reply_path(m, path, error);
}

static int method_get_machine(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        g_autofree char *path = NULL;
        const Machine *machine;
        Bus *bus = userdata;
        const char *text;
        int r;

        r = sd_bus_message_read_basic(m, 's', &text);
        if (r < 0)
                return error_set_arguments(error, r);
        machine = manager_machine(bus->manager, text);
        if (!machine && manager_awaits_libvirt(bus->manager))
                return pending_hold(bus, m, "GetMachine", error);
        if (!machine) {
                g_autofree char *shown = quote(text);
                g_autoptr(Refusal) refusal = manager_why_no_machine(bus->manager, shown);

                return error_set_refusal(error, refusal);
        }
        path = path_of_machine(machine->name);
        return reply_path(m, path, error);
}

/* What each property is read with. */
#define VM1_PROPERTY(function)                                                           \
        static int function(sd_bus *sd, const char *path, const char *interface,         \
                            const char *property, sd_bus_message *reply, void *userdata, \
                            sd_bus_error *error)

VM1_PROPERTY(get_version) {
        const Bus *bus = userdata;

        return sd_bus_message_append(reply, "s", bus->version);
}

VM1_PROPERTY(get_hypervisor_uri) {
        const Bus *bus = userdata;

        return sd_bus_message_append(reply, "s", bus->hypervisor_uri);
}

VM1_PROPERTY(get_hypervisor_version) {
        const Bus *bus = userdata;
        HypervisorFacts facts;

        manager_hypervisor_facts(bus->manager, &facts);
        return append_text(reply, facts.version);
}

VM1_PROPERTY(get_hypervisor_state) {
        const Bus *bus = userdata;
        HypervisorFacts facts;

        manager_hypervisor_facts(bus->manager, &facts);
        return sd_bus_message_append(reply, "s", facts.connected ? "connected" : "connecting");
}

VM1_PROPERTY(get_iommu_enabled) {
        const Bus *bus = userdata;
        HostFacts facts;

        manager_host_facts(bus->manager, &facts);
        return sd_bus_message_append(reply, "b", facts.iommu);
}

VM1_PROPERTY(get_image_directories) {
        const Bus *bus = userdata;

        return sd_bus_message_append_strv(reply, bus->image_directories);
}

/* Unprivileged: whether a caller may is polkit's to say, not a matter of capabilities. */
const sd_bus_vtable vm1_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("HypervisorURI", "s", get_hypervisor_uri, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("HypervisorVersion", "s", get_hypervisor_version, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("HypervisorState", "s", get_hypervisor_state, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("IOMMUEnabled", "b", get_iommu_enabled, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("ImageDirectories", "as", get_image_directories, 0,
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_METHOD_WITH_ARGS("Create", SD_BUS_ARGS("s", name, "as", gpus, "a{sv}", options),
                                SD_BUS_RESULT("o", machine), method_create,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Check", SD_BUS_ARGS("s", name, "as", gpus, "a{sv}", options),
                                SD_BUS_RESULT("a(sssss)", findings), method_check,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListGPUs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssssso)", gpus),
                                method_list_gpus, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListMachines", SD_BUS_NO_ARGS,
                                SD_BUS_RESULT("a(sssaso)", machines), method_list_machines,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetGPU", SD_BUS_ARGS("s", address), SD_BUS_RESULT("o", gpu),
                                method_get_gpu, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetMachine", SD_BUS_ARGS("s", name_or_uuid),
                                SD_BUS_RESULT("o", machine), method_get_machine,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};
