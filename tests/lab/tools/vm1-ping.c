/* Asks the service for a sign of life, over and over, until its own input ends, and tells how long
 * the answers took. A program for each question would measure how long programs take to start. The
 * bus daemon is asked as often: what it takes is the emulated host's doing, not the service's. */
#include "vm1-call.h"

#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_MSEC 50
#define PINGS_MAX  100000

static int64_t now_usec(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

/* How long an answer to the shortest question takes. */
static int64_t ask(sd_bus *bus, const char *service, const char *path, const char *interface,
                   const char *method) {
        int64_t began = now_usec();
        sd_bus_message *call;

        vm1_check(sd_bus_message_new_method_call(bus, &call, service, path, interface, method),
                  "Call");
        sd_bus_message_unref(vm1_call(bus, call));
        sd_bus_message_unref(call);
        return now_usec() - began;
}

static int compare(const void *a, const void *b) {
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

        return (x > y) - (x < y);
}

static void tell(const char *who, int64_t *took, size_t n) {
        qsort(took, n, sizeof *took, compare);
        printf("%s answers within %.0f ms, half of %zu times within %.1f ms\n", who,
               (double)took[n - 1] / 1000, n, (double)took[n / 2] / 1000);
}

int main(void) {
        static int64_t service[PINGS_MAX], bus_daemon[PINGS_MAX];
        struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
        sd_bus *bus = vm1_connect();
        size_t n = 0;

        do {
                service[n] = ask(bus, "org.feos.VM1", "/org/feos/VM1", "org.freedesktop.DBus.Peer",
                                 "Ping");
                /* Debian's policy lets nobody Ping it. */
                bus_daemon[n] = ask(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                    "org.freedesktop.DBus", "GetId");
                n++;
        } while (n < PINGS_MAX && poll(&input, 1, PAUSE_MSEC) == 0);
        tell("service", service, n);
        tell("bus", bus_daemon, n);
        return EXIT_SUCCESS;
}
