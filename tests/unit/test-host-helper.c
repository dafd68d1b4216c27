/* The handover helper itself, on umockdev's sysfs. Files do not react, so its own calls of open,
 * write, read and g_usleep come here, where the least of a kernel answers at once: it unbinds,
 * probes and lets one process into a VFIO group. What the helper is from outside, a process with
 * pipes, is tried with the real program, the one argument. Runs under umockdev-wrapper. */
#include "autoptr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <umockdev.h>
#include <unistd.h>

static int kernel_open(const char *path, int flags, ...);
static ssize_t kernel_write(int fd, const void *data, size_t size);
static ssize_t kernel_read(int fd, void *data, size_t size);
static void kernel_wait(gulong usec);
int handover_main(int argc, char *argv[]);

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

#define GPU   "0000:01:00.0"
#define AUDIO "0000:01:00.1"
#define GROUP "987654"

static const char *real_program;

/* One function of the kernel's. */
typedef struct Card {
        const char *address;
        const char *native; /* who takes it without an override, "" = nobody */
        bool keeps;         /* its driver does not let go */
        bool shunned;       /* nobody takes it */
        bool refuses;       /* its power settings cannot be written */
        unsigned late;      /* its driver lets it sleep only after so many waits */
} Card;

static struct Kernel {
        UMockdevTestbed *testbed;
        char *state_dir;
        Card cards[2];
        GString *did; /* what was written to whom, parted by "; " */
        GString *said;
        const char *answer;  /* what the daemon sends */
        unsigned group_busy; /* so many more tries find it open elsewhere */
        unsigned waits;
        struct stat group;
} kernel;

static char *sys_path(const char *path) {
        g_autofree char *root = umockdev_testbed_get_root_dir(kernel.testbed);

        return g_build_filename(root, path, NULL);
}

