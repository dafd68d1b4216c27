/* Parses and bounds a Create request, option by option. It looks nothing up: whether a GPU, an
 * image or a name is there is check.c's question. */
#include "core/request.h"

#include <json-c/json.h>
#include <string.h>

/* Far above any machine there is; what the host really has is checked with the facts at hand. */
#define VCPUS_MAX      4096
#define MEMORY_MIB_MAX (UINT64_C(1) << 30)
/* libvirt puts the kernel's command line on QEMU's, where one argument may have 128 KiB
 * (MAX_ARG_STRLEN, linux/binfmts.h); the kernel itself takes 2048 (COMMAND_LINE_SIZE on x86). */
#define CMDLINE_MAX    2047
#define PATH_BYTES     4095
#define GPUS_MAX       64
#define IGNITION_MAX   (1024 * 1024)
#define IGNITION_DEPTH 64

typedef void (*OptionSetter)(Request *request, const char *key, RequestValue value,
                             GPtrArray *findings);

typedef struct Option {
        const char *key;
        const char *type;
        OptionSetter set;
} Option;

bool machine_name_is_valid(const char *name) {
        size_t length = strlen(name);

        if (length < 1 || length > 64 || !g_ascii_isalnum(name[0]))
                return false;
        return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
               length;
}

static void request_add_gpu(Request *request, const char *text, GPtrArray *findings) {
        char printed[PCI_ADDRESS_BUFFER];
        PciAddress address;

        if (!pci_address_parse(text, &address)) {
                g_autofree char *shown = refusal_show(text);

                findings_error(
                        findings, REFUSAL_INVALID_ADDRESS, shown,
                        "Write it as 0000:01:00.0 or 01:00.0; ListGPUs shows those there are.",
                        "\"%s\" is not a PCI address.", shown);
                return;
        }
        for (guint i = 0; i < request->gpus->len; i++)
                if (pci_address_equal(g_array_index(request->gpus, PciAddress, i), address)) {
                        findings_error(findings, REFUSAL_INVALID_OPTION,
                                       pci_address_print(address, printed), "Name each GPU once.",
                                       "GPU %s is named twice.", printed);
                        return;
                }
        g_array_append_val(request->gpus, address);
}

Request *request_new_empty(const char *name) {
        Request *request = g_new0(Request, 1);

        request->name = g_strndup(name, 65); /* one more than a name may have */
        request->gpus = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        request->disks = g_ptr_array_new_with_free_func((GDestroyNotify)device_request_free);
        request->nics = g_ptr_array_new_with_free_func((GDestroyNotify)device_request_free);
        request->vcpus = REQUEST_DEFAULT_VCPUS;
        request->memory_mib = 2048;
        request->start = true;
        request->wait = true;
        return request;
}

static void copy_devices(const GPtrArray *from, GPtrArray *to) {
        for (guint i = 0; i < from->len; i++)
                g_ptr_array_add(to, device_request_copy(g_ptr_array_index(from, i)));
}

Request *request_copy(const Request *request) {
        Request *copy = request_new_empty(request->name);
        Request owned = *copy;

        *copy = *request;
        copy->name = owned.name;
        copy->gpus = owned.gpus;
        copy->disks = owned.disks;
        copy->nics = owned.nics;
        g_array_append_vals(copy->gpus, request->gpus->data, request->gpus->len);
        copy_devices(request->disks, copy->disks);
        copy_devices(request->nics, copy->nics);
        copy->uuid = g_strdup(request->uuid);
        copy->image = g_strdup(request->image);
        copy->kernel = g_strdup(request->kernel);
        copy->initrd = g_strdup(request->initrd);
        copy->cmdline = g_strdup(request->cmdline);
        copy->ignition = g_strdup(request->ignition);
        return copy;
}

Request *request_new(const char *name, const char *const *gpus, GPtrArray *findings) {
        Request *request = request_new_empty(name);

        if (!machine_name_is_valid(name)) {
                g_autofree char *shown = refusal_show(name);

                findings_error(findings, REFUSAL_INVALID_NAME, shown,
                               "Use 1 to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit.",
                               "\"%s\" is not a machine's name.", shown);
        }
        for (guint i = 0; gpus && gpus[i]; i++) {
                if (i == GPUS_MAX) {
                        findings_error(findings, REFUSAL_INVALID_OPTION, "gpus", "Ask for fewer.",
                                       "More than %u GPUs are named.", GPUS_MAX);
                        break;
                }
                request_add_gpu(request, gpus[i], findings);
        }
        return request;
}

