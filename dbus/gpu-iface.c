/* The GPU interface. Every handler looks its GPU up by the object path, each time: between two runs
 * of one handler a GPU may come and go. It writes no state. */
#include "gpu-iface.h"

#include "errors.h"
#include "paths.h"
#include "pending.h"
#include "text.h"

static const Gpu *gpu_at(const Bus *bus, const char *path) {
        PciAddress address;

        return path_to_gpu(path, &address) ? manager_gpu(bus->manager, address) : NULL;
}

int gpu_find(sd_bus *sd, const char *path, const char *interface, void *userdata, void **ret,
             sd_bus_error *error) {
        if (!gpu_at(userdata, path))
                return 0;
        *ret = userdata;
        return 1;
}

int gpu_enumerate(sd_bus *sd, const char *prefix, void *userdata, char ***ret,
                  sd_bus_error *error) {
        const Bus *bus = userdata;
        g_autoptr(GPtrArray) gpus = manager_gpus(bus->manager);
        char **paths = g_new0(char *, gpus->len + 1);

        for (guint i = 0; i < gpus->len; i++)
                paths[i] = path_of_gpu(((const Gpu *)g_ptr_array_index(gpus, i))->address);
        *ret = paths;
        return 1;
}

/* Authorises a call about the GPU at the path of @m. As pending_begin(); also gives its address. */
static int gpu_begin(Bus *bus, sd_bus_message *m, const char *verb, PciAddress *ret_address,
                     sd_bus_error *error, Pending **ret) {
        const Gpu *gpu = gpu_at(bus, sd_bus_message_get_path(m));
        g_autofree char *instance = NULL;
        char address[PCI_ADDRESS_BUFFER];

        *ret = NULL;
        if (!gpu)
                return error_set_no_object(error, sd_bus_message_get_path(m));
        *ret_address = gpu->address;
        instance = g_strdup_printf("%" G_GUINT64_FORMAT, gpu->instance);
        return pending_begin(bus, m, ACTION_GPU,
                             &(AuthorizeDetails){ .machine = gpu->machine_name,
                                                  .gpus = pci_address_print(gpu->address, address),
                                                  .verb = verb,
                                                  .instance = instance },
                             error, ret);
}

static int method_bind(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        PciAddress address;
        Bus *bus = userdata;
        Pending *pending;
        int r;

        r = gpu_begin(bus, m, "Bind", &address, error, &pending);
        if (pending)
                manager_bind_gpu(bus->manager, address, pending_done, pending);
        return r;
}

static int method_release(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        PciAddress address;
        Bus *bus = userdata;
        Pending *pending;
        int r;

        r = gpu_begin(bus, m, "Release", &address, error, &pending);
        if (pending)
                manager_release_gpu(bus->manager, address, pending_done, pending);
        return r;
}

static int method_recover(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        PciAddress address;
        Bus *bus = userdata;
        Pending *pending;
        int r;

        r = gpu_begin(bus, m, "Recover", &address, error, &pending);
        if (pending)
                manager_recover_gpu(bus->manager, address, pending_done, pending);
        return r;
}

static int method_list_holders(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        PciAddress address;
        Bus *bus = userdata;
        Pending *pending;
        int r;

        r = gpu_begin(bus, m, "ListHolders", &address, error, &pending);
        if (pending)
                manager_list_holders(bus->manager, address, pending_holders, pending);
        return r;
}

/* The getter of a property that is one D-Bus value of @gpu. */
#define GPU_PROPERTY(function, type, value)                                              \
        static int function(sd_bus *sd, const char *path, const char *interface,         \
                            const char *property, sd_bus_message *reply, void *userdata, \
                            sd_bus_error *error) {                                       \
                const Gpu *gpu = gpu_at(userdata, path);                                 \
                                                                                         \
                if (!gpu)                                                                \
                        return error_set_no_object(error, path);                         \
                return sd_bus_message_append(reply, type, value);                        \
        }

/* The same for text. */
#define GPU_TEXT(function, value)                                                          \
        static int function(sd_bus *sd, const char *path, const char *interface,           \
                            const char *property, sd_bus_message *reply, void *userdata,   \
                            sd_bus_error *error) {                                         \
                const Gpu *gpu = gpu_at(userdata, path);                                   \
                                                                                           \
                return gpu ? append_text(reply, value) : error_set_no_object(error, path); \
        }

GPU_TEXT(get_state, gpu_state_to_string(gpu->view.state))
GPU_TEXT(get_pending, gpu_pending_to_string(gpu->view.pending))
GPU_TEXT(get_fault, gpu_fault_to_string(gpu->view.fault))
GPU_TEXT(get_fault_message, gpu->fault_message)
GPU_TEXT(get_driver, gpu->facts->function.driver)
GPU_TEXT(get_host_driver, gpu->host_driver)
GPU_TEXT(get_machine_name, gpu->machine_name)
GPU_TEXT(get_vendor, gpu->facts->vendor_name)
GPU_TEXT(get_model, gpu->facts->model_name)
GPU_PROPERTY(get_vendor_id, "q", gpu->facts->function.vendor)
GPU_PROPERTY(get_device_id, "q", gpu->facts->function.device)
GPU_PROPERTY(get_subsystem_vendor_id, "q", gpu->facts->function.subsystem_vendor)
GPU_PROPERTY(get_subsystem_device_id, "q", gpu->facts->function.subsystem_device)
GPU_PROPERTY(get_class, "u", gpu->facts->function.class)
GPU_PROPERTY(get_iommu_group, "i", gpu->facts->iommu_group)
GPU_PROPERTY(get_numa_node, "i", gpu->facts->numa_node)
GPU_PROPERTY(get_boot_display, "b", gpu->facts->boot_display)
GPU_TEXT(get_link_speed, gpu->link_speed)
GPU_PROPERTY(get_link_width, "u", gpu->link_width)

