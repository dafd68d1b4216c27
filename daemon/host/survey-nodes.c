/* Finds the device nodes of a card: what sysfs shows beneath its functions, what drivers make
 * elsewhere, and the block devices on top. It knows numbers and names, and opens nothing. */
#include "survey-nodes.h"

#include "reading.h"
#include "survey-tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define NVIDIA_MAJOR 195 /* Linux, Documentation/admin-guide/devices.txt */
#define NVIDIA_GPUS  "/proc/driver/nvidia/gpus"

static void node_clear(gpointer pointer) {
        Node *node = pointer;

        g_free(node->path);
        g_free(node->folder);
}

const Node *nodes_find(const GArray *nodes, dev_t number, bool block) {
        for (guint i = 0; i < nodes->len; i++) {
                const Node *node = &g_array_index(nodes, Node, i);

                if (node->number == number && node->block == block)
                        return node;
        }
        return NULL;
}

/* Takes the texts of @node; one that is known already stays what it is. */
static void node_add(GArray *nodes, Node node) {
        if (nodes_find(nodes, node.number, node.block))
                node_clear(&node);
        else
                g_array_append_val(nodes, node);
}

/* Adds the character device at @path, if there is one. 0 or a negative errno. */
static int node_add_file(GArray *nodes, NodeUse use, const char *path) {
        struct stat status;

        if (stat(path, &status) < 0)
                return reading_is_absence(-errno) ? 0 : -errno;
        if (S_ISCHR(status.st_mode))
                node_add(nodes, (Node){ use, status.st_rdev, false, g_strdup(path), NULL });
        return 0;
}

/* Where /dev has it: device mapper's own name where there is one, else what the uevent says as
 * DEVNAME. 0 or a negative errno. */
static int node_path_read(const char *folder, char **ret) {
        g_autofree char *mapper = g_build_filename(folder, "dm/name", NULL);
        g_autofree char *uevent = g_build_filename(folder, "uevent", NULL);
        g_autofree char *mapped = NULL;
        g_autofree char *text = NULL;
        g_auto(GStrv) lines = NULL;
        int r = reading_text(AT_FDCWD, mapper, &mapped);

        if (r == 0)
                r = reading_text(AT_FDCWD, uevent, &text);
        if (r < 0)
                return r;

        *ret = mapped ? g_build_filename("/dev/mapper", mapped, NULL) : NULL;
        lines = g_strsplit(text ?: "", "\n", -1);
        for (char **line = lines; !*ret && *line; line++)
                if (g_str_has_prefix(*line, "DEVNAME="))
                        *ret = g_build_filename("/dev", *line + strlen("DEVNAME="), NULL);
        *ret = *ret ?: g_path_get_basename(folder);
        return 0;
}

/* Adds the device at @folder, if it has a node. 0 or a negative errno. */
static int folder_add_node(GArray *nodes, const char *folder, const char *subsystem) {
        g_autofree char *dev = g_build_filename(folder, "dev", NULL);
        g_autofree char *text = NULL;
        unsigned major_number, minor_number;
        char *path = NULL;
        int r = reading_text(AT_FDCWD, dev, &text);

        if (r <= 0 || sscanf(text, "%u:%u", &major_number, &minor_number) != 2)
                return MIN(r, 0);
        r = node_path_read(folder, &path);
        if (r == 0)
                node_add(nodes,
                         (Node){ NODE_OWN, makedev(major_number, minor_number),
                                 g_strcmp0(subsystem, "block") == 0, path, g_strdup(folder) });
        return r;
}

/* Adds the VFIO group of the device at @folder; @ret (NULL = not wanted) is its number, a new
 * string, NULL = it has none. 0 or a negative errno. */
static int folder_add_group(GArray *nodes, const char *folder, char **ret) {
        g_autofree char *link = g_build_filename(folder, "iommu_group", NULL);
        g_autofree char *group = NULL;
        g_autofree char *path = NULL;
        int r = reading_link_name(AT_FDCWD, link, &group);

        if (r > 0) {
                path = g_build_filename("/dev/vfio", group, NULL);
                r = node_add_file(nodes, NODE_OWN, path);
        }
        if (ret)
                *ret = g_steal_pointer(&group);
        return r;
}

/* Whoever has a mediated device has it by a VFIO group of its own. */
static int visit_node(const TreeFolder *folder, void *userdata) {
        GArray *nodes = userdata;
        int r = folder_add_node(nodes, folder->path, folder->subsystem);

        if (r == 0 && g_strcmp0(folder->subsystem, "mdev") == 0)
                r = folder_add_group(nodes, folder->path, NULL);
        return r;
}