void request_free(Request *request) {
        if (!request)
                return;
        g_free(request->name);
        g_array_unref(request->gpus);
        g_free(request->uuid);
        g_free(request->image);
        g_free(request->kernel);
        g_free(request->initrd);
        g_free(request->cmdline);
        g_ptr_array_unref(request->disks);
        g_ptr_array_unref(request->nics);
        g_free(request->ignition);
        g_free(request);
}

static void set_uuid(Request *request, const char *key, RequestValue value, GPtrArray *findings) {
        /* GLib takes upper and lower case, and only the 36-character form. */
        if (!g_uuid_string_is_valid(value.s)) {
                findings_error(findings, REFUSAL_INVALID_OPTION, key,
                               "Write it as 8-4-4-4-12 hexadecimal digits, or leave it out.",
                               "Option uuid is not a UUID.");
                return;
        }
        g_free(request->uuid);
        request->uuid = g_ascii_strdown(value.s, -1);
}

static void set_vcpus(Request *request, const char *key, RequestValue value, GPtrArray *findings) {
        if (value.u < 1 || value.u > VCPUS_MAX)
                findings_error(findings, REFUSAL_INVALID_OPTION, key,
                               "Give at least 1, and no more than the host has.",
                               "Option vcpus is %u.", value.u);
        else
                request->vcpus = value.u;
}

static void set_max_vcpus(Request *request, const char *key, RequestValue value,
                          GPtrArray *findings) {
        if (value.u < 1 || value.u > VCPUS_MAX)
                findings_error(findings, REFUSAL_INVALID_OPTION, key,
                               "Give at least vcpus, and no more than the host has.",
                               "Option max-vcpus is %u.", value.u);
        else
                request->max_vcpus = value.u;
}

static void set_hugepages(Request *request, const char *key, RequestValue value,
                          GPtrArray *findings) {
        if (g_str_equal(value.s, ""))
                request->hugepages = HUGEPAGES_NONE;
        else if (g_str_equal(value.s, "2M"))
                request->hugepages = HUGEPAGES_2M;
        else if (g_str_equal(value.s, "1G"))
                request->hugepages = HUGEPAGES_1G;
        else
                findings_error(findings, REFUSAL_INVALID_OPTION, key,
                               "Use \"2M\" or \"1G\", or leave it out.",
                               "Option hugepages has no such value.");
}

static void set_memory(Request *request, const char *key, RequestValue value, GPtrArray *findings) {
        if (value.t < 1 || value.t > MEMORY_MIB_MAX)
                findings_error(findings, REFUSAL_INVALID_OPTION, key,
                               "Give at least 1 MiB, and no more than the host has.",
                               "Option memory-mib is %" G_GUINT64_FORMAT ".", value.t);
        else
                request->memory_mib = value.t;
}

static void set_firmware(Request *request, const char *key, RequestValue value,
                         GPtrArray *findings) {
        if (g_str_equal(value.s, "bios"))
                request->firmware = FIRMWARE_BIOS;
        else if (g_str_equal(value.s, "uefi"))
                request->firmware = FIRMWARE_UEFI;
        else
                findings_error(findings, REFUSAL_INVALID_OPTION, key, "Use \"bios\" or \"uefi\".",
                               "Option firmware has no such value.");
}

static void set_format(Request *request, const char *key, RequestValue value, GPtrArray *findings) {
        if (g_str_equal(value.s, "raw"))
                request->image_format = IMAGE_RAW;
        else if (g_str_equal(value.s, "qcow2"))
                request->image_format = IMAGE_QCOW2;
        else {
                findings_error(findings, REFUSAL_INVALID_OPTION, key, "Use \"raw\" or \"qcow2\".",
                               "Option image-format has no such value.");
                return;
        }
        request->image_format_given = true;
}

static void set_path(char **path, const char *key, const char *value, GPtrArray *findings) {
        if (!value[0] || strlen(value) > PATH_BYTES) {
                findings_error(findings, REFUSAL_INVALID_OPTION, key,
                               "Name a file in an image directory, or leave the option out.",
                               "Option %s is %s.", key, value[0] ? "too long" : "empty");
                return;
        }
        g_free(*path);
        *path = g_strdup(value);
}

static void set_image(Request *request, const char *key, RequestValue value, GPtrArray *findings) {
        set_path(&request->image, key, value.s, findings);
}

static void set_kernel(Request *request, const char *key, RequestValue value, GPtrArray *findings) {
        set_path(&request->kernel, key, value.s, findings);
}

static void set_initrd(Request *request, const char *key, RequestValue value, GPtrArray *findings) {
        set_path(&request->initrd, key, value.s, findings);
}

