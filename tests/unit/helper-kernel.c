#include "helper-kernel.h"

#include "autoptr.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* Files of umockdev do not react, so the helper's own calls of open, write, read and g_usleep come
 * here. */
static int kernel_open(const char *path, int flags, ...);
static ssize_t kernel_write(int fd, const void *data, size_t size);
static ssize_t kernel_read(int fd, void *data, size_t size);
static void kernel_wait(gulong usec);

#define open(...) kernel_open(__VA_ARGS__)
#define write     kernel_write
#define read      kernel_read
#define g_usleep  kernel_wait
#define main      handover_main
#include "host/feos-vm-handover.c"
#include "host/handover-function.c"
#undef open
#undef write
#undef read
#undef g_usleep
#undef main

struct Kernel kernel;
const unsigned helper_probe_tries = PROBE_TRIES;

static char *sys_path(const char *path) {
        g_autofree char *root = umockdev_testbed_get_root_dir(kernel.testbed);

        return g_build_filename(root, path, NULL);
}

char *card_path(const Card *card, const char *attribute) {
        g_autofree char *path = g_strdup_printf("/sys/devices/%s/%s", card->address, attribute);

        return sys_path(path);
}

static char *file_text(const Card *card, const char *attribute) {
        g_autofree char *path = card_path(card, attribute);
        char *text;

        assert_true(g_file_get_contents(path, &text, NULL, NULL));
        return g_strchomp(text);
}

static void driver_set(const Card *card, const char *driver) {
        g_autofree char *link = card_path(card, "driver");
        g_autofree char *target = g_strconcat("/sys/bus/pci/drivers/", driver, NULL);

        g_remove(link);
        if (*driver)
                assert_return_code(symlink(target, link), errno);
}

static char *driver_get(const Card *card) {
        g_autofree char *link = card_path(card, "driver");
        g_autofree char *target = g_file_read_link(link, NULL);

        return target ? g_path_get_basename(target) : g_strdup("");
}

static void attribute_set(const Card *card, const char *attribute, const char *text) {
        g_autofree char *path = card_path(card, attribute);
        g_autofree char *folder = g_path_get_dirname(path);
        g_autofree char *line = g_strconcat(text, "\n", NULL);

        assert_return_code(g_mkdir_with_parents(folder, 0755), errno);
        assert_true(g_file_set_contents(path, line, -1, NULL));
}

void override_set(const Card *card, const char *text) {
        attribute_set(card, "driver_override", text);
}

void power_set(size_t index, const char *d3cold_allowed, const char *control) {
        attribute_set(&kernel.cards[index], "d3cold_allowed", d3cold_allowed);
        attribute_set(&kernel.cards[index], "power/control", control);
}

void assert_power(size_t index, const char *d3cold_allowed, const char *control) {
        g_autofree char *d3cold = file_text(&kernel.cards[index], "d3cold_allowed");
        g_autofree char *set = file_text(&kernel.cards[index], "power/control");

        assert_string_equal(d3cold, d3cold_allowed);
        assert_string_equal(set, control);
}

static bool has_power(const Card *card) {
        g_autofree char *path = card_path(card, "power/control");

        return g_file_test(path, G_FILE_TEST_EXISTS);
}

void assert_awake(size_t index) {
        if (has_power(&kernel.cards[index]))
                assert_power(index, "0", "on");
}

void card_die(const Card *card) {
        g_autofree char *path = card_path(card, "config");

        assert_true(g_file_set_contents(path, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, NULL));
}

static bool card_is_dead(const Card *card) {
        g_autofree char *text = file_text(card, "config");

        return g_str_has_prefix(text, "\xff\xff\xff\xff");
}

bool group_is_held(void) {
        for (int fd = 3; fd < 64; fd++) {
                struct stat status;

                if (fstat(fd, &status) == 0 && status.st_ino == kernel.group.st_ino &&
                    status.st_dev == kernel.group.st_dev)
                        return true;
        }
        return false;
}