/* The folders of the block devices that are made of the one at @folder, new strings. 0 or a
 * negative errno. */
static int folders_on_top(const char *folder, GPtrArray **ret) {
        g_autofree char *path = g_build_filename(folder, "holders", NULL);
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_folder(AT_FDCWD, path, &names);

        *ret = g_ptr_array_new_with_free_func(g_free);
        for (guint i = 0; names && i < names->len; i++)
                g_ptr_array_add(*ret, g_build_filename("/sys/class/block",
                                                       g_ptr_array_index(names, i), NULL));
        return MIN(r, 0);
}

/* The array grows as it is walked: what is made of a device is a device itself. */
static int nodes_add_on_top(GArray *nodes) {
        int r = 0;

        for (guint i = 0; r == 0 && i < nodes->len; i++) {
                const Node *node = &g_array_index(nodes, Node, i);
                g_autoptr(GPtrArray) folders = NULL;

                if (!node->block)
                        continue;
                r = folders_on_top(node->folder, &folders);
                for (guint j = 0; r == 0 && j < folders->len; j++)
                        r = folder_add_node(nodes, g_ptr_array_index(folders, j), "block");
        }
        return r;
}

int nodes_made_of(const GArray *nodes, const Node *node, GPtrArray **ret) {
        g_autoptr(GPtrArray) folders = NULL;
        int r = node->block ? folders_on_top(node->folder, &folders) : 0;

        *ret = g_ptr_array_new();
        for (guint i = 0; folders && i < folders->len; i++)
                for (guint j = 0; j < nodes->len; j++) {
                        Node *other = &g_array_index(nodes, Node, j);

                        if (g_strcmp0(other->folder, g_ptr_array_index(folders, i)) == 0)
                                g_ptr_array_add(*ret, other);
                }
        return r;
}

/* --- NVIDIA's own driver --- */

/* Which node is the card's stands in /proc alone. 1 and its minor number, 0 where that is not told,
 * or a negative errno. */
static int nvidia_read_minor(const char *address, unsigned *ret) {
        g_autofree char *path = g_build_filename(NVIDIA_GPUS, address, "information", NULL);
        g_autofree char *text = NULL;
        const char *found;
        int r = reading_text(AT_FDCWD, path, &text);

        if (r <= 0)
                return r;
        found = strstr(text, "Device Minor:");
        return found && sscanf(found + strlen("Device Minor:"), "%u", ret) == 1;
}

/* 1: added, 0: its number is not told, or a negative errno. */
static int nvidia_add_card(GArray *nodes, NodeUse use, const char *address) {
        unsigned number;
        int r = nvidia_read_minor(address, &number);

        if (r > 0)
                node_add(nodes, (Node){ use, makedev(NVIDIA_MAJOR, number), false,
                                        g_strdup_printf("/dev/nvidia%u", number), NULL });
        return r;
}

static int nvidia_add_shared(GArray *nodes, NodeUse use) {
        static const char *const paths[] = {
                "/dev/nvidiactl",
                "/dev/nvidia-uvm",
                "/dev/nvidia-uvm-tools",
                "/dev/nvidia-modeset",
        };
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_error(reading_folder(AT_FDCWD, "/dev/nvidia-caps", &names));

        for (size_t i = 0; r == 0 && i < G_N_ELEMENTS(paths); i++)
                r = node_add_file(nodes, use, paths[i]);
        for (guint i = 0; r == 0 && names && i < names->len; i++) {
                g_autofree char *path =
                        g_build_filename("/dev/nvidia-caps", g_ptr_array_index(names, i), NULL);

                r = node_add_file(nodes, use, path);
        }
        return r;
}

/* Whoever uses a card has its node open; where its number is not told, the shared ones must do. */
static int nvidia_add_own(GArray *nodes, const char *address) {
        int r = nvidia_add_card(nodes, NODE_OWN, address);

        return r == 0 ? nvidia_add_shared(nodes, NODE_OWN) : MIN(r, 0);
}

/* What all cards of the driver share, and what tells that a process uses another one of them. A
 * card waits to be let go until nobody has it counted (kernel-open/nvidia/nv-pci.c,
 * nv_pci_remove_helper(), of NVIDIA's open-gpu-kernel-modules). Opening its own node counts, and so
 * can what is done with a shared one: nvidiactl (NV_ESC_ATTACH_GPUS_TO_FD), nvidia-uvm (a GPU that
 * is registered there), nvidia-modeset (nvkms_open_gpu()). Nothing tells which card that was. */
