/* What is true, by the kernel and libvirt, and what the daemon tells; and the difference. */
#include "rig-private.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* One to vfio-pci that is given up at its deadline, and one back. */
#define HANDOVERS_USEC (12 * G_USEC_PER_SEC)

typedef struct GpuView {
        char *state, *pending, *fault, *message, *driver, *machine;
} GpuView;

static void gpu_view_clear(GpuView *view) {
        g_free(view->state);
        g_free(view->pending);
        g_free(view->fault);
        g_free(view->message);
        g_free(view->driver);
        g_free(view->machine);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(GpuView, gpu_view_clear)

static char *gpu_property(Rig *rig, const char *address, const char *property) {
        g_autofree char *path = rig_gpu_path(address);

        return rig_property(rig, path, "org.feos.VM1.GPU", property);
}

static bool gpu_view_read(Rig *rig, const char *address, GpuView *ret) {
        *ret = (GpuView){
                .state = gpu_property(rig, address, "State"),
                .pending = gpu_property(rig, address, "Pending"),
                .fault = gpu_property(rig, address, "Fault"),
                .message = gpu_property(rig, address, "FaultMessage"),
                .driver = gpu_property(rig, address, "Driver"),
                .machine = gpu_property(rig, address, "MachineName"),
        };
        return ret->state && ret->pending && ret->fault && ret->message && ret->driver &&
               ret->machine;
}

typedef struct Census {
        const char *address; /* of the card whose taker is wanted */
        unsigned defined, active;
        char *names; /* "name active " of each, sorted as listed */
        char *taker; /* the active one with the card */
} Census;

static void census_take(virDomainPtr domain, void *userdata) {
        Census *census = userdata;
        bool active = virDomainIsActive(domain) == 1;

        census->defined++;
        census->active += active;
        if (active && rig_domain_has(domain, census->address)) {
                g_free(census->taker);
                census->taker = g_strdup(virDomainGetName(domain));
        }
}

static void census_clear(Census *census) {
        g_free(census->taker);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Census, census_clear)

bool rig_machine_runs(Rig *rig) {
        g_auto(Census) census = { .address = GPU };

        rig_domains_walk(rig, census_take, &census);
        return census.active > 0;
}

static bool is_recorded(const Rig *rig, const char *address) {
        g_autofree char *path = g_strdup_printf("%s/state/%s.card", rig->dir, address);

        return access(path, F_OK) == 0;
}

static char *gpu_wrong(Rig *rig, const char *address, const char *taker) {
        const char *driver = fake_kernel_driver(rig->kernel, address);
        bool vfio = strcmp(driver, "vfio-pci") == 0;
        const char *state = taker ? "attached" : vfio ? "vfio-bound" : "host-bound";
        g_auto(GpuView) view = { 0 };

        if (!gpu_view_read(rig, address, &view))
                return fake_kernel_is_there(rig->kernel, address)
                               ? g_strdup_printf("%s cannot be asked", address)
                               : NULL;
        if (!fake_kernel_is_there(rig->kernel, address))
                return g_strdup_printf("%s is still told", address);
        rig->moving = rig->moving || *view.pending;
        if (*view.pending)
                return g_strdup_printf("%s is %s", address, view.pending);
        if (strcmp(view.driver, driver) != 0)
                return g_strdup_printf("%s is told on '%s' and is on '%s'", address, view.driver,
                                       driver);
        if (strcmp(view.state, state) != 0)
                return g_strdup_printf("%s is told %s and is %s", address, view.state, state);
        if (strcmp(view.machine, taker ?: "") != 0)
                return g_strdup_printf("%s is told to be with '%s' and is with '%s'", address,
                                       view.machine, taker ?: "");
        if (*view.fault && !*view.message)
                return g_strdup_printf("%s has the fault %s without a reason", address, view.fault);
        return NULL;
}

static char *fault_wrong(Rig *rig, const char *address) {
        g_auto(GpuView) view = { 0 };

        if (!gpu_view_read(rig, address, &view))
                return g_strdup_printf("%s cannot be asked", address);
        return *view.fault ? g_strdup_printf("%s has the fault %s: %s", address, view.fault,
                                             view.message)
                           : NULL;
}

static char *function_home_wrong(Rig *rig, const char *address) {
        const char *native = fake_kernel_native(rig->kernel, address);
        g_autofree char *control = fake_kernel_attribute(rig->kernel, address, "power/control");
        g_autofree char *d3cold = fake_kernel_attribute(rig->kernel, address, "d3cold_allowed");

        if (strcmp(fake_kernel_driver(rig->kernel, address), native) != 0)
                return g_strdup_printf("%s is on '%s'", address,
                                       fake_kernel_driver(rig->kernel, address));
        if (*fake_kernel_override(rig->kernel, address))
                return g_strdup_printf("%s has the override '%s'", address,
                                       fake_kernel_override(rig->kernel, address));
        if (strcmp(control, fake_kernel_control_at_home(rig->kernel, address)) != 0 ||
            strcmp(d3cold, "1") != 0)
                return g_strdup_printf("%s has power/control '%s' and d3cold_allowed '%s'", address,
                                       control, d3cold);
        if (is_recorded(rig, address))
                return g_strdup_printf("%s is still in the ledger", address);
        return NULL;
}

static char *home_wrong(Rig *rig, const Census *census, bool machine_may_stay) {
        static const char *const functions[] = { GPU, AUDIO, OTHER };
        char *wrong = fault_wrong(rig, GPU);

        for (size_t i = 0; !wrong && i < G_N_ELEMENTS(functions); i++)
                wrong = function_home_wrong(rig, functions[i]);
        if (!wrong && census->active)
                wrong = g_strdup("a machine runs");
        if (!wrong && census->defined && !machine_may_stay)
                wrong = g_strdup("a machine is left defined");
        return wrong;
}

static char *running_wrong(Rig *rig, const Census *census) {
        if (census->active != 1 || census->defined != 1)
                return g_strdup_printf("%u machines run and %u are defined", census->active,
                                       census->defined);
        if (!census->taker)
                return g_strdup("the machine runs without its GPU");
        if (strcmp(fake_kernel_driver(rig->kernel, AUDIO), "vfio-pci") != 0)
                return g_strdup("the companion has not come along");
        if (!is_recorded(rig, GPU))
                return g_strdup("nobody remembers where the GPU came from");
        return fault_wrong(rig, GPU);
}

/* Every machine that libvirt has is told, with the state that it has, and no other. */
static char *machines_wrong(Rig *rig, const Census *census) {
        g_auto(Answer) answer = { 0 };
        unsigned told = 0, running = 0;
        const char *state;

        rig_call(rig, VM1, "org.feos.VM1", "ListMachines", &answer);
        rig_wait(rig, &answer);
        if (answer.error)
                return g_strdup(answer.text);
        g_assert_cmpint(sd_bus_message_enter_container(answer.reply, 'a', "(sssaso)"), >, 0);
        while (sd_bus_message_enter_container(answer.reply, 'r', "sssaso") > 0) {
                g_assert_cmpint(sd_bus_message_read(answer.reply, "sss", NULL, NULL, &state), >, 0);
                g_assert_cmpint(sd_bus_message_skip(answer.reply, "aso"), >, 0);
                g_assert_cmpint(sd_bus_message_exit_container(answer.reply), >, 0);
                told++;
                running += g_str_equal(state, "running");
        }
        if (told != census->defined || running != census->active)
                return g_strdup_printf("%u machines are told, %u running; there are %u, %u", told,
                                       running, census->defined, census->active);
        return NULL;
}

static char *violations_wrong(Rig *rig) {
        const GPtrArray *violations = fake_kernel_violations(rig->kernel);

        return violations->len > 0 ? g_strdup(g_ptr_array_index(violations, 0)) : NULL;
}

/* Kept awake, and out of D3cold. */
static char *function_held_wrong(Rig *rig, const char *address) {
        g_autofree char *control = fake_kernel_attribute(rig->kernel, address, "power/control");
        g_autofree char *d3cold = fake_kernel_attribute(rig->kernel, address, "d3cold_allowed");

        return strcmp(control, "on") == 0 && strcmp(d3cold, "0") == 0
                       ? NULL
                       : g_strdup_printf("%s may sleep: power/control '%s', d3cold_allowed '%s'",
                                         address, control, d3cold);
}

static char *bound_wrong(Rig *rig, const Census *census) {
        char *wrong;

        if (census->defined)
                return g_strdup("a machine is left defined");
        if (strcmp(fake_kernel_driver(rig->kernel, GPU), "vfio-pci") != 0 ||
            strcmp(fake_kernel_driver(rig->kernel, AUDIO), "vfio-pci") != 0)
                return g_strdup("the card is not on vfio-pci");
        if (!is_recorded(rig, GPU))
                return g_strdup("nobody remembers where the GPU came from");
        wrong = function_held_wrong(rig, GPU);
        if (!wrong)
                wrong = function_held_wrong(rig, AUDIO);
        return wrong ?: fault_wrong(rig, GPU);
}

/* Neither of the two is so; takes both. */
static char *neither(char *one, char *other) {
        char *both = one && other ? g_strdup_printf("%s, and %s", one, other) : NULL;

        g_free(one);
        g_free(other);
        return both;
}

static char *expectation_wrong(Rig *rig, RigExpectation expectation, const Census *census) {
        g_autofree char *fault = NULL;

        switch (expectation) {
        case RIG_AGREES:
                return NULL;
        case RIG_HOME:
                return home_wrong(rig, census, false);
        case RIG_STOPPED:
                return home_wrong(rig, census, true);
        case RIG_RUNNING:
                return running_wrong(rig, census);
        case RIG_BOUND:
                return bound_wrong(rig, census);
        case RIG_HOME_OR_RUNNING:
                return neither(home_wrong(rig, census, false), running_wrong(rig, census));
        case RIG_HOME_OR_FAULT:
                fault = fault_wrong(rig, GPU);
                return fault ? NULL : home_wrong(rig, census, false);
        }
        return NULL;
}

/* Helpers that have outlived their daemon are ours. */
static bool orphans_live(Rig *rig) {
        siginfo_t info = { 0 };
        g_autofree char *path = g_strdup_printf("/proc/self/task/%d/children", getpid());
        g_autofree char *text = NULL;
        g_auto(GStrv) children = NULL;

        /* First those that are dead, but not those whose end somebody waits for. */
        while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid > 0 &&
               info.si_pid != rig->daemon && info.si_pid != rig->libvirtd) {
                waitpid(info.si_pid, NULL, 0);
                info.si_pid = 0;
        }
        if (g_file_get_contents(path, &text, NULL, NULL))
                children = g_strsplit(g_strchomp(text), " ", -1);
        for (char **child = children; child && *child; child++) {
                g_autofree char *comm_path = g_strdup_printf("/proc/%s/comm", *child);
                g_autofree char *comm = NULL;

                if (g_file_get_contents(comm_path, &comm, NULL, NULL) &&
                    g_str_has_prefix(comm, "feos-vm-"))
                        return true;
        }
        return false;
}

