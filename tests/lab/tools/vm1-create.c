/* Create with an Ignition configuration out of a file: on busctl's command line it would be longer
 * than one argument may be (128 KiB), and seen by all. */
#include "vm1-call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "usage: vm1-create MACHINE IGNITION-FILE [KEY TYPE VALUE]...\n"
                            "  TYPE is b, s, t or u\n";

static char *read_file(const char *path) {
        FILE *file = fopen(path, "re");
        char *text = NULL;
        size_t size = 0;

        if (!file || getdelim(&text, &size, '\0', file) < 0)
                vm1_check(-errno, path);
        fclose(file);
        return text;
}

static int append(sd_bus_message *m, const char *key, const char *type, const char *value) {
        switch (type[0]) {
        case 'b':
                return sd_bus_message_append(m, "{sv}", key, type, strcmp(value, "true") == 0);
        case 's':
                return sd_bus_message_append(m, "{sv}", key, type, value);
        case 't':
                return sd_bus_message_append(m, "{sv}", key, type, strtoull(value, NULL, 10));
        case 'u':
                return sd_bus_message_append(m, "{sv}", key, type,
                                             (unsigned)strtoul(value, NULL, 10));
        default:
                return -EINVAL;
        }
}

int main(int argc, char **argv) {
        const char *path;
        sd_bus_message *call;
        sd_bus_message *reply;
        sd_bus *bus;

        if (argc < 3 || argc % 3 != 0) {
                fputs(usage, stderr);
                return 2;
        }
        bus = vm1_connect();
        vm1_check(sd_bus_message_new_method_call(bus, &call, "org.feos.VM1", "/org/feos/VM1",
                                                 "org.feos.VM1", "Create"),
                  "Call");
        vm1_check(sd_bus_message_append(call, "sas", argv[1], 0), "Name");
        vm1_check(sd_bus_message_open_container(call, 'a', "{sv}"), "Options");
        vm1_check(append(call, "ignition", "s", read_file(argv[2])), "Ignition");
        for (int i = 3; i < argc; i += 3)
                vm1_check(append(call, argv[i], argv[i + 1], argv[i + 2]), argv[i]);
        vm1_check(sd_bus_message_close_container(call), "Options");
        reply = vm1_call(bus, call);
        vm1_check(sd_bus_message_read(reply, "o", &path), "Answer");
        puts(path);
        return EXIT_SUCCESS;
}
