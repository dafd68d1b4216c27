/* Finds the device nodes of a card: what sysfs shows beneath its functions, what drivers make
 * elsewhere, and the block devices on top. It knows numbers and names, and opens nothing. */
#include "survey-nodes.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define NVIDIA_MAJOR 195 /* Linux, Documentation/admin-guide/devices.txt */

#define DEPTH_MAX 16 /* folders beneath a function; sysfs is not that deep */

typedef DIR Dir;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Dir, closedir)

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

/* Takes @path and @folder. */
static void node_add(GArray *nodes, dev_t number, bool block, char *path, char *folder) {
        Node node = { number, block, path, folder };

        if (nodes_find(nodes, number, block))
                node_clear(&node);
        else
                g_array_append_val(nodes, node);
}

static void node_add_file(GArray *nodes, const char *path) {
        struct stat status;

        if (stat(path, &status) == 0 && S_ISCHR(status.st_mode))
                node_add(nodes, status.st_rdev, false, g_strdup(path), NULL);
}

/* The base name of a link's target; NULL without such a link. */
static char *link_name(const char *folder, const char *link) {
        g_autofree char *path = g_build_filename(folder, link, NULL);
        g_autofree char *target = g_file_read_link(path, NULL);

        return target ? g_path_get_basename(target) : NULL;
}

static char *attribute_read(const char *folder, const char *attribute) {
        g_autofree char *path = g_build_filename(folder, attribute, NULL);
        char *text = NULL;

        return g_file_get_contents(path, &text, NULL, NULL) ? g_strchomp(text) : NULL;
}

/* Where /dev has it: device mapper's own name where there is one, else what the uevent says as
 * DEVNAME. */
static char *node_path_read(const char *folder) {
        g_autofree char *mapped = attribute_read(folder, "dm/name");
        g_autofree char *text = attribute_read(folder, "uevent");
        g_auto(GStrv) lines = g_strsplit(text ?: "", "\n", -1);

        if (mapped)
                return g_build_filename("/dev/mapper", mapped, NULL);
        for (char **line = lines; *line; line++)
                if (g_str_has_prefix(*line, "DEVNAME="))
                        return g_build_filename("/dev", *line + strlen("DEVNAME="), NULL);
        return g_path_get_basename(folder);
}

static void folder_add_node(GArray *nodes, const char *folder) {
        g_autofree char *text = attribute_read(folder, "dev");
        g_autofree char *subsystem = link_name(folder, "subsystem");
        unsigned major_number, minor_number;

        if (text && sscanf(text, "%u:%u", &major_number, &minor_number) == 2)
                node_add(nodes, makedev(major_number, minor_number),
                         g_strcmp0(subsystem, "block") == 0, node_path_read(folder),
                         g_strdup(folder));
}

/* Every node of the device at @folder and of what lies beneath it: DRM and sound cards, inputs, and
 * what hangs on a card's USB controller. */
static void folder_add_nodes(GArray *nodes, const char *folder, unsigned depth) {
        g_autoptr(Dir) dir = opendir(folder);
        struct dirent *entry;

        if (!dir || depth > DEPTH_MAX)
                return;

        folder_add_node(nodes, folder);
        while ((entry = readdir(dir))) {
                g_autofree char *path = NULL;

                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                path = g_build_filename(folder, entry->d_name, NULL);
                folder_add_nodes(nodes, path, depth + 1);
        }
}

/* The folders of the block devices that are made of the one at @folder, new strings. */
static GPtrArray *folders_on_top(const char *folder) {
        GPtrArray *folders = g_ptr_array_new_with_free_func(g_free);
        g_autofree char *path = g_build_filename(folder, "holders", NULL);
        g_autoptr(Dir) dir = opendir(path);
        struct dirent *entry;

        while (dir && (entry = readdir(dir)))
                if (entry->d_name[0] != '.')
                        g_ptr_array_add(folders,
                                        g_build_filename("/sys/class/block", entry->d_name, NULL));
        return folders;
}