static int kernel_open(const char *path, int flags, ...) {
        if (g_str_has_prefix(path, "/dev/vfio/")) {
                assert_string_equal(path, "/dev/vfio/" GROUP);
                if (kernel.group_busy > 0 || group_is_held()) {
                        errno = EBUSY;
                        return -1;
                }
        }
        return open(path, flags, 0600);
}

static ssize_t unbind(const Card *card, const char *driver) {
        g_autofree char *bound = driver_get(card);

        g_string_append_printf(kernel.did, "unbind %s %s; ", card->address + 11, driver);
        if (strcmp(driver, VFIO_PCI) == 0)
                assert_true(group_is_held());
        if (strcmp(bound, driver) != 0 || card->keeps) {
                errno = card->keeps ? EPERM : ENODEV;
                return -1;
        }
        assert_awake((size_t)(card - kernel.cards));
        driver_set(card, "");
        return 0;
}

static void probe(const Card *card) {
        g_autofree char *override = file_text(card, "driver_override");

        g_string_append_printf(kernel.did, "probe %s; ", card->address + 11);
        assert_false(group_is_held());
        if (card->shunned)
                return;
        driver_set(card, *override ? override : card->native);
        /* What drivers do that can put their device to sleep, and vfio-pci can. */
        if (has_power(card) && !card->late)
                attribute_set(card, "power/control", "auto");
}

static const Card *card_find(const char *text) {
        for (size_t i = 0; i < G_N_ELEMENTS(kernel.cards); i++)
                if (strstr(text, kernel.cards[i].address))
                        return &kernel.cards[i];
        fail_msg("no function: %s", text);
        return NULL;
}

static ssize_t kernel_write(int fd, const void *data, size_t size) {
        g_autofree char *text = g_strndup(data, size);
        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        g_autofree char *path = g_file_read_link(link, NULL);
        g_autofree char *name = NULL;
        g_autofree char *folder = NULL;

        if (fd == STDOUT_FILENO) {
                g_string_append(kernel.said, text);
                return (ssize_t)size;
        }

        name = g_path_get_basename(path);
        folder = g_path_get_dirname(path);
        if (strcmp(name, "driver_override") == 0) {
                const Card *card = card_find(folder);

                g_strchomp(text);
                g_string_append_printf(kernel.did, "override %s %s; ", card->address + 11, text);
                override_set(card, text);
        } else if (strcmp(name, "d3cold_allowed") == 0 || strcmp(name, "control") == 0) {
                const Card *card = card_find(folder);

                g_string_append_printf(kernel.did, "%s %s %s; ", name, card->address + 11, text);
                assert_false(card_is_dead(card));
                if (card->refuses) {
                        errno = EIO;
                        return -1;
                }
                attribute_set(card, *name == 'c' ? "power/control" : name, text);
        } else if (strcmp(name, "unbind") == 0) {
                g_autofree char *driver = g_path_get_basename(folder);

                if (unbind(card_find(text), driver) < 0)
                        return -1;
        } else {
                assert_string_equal(name, "drivers_probe");
                probe(card_find(text));
        }
        return (ssize_t)size;
}

static ssize_t kernel_read(int fd, void *data, size_t size) {
        size_t length = MIN(size, strlen(kernel.answer));

        assert_int_equal(fd, STDIN_FILENO);
        memcpy(data, kernel.answer, length);
        kernel.answer += length;
        return (ssize_t)length;
}

static void kernel_wait(gulong usec) {
        kernel.waits++;
        if (kernel.group_busy > 0)
                kernel.group_busy--;
        for (size_t i = 0; i < G_N_ELEMENTS(kernel.cards); i++) {
                Card *card = &kernel.cards[i];

                if (card->late == 0)
                        continue;
                if (--card->late == 1)
                        attribute_set(card, "sound/card0", "");
                else if (card->late == 0)
                        attribute_set(card, "power/control", "auto");
        }
}

static void file_make(const char *at, const char *text) {
        g_autofree char *path = sys_path(at);
        g_autofree char *folder = g_path_get_dirname(path);

        assert_return_code(g_mkdir_with_parents(folder, 0755), errno);
        assert_true(g_file_set_contents(path, text, -1, NULL));
}

