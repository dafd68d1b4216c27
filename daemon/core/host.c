/* The values that cross the seam to the host: making, copying and freeing them, and the few
 * questions that can be answered from one function's facts alone. Knows nothing of where facts come
 * from and does no I/O; the doing is daemon/host's. */
#include "core/host.h"

#include <string.h>

#define CLASS_HOST_BRIDGE 0x0600
#define CLASS_PCI_BRIDGE  0x0604

bool pci_function_is_gpu(const PciFunction *function) {
        return function->class >> 16 == 0x03;
}

bool pci_function_on_vfio(const PciFunction *function) {
        return strcmp(function->driver, "vfio-pci") == 0;
}

bool pci_function_on_host_driver(const PciFunction *function) {
        return function->driver[0] != '\0' && !pci_function_on_vfio(function) &&
               strcmp(function->driver, "pci-stub") != 0;
}

/* Since Linux 5.19 what counts is whether the driver has set driver_managed_dma
 * (drivers/pci/pci-driver.c, pci_dma_configure()): pci-stub has, vfio-pci and the drivers that take
 * its place for one kind of device, and pcieport, which has ports and event collectors. Other
 * drivers of bridges have not, such as shpchp. Older kernels let every bridge pass. */
bool pci_function_blocks_group(const PciFunction *function) {
        return pci_function_on_host_driver(function) && strcmp(function->driver, "pcieport") != 0 &&
               !g_str_has_suffix(function->driver, "vfio_pci") &&
               !g_str_has_suffix(function->driver, "vfio-pci");
}

bool pci_function_is_bridge(const PciFunction *function) {
        return function->class >> 8 == CLASS_PCI_BRIDGE ||
               function->class >> 8 == CLASS_HOST_BRIDGE;
}

bool function_power_is_known(const FunctionPower *power) {
        return power->d3cold_allowed[0] || power->control[0];
}

DeviceFacts *device_facts_new(void) {
        DeviceFacts *facts = g_new0(DeviceFacts, 1);

        facts->companions = g_array_new(FALSE, TRUE, sizeof(PciFunction));
        facts->neighbours = g_array_new(FALSE, TRUE, sizeof(PciFunction));
        facts->iommu_group = -1;
        facts->numa_node = -1;
        facts->boot_framebuffer = g_strdup("");
        facts->vendor_name = g_strdup("");
        facts->model_name = g_strdup("");
        facts->bar_sizes = g_array_new(FALSE, TRUE, sizeof(uint64_t));
        facts->reset_methods = g_new0(char *, 1);
        return facts;
}

void device_facts_free(DeviceFacts *facts) {
        if (!facts)
                return;

        g_clear_pointer(&facts->companions, g_array_unref);
        g_clear_pointer(&facts->neighbours, g_array_unref);
        g_clear_pointer(&facts->bar_sizes, g_array_unref);
        g_free(facts->boot_framebuffer);
        g_free(facts->vendor_name);
        g_free(facts->model_name);
        g_strfreev(facts->reset_methods);
        g_free(facts);
}

CardRecord *card_record_new(PciAddress card) {
        CardRecord *record = g_new0(CardRecord, 1);

        record->card = card;
        record->origins = g_array_new(FALSE, TRUE, sizeof(FunctionOrigin));
        return record;
}

static bool origins_equal(const FunctionOrigin *one, const FunctionOrigin *other) {
        return pci_address_equal(one->address, other->address) &&
               memcmp(&one->ids, &other->ids, sizeof one->ids) == 0 &&
               strcmp(one->driver, other->driver) == 0 &&
               strcmp(one->driver_override, other->driver_override) == 0 &&
               strcmp(one->power.d3cold_allowed, other->power.d3cold_allowed) == 0 &&
               strcmp(one->power.control, other->power.control) == 0 && one->known == other->known;
}

bool card_origins_equal(const CardRecord *one, const CardRecord *other) {
        if (one->origins->len != other->origins->len)
                return false;
        for (guint i = 0; i < one->origins->len; i++)
                if (!origins_equal(&g_array_index(one->origins, FunctionOrigin, i),
                                   &g_array_index(other->origins, FunctionOrigin, i)))
                        return false;
        return true;
}

bool card_records_equal(const CardRecord *one, const CardRecord *other) {
        return pci_address_equal(one->card, other->card) && card_origins_equal(one, other) &&
               strcmp(one->machine_uuid, other->machine_uuid) == 0 &&
               one->return_to_host == other->return_to_host &&
               one->any_host_driver == other->any_host_driver;
}

CardRecord *card_record_copy(const CardRecord *record) {
        CardRecord *copy = card_record_new(record->card);

        g_array_append_vals(copy->origins, record->origins->data, record->origins->len);
        memcpy(copy->machine_uuid, record->machine_uuid, sizeof copy->machine_uuid);
        copy->return_to_host = record->return_to_host;
        copy->any_host_driver = record->any_host_driver;
        return copy;
}

void card_record_free(CardRecord *record) {
        if (!record)
                return;

        g_clear_pointer(&record->origins, g_array_unref);
        g_free(record);
}

static const char *const image_uses[] = {
        [IMAGE_AS_FILE] = "image",
        [IMAGE_AS_QCOW2] = "qcow2",
        [IMAGE_AS_KERNEL] = "kernel",
};

const char *image_use_to_string(ImageUse use) {
        return image_uses[use];
}