static void set_cmdline(Request *request, const char *key, RequestValue value,
                        GPtrArray *findings) {
        /* XML 1.0 cannot carry control characters, escaped or not, and a kernel wants none. */
        for (const char *c = value.s; *c; c++)
                if (g_ascii_iscntrl(*c)) {
                        findings_error(findings, REFUSAL_INVALID_OPTION, key,
                                       "Write it on one line, without control characters.",
                                       "Option cmdline has a control character.");
                        return;
                }
        if (strlen(value.s) > CMDLINE_MAX) {
                findings_error(findings, REFUSAL_INVALID_OPTION, key, "Shorten it.",
                               "Option cmdline is longer than %d bytes.", CMDLINE_MAX);
                return;
        }
        g_free(request->cmdline);
        request->cmdline = g_strdup(value.s);
}

/* Whether @text is one JSON object and nothing more. */
static bool is_json_object(const char *text) {
        struct json_tokener *tokener = json_tokener_new_ex(IGNITION_DEPTH);
        size_t length = strlen(text);
        struct json_object *object;
        bool good;

        json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
        /* White space around it is no part of it (RFC 8259, 2), and strict parsing refuses it
         * behind. */
        while (length > 0 && g_ascii_isspace(text[length - 1]))
                length--;
        object = json_tokener_parse_ex(tokener, text, (int)length);
        good = json_tokener_get_error(tokener) == json_tokener_success &&
               json_tokener_get_parse_end(tokener) == length &&
               json_object_is_type(object, json_type_object);
        json_object_put(object);
        json_tokener_free(tokener);
        return good;
}

/* Nothing of the text may reach a message: it holds keys and passwords. */
static void set_ignition(Request *request, const char *key, RequestValue value,
                         GPtrArray *findings) {
        const char *wrong = strlen(value.s) > IGNITION_MAX ? "longer than 1 MiB"
                            : !is_json_object(value.s)     ? "no JSON object"
                                                           : NULL;

        if (wrong) {
                findings_error(
                        findings, REFUSAL_INVALID_OPTION, key,
                        "Give the whole Ignition configuration as JSON, at most 1 MiB of it.",
                        "Option ignition is %s.", wrong);
                return;
        }
        g_free(request->ignition);
        request->ignition = g_strdup(value.s);
}

static void set_autostart(Request *request, const char *key, RequestValue value,
                          GPtrArray *findings) {
        request->autostart = value.b;
}

static void set_start(Request *request, const char *key, RequestValue value, GPtrArray *findings) {
        request->start = value.b;
}

static void set_wait(Request *request, const char *key, RequestValue value, GPtrArray *findings) {
        request->wait = value.b;
}

static void set_allow_boot_display(Request *request, const char *key, RequestValue value,
                                   GPtrArray *findings) {
        request->allow_boot_display = value.b;
}

static const Option options[] = {
        { "uuid", "s", set_uuid },           { "vcpus", "u", set_vcpus },
        { "max-vcpus", "u", set_max_vcpus }, { "memory-mib", "t", set_memory },
        { "hugepages", "s", set_hugepages }, { "firmware", "s", set_firmware },
        { "image", "s", set_image },         { "image-format", "s", set_format },
        { "kernel", "s", set_kernel },       { "initrd", "s", set_initrd },
        { "cmdline", "s", set_cmdline },     { "disks", "aa{sv}", NULL },
        { "nics", "aa{sv}", NULL },          { "ignition", "s", set_ignition },
        { "autostart", "b", set_autostart }, { "start", "b", set_start },
        { "wait", "b", set_wait },           { "allow-boot-display", "b", set_allow_boot_display },
};

static const Option *option_find(const char *key) {
        for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
                if (g_str_equal(options[i].key, key))
                        return options + i;
        return NULL;
}

const char *request_option_type(const char *key) {
        const Option *option = option_find(key);

        return option ? option->type : NULL;
}

void request_set_option(Request *request, const char *key, RequestValue value,
                        GPtrArray *findings) {
        option_find(key)->set(request, key, value, findings);
}

void request_refuse_unknown_option(const char *key, GPtrArray *findings) {
        g_autoptr(GString) known = g_string_new("Known are ");
        g_autofree char *shown = refusal_show(key);

        for (size_t i = 0; i < G_N_ELEMENTS(options); i++)
                g_string_append_printf(known, "%s%s", i == 0 ? "" : ", ", options[i].key);
        g_string_append_c(known, '.');
        findings_error(findings, REFUSAL_INVALID_OPTION, shown, known->str,
                       "There is no option \"%s\".", shown);
}

