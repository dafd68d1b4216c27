/* The Machine interface. Every handler looks its machine up by the object path, each time: between
 * two runs of one handler a machine may come and go. It writes no state. */
#include "machine-iface.h"

#include "errors.h"
#include "paths.h"
#include "pending.h"
#include "request-parse.h"
#include "text.h"

static const Machine *machine_at(const Bus *bus, const char *path) {
        g_autofree char *name = path_to_machine(path);
        const Machine *machine = name ? manager_machine(bus->manager, name) : NULL;

        /* The look-up takes a UUID too, a path does not. */
        return machine && g_str_equal(machine->name, name) ? machine : NULL;
}

int machine_find(sd_bus *sd, const char *path, const char *interface, void *userdata, void **ret,
                 sd_bus_error *error) {
        const Bus *bus = userdata;
        g_autofree char *name = path_to_machine(path);

        /* Which there are libvirt has yet to say: then a call on any of them waits. */
        if (!machine_at(bus, path) && !(name && manager_awaits_libvirt(bus->manager)))
                return 0;
        *ret = userdata;
        return 1;
}

int machine_enumerate(sd_bus *sd, const char *prefix, void *userdata, char ***ret,
                      sd_bus_error *error) {
        const Bus *bus = userdata;
        g_autoptr(GPtrArray) machines = manager_machines(bus->manager);
        char **paths = g_new0(char *, machines->len + 1);

        for (guint i = 0; i < machines->len; i++)
                paths[i] = path_of_machine(((const Machine *)g_ptr_array_index(machines, i))->name);
        *ret = paths;
        return 1;
}

typedef void (*MachineCall)(Manager *manager, const char *uuid, ManagerDone done, void *userdata);

/* Authorises a call about the machine at the path of @m. As pending_begin(); also gives
 * its UUID, a copy, for the record may end within the manager's call. */
static int machine_begin(Bus *bus, sd_bus_message *m, const char *action, const char *verb,
                         char **ret_uuid, sd_bus_error *error, Pending **ret) {
        const Machine *machine = machine_at(bus, sd_bus_message_get_path(m));
        g_autofree char *gpus = NULL;
        int r;

        *ret = NULL;
        if (!machine && manager_awaits_libvirt(bus->manager))
                return pending_hold(bus, m, verb, error);
        if (!machine)
                return error_set_no_object(error, sd_bus_message_get_path(m));
        gpus = addresses_to_string(machine->gpus);
        r = pending_begin(bus, m, action,
                          &(AuthorizeDetails){ .machine = machine->name,
                                               .gpus = gpus,
                                               .verb = verb,
                                               .instance = machine->uuid },
                          error, ret);
        if (*ret)
                *ret_uuid = g_strdup(machine->uuid);
        return r;
}

/* Authorises and then does one thing with the machine at the path of @m. */
static int machine_call(sd_bus_message *m, Bus *bus, const char *action, const char *verb,
                        MachineCall call, sd_bus_error *error) {
        g_autofree char *uuid = NULL;
        Pending *pending;
        int r;

        r = machine_begin(bus, m, action, verb, &uuid, error, &pending);
        if (pending)
                call(bus->manager, uuid, pending_done, pending);
        return r;
}

static int method_start(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_call(m, userdata, ACTION_MANAGE, "Start", manager_start_machine, error);
}

/* As Check: whoever may look may be told what Start would say. */
static int method_check_start(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        g_autofree char *uuid = NULL;
        Bus *bus = userdata;
        Pending *pending;
        int r;

        r = machine_begin(bus, m, NULL, "CheckStart", &uuid, error, &pending);
        if (pending)
                manager_check_start(bus->manager, uuid, pending_checked, pending);
        return r;
}

static int method_shutdown(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_call(m, userdata, ACTION_MANAGE, "Shutdown", manager_shutdown_machine,
                            error);
}

static int method_power_off(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_call(m, userdata, ACTION_MANAGE, "PowerOff", manager_power_off_machine,
                            error);
}

static int method_delete(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_call(m, userdata, ACTION_CREATE, "Delete", manager_delete_machine, error);
}

static int method_reboot(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_call(m, userdata, ACTION_MANAGE, "Reboot", manager_reboot_machine, error);
}

static int method_pause(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_call(m, userdata, ACTION_MANAGE, "Pause", manager_pause_machine, error);
}

static int method_resume(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_call(m, userdata, ACTION_MANAGE, "Resume", manager_resume_machine, error);
}

/* What is wrong with the device itself is said before anybody is asked for a password. */
static int machine_attach(sd_bus_message *m, Bus *bus, DeviceKind kind, const char *verb,
                          sd_bus_error *error) {
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(DeviceRequest) device = NULL;
        g_autofree char *uuid = NULL;
        const Refusal *first;
        Pending *pending;
        int r;

        r = device_parse(m, kind, findings, &device);
        if (r < 0)
                return error_set_arguments(error, r);
        first = findings_first_error(findings);
        if (first)
                return error_set_refusal(error, first);
        r = machine_begin(bus, m, ACTION_MANAGE, verb, &uuid, error, &pending);
        if (pending)
                manager_attach_device(bus->manager, uuid, g_steal_pointer(&device),
                                      pending_attached, pending);
        return r;
}

static int machine_detach(sd_bus_message *m, Bus *bus, DeviceKind kind, const char *verb,
                          sd_bus_error *error) {
        g_autofree char *uuid = NULL;
        Pending *pending;
        const char *id;
        int r;

        r = sd_bus_message_read_basic(m, 's', &id);
        if (r < 0)
                return error_set_arguments(error, r);
        r = machine_begin(bus, m, ACTION_MANAGE, verb, &uuid, error, &pending);
        if (pending)
                manager_detach_device(bus->manager, uuid, kind, id, pending_done, pending);
        return r;
}

