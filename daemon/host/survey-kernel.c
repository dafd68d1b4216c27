/* Finds what the kernel does with a card, for which there is no process: network interfaces, disks,
 * mediated devices, the text console, NVIDIA's display module. */
#include "survey-kernel.h"

#include "reading.h"
#include "survey-nodes.h"
#include "survey-tree.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define BTRFS      "/sys/fs/btrfs"
#define VTCONSOLES "/sys/class/vtconsole"
#define GRAPHICS   "/sys/class/graphics"

/* Takes @at, which may be NULL. */
static void holder_add(GPtrArray *holders, HolderKind kind, const char *node, char *at) {
        Holder *holder = holder_new(kind, node);

        if (at) {
                g_free(holder->at);
                holder->at = at;
        }
        g_ptr_array_add(holders, holder);
}

/* --- disks --- */

/* The block devices that are made of one of @nodes: whatever is done with them is done with it. */
static int devices_survey(const GArray *nodes, GPtrArray *holders) {
        int r = 0;

        for (guint i = 0; r == 0 && i < nodes->len; i++) {
                const Node *node = &g_array_index(nodes, Node, i);
                g_autoptr(GPtrArray) made = NULL;

                r = nodes_made_of(nodes, node, &made);
                for (guint j = 0; r == 0 && j < made->len; j++) {
                        const Node *other = g_ptr_array_index(made, j);

                        holder_add(holders, HOLDER_DEVICE, node->path, g_strdup(other->path));
                }
        }
        return r;
}

/* A line for each area after the first, which says what is what; the path comes first, escaped as
 * in a mount table. Areas in files are the file system's, which is mounted. */
int kernel_survey_swaps(const GArray *nodes, GPtrArray *holders) {
        g_autofree char *text = NULL;
        g_auto(GStrv) lines = NULL;
        int r = reading_text(AT_FDCWD, "/proc/swaps", &text);

        if (r > 0)
                lines = g_strsplit(text, "\n", -1);
        for (char **line = lines; line && *line; line++) {
                g_auto(GStrv) words = g_strsplit_set(*line, " \t", 2);
                g_autofree char *path = words[0] ? g_strcompress(words[0]) : NULL;
                const Node *node = NULL;
                struct stat status;

                if (path && g_str_has_prefix(path, "/dev/") && stat(path, &status) == 0 &&
                    S_ISBLK(status.st_mode))
                        node = nodes_find(nodes, status.st_rdev, true);
                if (node)
                        holder_add(holders, HOLDER_SWAP, node->path, NULL);
        }
        return MIN(r, 0);
}

/* The node among @nodes whose number the file says; NULL for another one. 0 or a negative errno. */
static int number_find(const GArray *nodes, const char *path, const Node **ret) {
        unsigned major_number, minor_number;
        g_autofree char *text = NULL;
        int r = reading_text(AT_FDCWD, path, &text);

        *ret = NULL;
        if (r > 0 && sscanf(text, "%u:%u", &major_number, &minor_number) == 2)
                *ret = nodes_find(nodes, makedev(major_number, minor_number), true);
        return MIN(r, 0);
}

static int members_survey(const GArray *nodes, const char *uuid, GPtrArray *holders) {
        g_autofree char *devices = g_build_filename(BTRFS, uuid, "devices", NULL);
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_error(reading_folder(AT_FDCWD, devices, &names));

        for (guint i = 0; r == 0 && names && i < names->len; i++) {
                g_autofree char *path = g_build_filename(
                        devices, (const char *)g_ptr_array_index(names, i), "dev", NULL);
                const Node *node;

                r = number_find(nodes, path, &node);
                if (node)
                        holder_add(holders, HOLDER_MEMBER, node->path, g_strdup(uuid));
        }
        return r;
}

int kernel_survey_members(const GArray *nodes, GPtrArray *holders) {
        g_autoptr(GPtrArray) systems = NULL;
        int r = reading_error(reading_folder(AT_FDCWD, BTRFS, &systems));

        for (guint i = 0; r == 0 && systems && i < systems->len; i++)
                r = members_survey(nodes, g_ptr_array_index(systems, i), holders);
        return r;
}

/* --- network interfaces and mediated devices --- */

/* One that is up (IFF_UP), whether or not a cable is plugged in. */
static int interface_survey(const TreeFolder *folder, GPtrArray *holders) {
        g_autofree char *path = g_build_filename(folder->path, "flags", NULL);
        g_autofree char *text = NULL;
        int r = reading_text(AT_FDCWD, path, &text);

        if (r > 0 && (g_ascii_strtoull(text, NULL, 16) & IFF_UP))
                holder_add(holders, HOLDER_NETDEV, folder->name, NULL);
        return MIN(r, 0);
}

/* A device has a folder "net" as long as it has interfaces (drivers/base/core.c, glue folders), and
 * sysfs shows only those of our own network namespace in it (fs/sysfs/mount.c). */
static int interfaces_survey(const TreeFolder *folder, GPtrArray *holders) {
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_folder(AT_FDCWD, folder->path, &names);

        if (r > 0 && names->len == 0)
                holder_add(holders, HOLDER_NETDEV, "", NULL);
        return MIN(r, 0);
}

static int visit_kernel(const TreeFolder *folder, void *userdata) {
        GPtrArray *holders = userdata;

        if (g_strcmp0(folder->subsystem, "net") == 0)
                return interface_survey(folder, holders);
        if (!folder->subsystem && strcmp(folder->name, "net") == 0)
                return interfaces_survey(folder, holders);
        if (g_strcmp0(folder->subsystem, "mdev") == 0)
                holder_add(holders, HOLDER_MDEV, folder->name,
                           pci_address_to_string(folder->function));
        return 0;
}