static char *card_path(const Card *card, const char *attribute) {
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

static void override_set(const Card *card, const char *text) {
        attribute_set(card, "driver_override", text);
}

/* Without it a function has no such attributes. */
static void power_set(size_t index, const char *d3cold_allowed, const char *control) {
        attribute_set(&kernel.cards[index], "d3cold_allowed", d3cold_allowed);
        attribute_set(&kernel.cards[index], "power/control", control);
}

static void assert_power(size_t index, const char *d3cold_allowed, const char *control) {
        g_autofree char *d3cold = file_text(&kernel.cards[index], "d3cold_allowed");
        g_autofree char *set = file_text(&kernel.cards[index], "power/control");

        assert_string_equal(d3cold, d3cold_allowed);
        assert_string_equal(set, control);
}

static bool has_power(const Card *card) {
        g_autofree char *path = card_path(card, "power/control");

        return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void assert_awake(size_t index) {
        if (has_power(&kernel.cards[index]))
                assert_power(index, "0", "on");
}

/* Its first word is all ones. */
static void card_die(const Card *card) {
        g_autofree char *path = card_path(card, "config");

        assert_true(g_file_set_contents(path, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, NULL));
}

static bool card_is_dead(const Card *card) {
        g_autofree char *text = file_text(card, "config");

        return g_str_has_prefix(text, "\xff\xff\xff\xff");
}

static bool group_is_held(void) {
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

static int setup(void **state) {
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

static int teardown(void **state) {
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

/* Both functions on @driver, with @override. */
static void put(const char *gpu, const char *audio, const char *override) {
        driver_set(&kernel.cards[0], gpu);
        driver_set(&kernel.cards[1], audio);
        override_set(&kernel.cards[0], override);
        override_set(&kernel.cards[1], override);
}

/* Runs the helper; @verdict is its last line when that is failed or lost, NULL for success. */
static void helper_run(const char *direction, const char *gpu, const char *audio,
                       const char *verdict) {
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
        n_locks = 0;
        /* The kernel lets go of the locks with the process. */
        for (int fd = 3; fd < 64; fd++) {
                g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
                g_autofree char *path = g_file_read_link(link, NULL);

                if (path && g_str_has_suffix(path, ".lock"))
                        close(fd);
        }
}

static void assert_stands(size_t index, const char *driver, const char *override) {
        g_autofree char *bound = driver_get(&kernel.cards[index]);
        g_autofree char *set = file_text(&kernel.cards[index], "driver_override");

        assert_string_equal(bound, driver);
        assert_string_equal(set, override);
}

static void test_bind(void **state) {
        put("nvidia", "", "(null)");
        override_set(&kernel.cards[1], "some\tthing");
        helper_run("bind", GPU "=nvidia,override=", AUDIO "=,override=", NULL);
        assert_non_null(strstr(kernel.said->str,
                               "origin " GPU "\tnvidia\t\t\t\n"
                               "step The kernel has not told where " AUDIO " stands\n"
                               "origin " AUDIO "\t\tsome\\tthing\t\t\n"
                               "ready\n"));
        assert_string_equal(kernel.did->str, "override 0 vfio-pci; unbind 0 nvidia; probe 0; "
                                             "override 1 vfio-pci; probe 1; ");
        assert_stands(0, VFIO_PCI, VFIO_PCI);
        assert_stands(1, VFIO_PCI, VFIO_PCI);
        assert_int_equal(kernel.waits, 0);
}

static void test_bind_is_there(void **state) {
        put(VFIO_PCI, VFIO_PCI, "mine");
        helper_run("bind", GPU, AUDIO, NULL);
        assert_string_equal(kernel.did->str, "");
}

/* Without permission nothing is touched, whichever way. */
static void test_no_permission(void **state) {
        static const char *const answers[] = { "", "g", "no\n" };

        put("nvidia", VFIO_PCI, "mine");
        for (size_t i = 0; i < G_N_ELEMENTS(answers) * 2; i++) {
                char *argv[] = { (char *)"feos-vm-handover", (char *)(i % 2 ? "bind" : "release"),
                                 kernel.state_dir, (char *)GPU "=,override=", NULL };
                g_autofree char *lock = g_strconcat(kernel.state_dir, "/" GPU ".lock", NULL);

                kernel.answer = answers[i / 2];
                assert_int_equal(handover_main(4, argv), EXIT_FAILURE);
                n_locks = 0;
                g_remove(lock); /* still ours: the next takes another */
        }
        assert_string_equal(kernel.did->str, "");
        assert_null(strstr(kernel.said->str, "failed"));
        assert_stands(0, "nvidia", "mine");
        assert_stands(1, VFIO_PCI, "mine");
}

static void test_bind_dead(void **state) {
        put("nvidia", "snd_hda_intel", "");
        card_die(&kernel.cards[0]);
        helper_run("bind", GPU, AUDIO, "lost The device " GPU " does not answer any more.");
        assert_string_equal(kernel.did->str, "");
}

static void test_bind_refused(void **state) {
        put("nvidia", "snd_hda_intel", "");
        kernel.cards[0].keeps = true;
        helper_run("bind", GPU, AUDIO, "failed The driver nvidia refused to let go of " GPU ".");
        assert_string_equal(kernel.did->str, "override 0 vfio-pci; unbind 0 nvidia; ");
}

/* A file where a link belongs: reading it fails, and says nothing of what the link would. */
static void link_break(const Card *card, const char *link) {
        g_autofree char *path = card_path(card, link);

        g_remove(path);
        assert_true(g_file_set_contents(path, "", -1, NULL));
}

/* What cannot be read is not taken for an answer: a driver that is unknown is not none, and would
 * be recorded as where the card comes from. */
static void test_unreadable(void **state) {
        put("nvidia", "snd_hda_intel", "");
        link_break(&kernel.cards[1], "driver");
        helper_run("bind", GPU, AUDIO, "failed Which driver has " AUDIO " could not be found out.");
        assert_null(strstr(kernel.said->str, "ready"));
        assert_string_equal(kernel.did->str, "");

        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        link_break(&kernel.cards[1], "iommu_group");
        g_string_truncate(kernel.said, 0);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "failed Which IOMMU group " AUDIO " is in could not be found out.");
        assert_string_equal(kernel.did->str, "");
}

/* A configuration space that cannot be read does not tell that the device is gone. */
static void test_config_unreadable(void **state) {
        g_autofree char *config = card_path(&kernel.cards[0], "config");

        put("nvidia", "snd_hda_intel", "");
        assert_true(g_file_set_contents(config, "", -1, NULL));
        helper_run("bind", GPU, AUDIO, "failed Whether " GPU " answers could not be found out.");
        assert_string_equal(kernel.did->str, "");
}

/* A probe that is accepted, and no driver appears. */
static void test_bind_nobody_comes(void **state) {
        put("nvidia", "snd_hda_intel", "");
        kernel.cards[0].shunned = true;
        helper_run("bind", GPU, AUDIO, "failed The driver vfio-pci did not take " GPU ".");
        assert_int_equal(kernel.waits, PROBE_TRIES - 1);
        assert_stands(0, "", VFIO_PCI);
        assert_stands(1, "snd_hda_intel", "");
}

/* Nobody is let into the group before the unbind, and nobody is kept out of it at the probe: the
 * kernel above looks. */
static void test_release(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        kernel.group_busy = 3;
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=mine", NULL);
        assert_int_equal(kernel.waits, 3);
        assert_string_equal(kernel.did->str, "override 1 snd_hda_intel; unbind 1 vfio-pci; "
                                             "override 0 nvidia; unbind 0 vfio-pci; "
                                             "probe 1; override 1 mine; probe 0; override 0 ; ");
        assert_stands(0, "nvidia", "");
        assert_stands(1, "snd_hda_intel", "mine");
        assert_false(group_is_held());
}

/* An address alone goes to any host driver; what was on vfio-pci, or on nothing, goes there. */
static void test_release_where_to(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        helper_run("release", GPU, AUDIO "=vfio-pci,override=mine", NULL);
        assert_string_equal(kernel.did->str, "override 1 mine; override 0 ; unbind 0 vfio-pci; "
                                             "probe 0; override 0 ; ");
        assert_stands(0, "nouveau", "");
        assert_stands(1, VFIO_PCI, "mine");

        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        kernel.answer = "go\n";
        g_string_truncate(kernel.said, 0);
        helper_run("release", GPU "=,override=x", AUDIO "=vfio-pci", NULL);
        assert_stands(0, "", "x");
        assert_stands(1, VFIO_PCI, VFIO_PCI); /* its override nobody knows */
}

/* At home already: the override is put back, and no driver disturbed. */
static void test_release_at_home(void **state) {
        put("nouveau", "snd_hda_intel", VFIO_PCI);
        helper_run("release", GPU "=nvidia,override=mine", AUDIO "=snd_hda_intel", NULL);
        assert_string_equal(kernel.did->str, "override 0 mine; ");
}

static void test_release_dead_at_home(void **state) {
        put("nvidia", "snd_hda_intel", VFIO_PCI);
        card_die(&kernel.cards[0]);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "lost The device " GPU " does not answer any more.");
        assert_string_equal(kernel.did->str, "override 1 ; override 0 ; ");
}

/* One that does not answer is not moved; the other goes home. */
static void test_release_dead(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        card_die(&kernel.cards[1]);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "lost The device " AUDIO " does not answer any more.");
        assert_stands(0, "nvidia", "");
        assert_stands(1, VFIO_PCI, VFIO_PCI);
}

/* The first failure is told, and the rest goes home all the same. */
static void test_release_goes_on(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        kernel.cards[1].keeps = true;
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "failed The driver vfio-pci refused to let go of " AUDIO ".");
        assert_stands(0, "nvidia", "");

        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        kernel.cards[1] = (Card){ .address = AUDIO, .shunned = true };
        kernel.answer = "go\n";
        g_string_truncate(kernel.said, 0);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "failed The driver snd_hda_intel has not taken " AUDIO " back.");
        assert_stands(0, "nvidia", "");
        assert_stands(1, "", "");
}

