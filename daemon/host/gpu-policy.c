/* A device's property is read from udev's database itself, as it stands in a file under /run:
 * libudev would read the device's uevent file first, and that can block for ever (udev-monitor.c).
 */
#include "gpu-policy.h"

#include "reading.h"

#include <fcntl.h>

#define MARK "E:FEOS_GPU_POLICY=vfio"

struct GpuPolicy {
        char *udev_data;
        GArray *kept; /* PciAddress */
};

GpuPolicy *gpu_policy_new(const char *udev_data) {
        GpuPolicy *policy = g_new0(GpuPolicy, 1);

        policy->udev_data = g_strdup(udev_data);
        policy->kept = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        return policy;
}

void gpu_policy_free(GpuPolicy *policy) {
        if (!policy)
                return;
        g_array_unref(policy->kept);
        g_free(policy->udev_data);
        g_free(policy);
}

void gpu_policy_set(GpuPolicy *policy, const GArray *kept) {
        g_array_set_size(policy->kept, 0);
        if (kept && kept->len > 0)
                g_array_append_vals(policy->kept, kept->data, kept->len);
}

static int udev_has_marked(const GpuPolicy *policy, PciAddress address) {
        char shown[PCI_ADDRESS_BUFFER];
        g_autofree char *path =
                g_strdup_printf("%s/+pci:%s", policy->udev_data, pci_address_print(address, shown));
        g_autofree char *text = NULL;
        g_auto(GStrv) lines = NULL;
        int r;

        r = reading_text(AT_FDCWD, path, &text);
        if (r <= 0)
                return r;
        lines = g_strsplit(text, "\n", -1);
        return g_strv_contains((const char *const *)lines, MARK);
}

int gpu_policy_keeps(const GpuPolicy *policy, PciAddress address) {
        for (guint i = 0; i < policy->kept->len; i++)
                if (pci_address_same_slot(g_array_index(policy->kept, PciAddress, i), address))
                        return 1;
        return udev_has_marked(policy, address);
}