/* The array grows as it is walked: what is made of a device is a device itself. */
static void nodes_add_on_top(GArray *nodes) {
        for (guint i = 0; i < nodes->len; i++) {
                const Node *node = &g_array_index(nodes, Node, i);
                g_autoptr(GPtrArray) folders = NULL;

                if (!node->block)
                        continue;
                folders = folders_on_top(node->folder);
                for (guint j = 0; j < folders->len; j++)
                        folder_add_node(nodes, g_ptr_array_index(folders, j));
        }
}

GPtrArray *nodes_made_of(const GArray *nodes, const Node *node) {
        GPtrArray *made = g_ptr_array_new();
        g_autoptr(GPtrArray) folders = node->block ? folders_on_top(node->folder) : NULL;

        for (guint i = 0; folders && i < folders->len; i++) {
                const char *folder = g_ptr_array_index(folders, i);

                for (guint j = 0; j < nodes->len; j++) {
                        Node *other = &g_array_index(nodes, Node, j);

                        if (g_strcmp0(other->folder, folder) == 0)
                                g_ptr_array_add(made, other);
                }
        }
        return made;
}

/* The proprietary driver tells its minor number in /proc alone. Whoever uses a card has that node
 * open, besides some that all cards share (nvidiactl, nvidia-uvm, nvidia-modeset, nvidia-caps) and
 * that by themselves keep no card from being unbound. Where the number is not told, these must do.
 */
static void nvidia_add_nodes(GArray *nodes, const char *address) {
        static const char *const shared[] = {
                "/dev/nvidiactl",
                "/dev/nvidia-uvm",
                "/dev/nvidia-modeset",
        };
        g_autofree char *path = g_strdup_printf("/proc/driver/nvidia/gpus/%s/information", address);
        g_autofree char *text = NULL;
        const char *found = NULL;
        unsigned number;

        if (g_file_get_contents(path, &text, NULL, NULL))
                found = strstr(text, "Device Minor:");
        if (found && sscanf(found + strlen("Device Minor:"), "%u", &number) == 1) {
                node_add(nodes, makedev(NVIDIA_MAJOR, number), false,
                         g_strdup_printf("/dev/nvidia%u", number), NULL);
                return;
        }

        for (size_t i = 0; i < G_N_ELEMENTS(shared); i++)
                node_add_file(nodes, shared[i]);
}

static void function_add_nodes(GArray *nodes, PciAddress function) {
        char address[PCI_ADDRESS_BUFFER];
        g_autofree char *folder = g_build_filename("/sys/bus/pci/devices",
                                                   pci_address_print(function, address), NULL);
        g_autofree char *driver = link_name(folder, "driver");
        g_autofree char *group = link_name(folder, "iommu_group");

        folder_add_nodes(nodes, folder, 0);
        if (g_strcmp0(driver, "nvidia") == 0)
                nvidia_add_nodes(nodes, address);
        else if (g_strcmp0(driver, "amdgpu") == 0)
                node_add_file(nodes, "/dev/kfd");
        else if (g_strcmp0(driver, "vfio-pci") == 0 && group) {
                g_autofree char *path = g_build_filename("/dev/vfio", group, NULL);

                node_add_file(nodes, path);
        }
}

static GArray *nodes_new(void) {
        GArray *nodes = g_array_new(FALSE, TRUE, sizeof(Node));

        g_array_set_clear_func(nodes, node_clear);
        return nodes;
}

GArray *nodes_survey_block(dev_t number) {
        g_autofree char *folder =
                g_strdup_printf("/sys/dev/block/%u:%u", major(number), minor(number));
        g_autofree char *partition = attribute_read(folder, "partition");
        g_autofree char *disk = g_build_filename(folder, "..", NULL);
        GArray *nodes = nodes_new();

        folder_add_nodes(nodes, folder, 0);
        if (partition)
                folder_add_node(nodes, disk);
        nodes_add_on_top(nodes);
        return nodes;
}

GArray *nodes_survey(const GArray *functions) {
        GArray *nodes = nodes_new();

        for (guint i = 0; i < functions->len; i++)
                function_add_nodes(nodes, g_array_index(functions, PciAddress, i));
        nodes_add_on_top(nodes);
        return nodes;
}