/* A device that has gone silent is worse than whatever failed before. */
static void test_lost_before_failed(void **state) {
        put(VFIO_PCI, "snd_hda_intel", VFIO_PCI);
        kernel.cards[0].keeps = true;
        card_die(&kernel.cards[1]);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "lost The device " AUDIO " does not answer any more.");
}

/* Every function is awake before its driver lets go (the kernel above looks), and again when
 * vfio-pci has let it sleep. */
static void test_bind_keeps_awake(void **state) {
        put("nvidia", "snd_hda_intel", "");
        power_set(0, "1", "auto");
        power_set(1, "0", "on");
        helper_run("bind", GPU, AUDIO, NULL);
        assert_non_null(strstr(kernel.said->str, "origin " GPU "\tnvidia\t\t1\tauto\n"));
        assert_non_null(strstr(kernel.said->str, "origin " AUDIO "\tsnd_hda_intel\t\t0\ton\n"));
        assert_string_equal(kernel.did->str,
                            "d3cold_allowed 0 0; control 0 on; "
                            "override 0 vfio-pci; unbind 0 nvidia; probe 0; "
                            "d3cold_allowed 0 0; control 0 on; "
                            "d3cold_allowed 1 0; control 1 on; "
                            "override 1 vfio-pci; unbind 1 snd_hda_intel; probe 1; "
                            "d3cold_allowed 1 0; control 1 on; ");
        assert_awake(0);
        assert_awake(1);
}