static char *wrong(Rig *rig, RigExpectation expectation) {
        g_auto(Census) gpu = { .address = GPU };
        g_auto(Census) other = { .address = OTHER };
        char *why = violations_wrong(rig);

        rig_domains_walk(rig, census_take, &gpu);
        rig_domains_walk(rig, census_take, &other);
        if (!why)
                why = gpu_wrong(rig, GPU, gpu.taker);
        if (!why)
                why = gpu_wrong(rig, OTHER, other.taker);
        if (!why)
                why = machines_wrong(rig, &gpu);
        if (!why)
                why = expectation_wrong(rig, expectation, &gpu);
        if (!why && (rig_usage(rig).children > 0 || orphans_live(rig)))
                why = g_strdup("a helper is still there");
        return why;
}

char *rig_settle(Rig *rig, RigExpectation expectation, unsigned seconds) {
        gint64 end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
        gint64 last = end + HANDOVERS_USEC;

        for (;;) {
                char *why;

                rig->moving = false;
                why = wrong(rig, expectation);
                if (why && rig->moving)
                        end = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
                if (!why || g_get_monotonic_time() > MIN(end, last))
                        return why;
                g_free(why);
                rig_run(rig, 5);
        }
}

static unsigned descriptors(pid_t pid) {
        g_autofree char *path = g_strdup_printf("/proc/%d/fd", pid);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        unsigned n = 0;

        while (dir && g_dir_read_name(dir))
                n++;
        return n;
}

RigUsage rig_usage(Rig *rig) {
        g_autofree char *children_path =
                g_strdup_printf("/proc/%d/task/%d/children", rig->daemon, rig->daemon);
        g_autofree char *status_path = g_strdup_printf("/proc/%d/status", rig->daemon);
        g_autofree char *children = NULL;
        g_autofree char *status = NULL;
        const char *memory = NULL;
        RigUsage usage = { .descriptors = descriptors(rig->daemon) };

        if (g_file_get_contents(children_path, &children, NULL, NULL))
                for (const char *c = children; (c = strchr(c, ' ')); c++)
                        usage.children++;
        if (g_file_get_contents(status_path, &status, NULL, NULL))
                memory = strstr(status, "VmRSS:");
        if (memory)
                usage.memory = (unsigned)g_ascii_strtoull(memory + strlen("VmRSS:"), NULL, 10);
        return usage;
}
