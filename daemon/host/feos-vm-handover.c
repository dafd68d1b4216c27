/* The handover helper: moves one card, in one direction, and exits. It is the only writer of /sys
 * (by handover-function.c), and a process of its own because such a write can hang in the kernel
 * for ever, and then no signal ends it. It decides nothing: the daemon says which functions,
 * whither, and when to begin.
 *
 *   feos-vm-handover bind|release STATE-DIR FUNCTION...
 *
 * FUNCTION is "0000:01:00.0,D3COLD,CONTROL=DRIVER,override=NAME": d3cold_allowed, power/control,
 * the driver and the driver_override to return to. The first two are left out when neither is
 * known, and empty where one is not; the override is left out when only the driver is known, and
 * from the
 * "=" on when any host driver will do. The GPU comes first, then what travels with it. What is said
 * to the daemon is written down in handover.c; the daemon may be gone by then, which stops nothing
 * that has begun.
 *
 * While a card is not at home it is kept awake: one that was powered down may never come back
 * (kata-containers#11708), and vfio-pci lets an idle one sleep.
 *
 * It takes a lock for each function first. The kernel lets go of it when this process is gone, and
 * not before, also if that is long after a SIGKILL and the end of the daemon that started us: so
 * two helpers are never at one function.
 *
 * It refuses to know new_id, remove and rescan. */
#include "handover-function.h"

#include "autoptr.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define RETRY_USEC (100 * 1000)

typedef struct Function {
        char address[PCI_ADDRESS_BUFFER];
        bool known; /* the driver below is the one to return to; else any host driver is right */
        bool override_known;
        char driver[FUNCTION_NAME_BYTES];
        char override[FUNCTION_NAME_BYTES];
        FunctionPower power; /* to return to; for bind, what it is now */

        bool home;                       /* is where it belongs */
        bool leaving;                    /* is on its way there */
        char group[FUNCTION_NAME_BYTES]; /* the IOMMU group once it was asked for, "" = none */
        int group_fd;                    /* -1 = is not held by this function */
} Function;

/* Why the exit status will not be 0, told at the end, when all that could be done is done: the
 * first failure, but a device that does not answer before any other. */
static char *failure;
static bool failure_is_loss;

/* Its locks, held until the end. Each lock's file says what its holder is at, so that one who waits
 * for it, started by a later daemon, can say so at once. */
static int locks[8];
static size_t n_locks;
static int64_t began; /* CLOCK_BOOTTIME, usec */

static void locks_note(const char *step) {
        g_autofree char *note = g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT " %s\n",
                                                began, g_get_real_time() / G_USEC_PER_SEC, step);
        ssize_t length = (ssize_t)strlen(note);

        for (size_t i = 0; i < n_locks; i++)
                if (pwrite(locks[i], note, (size_t)length, 0) != length ||
                    ftruncate(locks[i], length) < 0)
                        fprintf(stderr, "cannot note what is under way: %s\n", g_strerror(errno));
}

/* One line to the daemon, 0 or a negative errno. Nobody listening is no reason to stop in the
 * middle. */