bool image_use_from_string(const char *text, ImageUse *ret) {
        for (guint i = 0; i < G_N_ELEMENTS(image_uses); i++)
                if (strcmp(text, image_uses[i]) == 0) {
                        *ret = (ImageUse)i;
                        return true;
                }
        return false;
}

const char *holder_kind_to_string(HolderKind kind) {
        static const char *const words[_HOLDER_KIND_MAX] = {
                [HOLDER_PROCESS] = "process", [HOLDER_SHARER] = "sharer",
                [HOLDER_UNSEEN] = "unseen",   [HOLDER_MOUNT] = "mount",
                [HOLDER_SWAP] = "swap",       [HOLDER_DEVICE] = "device",
                [HOLDER_MEMBER] = "member",   [HOLDER_NETDEV] = "netdev",
                [HOLDER_MDEV] = "mdev",       [HOLDER_CONSOLE] = "console",
                [HOLDER_MODULE] = "module",
        };

        return words[kind];
}

bool holder_kind_from_string(const char *text, HolderKind *ret) {
        for (HolderKind kind = 0; kind < _HOLDER_KIND_MAX; kind++)
                if (strcmp(text, holder_kind_to_string(kind)) == 0) {
                        *ret = kind;
                        return true;
                }
        return false;
}

Holder *holder_new(HolderKind kind, const char *node) {
        Holder *holder = g_new0(Holder, 1);

        holder->kind = kind;
        holder->user = g_strdup("");
        holder->command = g_strdup("");
        holder->unit = g_strdup("");
        holder->node = g_strdup(node);
        holder->at = g_strdup("");
        return holder;
}

Holder *holder_copy(const Holder *holder) {
        Holder *copy = g_new0(Holder, 1);

        *copy = *holder;
        copy->user = g_strdup(holder->user);
        copy->command = g_strdup(holder->command);
        copy->unit = g_strdup(holder->unit);
        copy->node = g_strdup(holder->node);
        copy->at = g_strdup(holder->at);
        return copy;
}

char *holder_words(const Holder *holder) {
        switch (holder->kind) {
        case HOLDER_MOUNT:
                return g_strconcat("mounted at ", holder->at, NULL);
        case HOLDER_SWAP:
                return g_strdup("swap");
        case HOLDER_DEVICE:
                return g_strconcat("part of ", holder->at, NULL);
        case HOLDER_MEMBER:
                return g_strconcat("part of the mounted btrfs ", holder->at, NULL);
        case HOLDER_NETDEV:
                return g_strdup(holder->node[0] ? "network interface that is up"
                                                : "network interface in another namespace");
        case HOLDER_MDEV:
                return g_strdup("mediated device");
        case HOLDER_CONSOLE:
                return g_strdup("text console");
        case HOLDER_MODULE:
                return g_strdup("kernel module");
        default:
                return g_strdup(holder->command);
        }
}

void holder_free(Holder *holder) {
        if (!holder)
                return;

        g_free(holder->user);
        g_free(holder->at);
        g_free(holder->command);
        g_free(holder->unit);
        g_free(holder->node);
        g_free(holder);
}

void image_answer_free(ImageAnswer *answer) {
        if (!answer)
                return;

        g_free(answer->path);
        g_free(answer->name);
        g_free(answer->resolved);
        g_clear_pointer(&answer->identities, g_array_unref);
        g_free(answer->why);
        g_free(answer->remedy);
        g_free(answer);
}

FileAnswer *file_answer_new(const char *path) {
        FileAnswer *answer = g_new0(FileAnswer, 1);

        answer->path = g_strdup(path);
        answer->identities = g_array_new(FALSE, TRUE, sizeof(FileIdentity));
        return answer;
}

void file_answer_free(FileAnswer *answer) {
        if (!answer)
                return;

        g_free(answer->path);
        g_clear_pointer(&answer->identities, g_array_unref);
        g_free(answer);
}

bool file_identity_equal(const FileIdentity *one, const FileIdentity *other) {
        return one->block == other->block && one->device == other->device &&
               one->inode == other->inode;
}

/* Whether @other, which is or is made of the whole that is @one, is written to by either. */
static bool whole_is_in(const GArray *one, bool one_writes, const GArray *other,
                        bool other_writes) {
        const FileIdentity *whole = &g_array_index(one, FileIdentity, 0);

        for (guint i = 0; i < other->len; i++) {
                const FileIdentity *part = &g_array_index(other, FileIdentity, i);

                if (file_identity_equal(part, whole))
                        return one_writes || (other_writes && !part->read);
        }
        return false;
}

/* Two that are made of the same thing, as two partitions of a disk, do not meet. */
bool file_identities_meet(const GArray *one, bool one_writes, const GArray *other,
                          bool other_writes) {
        return one && other && one->len > 0 && other->len > 0 &&
               (whole_is_in(one, one_writes, other, other_writes) ||
                whole_is_in(other, other_writes, one, one_writes));
}

/* Frees what @array holds whether or not its maker has told it how to. */
static void answers_free(GPtrArray *array, GDestroyNotify element_free) {
        if (!array)
                return;

        g_ptr_array_set_free_func(array, element_free);
        g_ptr_array_unref(array);
}

void survey_answer_free(SurveyAnswer *answer) {
        if (!answer)
                return;

        answers_free(answer->holders, (GDestroyNotify)holder_free);
        g_clear_pointer(&answer->serials, g_array_unref);
        answers_free(answer->images, (GDestroyNotify)image_answer_free);
        answers_free(answer->files, (GDestroyNotify)file_answer_free);
        g_free(answer);
}
