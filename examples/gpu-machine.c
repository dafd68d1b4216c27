/* Boots a machine with GPUs of this host, shuts it down after Enter, and waits until they are home.
 *   cc -o gpu-machine gpu-machine.c $(pkg-config --cflags --libs libsystemd)
 *   ./gpu-machine                                   lists the GPUs
 *   ./gpu-machine NAME [OPTION=TEXT]... ADDRESS...  such as box image=ubuntu.qcow2 01:00.0 */
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#define VM1 "org.feos.VM1"

static sd_bus *bus;
static sd_bus_error why; /* the last call failed */

/* An error's name is for programs; its message says what is wrong and, at its end, what to do. */
static void check(int r) {
        if (r < 0)
                errx(EXIT_FAILURE, "%s: %s", why.name ?: "error", why.message ?: strerror(-r));
}

static void list_gpus(void) {
        const char *address, *state, *driver, *model, *user, *o;
        sd_bus_message *m;

        check(sd_bus_call_method(bus, VM1, "/org/feos/VM1", VM1, "ListGPUs", &why, &m, NULL));
        check(sd_bus_message_enter_container(m, 'a', "(ssssso)"));
        while (sd_bus_message_read(m, "(ssssso)", &address, &state, &driver, &model, &user, &o) > 0)
                printf("%s  %-10s  %-10s  %s  %s\n", address, state, driver, model, user);
        sd_bus_message_unref(m);
}

/* Replies with the machine when it runs, or with an error when nothing is left of it. */
static sd_bus_message *create(const char *name, char **options, char **gpus) {
        sd_bus_message *m, *reply;

        check(sd_bus_message_new_method_call(bus, &m, VM1, "/org/feos/VM1", VM1, "Create"));
        check(sd_bus_message_append(m, "s", name));
        check(sd_bus_message_append_strv(m, gpus));
        check(sd_bus_message_open_container(m, 'a', "{sv}"));
        check(sd_bus_message_append(m, "{sv}", "memory-mib", "t", UINT64_C(1024)));
        for (char *key; options < gpus; options++) {
                key = strsep(options, "=");
                check(sd_bus_message_append(m, "{sv}", key, "s", *options));
        }
        check(sd_bus_message_close_container(m));
        check(sd_bus_call(bus, m, 0, &why, &reply));
        sd_bus_message_unref(m);
        return reply;
}

static bool gpu_is(const char *gpu, const char *property, const char *text) {
        char *value;
        bool same;

        check(sd_bus_get_property_string(bus, VM1, gpu, VM1 ".GPU", property, &why, &value));
        same = strcmp(value, text) == 0;
        free(value);
        return same;
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return 0; /* It has woken the loop, which looks anew. */
}

int main(int argc, char *argv[]) {
        sd_bus_message *reply, *at;
        const char *machine, *gpu;
        char **gpus = argv + 2;

        check(sd_bus_open_system(&bus));
        check(sd_bus_set_allow_interactive_authorization(bus, true));
        check(sd_bus_set_method_call_timeout(bus, UINT64_MAX)); /* Drivers take their time. */
        list_gpus();
        if (argc < 3)
                return EXIT_SUCCESS;
        while (*gpus && strchr(*gpus, '='))
                gpus++;
        reply = create(argv[1], argv + 2, gpus);
        check(sd_bus_message_read(reply, "o", &machine));
        warnx("%s runs. Enter shuts it down.", machine);
        getchar();
        check(sd_bus_get_property(bus, VM1, machine, VM1 ".Machine", "GPUs", &why, &at, "ao"));
        check(sd_bus_match_signal(bus, NULL, VM1, NULL, NULL, NULL, on_signal, NULL));
        check(sd_bus_call_method(bus, VM1, machine, VM1 ".Machine", "Shutdown", &why, NULL, NULL));
        check(sd_bus_message_enter_container(at, 'a', "o"));
        while (sd_bus_message_read(at, "o", &gpu) > 0)
                while (!gpu_is(gpu, "State", "host-bound") || !gpu_is(gpu, "Pending", "")) {
                        if (!gpu_is(gpu, "Fault", "")) /* One that does not come says why. */
                                check(sd_bus_call_method(bus, VM1, gpu, VM1 ".GPU", "Recover", &why,
                                                         NULL, NULL));
                        check(sd_bus_process(bus, NULL) ?: sd_bus_wait(bus, UINT64_MAX));
                }
        check(sd_bus_call_method(bus, VM1, machine, VM1 ".Machine", "Delete", &why, NULL, NULL));
        sd_bus_message_unref(at);
        sd_bus_message_unref(reply);
        puts("Its GPUs are home, and it is deleted.");
}
