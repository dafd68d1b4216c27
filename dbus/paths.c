/* Object paths to addresses and names, and back. Strict on the way in: what reads but would be
 * written otherwise is no path of ours, or one thing would answer to many. Whether there is such a
 * GPU or machine is not asked here. */
#include "paths.h"

#include "core/request.h"

#include <string.h>
#include <systemd/sd-bus.h>

char *path_of_gpu(PciAddress address) {
        char printed[PCI_ADDRESS_BUFFER];

        return g_strdelimit(g_strconcat(GPU_PATH "/", pci_address_print(address, printed), NULL),
                            ":.", '_');
}

char *path_of_machine(const char *name) {
        char *path = NULL;

        /* It fails only without memory, where GLib would have ended the process too. */
        if (sd_bus_path_encode(MACHINE_PATH, name, &path) < 0)
                g_error("No memory for an object path");
        return path;
}

bool path_to_gpu(const char *path, PciAddress *ret) {
        g_autofree char *text = NULL;
        g_autofree char *canonical = NULL;
        PciAddress address;
        char *function;

        if (!g_str_has_prefix(path, GPU_PATH "/"))
                return false;
        text = g_strdelimit(g_strdup(path + strlen(GPU_PATH "/")), "_", ':');
        function = strrchr(text, ':');
        if (!function)
                return false;
        *function = '.';
        if (!pci_address_parse(text, &address))
                return false;
        canonical = path_of_gpu(address);
        if (!g_str_equal(canonical, path))
                return false;
        *ret = address;
        return true;
}

char *path_to_machine(const char *path) {
        g_autofree char *name = NULL;
        g_autofree char *canonical = NULL;

        if (sd_bus_path_decode(path, MACHINE_PATH, &name) <= 0 || !machine_name_is_valid(name))
                return NULL;
        canonical = path_of_machine(name);
        return g_str_equal(canonical, path) ? g_steal_pointer(&name) : NULL;
}
