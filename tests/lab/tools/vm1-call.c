/* What the lab's own D-Bus clients have in common. */
#include "vm1-call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALL_USEC (200 * UINT64_C(1000000))

void vm1_check(int r, const char *what) {
        if (r >= 0)
                return;
        fprintf(stderr, "%s: %s\n", what, strerror(-r));
        exit(1);
}

sd_bus *vm1_connect(void) {
        sd_bus *bus;

        vm1_check(sd_bus_open_system(&bus), "Cannot reach the system bus");
        return bus;
}

sd_bus_message *vm1_call(sd_bus *bus, sd_bus_message *call) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply;

        if (sd_bus_call(bus, call, CALL_USEC, &error, &reply) < 0) {
                fprintf(stderr, "error-name=%s \nCall failed: %s\n", error.name, error.message);
                exit(1);
        }
        return reply;
}
