/* The manager's one observer: says on the bus what has changed, and has the journal keep what
 * became of every GPU and machine. It reads records and paths and decides nothing. */
#include "observe.h"

#include "bus-private.h"
#include "journal.h"
#include "paths.h"
#include "text.h"

#include <errno.h>
#include <systemd/sd-journal.h>

#define PROPERTIES_MAX 32

/* Which properties one bit of a set of changes means. */
typedef struct PropertyOfChange {
        unsigned change;
        const char *property;
} PropertyOfChange;

static const PropertyOfChange gpu_properties[] = {
        { GPU_CHANGED_STATE, "State" },
        { GPU_CHANGED_PENDING, "Pending" },
        { GPU_CHANGED_FAULT, "Fault" },
        { GPU_CHANGED_FAULT_MESSAGE, "FaultMessage" },
        { GPU_CHANGED_DRIVER, "Driver" },
        { GPU_CHANGED_HOST_DRIVER, "HostDriver" },
        { GPU_CHANGED_MACHINE, "Machine" },
        { GPU_CHANGED_MACHINE_NAME, "MachineName" },
        { GPU_CHANGED_LINK_SPEED, "LinkSpeed" },
        { GPU_CHANGED_LINK_WIDTH, "LinkWidth" },
        { GPU_CHANGED_VENDOR, "Vendor" },
        { GPU_CHANGED_MODEL, "Model" },
        { GPU_CHANGED_CLASS, "Class" },
        { GPU_CHANGED_GROUP, "IOMMUGroup" },
        { GPU_CHANGED_COMPANIONS, "Companions" },
        { GPU_CHANGED_NUMA_NODE, "NUMANode" },
        { GPU_CHANGED_BOOT_DISPLAY, "BootDisplay" },
        { GPU_CHANGED_BAR_SIZES, "BARSizes" },
        { GPU_CHANGED_RESET_METHODS, "ResetMethods" },
};

static const PropertyOfChange machine_properties[] = {
        { MACHINE_CHANGED_STATE, "State" },      { MACHINE_CHANGED_REASON, "StateReason" },
        { MACHINE_CHANGED_GPUS, "GPUs" },        { MACHINE_CHANGED_ADDRESSES, "GPUAddresses" },
        { MACHINE_CHANGED_LEADER, "LeaderPID" }, { MACHINE_CHANGED_VCPUS, "VCPUs" },
        { MACHINE_CHANGED_MEMORY, "MemoryMiB" }, { MACHINE_CHANGED_AUTOSTART, "Autostart" },
};

G_STATIC_ASSERT(G_N_ELEMENTS(gpu_properties) < PROPERTIES_MAX);
G_STATIC_ASSERT(G_N_ELEMENTS(machine_properties) < PROPERTIES_MAX);

/* A signal that could not be sent is lost; without a connection the loop is ending anyway. */
static void warn(int r, const char *path) {
        if (r < 0 && r != -ENOTCONN)
                sd_journal_print(LOG_WARNING, "Cannot send a signal of %s: %s", path,
                                 g_strerror(-r));
}

static void emit_changes(Bus *bus, const char *path, const char *interface,
                         const PropertyOfChange *table, size_t n_table, unsigned changes) {
        const char *names[PROPERTIES_MAX];
        size_t n = 0;

        for (size_t i = 0; i < n_table; i++)
                if (changes & table[i].change)
                        names[n++] = table[i].property;
        names[n] = NULL;
        if (n > 0)
                warn(sd_bus_emit_properties_changed_strv(bus->sd, path, interface, (char **)names),
                     path);
}

/* Not sd_bus_emit_object_removed(), which finds nothing to say about an object that has gone. The
 * interfaces are those that sd_bus_emit_object_added() has named. */
static void emit_removed(Bus *bus, const char *path, const char *interface) {
        warn(sd_bus_emit_interfaces_removed(bus->sd, path, "org.freedesktop.DBus.Peer",
                                            "org.freedesktop.DBus.Introspectable",
                                            "org.freedesktop.DBus.Properties", interface, NULL),
             path);
}

static void emit_state(Bus *bus, const char *path, const char *interface, const char *old,
                       const char *new, const char *reason) {
        g_autoptr(sd_bus_message) m = NULL;
        int r;

        r = sd_bus_message_new_signal(bus->sd, &m, path, interface, "StateChanged");
        if (r >= 0)
                r = append_texts(m, old, new, reason ?: "", NULL);
        if (r >= 0)
                r = sd_bus_send(bus->sd, m, NULL);
        warn(r, path);
}