static int method_attach_disk(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_attach(m, userdata, DEVICE_DISK, "AttachDisk", error);
}

static int method_detach_disk(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_detach(m, userdata, DEVICE_DISK, "DetachDisk", error);
}

static int method_attach_nic(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_attach(m, userdata, DEVICE_NIC, "AttachNIC", error);
}

static int method_detach_nic(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return machine_detach(m, userdata, DEVICE_NIC, "DetachNIC", error);
}

static int method_open_console(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        g_autofree char *uuid = NULL;
        Bus *bus = userdata;
        Pending *pending;
        int r;

        r = machine_begin(bus, m, ACTION_CONSOLE, "OpenConsole", &uuid, error, &pending);
        if (pending)
                manager_open_machine_console(bus->manager, uuid, pending_uid(pending),
                                             pending_console, pending);
        return r;
}

static int method_get_xml(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        g_autofree char *uuid = NULL;
        Bus *bus = userdata;
        Pending *pending;
        int r;

        r = machine_begin(bus, m, ACTION_CONSOLE, "GetXML", &uuid, error, &pending);
        if (pending)
                manager_get_machine_xml(bus->manager, uuid, pending_xml, pending);
        return r;
}

/* The getter of a property that is one D-Bus value of @machine. */
#define MACHINE_PROPERTY(function, type, value)                                          \
        static int function(sd_bus *sd, const char *path, const char *interface,         \
                            const char *property, sd_bus_message *reply, void *userdata, \
                            sd_bus_error *error) {                                       \
                const Machine *machine = machine_at(userdata, path);                     \
                                                                                         \
                if (!machine)                                                            \
                        return error_set_no_object(error, path);                         \
                return sd_bus_message_append(reply, type, value);                        \
        }

MACHINE_PROPERTY(get_name, "s", machine->name)
MACHINE_PROPERTY(get_uuid, "s", machine->uuid)
MACHINE_PROPERTY(get_state, "s", machine_state_to_string(machine->state))
MACHINE_PROPERTY(get_vcpus, "u", machine->vcpus)
MACHINE_PROPERTY(get_memory_mib, "t", machine->memory_mib)
MACHINE_PROPERTY(get_leader_pid, "u", (uint32_t)machine->leader)
MACHINE_PROPERTY(get_autostart, "b", machine->autostart)

static int get_state_reason(sd_bus *sd, const char *path, const char *interface,
                            const char *property, sd_bus_message *reply, void *userdata,
                            sd_bus_error *error) {
        const Machine *machine = machine_at(userdata, path);

        return machine ? append_text(reply, machine->state_reason)
                       : error_set_no_object(error, path);
}

static int get_gpus(sd_bus *sd, const char *path, const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const Machine *machine = machine_at(userdata, path);
        int r;

        if (!machine)
                return error_set_no_object(error, path);
        r = sd_bus_message_open_container(reply, 'a', "o");
        for (guint i = 0; r >= 0 && i < machine->present->len; i++) {
                g_autofree char *gpu = path_of_gpu(g_array_index(machine->present, PciAddress, i));

                r = sd_bus_message_append(reply, "o", gpu);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_gpu_addresses(sd_bus *sd, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *error) {
        const Machine *machine = machine_at(userdata, path);
        char address[PCI_ADDRESS_BUFFER];
        int r;

        if (!machine)
                return error_set_no_object(error, path);
        r = sd_bus_message_open_container(reply, 'a', "s");
        for (guint i = 0; r >= 0 && i < machine->gpus->len; i++)
                r = sd_bus_message_append(
                        reply, "s",
                        pci_address_print(g_array_index(machine->gpus, PciAddress, i), address));
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

const sd_bus_vtable machine_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Name", "s", get_name, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("UUID", "s", get_uuid, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("State", "s", get_state, 0, CHANGES),
        SD_BUS_PROPERTY("StateReason", "s", get_state_reason, 0, CHANGES),
        SD_BUS_PROPERTY("GPUs", "ao", get_gpus, 0, CHANGES),
        SD_BUS_PROPERTY("GPUAddresses", "as", get_gpu_addresses, 0, CHANGES),
        SD_BUS_PROPERTY("VCPUs", "u", get_vcpus, 0, CHANGES),
        SD_BUS_PROPERTY("MemoryMiB", "t", get_memory_mib, 0, CHANGES),
        SD_BUS_PROPERTY("LeaderPID", "u", get_leader_pid, 0, CHANGES),
        SD_BUS_PROPERTY("Autostart", "b", get_autostart, 0, CHANGES),
        SD_BUS_METHOD("Start", NULL, NULL, method_start, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CheckStart", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sssss)", findings),
                                method_check_start, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Shutdown", NULL, NULL, method_shutdown, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("PowerOff", NULL, NULL, method_power_off, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Reboot", NULL, NULL, method_reboot, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Pause", NULL, NULL, method_pause, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Resume", NULL, NULL, method_resume, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Delete", NULL, NULL, method_delete, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenConsole", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", console),
                                method_open_console, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("AttachDisk", SD_BUS_ARGS("a{sv}", disk), SD_BUS_RESULT("s", id),
                                method_attach_disk, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("DetachDisk", SD_BUS_ARGS("s", id), SD_BUS_NO_RESULT,
                                method_detach_disk, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("AttachNIC", SD_BUS_ARGS("a{sv}", nic), SD_BUS_RESULT("s", id),
                                method_attach_nic, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("DetachNIC", SD_BUS_ARGS("s", id), SD_BUS_NO_RESULT,
                                method_detach_nic, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetXML", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", xml), method_get_xml,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("StateChanged", SD_BUS_ARGS("s", old, "s", new, "s", reason), 0),
        SD_BUS_VTABLE_END,
};
