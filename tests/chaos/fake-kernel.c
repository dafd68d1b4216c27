#include "fake-kernel-private.h"

#include "autoptr.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <umockdev.h>

char *fake_kernel_path(const FakeKernel *kernel, const char *path) {
        return g_build_filename(kernel->root, path, NULL);
}

static void file_make(FakeKernel *kernel, const char *at, const char *text) {
        g_autofree char *path = fake_kernel_path(kernel, at);
        g_autofree char *folder = g_path_get_dirname(path);

        g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void link_make(FakeKernel *kernel, const char *at, const char *target) {
        g_autofree char *path = fake_kernel_path(kernel, at);
        g_autofree char *folder = g_path_get_dirname(path);

        g_assert_cmpint(g_mkdir_with_parents(folder, 0755), ==, 0);
        g_remove(path);
        g_assert_cmpint(symlink(target, path), ==, 0);
}

Function *fake_kernel_function(const FakeKernel *kernel, const char *address) {
        for (guint i = 0; i < kernel->functions->len; i++) {
                Function *function = g_ptr_array_index(kernel->functions, i);

                if (g_str_equal(function->address, address))
                        return function;
        }
        return NULL;
}

static char *function_path(const Function *function, const char *attribute) {
        return g_strdup_printf("/sys/devices/%s/%s", function->address, attribute);
}

static void uevent(FakeKernel *kernel, const Function *function, const char *action) {
        kernel->hooks.uevent(kernel->hooks.userdata, function->address, action);
}

static void override_set(FakeKernel *kernel, Function *function, const char *name) {
        g_autofree char *path = function_path(function, "driver_override");
        g_autofree char *line = g_strconcat(*name ? name : "(null)", "\n", NULL);

        g_free(function->override);
        function->override = g_strdup(name);
        file_make(kernel, path, line);
}

/* vfio-pci lets its devices sleep, and forbids it when it lets go of them
 * (drivers/vfio/pci/vfio_pci_core.c); of the host drivers here snd_hda_intel lets them, too
 * (sound/pci/hda/hda_intel.c), and the others say nothing. */
static const char *control_at_home(const Function *function) {
        return strcmp(function->native, "snd_hda_intel") == 0 ? "auto" : "on";
}

static void control_set(FakeKernel *kernel, const Function *function, const char *driver) {
        g_autofree char *path = function_path(function, "power/control");
        bool allows = strcmp(driver, VFIO_PCI) == 0 ||
                      (*driver && strcmp(control_at_home(function), "auto") == 0);

        if (allows)
                file_make(kernel, path, "auto\n");
        else if (strcmp(function->driver, VFIO_PCI) == 0)
                file_make(kernel, path, "on\n");
}

static void driver_set(FakeKernel *kernel, Function *function, const char *driver) {
        g_autofree char *path = function_path(function, "driver");
        g_autofree char *target = g_strconcat("/sys/bus/pci/drivers/", driver, NULL);

        control_set(kernel, function, driver);

        g_free(function->driver);
        function->driver = g_strdup(driver);
        if (*driver)
                link_make(kernel, path, target);
        else {
                g_autofree char *real = fake_kernel_path(kernel, path);

                g_remove(real);
        }
        kernel->hooks.moved(kernel->hooks.userdata, function->address, driver);
}

static bool driver_is_loaded(FakeKernel *kernel, const char *driver) {
        g_autofree char *path = fake_kernel_path(kernel, "/sys/bus/pci/drivers");
        g_autofree char *folder = g_build_filename(path, driver, NULL);

        return g_file_test(folder, G_FILE_TEST_IS_DIR);
}

/* A host driver is not let near a group whose DMA a QEMU owns (drivers/iommu/iommu.c,
 * iommu_device_use_default_domain()). */
static int driver_take(FakeKernel *kernel, Function *function, const char *driver, int refusal) {
        if (strcmp(driver, VFIO_PCI) != 0 && fake_kernel_is_held(kernel, function->group))
                return refusal;
        driver_set(kernel, function, driver);
        uevent(kernel, function, "bind");
        return 0;
}

static const char *driver_fitting(const Function *function) {
        return *function->override ? function->override : function->native;
}

static int write_probe(FakeKernel *kernel, Function *function) {
        const char *driver = function ? driver_fitting(function) : NULL;

        if (!function)
                return -ENODEV;
        if (*function->driver || !*driver || !driver_is_loaded(kernel, driver))
                return 0;
        return driver_take(kernel, function, driver, -EINVAL);
}

static int write_bind(FakeKernel *kernel, Function *function, const char *driver) {
        if (!function || strcmp(driver_fitting(function), driver) != 0)
                return -ENODEV;
        if (*function->driver)
                return -EBUSY;
        return driver_take(kernel, function, driver, -EBUSY);
}

static int write_unbind(FakeKernel *kernel, Function *function, const char *driver) {
        if (!function || strcmp(function->driver, driver) != 0)
                return -ENODEV;
        if (strcmp(driver, VFIO_PCI) != 0 && function->sticks)
                return -EINPROGRESS;
        if (strcmp(driver, VFIO_PCI) == 0 && fake_kernel_is_held(kernel, function->group)) {
                g_ptr_array_add(kernel->violations,
                                g_strdup_printf("%s is taken from the QEMU that holds group %d",
                                                function->address, function->group));
                return -EINPROGRESS;
        }
        driver_set(kernel, function, "");
        uevent(kernel, function, "unbind");
        return 0;
}

static int write_override(FakeKernel *kernel, Function *function, const char *data) {
        g_autofree char *name = g_strchomp(g_strdup(data));

        if (!function)
                return -ENOENT;
        override_set(kernel, function, name);
        return 0;
}

/* An attribute that only keeps its value. */
static int write_plain(FakeKernel *kernel, const char *path, const char *data) {
        g_autofree char *real = fake_kernel_path(kernel, path);
        g_autofree char *value = g_strchomp(g_strdup(data));
        g_autofree char *line = g_strconcat(value, "\n", NULL);

        if (!g_file_test(real, G_FILE_TEST_EXISTS))
                return -ENOENT;
        file_make(kernel, path, line);
        return 0;
}

static Function *function_present(FakeKernel *kernel, const char *address) {
        Function *function = fake_kernel_function(kernel, address);

        return function && function->present ? function : NULL;
}

int fake_kernel_write(FakeKernel *kernel, const char *path, const char *data) {
        g_autofree char *file = g_path_get_basename(path);
        g_autofree char *folder = g_path_get_dirname(path);
        g_autofree char *of = g_path_get_basename(folder);
        g_autofree char *address = g_strchomp(g_strdup(data));

        if (strcmp(file, "driver_override") == 0)
                return write_override(kernel, function_present(kernel, of), data);
        if (strcmp(file, "drivers_probe") == 0)
                return write_probe(kernel, function_present(kernel, address));
        if (strcmp(file, "bind") == 0)
                return write_bind(kernel, function_present(kernel, address), of);
        if (strcmp(file, "unbind") == 0)
                return write_unbind(kernel, function_present(kernel, address), of);
        return write_plain(kernel, path, data);
}

char *fake_kernel_state(FakeKernel *kernel, const char *address) {
        const Function *function = function_present(kernel, address);

        return g_strdup_printf("%s %s", function && *function->driver ? function->driver : "-",
                               function && *function->override ? function->override : "-");
}

/* --- what there is --- */

static void function_free(void *data) {
        Function *function = data;

        g_free(function->address);
        g_free(function->class);
        g_free(function->native);
        g_free(function->driver);
        g_free(function->override);
        g_free(function);
}

static void driver_load(FakeKernel *kernel, const char *driver) {
        g_autofree char *unbind = g_strdup_printf("/sys/bus/pci/drivers/%s/unbind", driver);
        g_autofree char *bind = g_strdup_printf("/sys/bus/pci/drivers/%s/bind", driver);

        file_make(kernel, unbind, "");
        file_make(kernel, bind, "");
}

FakeKernel *fake_kernel_new(sd_event *event, const FakeKernelHooks *hooks) {
        FakeKernel *kernel = g_new0(FakeKernel, 1);

        kernel->event = sd_event_ref(event);
        kernel->hooks = *hooks;
        kernel->testbed = umockdev_testbed_new();
        kernel->root = umockdev_testbed_get_root_dir(kernel->testbed);
        kernel->functions = g_ptr_array_new_with_free_func(function_free);
        kernel->held = g_hash_table_new(NULL, NULL);
        kernel->log = g_ptr_array_new_with_free_func(g_free);
        kernel->violations = g_ptr_array_new_with_free_func(g_free);
        driver_load(kernel, VFIO_PCI);
        file_make(kernel, "/sys/bus/pci/drivers_probe", "");
        fake_kernel_listen(kernel);
        return kernel;
}

void fake_kernel_free(FakeKernel *kernel) {
        g_autofree char *path = NULL;

        if (!kernel)
                return;
        path = fake_kernel_path(kernel, "kernel");
        g_ptr_array_unref(kernel->clients);
        sd_event_source_disable_unref(kernel->source);
        close(kernel->fd);
        g_unlink(path);
        g_ptr_array_unref(kernel->functions);
        g_hash_table_unref(kernel->held);
        g_ptr_array_unref(kernel->log);
        g_ptr_array_unref(kernel->violations);
        g_object_unref(kernel->testbed);
        g_free(kernel->root);
        sd_event_unref(kernel->event);
        g_free(kernel);
}

char **fake_kernel_environment(FakeKernel *kernel, const char *shim) {
        g_autofree char *preload = g_strconcat(shim, ":libumockdev-preload.so.0", NULL);
        char **environment = g_get_environ();

        environment = g_environ_setenv(environment, "LD_PRELOAD", preload, TRUE);
        return g_environ_setenv(environment, "UMOCKDEV_DIR", kernel->root, TRUE);
}

/* The device as sysfs has it, without a driver. */
static void function_appear(FakeKernel *kernel, Function *function) {
        static const struct {
                const char *attribute, *value;
        } power[] = { { "d3cold_allowed", "1\n" }, { "power/control", "on\n" } };
        g_autofree char *made = umockdev_testbed_add_device(
                kernel->testbed, "pci", function->address, NULL, "class", function->class, "vendor",
                "0x1234\n", "device", "0x1111\n", "subsystem_vendor", "0x1af4\n",
                "subsystem_device", "0x1100\n", "numa_node", "-1\n", "config", "\x34\x12\x11\x11",
                NULL, NULL);
        g_autofree char *group_link = function_path(function, "iommu_group");
        g_autofree char *group = g_strdup_printf("/sys/kernel/iommu_groups/%d", function->group);
        g_autofree char *member = g_strdup_printf("%s/devices/%s", group, function->address);

        g_assert_nonnull(made);
        for (size_t i = 0; i < G_N_ELEMENTS(power); i++) {
                g_autofree char *path = function_path(function, power[i].attribute);

                file_make(kernel, path, power[i].value);
        }
        link_make(kernel, group_link, group);
        link_make(kernel, member, made);
        override_set(kernel, function, "");
        function->present = true;
}

void fake_kernel_add(FakeKernel *kernel, const char *address, const char *class, int group,
                     const char *driver) {
        Function *function = g_new0(Function, 1);

        *function = (Function){
                .address = g_strdup(address),
                .class = g_strdup(class),
                .native = g_strdup(driver),
                .driver = g_strdup(""),
                .override = g_strdup(""),
                .group = group,
        };
        g_ptr_array_add(kernel->functions, function);
        driver_load(kernel, driver);
        fake_kernel_plug(kernel, address);
}

void fake_kernel_plug(FakeKernel *kernel, const char *address) {
        Function *function = fake_kernel_function(kernel, address);

        function_appear(kernel, function);
        uevent(kernel, function, "add");
        driver_set(kernel, function, function->native);
        uevent(kernel, function, "bind");
}

void fake_kernel_remove(FakeKernel *kernel, const char *address) {
        Function *function = fake_kernel_function(kernel, address);
        g_autofree char *device = g_strdup_printf("/sys/devices/%s", address);
        g_autofree char *member =
                g_strdup_printf("/sys/kernel/iommu_groups/%d/devices/%s", function->group, address);
        g_autofree char *real = fake_kernel_path(kernel, member);

        if (*function->driver) {
                driver_set(kernel, function, "");
                uevent(kernel, function, "unbind");
        }
        function->present = false;
        g_remove(real);
        umockdev_testbed_remove_device(kernel->testbed, device);
        uevent(kernel, function, "remove");
}

bool fake_kernel_is_there(FakeKernel *kernel, const char *address) {
        return function_present(kernel, address) != NULL;
}

const char *fake_kernel_driver(FakeKernel *kernel, const char *address) {
        return fake_kernel_function(kernel, address)->driver;
}

const char *fake_kernel_control_at_home(FakeKernel *kernel, const char *address) {
        return control_at_home(fake_kernel_function(kernel, address));
}

char *fake_kernel_attribute(FakeKernel *kernel, const char *address, const char *name) {
        g_autofree char *path = function_path(fake_kernel_function(kernel, address), name);
        g_autofree char *real = fake_kernel_path(kernel, path);
        char *text = NULL;

        return g_file_get_contents(real, &text, NULL, NULL) ? g_strchomp(text) : g_strdup("");
}

const char *fake_kernel_native(FakeKernel *kernel, const char *address) {
        return fake_kernel_function(kernel, address)->native;
}

const char *fake_kernel_override(FakeKernel *kernel, const char *address) {
        return fake_kernel_function(kernel, address)->override;
}

int fake_kernel_group(FakeKernel *kernel, const char *address) {
        return fake_kernel_function(kernel, address)->group;
}

/* umockdev sends only for a device that it can see. One that is gone is shown to it, without the
 * link by which everybody else would find it. */
void fake_kernel_send(FakeKernel *kernel, const char *address, const char *action) {
        g_autofree char *device = g_strdup_printf("/sys/devices/%s", address);
        g_autofree char *at = g_strconcat(device, "/uevent", NULL);
        g_autofree char *link = g_strconcat(device, "/subsystem", NULL);
        bool there = fake_kernel_is_there(kernel, address);

        if (!there) {
                file_make(kernel, at, "");
                link_make(kernel, link, "/sys/bus/pci");
        }
        umockdev_testbed_uevent(kernel->testbed, device, action);
        if (!there)
                umockdev_testbed_remove_device(kernel->testbed, device);
}

void fake_kernel_overflow(FakeKernel *kernel) {
        file_make(kernel, "overflow", "");
}

void fake_kernel_forget_listeners(FakeKernel *kernel) {
        g_autoptr(GDir) dir = g_dir_open(kernel->root, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir)))
                if (g_str_has_prefix(name, "event")) {
                        g_autofree char *path = fake_kernel_path(kernel, name);

                        g_unlink(path);
                }
}

GPtrArray *fake_kernel_log(FakeKernel *kernel) {
        return kernel->log;
}

GPtrArray *fake_kernel_violations(FakeKernel *kernel) {
        return kernel->violations;
}