/* A change of the fault may be one of its text alone, which is no news for the journal. */
static void note_fault(Bus *bus, const Gpu *gpu, const char *path) {
        GpuFault old = GPOINTER_TO_UINT(g_hash_table_lookup(bus->faults, path));

        if (gpu->view.fault == old)
                return;
        journal_gpu_fault(gpu, old);
        if (gpu->view.fault == GPU_FAULT_NONE)
                g_hash_table_remove(bus->faults, path);
        else
                g_hash_table_insert(bus->faults, g_strdup(path), GUINT_TO_POINTER(gpu->view.fault));
}

static void on_gpu_added(void *userdata, const Gpu *gpu) {
        g_autofree char *path = path_of_gpu(gpu->address);
        Bus *bus = userdata;

        note_fault(bus, gpu, path);
        warn(sd_bus_emit_object_added(bus->sd, path), path);
}

static void on_gpu_removed(void *userdata, const Gpu *gpu) {
        g_autofree char *path = path_of_gpu(gpu->address);
        Bus *bus = userdata;

        /* Its fault goes with it; no entry says that it can be used again. */
        g_hash_table_remove(bus->faults, path);
        emit_removed(bus, path, GPU_INTERFACE);
}

static void on_gpu_changed(void *userdata, const Gpu *gpu, unsigned changes) {
        g_autofree char *path = path_of_gpu(gpu->address);

        note_fault(userdata, gpu, path);
        emit_changes(userdata, path, GPU_INTERFACE, gpu_properties, G_N_ELEMENTS(gpu_properties),
                     changes);
}

static void on_gpu_state_changed(void *userdata, const Gpu *gpu, GpuState old, const char *reason) {
        g_autofree char *path = path_of_gpu(gpu->address);

        journal_gpu_state(gpu, old, reason);
        emit_state(userdata, path, GPU_INTERFACE, gpu_state_to_string(old),
                   gpu_state_to_string(gpu->view.state), reason);
}

static void on_gpu_drifted(void *userdata, const Gpu *gpu, const GpuDrift *drift) {
        journal_gpu_drift(gpu, drift);
}

static void on_machine_added(void *userdata, const Machine *machine) {
        g_autofree char *path = path_of_machine(machine->name);
        Bus *bus = userdata;

        warn(sd_bus_emit_object_added(bus->sd, path), path);
}

static void on_machine_removed(void *userdata, const Machine *machine) {
        g_autofree char *path = path_of_machine(machine->name);

        emit_removed(userdata, path, MACHINE_INTERFACE);
}

static void on_machine_changed(void *userdata, const Machine *machine, unsigned changes) {
        g_autofree char *path = path_of_machine(machine->name);

        emit_changes(userdata, path, MACHINE_INTERFACE, machine_properties,
                     G_N_ELEMENTS(machine_properties), changes);
}

static void on_machine_state_changed(void *userdata, const Machine *machine, MachineState old,
                                     const char *reason) {
        g_autofree char *path = path_of_machine(machine->name);

        journal_machine_state(machine, old, reason);
        emit_state(userdata, path, MACHINE_INTERFACE, machine_state_to_string(old),
                   machine_state_to_string(machine->state), reason);
}

static void on_machine_lost_gpu(void *userdata, const Machine *machine, PciAddress gpu) {
        journal_machine_lost_gpu(machine, gpu);
}

static void on_autostart_failed(void *userdata, const char *name, const Refusal *refusal) {
        journal_autostart_failed(name, refusal);
}

static void on_keep_failed(void *userdata, PciAddress gpu, const Refusal *refusal) {
        journal_keep_failed(gpu, refusal);
}

static const PropertyOfChange service_properties[] = {
        { SERVICE_CHANGED_VERSION, "HypervisorVersion" },
        { SERVICE_CHANGED_STATE, "HypervisorState" },
        { SERVICE_CHANGED_IOMMU, "IOMMUEnabled" },
};

static void on_service_changed(void *userdata, unsigned changes) {
        emit_changes(userdata, VM1_PATH, VM1_INTERFACE, service_properties,
                     G_N_ELEMENTS(service_properties), changes);
}

void observe_image_directories(Bus *bus) {
        warn(sd_bus_emit_properties_changed(bus->sd, VM1_PATH, VM1_INTERFACE, "ImageDirectories",
                                            NULL),
             VM1_PATH);
}

const Observer bus_observer = {
        .gpu_added = on_gpu_added,
        .gpu_removed = on_gpu_removed,
        .gpu_changed = on_gpu_changed,
        .gpu_state_changed = on_gpu_state_changed,
        .gpu_drifted = on_gpu_drifted,
        .machine_added = on_machine_added,
        .machine_removed = on_machine_removed,
        .machine_changed = on_machine_changed,
        .machine_state_changed = on_machine_state_changed,
        .machine_lost_gpu = on_machine_lost_gpu,
        .autostart_failed = on_autostart_failed,
        .keep_failed = on_keep_failed,
        .service_changed = on_service_changed,
};