/* So is a card that was on vfio-pci before. */
static void test_bind_is_there_keeps_awake(void **state) {
        put(VFIO_PCI, VFIO_PCI, "mine");
        power_set(0, "1", "auto");
        power_set(1, "1", "auto");
        helper_run("bind", GPU, AUDIO, NULL);
        assert_string_equal(kernel.did->str, "d3cold_allowed 0 0; control 0 on; "
                                             "d3cold_allowed 1 0; control 1 on; ");
        assert_awake(0);
        assert_awake(1);
}

static void test_bind_cannot_keep_awake(void **state) {
        put("nvidia", "snd_hda_intel", "");
        power_set(0, "1", "auto");
        kernel.cards[0].refuses = true;
        helper_run("bind", GPU, AUDIO, "failed The kernel refused to keep " GPU " awake.");
        assert_stands(0, "nvidia", "");
        assert_stands(1, "snd_hda_intel", "");
}

/* What was set before is put back, after every probe, and what is not known is left alone. */
static void test_release_restores_power(void **state) {
        static const struct {
                const char *gpu, *audio;
                const char *gpu_power[2], *audio_power[2]; /* afterwards */
        } cases[] = {
                { GPU ",1,on=nvidia,override=",
                  AUDIO ",0,auto=snd_hda_intel,override=",
                  { "1", "on" },
                  { "0", "auto" } },
                { GPU ",1,auto=nvidia",
                  AUDIO ",1,on=snd_hda_intel",
                  { "1", "auto" },
                  { "1", "on" } },
                /* Any host driver, which sets its own. */
                { GPU ",1,", AUDIO ",1,", { "1", "auto" }, { "1", "auto" } },
                { GPU, AUDIO, { "0", "auto" }, { "0", "auto" } },
                /* Home on vfio-pci; and with no driver at all, which sets nothing. */
                { GPU ",1,auto=vfio-pci,override=mine",
                  AUDIO ",1,auto=,override=",
                  { "1", "auto" },
                  { "1", "auto" } },
                { GPU "=vfio-pci", AUDIO "=", { "0", "on" }, { "0", "on" } },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
                power_set(0, "0", "on");
                power_set(1, "0", "on");
                kernel.answer = "go\n";
                g_string_truncate(kernel.said, 0);
                g_string_truncate(kernel.did, 0);
                helper_run("release", cases[i].gpu, cases[i].audio, NULL);
                assert_power(0, cases[i].gpu_power[0], cases[i].gpu_power[1]);
                assert_power(1, cases[i].audio_power[0], cases[i].audio_power[1]);
        }
}