static int say(const char *format, ...) G_GNUC_PRINTF(1, 2);
static int say(const char *format, ...) {
        g_autofree char *text = NULL;
        g_autofree char *line = NULL;
        va_list arguments;
        ssize_t n;

        va_start(arguments, format);
        text = g_strdup_vprintf(format, arguments);
        va_end(arguments);

        if (g_str_has_prefix(text, "step "))
                locks_note(text + strlen("step "));
        line = g_strconcat(text, "\n", NULL);
        do
                n = write(STDOUT_FILENO, line, strlen(line));
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

static void failed(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void failed(const char *format, ...) {
        va_list arguments;

        if (failure)
                return;
        va_start(arguments, format);
        failure = g_strdup_vprintf(format, arguments);
        va_end(arguments);
}

static void lost(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void lost(const char *format, ...) {
        va_list arguments;

        if (failure_is_loss)
                return;
        g_free(failure);
        va_start(arguments, format);
        failure = g_strdup_vprintf(format, arguments);
        va_end(arguments);
        failure_is_loss = true;
}

static bool function_answers(const Function *function) {
        switch (function_ask(function->address)) {
        case FUNCTION_ANSWERS:
                return true;
        case FUNCTION_SILENT:
                lost("The device %s does not answer any more.", function->address);
                return false;
        case FUNCTION_GONE:
                lost("The device %s is gone from the bus.", function->address);
                return false;
        default:
                failed("Whether %s answers could not be found out.", function->address);
                return false;
        }
}

/* False after failed(). */
static bool driver_read(const Function *function, char ret[static FUNCTION_NAME_BYTES]) {
        if (function_driver_read(function->address, ret) == 0)
                return true;
        failed("Which driver has %s could not be found out.", function->address);
        return false;
}

static bool power_hold(const Function *function) {
        say("step The device %s has not woken up", function->address);
        if (function_power_hold(function->address, &function->power) == 0)
                return true;
        failed("The kernel refused to keep %s awake.", function->address);
        return false;
}

/* Awake it is before its driver lets go, and again once vfio-pci has allowed it to sleep. */
static bool function_bind(const Function *function) {
        char driver[FUNCTION_NAME_BYTES];

        if (!driver_read(function, driver))
                return false;
        if (strcmp(driver, VFIO_PCI) == 0)
                return power_hold(function);
        if (!function_answers(function) || !power_hold(function))
                return false;

        say("step The kernel has not let %s be set aside for " VFIO_PCI, function->address);
        if (function_override_write(function->address, VFIO_PCI) < 0) {
                failed("The kernel refused to set %s aside for " VFIO_PCI ".", function->address);
                return false;
        }

        if (driver[0]) {
                say("step The driver %s has not let go of %s", driver, function->address);
                if (function_driver_unbind(function->address, driver) < 0) {
                        failed("The driver %s refused to let go of %s.", driver, function->address);
                        return false;
                }
        }

        say("step The driver " VFIO_PCI " has not taken %s", function->address);
        if (function_driver_probe(function->address, VFIO_PCI))
                return power_hold(function);

        if (!driver_read(function, driver))
                return false;
        if (driver[0])
                failed("The driver %s took %s before " VFIO_PCI " could.", driver,
                       function->address);
        else
                failed("The driver " VFIO_PCI " did not take %s.", function->address);
        return false;
}

static bool bind_all(Function *functions, size_t count) {
        for (size_t i = 0; i < count; i++)
                if (!function_bind(&functions[i]))
                        return false;
        return true;
}

/* Whether the function is where it belongs: where it was, or with any host driver, for only
 * vfio-pci is ours to take it from. One of which that cannot be found out is not moved, either. */
static bool function_is_home(const Function *function) {
        char driver[FUNCTION_NAME_BYTES];

        if (!driver_read(function, driver))
                return true;
        if (driver[0] && strcmp(driver, VFIO_PCI) != 0)
                return true;
        return function->known && strcmp(driver, function->driver) == 0;
}

/* Opens the group, which succeeds when no QEMU has it: VFIO lets one in (drivers/vfio/group.c). A
 * descriptor or a negative errno. */
static int group_open(const char *group) {
        g_autofree char *path = g_strdup_printf("/dev/vfio/%s", group);
        int fd = open(path, O_RDWR | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

/* Waits until nobody has the group of functions[@index], for as long as it takes (the daemon has
 * the clock), and then keeps it. A QEMU that came in before the unbind would have its device pulled
 * away, and the unbind would wait for it. The unbind does not wait for us: it waits for open
 * devices, and from a group that is merely open takes its last device all the same
 * (drivers/vfio/vfio_main.c, vfio_unregister_group_dev(); group.c, vfio_device_remove_group()). */
static bool group_hold(Function *functions, size_t index) {
        Function *function = &functions[index];
        const char *group = function->group;
        int r;

        if (function_group_read(function->address, function->group) < 0) {
                failed("Which IOMMU group %s is in could not be found out.", function->address);
                return false;
        }
        if (!group[0])
                return true;
        for (size_t i = 0; i < index; i++)
                if (strcmp(functions[i].group, function->group) == 0)
                        return true;

        say("step The process that has the VFIO group %s of %s open has not let go of it", group,
            function->address);
        while ((r = group_open(group)) == -EBUSY)
                g_usleep(RETRY_USEC);

        if (r >= 0)
                function->group_fd = r;
        if (r >= 0 || r == -ENOENT || r == -ENODEV || r == -ENXIO)
                return true;
        fprintf(stderr, "/dev/vfio/%s: %s\n", group, g_strerror(-r));
        failed("Whether anybody has the VFIO group %s of %s open could not be found out.", group,
               function->address);
        return false;
}

static void groups_let_go(Function *functions, size_t count) {
        for (size_t i = 0; i < count; i++) {
                autofd_close(&functions[i].group_fd);
                functions[i].group_fd = -1;
        }
}

static void override_restore(const Function *function) {
        say("step The kernel has not let the driver_override of %s be put back", function->address);
        if (function_override_write(function->address, function->override) < 0)
                failed("The kernel refused to put the driver_override of %s back.",
                       function->address);
}

/* The one driver to return to; NULL: any host driver, or none. */
static const char *driver_wanted(const Function *function) {
        return function->known && function->driver[0] ? function->driver : NULL;
}

/* The first half of the way back. The driver to return to is set as the override while the kernel
 * looks for one: of several that fit, such as nvidia and nouveau, it would take the first. */
static bool function_leave(const Function *function) {
        char driver[FUNCTION_NAME_BYTES];

        say("step The kernel has not let %s be set aside for its host driver", function->address);
        if (function_override_write(function->address, driver_wanted(function) ?: "") < 0) {
                failed("The kernel refused to set %s aside for its host driver.",
                       function->address);
                return false;
        }

        if (!driver_read(function, driver))
                return false;
        if (!driver[0])
                return true;
        say("step The driver %s has not let go of %s", driver, function->address);
        if (function_driver_unbind(function->address, driver) == 0)
                return true;
        failed("The driver %s refused to let go of %s.", driver, function->address);
        return false;
}

/* Whether vfio-pci has claimed it by itself, as it does where it was told the device's id
 * (vfio-pci.ids=, new_id): then that is the driver which the kernel has for it. */
static bool function_stays(const Function *function) {
        char driver[FUNCTION_NAME_BYTES];

        if (!driver_read(function, driver) || strcmp(driver, VFIO_PCI) != 0)
                return false;
        say("stays %s", function->address);
        return true;
}

/* The second half. Whether it has come home. */
static bool function_arrive(const Function *function) {
        const char *wanted = driver_wanted(function);
        bool home = true;

        if (wanted || !function->known) {
                g_autofree char *who = wanted ? g_strdup_printf("The driver %s has not", wanted)
                                              : g_strdup("No host driver has");

                say("step %s taken %s back", who, function->address);
                home = function_driver_probe(function->address, wanted) ||
                       (!wanted && function_stays(function));
                if (!home)
                        failed("%s taken %s back.", who, function->address);
        }
        override_restore(function);
        return home;
}

/* Drivers set their own at the probe, vfio-pci too, so this comes after the last one. To let the
 * device sleep is all that they do: only what was kept awake needs the last word. */
static void power_restore(const Function *function) {
        if (function->leaving && strcmp(function->power.control, "on") == 0)
                function_probe_await(function->address);
        say("step The kernel has not let the power settings of %s be put back", function->address);
        if (function_power_restore(function->address, &function->power) < 0)
                failed("The kernel refused to put the power settings of %s back.",
                       function->address);
}

/* One function that cannot go home keeps no other from it; one that does not answer stays where it
 * is, and one that is not home yet stays awake. At the end every function is asked, those too that
 * were home all the time: a dead card on its host driver is not one that has been given back. */
static bool release_all(Function *functions, size_t count) {
        for (size_t i = 0; i < count; i++)
                functions[i].home = function_is_home(&functions[i]);
        for (size_t i = 0; i < count; i++)
                if (!functions[i].home && !group_hold(functions, i))
                        return false;

        for (size_t i = count; i-- > 0;) {
                Function *function = &functions[i];

                if (!function->home)
                        function->leaving = function_answers(function) && function_leave(function);
                else if (function->override_known)
                        override_restore(function);
        }
        /* A driver is not let near a group that somebody may use as its owner. */
        groups_let_go(functions, count);
        for (size_t i = count; i-- > 0;)
                if (functions[i].leaving)
                        functions[i].home = function_arrive(&functions[i]);

        for (size_t i = 0; i < count; i++)
                if (function_answers(&functions[i]) && functions[i].home)
                        power_restore(&functions[i]);
        return !failure;
}

/* Reads "ADDRESS[,D3COLD,CONTROL][=DRIVER[,override=NAME]]". */
static bool function_parse(const char *text, Function *ret) {
        g_auto(GStrv) parts = g_strsplit(text, "=", 2);
        g_auto(GStrv) words = g_strsplit(parts[0] ?: "", ",", -1);
        guint n = g_strv_length(words);
        FunctionPower *power = &ret->power;
        PciAddress address;
        char *override;

        *ret = (Function){ .group_fd = -1 };
        if ((n != 1 && n != 3) || !pci_address_parse(words[0], &address))
                return false;
        if (n == 3 &&
            (g_strlcpy(power->d3cold_allowed, words[1], sizeof power->d3cold_allowed) >=
                     sizeof power->d3cold_allowed ||
             g_strlcpy(power->control, words[2], sizeof power->control) >= sizeof power->control))
                return false;
        pci_address_print(address, ret->address);
        if (!parts[1])
                return true;

        ret->known = true;
        override = strstr(parts[1], ",override=");
        if (override) {
                ret->override_known = true;
                *override = '\0';
                override += strlen(",override=");
        }
        return !strchr(parts[1], '/') &&
               g_strlcpy(ret->driver, parts[1], FUNCTION_NAME_BYTES) < FUNCTION_NAME_BYTES &&
               g_strlcpy(ret->override, override ?: "", FUNCTION_NAME_BYTES) < FUNCTION_NAME_BYTES;
}

static int address_compare(gconstpointer a, gconstpointer b) {
        return strcmp(((const Function *)a)->address, ((const Function *)b)->address);
}

/* Tells what the holder of the lock is at, when that is something else than was told before. */
static void holder_tell(int fd, char **told) {
        char note[512];
        ssize_t n = pread(fd, note, sizeof note - 1, 0);
        char *end = n > 0 ? memchr(note, '\n', (size_t)n) : NULL;

        if (!end)
                return; /* it has only just begun */
        *end = '\0';
        if (g_strcmp0(*told, note) == 0)
                return;
        g_free(*told);
        *told = g_strdup(note);
        say("held %s", note);
}

/* Whether the daemon is gone, or wants us no more. */
static bool nobody_waits_for_us(int timeout_msec) {
        struct pollfd input = { .fd = STDIN_FILENO };

        return poll(&input, 1, timeout_msec) > 0 && (input.revents & (POLLHUP | POLLERR)) != 0;
}

/* Waits for the lock as long as it takes, but not longer than the daemon does: those of one daemon
 * after the other would queue up behind a helper that is stuck. */
static bool lock_take(int fd, const char *path) {
        g_autofree char *told = NULL;

        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno == EINTR)
                        continue;
                if (errno != EWOULDBLOCK) {
                        fprintf(stderr, "%s: %s\n", path, g_strerror(errno));
                        return false;
                }
                holder_tell(fd, &told);
                if (nobody_waits_for_us(RETRY_USEC / 1000))
                        return false;
        }
        return true;
}

/* Takes the locks in the order of the addresses, so that two helpers cannot wait for each other.
 * They stay open until the end; the files are never removed, or two helpers could each lock a
 * different file of one name. */
static bool functions_lock(const char *state_dir, const Function *functions, size_t count) {
        g_autofree Function *sorted = g_memdup2(functions, count * sizeof *functions);
        struct timespec now;

        qsort(sorted, count, sizeof *sorted, address_compare);
        for (size_t i = 0; i < count; i++) {
                g_autofree char *path = g_strdup_printf("%s/%s.lock", state_dir, sorted[i].address);
                int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

                if (fd < 0) {
                        fprintf(stderr, "%s: %s\n", path, g_strerror(errno));
                        return false;
                }
                if (n_locks == G_N_ELEMENTS(locks) || !lock_take(fd, path)) {
                        close(fd);
                        return false;
                }
                /* What its last holder was at is no news any more. */
                if (ftruncate(fd, 0) < 0)
                        fprintf(stderr, "%s: %s\n", path, g_strerror(errno));
                locks[n_locks++] = fd;
        }
        clock_gettime(CLOCK_BOOTTIME, &now);
        began = now.tv_sec * (int64_t)G_USEC_PER_SEC + now.tv_nsec / 1000;
        return true;
}

static bool origin_tell(Function *function) {
        FunctionPower *power = &function->power;
        g_autofree char *override = NULL;
        g_autofree char *escaped = NULL;
        char driver[FUNCTION_NAME_BYTES];
        int r;

        say("step The kernel has not told where %s stands", function->address);
        r = function_override_read(function->address, &override);
        if (r == -ENODEV) {
                lost("The device %s is gone from the bus.", function->address);
                return false;
        }
        if (r < 0 || function_power_read(function->address, power) < 0) {
                failed("How %s is set up could not be read.", function->address);
                return false;
        }
        if (!driver_read(function, driver))
                return false;
        escaped = g_strescape(override, NULL);
        say("origin %s\t%s\t%s\t%s\t%s", function->address, driver, escaped, power->d3cold_allowed,
            power->control);
        return true;
}

static bool origins_tell(Function *functions, size_t count) {
        for (size_t i = 0; i < count; i++)
                if (!origin_tell(&functions[i]))
                        return false;
        return true;
}

/* Waits for "go"; an end of file instead is a no. */
static bool permission_wait(void) {
        char answer[3];
        size_t length = 0;
        int r = say("ready");

        /* Both would wait for the other. A daemon that is gone has left the end of our input. */
        if (r < 0 && r != -EPIPE) {
                failed("The daemon could not be told that all is ready.");
                return false;
        }
        while (length < sizeof answer) {
                ssize_t n = read(STDIN_FILENO, answer + length, sizeof answer - length);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return false;
                length += (size_t)n;
        }
        return memcmp(answer, "go\n", sizeof answer) == 0;
}

/* What begins here is ended, whoever goes meanwhile: also the daemon that has started us. */
static bool run(bool bind, const char *state_dir, Function *functions, size_t count) {
        if (!functions_lock(state_dir, functions, count)) {
                failed("The lock of %s could not be taken.", functions[0].address);
                return false;
        }
        if ((bind && !origins_tell(functions, count)) || !permission_wait())
                return false;

        /* From here on half of the way is worse than all of it. */
        signal(SIGTERM, SIG_IGN);
        signal(SIGINT, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        return (bind ? bind_all : release_all)(functions, count);
}

int main(int argc, char *argv[]) {
        g_autofree Function *functions = NULL;
        size_t count;
        bool ok;

        if (argc < 4 || (strcmp(argv[1], "bind") != 0 && strcmp(argv[1], "release") != 0)) {
                fprintf(stderr, "usage: %s bind|release STATE-DIR FUNCTION...\n", argv[0]);
                return EXIT_FAILURE;
        }

        count = (size_t)argc - 3;
        functions = g_new0(Function, count);
        for (size_t i = 0; i < count; i++)
                if (!function_parse(argv[3 + i], &functions[i])) {
                        fprintf(stderr, "not a function: %s\n", argv[3 + i]);
                        return EXIT_FAILURE;
                }

        signal(SIGPIPE, SIG_IGN);
        ok = run(strcmp(argv[1], "bind") == 0, argv[2], functions, count);
        if (failure)
                say("%s %s", failure_is_loss ? "lost" : "failed", failure);
        g_clear_pointer(&failure, g_free);
        return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