void request_refuse_option_type(const char *key, const char *got, GPtrArray *findings) {
        g_autofree char *remedy =
                g_strdup_printf("Send it as D-Bus type \"%s\".", option_find(key)->type);

        findings_error(findings, REFUSAL_INVALID_OPTION, key, remedy,
                       "Option %s has D-Bus type \"%s\".", key, got);
}

void request_add_device(Request *request, DeviceRequest *device, GPtrArray *findings) {
        GPtrArray *list = device->kind == DEVICE_DISK ? request->disks : request->nics;

        for (guint i = 0; device->id && i < list->len; i++) {
                const DeviceRequest *other = g_ptr_array_index(list, i);

                if (g_strcmp0(other->id, device->id) == 0)
                        findings_error(findings, REFUSAL_INVALID_OPTION, device->id,
                                       "Give each its own id, or none.",
                                       "Two of the %ss have the id %s.",
                                       device_kind_to_string(device->kind), device->id);
        }
        g_ptr_array_add(list, device);
}

/* Gives an id to each that has none. */
static void name_devices(GPtrArray *list) {
        g_autoptr(GPtrArray) taken = g_ptr_array_new();

        for (guint i = 0; i < list->len; i++) {
                const DeviceRequest *device = g_ptr_array_index(list, i);

                if (device->id)
                        g_ptr_array_add(taken, device->id);
        }
        for (guint i = 0; i < list->len; i++) {
                DeviceRequest *device = g_ptr_array_index(list, i);

                device_request_name(device, taken);
                g_ptr_array_add(taken, device->id);
        }
}

static void add_image(GArray *images, RequestImage image) {
        if (image.path)
                g_array_append_val(images, image);
}

GArray *request_images(const Request *request) {
        GArray *images = g_array_new(FALSE, TRUE, sizeof(RequestImage));

        add_image(images, (RequestImage){
                                  .path = request->image,
                                  .disk = true,
                                  .qcow2 = request->image_format == IMAGE_QCOW2,
                                  .writes = true,
                                  .block = request->image_block,
                          });
        add_image(images, (RequestImage){ .path = request->kernel, .kernel = true });
        add_image(images, (RequestImage){ .path = request->initrd });
        for (guint i = 0; i < request->disks->len; i++) {
                DeviceRequest *disk = g_ptr_array_index(request->disks, i);

                if (disk->volume_unknown)
                        continue;
                add_image(images, (RequestImage){
                                          .path = disk->path,
                                          .disk = true,
                                          .qcow2 = disk->format == IMAGE_QCOW2,
                                          .writes = !disk->read_only,
                                          .block = disk->block,
                                          .device = disk,
                                  });
        }
        return images;
}

void request_finish(Request *request, GPtrArray *findings) {
        name_devices(request->disks);
        name_devices(request->nics);
        if (request->max_vcpus == 0)
                request->max_vcpus = request->vcpus;
        else if (request->max_vcpus < request->vcpus)
                findings_error(findings, REFUSAL_INVALID_OPTION, "vcpus",
                               "Give at most max-vcpus, or raise that.",
                               "Option vcpus is %u, more than max-vcpus, which is %u.",
                               request->vcpus, request->max_vcpus);
        if (request->initrd && !request->kernel)
                findings_error(findings, REFUSAL_INVALID_OPTION, "initrd",
                               "Name a kernel too, or leave initrd out.",
                               "Option initrd is given without kernel.");
        if (request->cmdline && !request->kernel)
                findings_error(findings, REFUSAL_INVALID_OPTION, "cmdline",
                               "Name a kernel too, or leave cmdline out.",
                               "Option cmdline is given without kernel.");
        if (request->image_format_given && !request->image)
                findings_error(findings, REFUSAL_INVALID_OPTION, "image-format",
                               "Name an image too, or leave image-format out.",
                               "Option image-format is given without image.");
        if (!request->image_format_given && request->image)
                request->image_format =
                        g_str_has_suffix(request->image, ".qcow2") ? IMAGE_QCOW2 : IMAGE_RAW;
}

static int address_order(const void *a, const void *b) {
        return pci_address_compare(*(const PciAddress *)a, *(const PciAddress *)b);
}

char *addresses_to_string(const GArray *addresses) {
        g_autoptr(GArray) sorted = g_array_copy((GArray *)addresses);
        g_autoptr(GString) text = g_string_new(NULL);
        char printed[PCI_ADDRESS_BUFFER];

        g_array_sort(sorted, address_order);
        for (guint i = 0; i < sorted->len; i++)
                g_string_append_printf(
                        text, "%s%s", i == 0 ? "" : ",",
                        pci_address_print(g_array_index(sorted, PciAddress, i), printed));
        return g_string_free(g_steal_pointer(&text), FALSE);
}