/* A bind that failed half-way: a function that it has not reached, and one whose driver kept it. */
static void test_release_at_home_restores_power(void **state) {
        put("nvidia", "snd_hda_intel", VFIO_PCI);
        power_set(0, "0", "on");
        power_set(1, "1", "auto");
        helper_run("release", GPU ",1,auto=nvidia,override=", AUDIO ",1,auto=snd_hda_intel", NULL);
        assert_power(0, "1", "auto");
        assert_power(1, "1", "auto");
        assert_string_equal(kernel.did->str, "override 0 ; d3cold_allowed 0 1; control 0 auto; "
                                             "d3cold_allowed 1 1; control 1 auto; ");
}

/* One that answers gets its settings back whatever the other does; one that does not is not written
 * to, the kernel above looks; one that has not come home stays awake. */
static void test_release_restores_what_it_can(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        power_set(0, "0", "on");
        power_set(1, "0", "on");
        kernel.cards[0].shunned = true;
        helper_run("release", GPU ",1,auto=nvidia,override=", AUDIO ",1,auto=snd_hda_intel",
                   "failed The driver nvidia has not taken " GPU " back.");
        assert_power(0, "0", "on");
        assert_power(1, "1", "auto");

        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        power_set(0, "0", "on");
        power_set(1, "0", "on");
        kernel.cards[0].shunned = false;
        card_die(&kernel.cards[1]);
        kernel.answer = "go\n";
        g_string_truncate(kernel.said, 0);
        helper_run("release", GPU ",1,auto=nvidia,override=", AUDIO ",1,auto=snd_hda_intel",
                   "lost The device " AUDIO " does not answer any more.");
        assert_power(0, "1", "auto");
        assert_power(1, "0", "on");
}

/* A sound card's driver goes on after its probe, and must not have the last word. */
static void test_release_awaits_a_late_driver(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        power_set(0, "0", "on");
        power_set(1, "0", "on");
        kernel.cards[1].late = 4;
        helper_run("release", GPU ",1,on=nvidia,override=", AUDIO ",1,on=snd_hda_intel", NULL);
        assert_int_equal(kernel.cards[1].late, 0);
        assert_power(0, "1", "on");
        assert_power(1, "1", "on");
}

static void test_release_cannot_restore(void **state) {
        put("nvidia", "snd_hda_intel", "");
        power_set(0, "0", "on");
        power_set(1, "0", "on");
        kernel.cards[0].refuses = true;
        helper_run("release", GPU ",1,auto=nvidia", AUDIO ",1,auto=snd_hda_intel",
                   "failed The kernel refused to put the power settings of " GPU " back.");
        assert_power(1, "1", "auto");
}

