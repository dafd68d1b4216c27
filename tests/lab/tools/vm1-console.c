/* A machine's console for scripts: copies its own input there and what comes from there to its own
 * output, byte for byte, up to the end of the console. busctl and gdbus cannot take a descriptor
 * out of an answer.
 */
#include "vm1-call.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIME_IS_OVER 3

static const char usage[] =
        "usage: vm1-console [--until TEXT] [--timeout SECONDS] [--hold] MACHINE\n"
        "  --until TEXT       ends with the first line that begins so; else with the console\n"
        "  --timeout SECONDS  then it fails with status 3\n"
        "  --hold             reads nothing from the console before its own input has ended\n";

typedef struct Watch {
        const char *until; /* NULL = none */
        char line[256];    /* what has come of the present line, as far as anybody looks */
        size_t length;
        bool seen;
} Watch;

static void watch_byte(Watch *watch, char byte) {
        if (byte == '\n') {
                watch->seen = watch->seen ||
                              (watch->length >= strlen(watch->until) &&
                               memcmp(watch->line, watch->until, strlen(watch->until)) == 0);
                watch->length = 0;
        } else if (watch->length < sizeof watch->line)
                watch->line[watch->length++] = byte;
}

static bool write_all(int fd, const char *data, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return false;
                if (n < 0)
                        poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
                else {
                        data += n;
                        size -= n;
                }
        }
        return true;
}

/* One read from @from, passed on to @to. False at the end of either. */
static bool copy(int from, int to, Watch *watch) {
        char data[65536];
        ssize_t n = read(from, data, sizeof data);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR;
        for (ssize_t i = 0; watch && watch->until && i < n; i++)
                watch_byte(watch, data[i]);
        return n > 0 && write_all(to, data, n);
}

static int64_t now_ms(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static int run(int console, Watch *watch, bool hold, int64_t timeout_ms) {
        int64_t end = now_ms() + timeout_ms;
        bool input = true;

        while (!watch->seen) {
                int64_t left = timeout_ms < 0 ? -1 : end - now_ms();
                struct pollfd fds[] = {
                        { .fd = input ? STDIN_FILENO : -1, .events = POLLIN },
                        { .fd = hold && input ? -1 : console, .events = POLLIN },
                };

                if (timeout_ms >= 0 && left <= 0)
                        return TIME_IS_OVER;
                if (poll(fds, 2, (int)left) < 0 && errno != EINTR)
                        vm1_check(-errno, "poll");
                if (fds[0].revents)
                        input = copy(STDIN_FILENO, console, NULL);
                if (fds[1].revents && !copy(console, STDOUT_FILENO, watch))
                        return watch->until && !watch->seen ? EXIT_FAILURE : EXIT_SUCCESS;
        }
        return EXIT_SUCCESS;
}

static int open_console(const char *machine) {
        sd_bus *bus = vm1_connect();
        sd_bus_message *call, *reply;
        char *path;
        int fd;

        vm1_check(sd_bus_path_encode("/org/feos/VM1/machine", machine, &path), "Path");
        vm1_check(sd_bus_message_new_method_call(bus, &call, "org.feos.VM1", path,
                                                 "org.feos.VM1.Machine", "OpenConsole"),
                  "Call");
        reply = vm1_call(bus, call);
        vm1_check(sd_bus_message_read(reply, "h", &fd), "Answer");
        /* The message owns it. */
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        vm1_check(fd < 0 ? -errno : fd, "Descriptor");
        sd_bus_message_unref(reply);
        sd_bus_message_unref(call);
        free(path);
        sd_bus_flush_close_unref(bus);
        return fd;
}

int main(int argc, char **argv) {
        static const struct option options[] = { { "until", required_argument, NULL, 'u' },
                                                 { "timeout", required_argument, NULL, 't' },
                                                 { "hold", no_argument, NULL, 'h' },
                                                 { 0 } };
        int64_t timeout_ms = -1;
        Watch watch = { 0 };
        bool hold = false;
        int option, r;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (option) {
                case 'u':
                        watch.until = optarg;
                        break;
                case 't':
                        timeout_ms = atoi(optarg) * INT64_C(1000);
                        break;
                case 'h':
                        hold = true;
                        break;
                default:
                        fputs(usage, stderr);
                        return 2;
                }
        if (optind != argc - 1) {
                fputs(usage, stderr);
                return 2;
        }
        r = run(open_console(argv[optind]), &watch, hold, timeout_ms);
        if (r == TIME_IS_OVER)
                fputs("vm1-console: the time is over\n", stderr);
        return r;
}
