/* Writes what became of GPUs and machines to the journal, for people and for programs that want the
 * past. It decides nothing and remembers nothing. */
#include "journal.h"

#include <stdarg.h>
#include <string.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

/* An entry while it is put together: "FIELD=value" strings. */
static void entry_add(GPtrArray *entry, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void entry_add(GPtrArray *entry, const char *format, ...) {
        va_list args;

        va_start(args, format);
        g_ptr_array_add(entry, g_strdup_vprintf(format, args));
        va_end(args);
}

static void entry_send(const GPtrArray *entry) {
        g_autofree struct iovec *fields = g_new(struct iovec, entry->len);

        for (guint i = 0; i < entry->len; i++) {
                char *field = g_ptr_array_index(entry, i);

                fields[i] = (struct iovec){ .iov_base = field, .iov_len = strlen(field) };
        }
        /* A journal that does not take it is no reason to stop, and there is nowhere to say so. */
        sd_journal_sendv(fields, (int)entry->len);
}

static GPtrArray *entry_new(const char *id, int priority) {
        GPtrArray *entry = g_ptr_array_new_with_free_func(g_free);

        entry_add(entry, "MESSAGE_ID=%s", id);
        entry_add(entry, "PRIORITY=%d", priority);
        return entry;
}

static void entry_add_states(GPtrArray *entry, const char *old, const char *new,
                             const char *reason) {
        entry_add(entry, "FEOS_OLD_STATE=%s", old);
        entry_add(entry, "FEOS_STATE=%s", new);
        if (reason && *reason)
                entry_add(entry, "FEOS_REASON=%s", reason);
}

/* A GPU that no machine has gets no empty field. */
static void entry_add_gpu(GPtrArray *entry, const Gpu *gpu) {
        char address[PCI_ADDRESS_BUFFER];

        entry_add(entry, "FEOS_GPU=%s", pci_address_print(gpu->address, address));
        if (*gpu->machine_name)
                entry_add(entry, "FEOS_MACHINE=%s", gpu->machine_name);
}

static const char *colon(const char *reason) {
        return reason && *reason ? ": " : "";
}

void journal_gpu_state(const Gpu *gpu, GpuState old, const char *reason) {
        const char *from = gpu_state_to_string(old), *to = gpu_state_to_string(gpu->view.state);
        g_autoptr(GPtrArray) entry = entry_new(JOURNAL_GPU_STATE_ID, LOG_INFO);
        char address[PCI_ADDRESS_BUFFER];

        pci_address_print(gpu->address, address);
        entry_add(entry, "MESSAGE=GPU %s: %s -> %s%s%s", address, from, to, colon(reason),
                  reason ?: "");
        entry_add_states(entry, from, to, reason);
        entry_add_gpu(entry, gpu);
        entry_send(entry);
}

void journal_gpu_fault(const Gpu *gpu, GpuFault old) {
        bool cleared = gpu->view.fault == GPU_FAULT_NONE;
        const char *fault = gpu_fault_to_string(cleared ? old : gpu->view.fault);
        g_autoptr(GPtrArray) entry = cleared ? entry_new(JOURNAL_GPU_FAULT_CLEARED_ID, LOG_NOTICE)
                                             : entry_new(JOURNAL_GPU_FAULT_ID, LOG_ERR);
        char address[PCI_ADDRESS_BUFFER];

        pci_address_print(gpu->address, address);
        if (cleared)
                entry_add(entry, "MESSAGE=GPU %s: fault %s cleared", address, fault);
        else
                entry_add(entry, "MESSAGE=GPU %s: fault %s%s%s", address, fault,
                          colon(gpu->fault_message), gpu->fault_message);
        entry_add(entry, "FEOS_FAULT=%s", fault);
        entry_add_gpu(entry, gpu);
        entry_send(entry);
}

static const char *driver_or_none(const char *driver) {
        return *driver ? driver : "none";
}

void journal_gpu_drift(const Gpu *gpu, const GpuDrift *drift) {
        g_autoptr(GPtrArray) entry = entry_new(JOURNAL_GPU_DRIFT_ID, LOG_NOTICE);
        const char *from = driver_or_none(drift->old_driver), *to = driver_or_none(drift->driver);
        bool has_machine = gpu->view.state == GPU_ATTACHED;
        char address[PCI_ADDRESS_BUFFER], function[PCI_ADDRESS_BUFFER];

        pci_address_print(gpu->address, address);
        pci_address_print(drift->function, function);
        entry_add(entry, "MESSAGE=GPU %s: somebody else changed the driver of %s: %s -> %s%s%s",
                  address, g_str_equal(address, function) ? "it" : function, from, to,
                  has_machine ? ", while it is in machine " : "",
                  has_machine ? gpu->machine_name : "");
        entry_add(entry, "FEOS_FUNCTION=%s", function);
        entry_add(entry, "FEOS_OLD_DRIVER=%s", from);
        entry_add(entry, "FEOS_DRIVER=%s", to);
        entry_add_gpu(entry, gpu);
        entry_send(entry);
}

void journal_machine_state(const Machine *machine, MachineState old, const char *reason) {
        const char *from = machine_state_to_string(old);
        const char *to = machine_state_to_string(machine->state);
        int priority = machine->state == MACHINE_CRASHED ? LOG_WARNING : LOG_INFO;
        g_autoptr(GPtrArray) entry = entry_new(JOURNAL_MACHINE_STATE_ID, priority);
        char address[PCI_ADDRESS_BUFFER];

        entry_add(entry, "MESSAGE=Machine %s: %s -> %s%s%s", machine->name, from, to, colon(reason),
                  reason ?: "");
        entry_add_states(entry, from, to, reason);
        entry_add(entry, "FEOS_MACHINE=%s", machine->name);
        entry_add(entry, "FEOS_MACHINE_UUID=%s", machine->uuid);
        /* A field may stand more than once in an entry: one per GPU. */
        for (guint i = 0; i < machine->gpus->len; i++)
                entry_add(entry, "FEOS_GPU=%s",
                          pci_address_print(g_array_index(machine->gpus, PciAddress, i), address));
        entry_send(entry);
}

void journal_machine_lost_gpu(const Machine *machine, PciAddress gpu) {
        g_autoptr(GPtrArray) entry = entry_new(JOURNAL_MACHINE_LOST_GPU_ID, LOG_WARNING);
        char address[PCI_ADDRESS_BUFFER];

        pci_address_print(gpu, address);
        entry_add(entry, "MESSAGE=Machine %s has lost GPU %s: it has gone from the bus",
                  machine->name, address);
        entry_add(entry, "FEOS_MACHINE=%s", machine->name);
        entry_add(entry, "FEOS_MACHINE_UUID=%s", machine->uuid);
        entry_add(entry, "FEOS_GPU=%s", address);
        entry_send(entry);
}

void journal_autostart_failed(const char *name, const Refusal *refusal) {
        g_autoptr(GPtrArray) entry = entry_new(JOURNAL_AUTOSTART_FAILED_ID, LOG_ERR);

        entry_add(entry, "MESSAGE=Machine %s could not be started with the host: %s %s", name,
                  refusal->message, refusal->remedy);
        entry_add(entry, "FEOS_MACHINE=%s", name);
        entry_add(entry, "FEOS_ERROR=%s", refusal_code_to_string(refusal->code));
        entry_send(entry);
}

void journal_keep_failed(PciAddress gpu, const Refusal *refusal) {
        g_autoptr(GPtrArray) entry = entry_new(JOURNAL_KEEP_FAILED_ID, LOG_WARNING);
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(gpu, shown);
        entry_add(entry, "MESSAGE=GPU %s could not be kept for machines: %s %s", shown,
                  refusal->message, refusal->remedy);
        entry_add(entry, "FEOS_GPU=%s", shown);
        entry_add(entry, "FEOS_ERROR=%s", refusal_code_to_string(refusal->code));
        entry_send(entry);
}