/* The real program, with @input written to it; its output is a pipe that nobody reads. */
static int program_run(const char *direction, const char *function, const char *input) {
        int in[2], out[2], status;
        pid_t pid;

        assert_return_code(pipe2(in, O_CLOEXEC), errno);
        assert_return_code(pipe2(out, O_CLOEXEC), errno);
        close(out[0]);
        assert_int_equal(write(in[1], input, strlen(input)), strlen(input));
        close(in[1]);
        pid = fork();
        assert_return_code(pid, errno);
        if (pid == 0) {
                signal(SIGPIPE, SIG_DFL); /* as helper_start() does */
                dup2(in[0], STDIN_FILENO);
                dup2(out[1], STDOUT_FILENO);
                execl(real_program, real_program, direction, kernel.state_dir, function, NULL);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* A daemon that goes before its word is a no, one that goes after it stops nothing. */
static void test_nobody_listens(void **state) {
        put("nvidia", "", "");
        assert_int_equal(program_run("bind", GPU, ""), EXIT_FAILURE);
        assert_int_equal(program_run("release", GPU "=nvidia,override=mine", ""), EXIT_FAILURE);
        assert_stands(0, "nvidia", "");
        assert_int_equal(program_run("release", GPU "=nvidia,override=mine", "go\n"), EXIT_SUCCESS);
        assert_stands(0, "nvidia", "mine");
        card_die(&kernel.cards[0]);
        assert_int_equal(program_run("release", GPU "=nvidia,override=your", "go\n"), EXIT_FAILURE);
        assert_stands(0, "nvidia", "your");
}

/* A helper of an earlier daemon is stuck at the card: the next one says what that is at, does
 * nothing, and goes when its own daemon goes, so that they do not queue up. */
static void test_waits_for_an_earlier_one(void **state) {
        g_autofree char *path = g_strconcat(kernel.state_dir, "/" GPU ".lock", NULL);
        const char *note = "17 1795528800 The driver nvidia has not let go of " GPU "\n";
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        int in[2], out[2], status;
        char said[256] = "";
        pid_t pid;

        put("nvidia", "", "");
        assert_return_code(fd, errno);
        assert_return_code(flock(fd, LOCK_EX), errno);
        assert_int_equal(write(fd, note, strlen(note)), strlen(note));
        assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in), errno);
        assert_return_code(pipe2(out, O_CLOEXEC), errno);
        pid = fork();
        assert_return_code(pid, errno);
        if (pid == 0) {
                dup2(in[1], STDIN_FILENO);
                dup2(out[1], STDOUT_FILENO);
                execl(real_program, real_program, "release", kernel.state_dir,
                      GPU "=nvidia,override=mine", NULL);
                _exit(127);
        }
        close(in[1]);
        close(out[1]);
        assert_true(read(out[0], said, sizeof said - 1) > 0);
        assert_string_equal(said,
                            "held 17 1795528800 The driver nvidia has not let go of " GPU "\n");
        close(in[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
        close(out[0]);
        close(fd);
        assert_stands(0, "nvidia", "");
}

/* And whoever holds the lock says in its file what it is at. */
static void test_notes_what_it_is_at(void **state) {
        g_autofree char *path = g_strconcat(kernel.state_dir, "/" AUDIO ".lock", NULL);
        g_autofree char *note = NULL;

        put("nvidia", "snd_hda_intel", "");
        kernel.cards[1].keeps = true;
        helper_run("bind", GPU, AUDIO,
                   "failed The driver snd_hda_intel refused to let go of " AUDIO ".");
        assert_true(g_file_get_contents(path, &note, NULL, NULL));
        assert_true(g_regex_match_simple("^[0-9]+ [0-9]+ The driver snd_hda_intel has not let go "
                                         "of " AUDIO "\n$",
                                         note, 0, 0));
}

static void test_arguments(void **state) {
        static const char *const wrong[] = { "",
                                             "01:00",
                                             GPU "=a/b",
                                             "x=nvidia",
                                             GPU ",1",
                                             GPU ",1,on,",
                                             GPU ",,0123456789abcdef" };

        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
                assert_int_equal(program_run("release", wrong[i], "go\n"), EXIT_FAILURE);
        assert_int_equal(program_run("give", GPU, "go\n"), EXIT_FAILURE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char *argv[]) {
        static const struct CMUnitTest tests[] = {
                TEST(test_bind),
                TEST(test_bind_is_there),
                TEST(test_no_permission),
                TEST(test_bind_dead),
                TEST(test_bind_refused),
                TEST(test_unreadable),
                TEST(test_config_unreadable),
                TEST(test_bind_nobody_comes),
                TEST(test_release),
                TEST(test_release_where_to),
                TEST(test_release_at_home),
                TEST(test_release_dead_at_home),
                TEST(test_release_dead),
                TEST(test_release_goes_on),
                TEST(test_lost_before_failed),
                TEST(test_bind_keeps_awake),
                TEST(test_bind_is_there_keeps_awake),
                TEST(test_bind_cannot_keep_awake),
                TEST(test_release_restores_power),
                TEST(test_release_at_home_restores_power),
                TEST(test_release_restores_what_it_can),
                TEST(test_release_awaits_a_late_driver),
                TEST(test_release_cannot_restore),
                TEST(test_nobody_listens),
                TEST(test_waits_for_an_earlier_one),
                TEST(test_notes_what_it_is_at),
                TEST(test_arguments),
        };

        if (argc != 2)
                return 77;
        real_program = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
