/* Finds who has a card open: first the device nodes that belong to its functions, then the
 * processes that have one of those open or mapped. The only reader of other processes' /proc.
 * Compares device numbers, not names, for a container has nodes of its own. It refuses to judge;
 * that is core's. */
#include "survey-holders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define NVIDIA_MAJOR 195 /* Linux, Documentation/admin-guide/devices.txt */

#define DEPTH_MAX 16 /* folders beneath a function; sysfs is not that deep */

typedef struct Node {
        dev_t number;
        bool block;
        char *path;
} Node;

typedef DIR Dir;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Dir, closedir)
typedef FILE File;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(File, fclose)

static void node_clear(gpointer pointer) {
        g_free(((Node *)pointer)->path);
}

/* Takes @path. */
static void node_add(GArray *nodes, dev_t number, bool block, char *path) {
        Node node = { number, block, path };

        g_array_append_val(nodes, node);
}

static void node_add_file(GArray *nodes, const char *path) {
        struct stat status;

        if (stat(path, &status) == 0 && S_ISCHR(status.st_mode))
                node_add(nodes, status.st_rdev, false, g_strdup(path));
}

/* The base name of a link's target; NULL without such a link. */
static char *link_name(const char *folder, const char *link) {
        g_autofree char *path = g_build_filename(folder, link, NULL);
        g_autofree char *target = g_file_read_link(path, NULL);

        return target ? g_path_get_basename(target) : NULL;
}

/* "/dev/" and what the device's uevent says as DEVNAME. */
static char *node_path_read(const char *folder) {
        g_autofree char *path = g_build_filename(folder, "uevent", NULL);
        g_autofree char *text = NULL;
        g_auto(GStrv) lines = NULL;

        if (g_file_get_contents(path, &text, NULL, NULL))
                lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; line && *line; line++)
                if (g_str_has_prefix(*line, "DEVNAME="))
                        return g_build_filename("/dev", *line + strlen("DEVNAME="), NULL);
        return g_path_get_basename(folder);
}