static int get_address(sd_bus *sd, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const Gpu *gpu = gpu_at(userdata, path);
        char address[PCI_ADDRESS_BUFFER];

        if (!gpu)
                return error_set_no_object(error, path);
        return sd_bus_message_append(reply, "s", pci_address_print(gpu->address, address));
}

static int get_machine(sd_bus *sd, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const Gpu *gpu = gpu_at(userdata, path);
        g_autofree char *machine = NULL;

        if (!gpu)
                return error_set_no_object(error, path);
        /* A domain that somebody else made has a name and no object. */
        if (gpu->machine_is_ours && *gpu->machine_name)
                machine = path_of_machine(gpu->machine_name);
        return sd_bus_message_append(reply, "o", machine ?: "/");
}

static int get_companions(sd_bus *sd, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const Gpu *gpu = gpu_at(userdata, path);
        char address[PCI_ADDRESS_BUFFER];
        const GArray *companions;
        int r;

        if (!gpu)
                return error_set_no_object(error, path);
        companions = gpu->facts->companions;
        r = sd_bus_message_open_container(reply, 'a', "s");
        for (guint i = 0; r >= 0 && i < companions->len; i++)
                r = sd_bus_message_append(
                        reply, "s",
                        pci_address_print(g_array_index(companions, PciFunction, i).address,
                                          address));
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_bar_sizes(sd_bus *sd, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        const Gpu *gpu = gpu_at(userdata, path);

        if (!gpu)
                return error_set_no_object(error, path);
        return sd_bus_message_append_array(reply, 't', gpu->facts->bar_sizes->data,
                                           gpu->facts->bar_sizes->len * sizeof(uint64_t));
}

static int get_reset_methods(sd_bus *sd, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *error) {
        const Gpu *gpu = gpu_at(userdata, path);

        if (!gpu)
                return error_set_no_object(error, path);
        return sd_bus_message_append_strv(reply, gpu->facts->reset_methods);
}

/* Only the address is constant: behind one address another card may appear, and udev's database may
 * learn a name. */
#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

const sd_bus_vtable gpu_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Address", "s", get_address, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("State", "s", get_state, 0, CHANGES),
        SD_BUS_PROPERTY("Pending", "s", get_pending, 0, CHANGES),
        SD_BUS_PROPERTY("Fault", "s", get_fault, 0, CHANGES),
        SD_BUS_PROPERTY("FaultMessage", "s", get_fault_message, 0, CHANGES),
        SD_BUS_PROPERTY("Driver", "s", get_driver, 0, CHANGES),
        SD_BUS_PROPERTY("HostDriver", "s", get_host_driver, 0, CHANGES),
        SD_BUS_PROPERTY("Machine", "o", get_machine, 0, CHANGES),
        SD_BUS_PROPERTY("MachineName", "s", get_machine_name, 0, CHANGES),
        SD_BUS_PROPERTY("Vendor", "s", get_vendor, 0, CHANGES),
        SD_BUS_PROPERTY("Model", "s", get_model, 0, CHANGES),
        SD_BUS_PROPERTY("VendorID", "q", get_vendor_id, 0, CHANGES),
        SD_BUS_PROPERTY("DeviceID", "q", get_device_id, 0, CHANGES),
        SD_BUS_PROPERTY("SubsystemVendorID", "q", get_subsystem_vendor_id, 0, CHANGES),
        SD_BUS_PROPERTY("SubsystemDeviceID", "q", get_subsystem_device_id, 0, CHANGES),
        SD_BUS_PROPERTY("Class", "u", get_class, 0, CHANGES),
        SD_BUS_PROPERTY("IOMMUGroup", "i", get_iommu_group, 0, CHANGES),
        SD_BUS_PROPERTY("Companions", "as", get_companions, 0, CHANGES),
        SD_BUS_PROPERTY("NUMANode", "i", get_numa_node, 0, CHANGES),
        SD_BUS_PROPERTY("BootDisplay", "b", get_boot_display, 0, CHANGES),
        SD_BUS_PROPERTY("BARSizes", "at", get_bar_sizes, 0, CHANGES),
        SD_BUS_PROPERTY("ResetMethods", "as", get_reset_methods, 0, CHANGES),
        SD_BUS_PROPERTY("LinkSpeed", "s", get_link_speed, 0, CHANGES),
        SD_BUS_PROPERTY("LinkWidth", "u", get_link_width, 0, CHANGES),
        SD_BUS_METHOD("Bind", NULL, NULL, method_bind, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Release", NULL, NULL, method_release, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Recover", NULL, NULL, method_recover, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListHolders", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(usss)", holders),
                                method_list_holders, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("StateChanged", SD_BUS_ARGS("s", old, "s", new, "s", reason), 0),
        SD_BUS_VTABLE_END,
};