static int nvidia_add_driver(GArray *nodes) {
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_error(reading_folder(AT_FDCWD, NVIDIA_GPUS, &names));

        for (guint i = 0; r == 0 && names && i < names->len; i++)
                r = reading_error(nvidia_add_card(nodes, NODE_OTHERS, g_ptr_array_index(names, i)));
        return r == 0 ? nvidia_add_shared(nodes, NODE_SHARED) : r;
}

/* --- all functions --- */

/* What VFIO has made of the device, for those who have it without its group (iommufd). */
static int vfio_add_device(GArray *nodes, const char *address) {
        g_autofree char *folder =
                g_build_filename("/sys/bus/pci/devices", address, "vfio-dev", NULL);
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_error(reading_folder(AT_FDCWD, folder, &names));

        for (guint i = 0; r == 0 && names && i < names->len; i++) {
                g_autofree char *device =
                        g_build_filename(folder, (char *)g_ptr_array_index(names, i), NULL);

                r = folder_add_node(nodes, device, "vfio-dev");
        }
        return r;
}

/* Another device of the group keeps it from the host's drivers as well. 0 or a negative errno. */
static int vfio_add_nodes(GArray *nodes, const char *folder) {
        g_autofree char *group = NULL;
        g_autofree char *path = NULL;
        g_autoptr(GPtrArray) names = NULL;
        int r = folder_add_group(nodes, folder, &group);

        if (r < 0 || !group)
                return r;
        path = g_build_filename("/sys/kernel/iommu_groups", group, "devices", NULL);
        r = reading_error(reading_folder(AT_FDCWD, path, &names));
        for (guint i = 0; r == 0 && names && i < names->len; i++)
                r = vfio_add_device(nodes, g_ptr_array_index(names, i));
        return r;
}

/* @nvidia becomes true where the function is NVIDIA's own driver's. */
static int function_add_nodes(GArray *nodes, PciAddress function, bool *nvidia) {
        char address[PCI_ADDRESS_BUFFER];
        g_autofree char *folder = tree_function_path(function);
        g_autofree char *link = g_build_filename(folder, "driver", NULL);
        g_autofree char *driver = NULL;
        int r = reading_error(reading_link_name(AT_FDCWD, link, &driver));

        if (r == 0)
                r = tree_walk_function(function, visit_node, nodes);
        if (r < 0)
                return r;
        if (g_strcmp0(driver, "nvidia") == 0) {
                *nvidia = true;
                return nvidia_add_own(nodes, pci_address_print(function, address));
        }
        if (g_strcmp0(driver, "amdgpu") == 0)
                return node_add_file(nodes, NODE_KFD, "/dev/kfd");
        /* The drivers that take its place for one kind of device end likewise. */
        if (driver &&
            (g_str_has_suffix(driver, "vfio-pci") || g_str_has_suffix(driver, "vfio_pci")))
                return vfio_add_nodes(nodes, folder);
        return 0;
}

static GArray *nodes_new(void) {
        GArray *nodes = g_array_new(FALSE, TRUE, sizeof(Node));

        g_array_set_clear_func(nodes, node_clear);
        return nodes;
}

int nodes_survey_block(dev_t number, GArray **ret) {
        g_autofree char *folder =
                g_strdup_printf("/sys/dev/block/%u:%u", major(number), minor(number));
        g_autofree char *partition = g_build_filename(folder, "partition", NULL);
        g_autofree char *disk = g_build_filename(folder, "..", NULL);
        g_autoptr(GArray) nodes = nodes_new();
        int r = tree_walk((PciAddress){ 0 }, folder, visit_node, nodes);

        if (r == 0)
                r = reading_exists(AT_FDCWD, partition);
        if (r > 0)
                r = folder_add_node(nodes, disk, "block");
        if (r == 0)
                r = nodes_add_on_top(nodes);
        if (r == 0)
                *ret = g_steal_pointer(&nodes);
        return r;
}

int nodes_survey(const GArray *functions, GArray **ret) {
        g_autoptr(GArray) nodes = nodes_new();
        bool nvidia = false;
        int r = 0;

        for (guint i = 0; r == 0 && i < functions->len; i++)
                r = function_add_nodes(nodes, g_array_index(functions, PciAddress, i), &nvidia);
        if (r == 0 && nvidia)
                r = nvidia_add_driver(nodes);
        if (r == 0)
                r = nodes_add_on_top(nodes);
        if (r == 0)
                *ret = g_steal_pointer(&nodes);
        return r;
}