static void folder_add_node(GArray *nodes, const char *folder) {
        g_autofree char *path = g_build_filename(folder, "dev", NULL);
        g_autofree char *subsystem = link_name(folder, "subsystem");
        g_autofree char *text = NULL;
        unsigned major_number, minor_number;

        if (g_file_get_contents(path, &text, NULL, NULL) &&
            sscanf(text, "%u:%u", &major_number, &minor_number) == 2)
                node_add(nodes, makedev(major_number, minor_number),
                         g_strcmp0(subsystem, "block") == 0, node_path_read(folder));
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

/* The proprietary driver tells its minor number in /proc alone. Without it the nodes that all its
 * cards share must do. */
static void nvidia_add_nodes(GArray *nodes, const char *address) {
        g_autofree char *path = g_strdup_printf("/proc/driver/nvidia/gpus/%s/information", address);
        g_autofree char *text = NULL;
        const char *found = NULL;
        unsigned number;

        if (g_file_get_contents(path, &text, NULL, NULL))
                found = strstr(text, "Device Minor:");
        if (found && sscanf(found + strlen("Device Minor:"), "%u", &number) == 1) {
                node_add(nodes, makedev(NVIDIA_MAJOR, number), false,
                         g_strdup_printf("/dev/nvidia%u", number));
                return;
        }

        node_add_file(nodes, "/dev/nvidiactl");
        node_add_file(nodes, "/dev/nvidia-uvm");
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

/* Follows a link of /proc/PID to a device node. Only where its text looks like a node is it
 * followed, and without asking a file server, for other files may lie on one that is dead. */
static const Node *link_find_node(const GArray *nodes, const char *link) {
        g_autofree char *target = g_file_read_link(link, NULL);
        struct statx status;
        dev_t number;
        bool block;

        if (!target || !strstr(target, "/dev/") ||
            statx(AT_FDCWD, link, AT_STATX_DONT_SYNC, STATX_TYPE, &status) < 0)
                return NULL;

        block = S_ISBLK(status.stx_mode);
        if (!block && !S_ISCHR(status.stx_mode))
                return NULL;
        number = makedev(status.stx_rdev_major, status.stx_rdev_minor);
        for (guint i = 0; i < nodes->len; i++) {
                const Node *node = &g_array_index(nodes, Node, i);

                if (node->number == number && node->block == block)
                        return node;
        }
        return NULL;
}

/* Adds the nodes that the links in /proc/PID/@folder lead to: "fd" is what is open, "map_files"
 * what is mapped, perhaps long closed. */
static void links_collect(const GArray *nodes, unsigned pid, const char *folder, GPtrArray *found) {
        g_autofree char *path = g_strdup_printf("/proc/%u/%s", pid, folder);
        g_autoptr(Dir) dir = opendir(path);
        struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                g_autofree char *link = g_build_filename(path, entry->d_name, NULL);
                const Node *node = entry->d_type == DT_LNK ? link_find_node(nodes, link) : NULL;

                if (node && !g_ptr_array_find(found, node, NULL))
                        g_ptr_array_add(found, (gpointer)node);
        }
}

static char *proc_read(unsigned pid, const char *name) {
        g_autofree char *path = g_strdup_printf("/proc/%u/%s", pid, name);
        char *text = NULL;

        return g_file_get_contents(path, &text, NULL, NULL) ? g_strchomp(text) : NULL;
}

static uid_t process_user(unsigned pid) {
        g_autofree char *status = proc_read(pid, "status");
        const char *found = status ? strstr(status, "\nUid:") : NULL;
        unsigned uid = 0;

        if (found)
                sscanf(found + strlen("\nUid:"), "%u", &uid);
        return uid;
}

/* The last service or scope in the process's control group; "" for none. */
static char *process_unit(unsigned pid) {
        g_autofree char *text = proc_read(pid, "cgroup");
        g_auto(GStrv) parts = g_strsplit_set(text ?: "", "/\n", -1);
        const char *unit = "";

        for (char **part = parts; *part; part++)
                if (g_str_has_suffix(*part, ".service") || g_str_has_suffix(*part, ".scope"))
                        unit = *part;
        return g_strdup(unit);
}

static void process_survey(const GArray *nodes, unsigned pid, GPtrArray *holders) {
        g_autoptr(GPtrArray) found = g_ptr_array_new();

        links_collect(nodes, pid, "fd", found);
        links_collect(nodes, pid, "map_files", found);

        for (guint i = 0; i < found->len; i++) {
                const Node *node = g_ptr_array_index(found, i);
                Holder *holder = g_new0(Holder, 1);

                holder->pid = (pid_t)pid;
                holder->uid = process_user(pid);
                holder->command = proc_read(pid, "comm") ?: g_strdup("");
                holder->unit = process_unit(pid);
                holder->node = g_strdup(node->path);
                g_ptr_array_add(holders, holder);
        }
}

GPtrArray *holders_survey(const GArray *functions) {
        g_autoptr(GArray) nodes = g_array_new(FALSE, TRUE, sizeof(Node));
        GPtrArray *holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        g_autoptr(Dir) dir = opendir("/proc");
        struct dirent *entry;

        g_array_set_clear_func(nodes, node_clear);
        for (guint i = 0; i < functions->len; i++)
                function_add_nodes(nodes, g_array_index(functions, PciAddress, i));
        if (nodes->len == 0)
                return holders;

        while (dir && (entry = readdir(dir))) {
                guint64 pid;

                if (g_ascii_string_to_unsigned(entry->d_name, 10, 1, INT_MAX, &pid, NULL) &&
                    pid != (guint64)getpid() && pid != (guint64)getppid())
                        process_survey(nodes, (unsigned)pid, holders);
        }
        return holders;
}