int setup(void **state) {
        static const char *const drivers[] = { VFIO_PCI, "nvidia", "snd_hda_intel" };
        g_autofree char *group = NULL;

        kernel = (struct Kernel){
                .testbed = umockdev_testbed_new(),
                .state_dir = g_dir_make_tmp("test-helper-XXXXXX", NULL),
                .cards = { { .address = GPU, .native = "nouveau" },
                           { .address = AUDIO, .native = "snd_hda_intel" } },
                .did = g_string_new(NULL),
                .said = g_string_new(NULL),
                .answer = "go\n",
        };
        for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
                g_autofree char *path =
                        g_strdup_printf("/sys/bus/pci/drivers/%s/unbind", drivers[i]);

                file_make(path, "");
        }
        file_make("/sys/bus/pci/drivers_probe", "");
        file_make("/dev/vfio/" GROUP, "");
        group = sys_path("/dev/vfio/" GROUP);
        assert_return_code(stat(group, &kernel.group), errno);

        for (size_t i = 0; i < G_N_ELEMENTS(kernel.cards); i++) {
                const Card *card = &kernel.cards[i];
                g_autofree char *made = umockdev_testbed_add_device(
                        kernel.testbed, "pci", card->address, NULL, "driver_override", "(null)\n",
                        "config", "\xde\x10\xb8\x1e", NULL, NULL);
                g_autofree char *link = card_path(card, "iommu_group");

                assert_non_null(made);
                assert_return_code(symlink("/sys/kernel/iommu_groups/" GROUP, link), errno);
        }
        return 0;
}

int teardown(void **state) {
        for (size_t i = 0; i < G_N_ELEMENTS(kernel.cards); i++) {
                g_autofree char *lock =
                        g_strdup_printf("%s/%s.lock", kernel.state_dir, kernel.cards[i].address);

                g_remove(lock);
        }
        assert_return_code(g_rmdir(kernel.state_dir), errno);
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        g_free(kernel.state_dir);
        g_string_free(kernel.did, TRUE);
        g_string_free(kernel.said, TRUE);
        g_object_unref(kernel.testbed);
        return 0;
}

void put(const char *gpu, const char *audio, const char *override) {
        driver_set(&kernel.cards[0], gpu);
        driver_set(&kernel.cards[1], audio);
        override_set(&kernel.cards[0], override);
        override_set(&kernel.cards[1], override);
}

void helper_locks_forget(void) {
        n_locks = 0;
}

void helper_run(const char *direction, const char *gpu, const char *audio, const char *verdict) {
        char *argv[] = { (char *)"feos-vm-handover",
                         (char *)direction,
                         kernel.state_dir,
                         (char *)gpu,
                         (char *)audio,
                         NULL };
        int status = handover_main(5, argv);
        g_auto(GStrv) lines = g_strsplit(kernel.said->str, "\n", -1);
        unsigned verdicts = 0;

        for (char **line = lines; *line; line++)
                if (g_str_has_prefix(*line, "failed ") || g_str_has_prefix(*line, "lost ")) {
                        verdicts++;
                        if (g_strcmp0(*line, verdict) != 0)
                                fail_msg("%s", *line);
                }
        assert_int_equal(verdicts, verdict != NULL);
        assert_int_equal(status == EXIT_SUCCESS, verdict == NULL);
        failure_is_loss = false;
        helper_locks_forget();
        /* The kernel lets go of the locks with the process. */
        for (int fd = 3; fd < 64; fd++) {
                g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
                g_autofree char *path = g_file_read_link(link, NULL);

                if (path && g_str_has_suffix(path, ".lock"))
                        close(fd);
        }
}

void assert_stands(size_t index, const char *driver, const char *override) {
        g_autofree char *bound = driver_get(&kernel.cards[index]);
        g_autofree char *set = file_text(&kernel.cards[index], "driver_override");

        assert_string_equal(bound, driver);
        assert_string_equal(set, override);
}
