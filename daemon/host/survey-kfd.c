/* Reads what KFD, the part of amdgpu that computes, shows in sysfs (Linux,
 * drivers/gpu/drm/amd/amdkfd): kfd_topology.c has a folder for each GPU with its id and its place
 * on the PCI bus, kfd_process.c one for each process. There, vram_GPU is the memory that it has on
 * that GPU and queues/N/gpuid where its queue is. The file is there for each GPU that the process
 * may use, whether it does or not (kfd_flat_memory.c, kfd_init_apertures()). Not read are sdma_GPU
 * and cu_occupancy, which ask the hardware. */
#include "survey-kfd.h"

#include "core/pci-address.h"

#include "reading.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define KFD_NODES     "/sys/class/kfd/kfd/topology/nodes"
#define KFD_PROCESSES "/sys/class/kfd/kfd/proc"

/* The number in a file. 1, 0 where there is none, or a negative errno. */
static int number_read(const char *folder, const char *name, guint64 *ret) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *text = NULL;
        int r = reading_text(AT_FDCWD, path, &text);

        if (r <= 0)
                return r;
        return g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, ret, NULL);
}

/* The value behind the line's first word in the text of a node's properties. */
static bool property_read(const char *text, const char *word, unsigned *ret) {
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

        for (char **line = lines; *line; line++)
                if (g_str_has_prefix(*line, word) && sscanf(*line + strlen(word), " %u", ret) == 1)
                        return true;
        return false;
}

/* Whether a node is a GPU of one of the slots of @functions: its location is bus, device and
 * function, and of a GPU that was divided the function tells its parts apart. */
static bool node_is_wanted(const char *properties, const GArray *functions) {
        unsigned location, domain;

        if (!property_read(properties, "location_id ", &location) ||
            !property_read(properties, "domain ", &domain))
                return false;
        for (guint i = 0; i < functions->len; i++) {
                PciAddress function = g_array_index(functions, PciAddress, i);

                if (function.domain == domain && function.bus == location >> 8 &&
                    function.slot == (location >> 3 & 0x1f))
                        return true;
        }
        return false;
}

/* The ids of the GPUs, as guint64. 0 or a negative errno. */
static int gpus_read(const GArray *functions, GArray *ids) {
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_error(reading_folder(AT_FDCWD, KFD_NODES, &names));

        for (guint i = 0; r == 0 && names && i < names->len; i++) {
                g_autofree char *folder =
                        g_build_filename(KFD_NODES, g_ptr_array_index(names, i), NULL);
                g_autofree char *path = g_build_filename(folder, "properties", NULL);
                g_autofree char *properties = NULL;
                guint64 id = 0;

                r = reading_text(AT_FDCWD, path, &properties);
                if (r == -EPERM) /* of one that the service may not use, nothing is told */
                        r = 0;
                if (r > 0 && node_is_wanted(properties, functions))
                        r = number_read(folder, "gpu_id", &id);
                if (id != 0) /* else it is a processor */
                        g_array_append_val(ids, id);
                r = MIN(r, 0);
        }
        return r;
}

/* Raises @ret to what the memory on GPU @id says. */
static int memory_read(const char *process, guint64 id, KfdUse *ret) {
        g_autofree char *name = g_strdup_printf("vram_%" G_GUINT64_FORMAT, id);
        guint64 bytes = 0;
        int r = number_read(process, name, &bytes);

        if (r > 0)
                *ret = MAX(*ret, bytes > 0 ? KFD_USES : KFD_IDLE);
        return MIN(r, 0);
}

/* Raises @ret to what the process's queues say. */
static int queues_read(const char *process, const GArray *ids, KfdUse *ret) {
        g_autofree char *folder = g_build_filename(process, "queues", NULL);
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_error(reading_folder(AT_FDCWD, folder, &names));

        for (guint i = 0; r == 0 && names && i < names->len; i++) {
                g_autofree char *queue =
                        g_build_filename(folder, g_ptr_array_index(names, i), NULL);
                guint64 id = 0;

                r = reading_error(number_read(queue, "gpuid", &id));
                for (guint j = 0; id != 0 && j < ids->len; j++)
                        if (g_array_index(ids, guint64, j) == id)
                                *ret = KFD_USES;
        }
        return r;
}

/* Whether the kernel tells at all what the process has on which GPU: since Linux 5.9. 0 or a
 * negative errno. */
static int process_is_told(const char *process, bool *ret) {
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_folder(AT_FDCWD, process, &names);

        *ret = false;
        for (guint i = 0; names && i < names->len; i++)
                *ret |= g_str_has_prefix(g_ptr_array_index(names, i), "vram_");
        return MIN(r, 0);
}

int kfd_read_use(unsigned pid, const GArray *functions, KfdUse *ret) {
        g_autofree char *process = g_strdup_printf(KFD_PROCESSES "/%u", pid);
        g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(guint64));
        bool told;
        int r = process_is_told(process, &told);

        *ret = KFD_UNTOLD;
        if (r == 0 && told)
                r = gpus_read(functions, ids);
        if (r < 0 || ids->len == 0)
                return r;

        *ret = KFD_NOT;
        for (guint i = 0; r == 0 && i < ids->len; i++)
                r = memory_read(process, g_array_index(ids, guint64, i), ret);
        return r == 0 ? queues_read(process, ids, ret) : r;
}