/* --- the text console --- */

/* The console that is on framebuffers, "vtcon1"; NULL = none is. 0 or a negative errno. */
static int console_read(char **ret) {
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_error(reading_folder(AT_FDCWD, VTCONSOLES, &names));

        *ret = NULL;
        for (guint i = 0; r == 0 && !*ret && names && i < names->len; i++) {
                const char *name = g_ptr_array_index(names, i);
                g_autofree char *bind_path = g_build_filename(VTCONSOLES, name, "bind", NULL);
                g_autofree char *name_path = g_build_filename(VTCONSOLES, name, "name", NULL);
                g_autofree char *bound = NULL;
                g_autofree char *title = NULL;

                r = reading_error(reading_text(AT_FDCWD, bind_path, &bound));
                if (r == 0)
                        r = reading_error(reading_text(AT_FDCWD, name_path, &title));
                if (g_strcmp0(bound, "1") == 0 && title && strstr(title, "frame buffer device"))
                        *ret = g_strdup(name);
        }
        return r;
}

/* The number in a framebuffer's name behind @prefix; false for what is not the name of one. */
static bool framebuffer_parse(const char *name, const char *prefix, guint64 *ret) {
        return g_str_has_prefix(name, prefix) &&
               g_ascii_string_to_unsigned(name + strlen(prefix), 10, 0, 255, ret, NULL);
}

/* The kernel keeps for itself which framebuffer its consoles are on (drivers/video/fbdev/core/
 * fbcon.c, con2fb_map); where nobody has said otherwise, on the first. -1 = there is none. 0 or a
 * negative errno. */
static int framebuffer_read_first(int *ret) {
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_error(reading_folder(AT_FDCWD, GRAPHICS, &names));

        *ret = -1;
        for (guint i = 0; names && i < names->len; i++) {
                guint64 number;

                if (framebuffer_parse(g_ptr_array_index(names, i), "fb", &number) &&
                    (*ret < 0 || (int)number < *ret))
                        *ret = (int)number;
        }
        return r;
}

static int console_survey(const GArray *nodes, GPtrArray *holders) {
        g_autofree char *console = NULL;
        int first, r = console_read(&console);

        if (r < 0 || !console)
                return r;
        r = framebuffer_read_first(&first);
        for (guint i = 0; r == 0 && i < nodes->len; i++) {
                const Node *node = &g_array_index(nodes, Node, i);
                guint64 number;

                if (framebuffer_parse(node->path, "/dev/fb", &number) && (int)number == first)
                        holder_add(holders, HOLDER_CONSOLE, node->path, g_strdup(console));
        }
        return r;
}

/* --- NVIDIA's display module --- */

/* With modeset on, nvidia_drm counts as a user of each of its cards, for as long as it is loaded
 * (535.43.02: src/nvidia-modeset/kapi/src/nvkms-kapi.c, AllocateDevice(), nvkms_open_gpu()), and
 * the driver waits for ever for its users (kernel-open/nvidia/nv-pci.c). Versions since 580.94 have
 * it told to let go first (nvidia_modeset_remove()). */
static bool nvidia_version_waits(const char *version) {
        unsigned major_number, minor_number;

        return sscanf(version, "%u.%u", &major_number, &minor_number) == 2 &&
               (major_number < 580 || (major_number == 580 && minor_number < 94));
}

/* Whether such a module is loaded. 0 or a negative errno. */
static int nvidia_read_waits(bool *ret) {
        g_autofree char *modeset = NULL;
        g_autofree char *version = NULL;
        int r = reading_error(
                reading_text(AT_FDCWD, "/sys/module/nvidia_drm/parameters/modeset", &modeset));

        if (r == 0)
                r = reading_error(reading_text(AT_FDCWD, "/sys/module/nvidia/version", &version));
        *ret = g_strcmp0(modeset, "Y") == 0 && version && nvidia_version_waits(version);
        return r;
}

/* The card's node of the display module is what the module has made of it. */
static int nvidia_survey(const GArray *functions, GPtrArray *holders) {
        bool waits;
        int r = nvidia_read_waits(&waits);

        for (guint i = 0; r == 0 && waits && i < functions->len; i++) {
                PciAddress function = g_array_index(functions, PciAddress, i);
                g_autofree char *folder = tree_function_path(function);
                g_autofree char *link = g_build_filename(folder, "driver", NULL);
                g_autofree char *drm = g_build_filename(folder, "drm", NULL);
                g_autofree char *driver = NULL;

                r = reading_error(reading_link_name(AT_FDCWD, link, &driver));
                if (r == 0 && g_strcmp0(driver, "nvidia") == 0)
                        r = reading_exists(AT_FDCWD, drm);
                if (r > 0)
                        holder_add(holders, HOLDER_MODULE, "nvidia_drm",
                                   pci_address_to_string(function));
                r = MIN(r, 0);
        }
        return r;
}

int kernel_survey(const GArray *functions, const GArray *nodes, GPtrArray *holders) {
        int r = 0;

        for (guint i = 0; r == 0 && i < functions->len; i++)
                r = tree_walk_function(g_array_index(functions, PciAddress, i), visit_kernel,
                                       holders);
        if (r == 0)
                r = devices_survey(nodes, holders);
        if (r == 0)
                r = kernel_survey_swaps(nodes, holders);
        if (r == 0)
                r = kernel_survey_members(nodes, holders);
        if (r == 0)
                r = console_survey(nodes, holders);
        return r == 0 ? nvidia_survey(functions, holders) : r;
}
