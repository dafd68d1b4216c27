#include "rig.h"

#include "autoptr.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <libvirt/virterror.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#define CANNOT 77 /* meson: skipped */

/* Between libvirt's word that a domain is off and its QEMU letting go of the group. */
#define QEMU_LINGERS_USEC 5000

#define BOOT_USEC (30 * G_USEC_PER_SEC)

typedef struct Hold {
        char uuid[VIR_UUID_STRING_BUFLEN];
        int group;
        Rig *rig;                /* weak */
        sd_event_source *ending; /* NULL = its QEMU lives */
} Hold;

/* --- the fence: nothing of this machine's own is within reach --- */

static bool tmpfs_over(const char *path) {
        return access(path, F_OK) < 0 || mount("feos-chaos", path, "tmpfs", 0, NULL) == 0;
}

static bool fence_raise(void) {
        static bool raised;

        if (raised)
                return true;
        raised = unshare(CLONE_NEWNS) == 0 &&
                 mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && tmpfs_over("/sys") &&
                 tmpfs_over("/run") && g_mkdir_with_parents("/run/systemd/journal", 0755) == 0;
        return raised;
}

/* --- programs --- */

/* What it complains of lies in the rig's folder. */
static pid_t program_start(const Rig *rig, char *const argv[], char **environment) {
        g_autofree char *log = g_build_filename(rig->dir, "stderr", NULL);
        g_autofd int errors = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        pid_t parent = getpid(), pid = fork();
        sigset_t none;

        g_assert_cmpint(pid, >=, 0);
        if (pid != 0)
                return pid;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(127);
        dup2(errors, STDERR_FILENO);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(argv[0], argv, environment);
        _exit(127);
}

static int socket_at(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int space = 8 * 1024 * 1024;

        g_assert_cmpuint(g_strlcpy(address.sun_path, path, sizeof address.sun_path), <,
                         sizeof address.sun_path);
        g_unlink(path);
        g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof space);
        return fd;
}

/* Runs the loop until sd_notify() says READY=1. */
static void ready_await(Rig *rig, pid_t pid, const char *what) {
        gint64 end = g_get_monotonic_time() + BOOT_USEC;
        char text[1024];

        for (;;) {
                ssize_t n = recv(rig->ready, text, sizeof text - 1, 0);

                text[MAX(n, 0)] = '\0';
                if (n > 0 && strstr(text, "READY=1"))
                        return;
                if (n > 0)
                        continue;
                if (waitpid(pid, NULL, WNOHANG) == pid || g_get_monotonic_time() > end)
                        g_error("%s does not start", what);
                g_assert_cmpint(sd_event_run(rig->event, 20000), >=, 0);
        }
}

/* --- libvirt --- */

static char *libvirt_uri(const Rig *rig) {
        return g_strdup_printf("test+unix:///default?socket=%s/libvirt-sock", rig->dir);
}

static void libvirtd_start(Rig *rig) {
        g_autofree char *config = g_build_filename(rig->dir, "libvirtd.conf", NULL);
        g_autofree char *pid_file = g_build_filename(rig->dir, "libvirtd.pid", NULL);
        g_autofree char *log = g_strdup_printf("4:file:%s/libvirtd.log", rig->dir);
        g_autofree char *text = g_strdup_printf("unix_sock_dir = \"%s\"\nauth_unix_rw = \"none\"\n"
                                                "auth_unix_ro = \"none\"\n"
                                                "unix_sock_rw_perms = \"0777\"\n",
                                                rig->dir);
        char *argv[] = { (char *)"/usr/sbin/libvirtd", (char *)"--config", config,
                         (char *)"--pid-file",         pid_file,           NULL };
        g_auto(GStrv) environment = g_get_environ();

        g_assert_true(g_file_set_contents(config, text, -1, NULL));
        environment = g_environ_unsetenv(environment, "LD_PRELOAD");
        /* No driver that would look at this machine: what is left is the test driver. */
        environment = g_environ_setenv(environment, "LIBVIRT_DRIVER_DIR", rig->dir, TRUE);
        environment = g_environ_setenv(environment, "LIBVIRT_LOG_OUTPUTS", log, TRUE);
        rig->libvirtd = program_start(rig, argv, environment);
        ready_await(rig, rig->libvirtd, "libvirtd");
}

static void hold_free(void *data) {
        Hold *hold = data;

        sd_event_source_disable_unref(hold->ending);
        g_free(hold);
}

static Hold *hold_find(Rig *rig, const char *uuid) {
        for (guint i = 0; i < rig->holds->len; i++) {
                Hold *hold = g_ptr_array_index(rig->holds, i);

                if (g_str_equal(hold->uuid, uuid) && !hold->ending)
                        return hold;
        }
        return NULL;
}

static void groups_refresh(Rig *rig, int group) {
        bool held = false;

        for (guint i = 0; i < rig->holds->len; i++)
                held = held || ((Hold *)g_ptr_array_index(rig->holds, i))->group == group;
        fake_kernel_hold(rig->kernel, group, held);
}

static int on_qemu_gone(sd_event_source *source, uint64_t usec, void *userdata) {
        Hold *hold = userdata;
        Rig *rig = hold->rig;
        int group = hold->group;

        g_ptr_array_remove(rig->holds, hold);
        groups_refresh(rig, group);
        return 0;
}

/* The address of the first host device in the domain's definition. */
static bool domain_has(virDomainPtr domain, const char *address) {
        unsigned bus, slot, function;
        g_autofree char *wanted = NULL;
        char *xml = virDomainGetXMLDesc(domain, 0);
        bool has;

        sscanf(address, "%*x:%x:%x.%x", &bus, &slot, &function);
        wanted = g_strdup_printf(
                "<address domain='0x0000' bus='0x%02x' slot='0x%02x' function='0x%x'/>", bus, slot,
                function);
        has = xml && strstr(xml, wanted);
        free(xml);
        return has;
}

static void violation(Rig *rig, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void violation(Rig *rig, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        g_ptr_array_add(fake_kernel_violations(rig->kernel), g_strdup_vprintf(format, arguments));
        va_end(arguments);
}

static void domain_started(Rig *rig, virDomainPtr domain, const char *uuid) {
        static const char *const cards[] = { GPU, OTHER };

        /* What libvirt told may have ended since. */
        if (virDomainIsActive(domain) != 1)
                return;
        for (size_t i = 0; i < G_N_ELEMENTS(cards); i++) {
                Hold *hold;

                if (!domain_has(domain, cards[i]))
                        continue;
                if (strcmp(fake_kernel_driver(rig->kernel, cards[i]), "vfio-pci") != 0)
                        violation(rig, "a machine was started with %s, which is on '%s'", cards[i],
                                  fake_kernel_driver(rig->kernel, cards[i]));
                hold = g_new0(Hold, 1);
                *hold = (Hold){ .group = fake_kernel_group(rig->kernel, cards[i]), .rig = rig };
                for (guint j = 0; j < rig->holds->len; j++) {
                        const Hold *other = g_ptr_array_index(rig->holds, j);

                        if (other->group == hold->group && !other->ending)
                                violation(rig, "%s has two owners", cards[i]);
                }
                g_strlcpy(hold->uuid, uuid, sizeof hold->uuid);
                g_ptr_array_add(rig->holds, hold);
                groups_refresh(rig, hold->group);
        }
}

static void domain_stopped(Rig *rig, const char *uuid) {
        Hold *hold;

        while ((hold = hold_find(rig, uuid)))
                g_assert_cmpint(sd_event_add_time_relative(rig->event, &hold->ending,
                                                           CLOCK_MONOTONIC, QEMU_LINGERS_USEC, 1,
                                                           on_qemu_gone, hold),
                                >=, 0);
}

/* "+UUID" or "-UUID", from libvirt's thread. */
static int on_domain(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Rig *rig = userdata;
        char word[VIR_UUID_STRING_BUFLEN + 1];

        while (read(fd, word, sizeof word) == (ssize_t)sizeof word) {
                virDomainPtr domain = virDomainLookupByUUIDString(rig->libvirt, word + 1);

                if (word[0] == '-')
                        domain_stopped(rig, word + 1);
                else if (domain)
                        domain_started(rig, domain, word + 1);
                if (domain)
                        virDomainFree(domain);
        }
        return 0;
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
                        void *userdata) {
        Rig *rig = userdata;
        char word[VIR_UUID_STRING_BUFLEN + 1];

        if (event != VIR_DOMAIN_EVENT_STARTED && event != VIR_DOMAIN_EVENT_STOPPED)
                return 0;
        word[0] = event == VIR_DOMAIN_EVENT_STARTED ? '+' : '-';
        virDomainGetUUIDString(domain, word + 1);
        g_assert_cmpint(write(rig->domain_pipe[1], word, sizeof word), ==, sizeof word);
        return 0;
}

static void *libvirt_run(void *data) {
        for (;;)
                virEventRunDefaultImpl();
        return NULL;
}

static void on_libvirt_error(void *userdata, virErrorPtr error) {
        /* What fails is looked at where it was asked. */
}

static void libvirt_connect(Rig *rig) {
        static GThread *thread;
        g_autofree char *uri = libvirt_uri(rig);

        if (!thread) {
                virSetErrorFunc(NULL, on_libvirt_error);
                g_assert_cmpint(virInitialize(), ==, 0);
                g_assert_cmpint(virEventRegisterDefaultImpl(), ==, 0);
                thread = g_thread_new("libvirt", libvirt_run, NULL);
        }
        g_assert_cmpint(pipe2(rig->domain_pipe, O_CLOEXEC | O_NONBLOCK), ==, 0);
        g_assert_cmpint(sd_event_add_io(rig->event, &rig->domains, rig->domain_pipe[0], EPOLLIN,
                                        on_domain, rig),
                        >=, 0);
        rig->libvirt = virConnectOpen(uri);
        g_assert_nonnull(rig->libvirt);
        g_assert_cmpint(virConnectDomainEventRegisterAny(
                                rig->libvirt, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), rig, NULL),
                        >=, 0);
}

/* Calls @each with every domain that is ours. */
static void domains_walk(Rig *rig, void (*each)(virDomainPtr domain, void *userdata),
                         void *userdata) {
        virDomainPtr *all = NULL;
        int n = virConnectListAllDomains(rig->libvirt, &all, 0);

        for (int i = 0; i < n; i++) {
                if (strcmp(virDomainGetName(all[i]), "test") != 0)
                        each(all[i], userdata);
                virDomainFree(all[i]);
        }
        free(all);
}

static void domain_end(virDomainPtr domain, void *userdata) {
        (void)virDomainDestroy(domain);
}

void rig_end_machines(Rig *rig) {
        domains_walk(rig, domain_end, NULL);
}

/* --- the kernel's hooks --- */

static void active_with(virDomainPtr domain, void *userdata) {
        const char **address = userdata;

        if (*address && virDomainIsActive(domain) == 1 && domain_has(domain, *address))
                *address = NULL;
}

static void on_moved(void *userdata, const char *address, const char *driver) {
        Rig *rig = userdata;
        const char *asked = address;

        /* Nobody else has a machine yet while the kernel is being set up. */
        if (!rig->libvirt || strcmp(driver, "vfio-pci") == 0)
                return;
        domains_walk(rig, active_with, &asked);
        if (!asked)
                violation(rig, "%s went to '%s' while a machine runs with it", address, driver);
}

static void on_uevent(void *userdata, const char *address, const char *action) {
        Rig *rig = userdata;

        if (rig->uevent)
                rig->uevent(rig->userdata, address, action);
        else if (rig->kernel) /* else it is still being set up, and nobody listens */
                fake_kernel_send(rig->kernel, address, action);
}

/* --- the daemon --- */

static void config_write(Rig *rig) {
        g_autofree char *path = g_build_filename(rig->dir, "vmd.conf", NULL);
        g_autofree char *uri = libvirt_uri(rig);
        g_autofree char *text = g_strdup_printf("[Hypervisor]\nURI=%s\n"
                                                "[GPUs]\nHandoverTimeoutSec=5\n"
                                                "[Limits]\nPendingPerUser=64\n",
                                                uri);

        g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

void rig_boot(Rig *rig) {
        g_autofree char *config = g_build_filename(rig->dir, "vmd.conf", NULL);
        g_autofree char *state_dir = g_build_filename(rig->dir, "state", NULL);
        char *argv[] = { (char *)g_getenv("FEOS_VMD"),
                         (char *)"--config",
                         config,
                         (char *)"--state-dir",
                         state_dir,
                         (char *)"--helper-dir",
                         rig->helper_dir,
                         NULL };
        g_auto(GStrv) environment =
                fake_kernel_environment(rig->kernel, g_getenv("FEOS_KERNEL_SHIM"));

        g_ptr_array_set_size(rig->journal, 0);
        rig->daemon = program_start(rig, argv, environment);
        ready_await(rig, rig->daemon, "feos-vmd");
}

void rig_buried(Rig *rig) {
        (void)waitpid(rig->daemon, NULL, 0); /* a tracer may have had it */
        rig->daemon = 0;
        fake_kernel_forget_listeners(rig->kernel);
}

void rig_kill(Rig *rig) {
        if (rig->daemon <= 0)
                return;
        kill(rig->daemon, SIGKILL);
        rig_buried(rig);
}

/* Fields of the journal's protocol, a line each; only MESSAGE is of interest. */
static int on_journal(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Rig *rig = userdata;
        char entry[65536];
        ssize_t n;

        while ((n = recv(fd, entry, sizeof entry - 1, MSG_DONTWAIT)) > 0) {
                const char *message;

                entry[n] = '\0';
                message = strstr(entry, "MESSAGE=");
                if (!message)
                        continue;
                g_ptr_array_add(rig->journal,
                                g_strndup(message + strlen("MESSAGE="),
                                          strcspn(message + strlen("MESSAGE="), "\n")));
        }
        return 0;
}

char *rig_last_words(Rig *rig) {
        const GPtrArray *log = fake_kernel_log(rig->kernel);
        GString *words = g_string_new("");
        guint from = rig->journal->len > 12 ? rig->journal->len - 12 : 0;

        for (guint i = from; i < rig->journal->len; i++)
                g_string_append_printf(words, "\n    %s",
                                       (const char *)g_ptr_array_index(rig->journal, i));
        from = log->len > 12 ? log->len - 12 : 0;
        for (guint i = from; i < log->len; i++)
                g_string_append_printf(words, "\n    kernel: %s",
                                       (const char *)g_ptr_array_index(log, i));
        return g_string_free(words, FALSE);
}

static void journal_open(Rig *rig) {
        static const char path[] = "/run/systemd/journal/socket";
        sd_event_source *source;
        int fd = socket_at(path);

        rig->journal = g_ptr_array_new_with_free_func(g_free);
        g_assert_cmpint(sd_event_add_io(rig->event, &source, fd, EPOLLIN, on_journal, rig), >=, 0);
        sd_event_source_set_io_fd_own(source, true);
        sd_event_source_set_floating(source, true);
        sd_event_source_unref(source);
}

static void notify_open(Rig *rig) {
        g_autofree char *path = g_build_filename(rig->dir, "notify", NULL);

        rig->ready = socket_at(path);
        g_setenv("NOTIFY_SOCKET", path, TRUE);
}

Rig *rig_new(const char *helper_dir) {
        Rig *rig;

        if (access("/usr/sbin/libvirtd", X_OK) < 0 || !fence_raise()) {
                printf("1..0 # SKIP no libvirtd, or no mount namespace of its own\n");
                exit(CANNOT);
        }
        rig = g_new0(Rig, 1);
        /* Helpers that outlive their daemon come to us. */
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        signal(SIGPIPE, SIG_IGN);
        rig->dir = g_dir_make_tmp("feos-chaos-XXXXXX", NULL);
        g_assert_nonnull(rig->dir);
        rig->helper_dir = g_strdup(helper_dir ?: g_getenv("FEOS_HELPER_DIR"));
        rig->holds = g_ptr_array_new_with_free_func(hold_free);
        rig->bus = private_bus_new(NULL);
        rig->event = private_bus_event(rig->bus);
        rig->polkit = mock_polkit_new(rig->bus);
        rig->polkit->verdict = MOCK_YES;
        rig->caller = private_bus_connect(rig->bus, 0);
        journal_open(rig);
        notify_open(rig);
        rig->kernel = fake_kernel_new(rig->event, &(FakeKernelHooks){ on_moved, on_uevent, rig });
        fake_kernel_add(rig->kernel, GPU, "0x038000\n", GROUP, "bochs-drm");
        fake_kernel_add(rig->kernel, AUDIO, "0x040300\n", GROUP, "snd_hda_intel");
        fake_kernel_add(rig->kernel, OTHER, "0x038000\n", GROUP + 1, "bochs-drm");
        libvirtd_start(rig);
        libvirt_connect(rig);
        config_write(rig);
        rig_boot(rig);
        return rig;
}

/* Removes what the test has made, folders included. */
static void folder_remove(const char *path) {
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
                g_autofree char *inside = g_build_filename(path, name, NULL);

                if (g_file_test(inside, G_FILE_TEST_IS_DIR) &&
                    !g_file_test(inside, G_FILE_TEST_IS_SYMLINK))
                        folder_remove(inside);
                else
                        g_unlink(inside);
        }
        g_rmdir(path);
}

void rig_free(Rig *rig) {
        rig_kill(rig);
        kill(rig->libvirtd, SIGKILL);
        waitpid(rig->libvirtd, NULL, 0);
        /* The connection is left to the process's end: its other side is gone. */
        sd_event_source_disable_unref(rig->domains);
        g_ptr_array_unref(rig->holds);
        fake_kernel_free(rig->kernel);
        sd_bus_flush_close_unref(rig->caller);
        mock_polkit_free(rig->polkit);
        private_bus_free(rig->bus);
        g_ptr_array_unref(rig->journal);
        folder_remove(rig->dir);
        close(rig->ready);
        g_free(rig->dir);
        g_free(rig->helper_dir);
        g_free(rig);
}

/* --- callers --- */

static sd_bus_message *call_new(sd_bus *caller, const char *path, const char *interface,
                                const char *member) {
        sd_bus_message *m = NULL;

        g_assert_cmpint(
                sd_bus_message_new_method_call(caller, &m, "org.feos.VM1", path, interface, member),
                >=, 0);
        return m;
}

void rig_create(Rig *rig, sd_bus *caller, const char *machine, Answer *answer) {
        sd_bus_message *m = call_new(caller, VM1, "org.feos.VM1", "Create");

        g_assert_cmpint(sd_bus_message_append(m, "sasa{sv}", machine, 1, GPU, 1, "memory-mib", "t",
                                              UINT64_C(512)),
                        >=, 0);
        answer_expect(answer, caller, m);
}

void rig_call(Rig *rig, const char *path, const char *interface, const char *member,
              Answer *answer) {
        answer_expect(answer, rig->caller, call_new(rig->caller, path, interface, member));
}

void rig_wait(Rig *rig, const Answer *answer) {
        private_bus_wait(rig->bus, &answer->there);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
        *(bool *)userdata = true;
        return 0;
}

void rig_run(Rig *rig, unsigned milliseconds) {
        g_autoptr(sd_event_source) source = NULL;
        bool over = false;

        g_assert_cmpint(sd_event_add_time_relative(rig->event, &source, CLOCK_MONOTONIC,
                                                   milliseconds * 1000, 1, on_time, &over),
                        >=, 0);
        while (!over)
                g_assert_cmpint(sd_event_run(rig->event, UINT64_MAX), >=, 0);
}

char *rig_gpu_path(const char *address) {
        g_autofree char *name = g_strdelimit(g_strdup(address), ":.", '_');

        return g_strdup_printf(VM1 "/gpu/%s", name);
}

char *rig_property(Rig *rig, const char *path, const char *interface, const char *property) {
        g_auto(Answer) answer = { 0 };
        sd_bus_message *m = call_new(rig->caller, path, "org.freedesktop.DBus.Properties", "Get");
        const char *text;

        g_assert_cmpint(sd_bus_message_append(m, "ss", interface, property), >=, 0);
        answer_expect(&answer, rig->caller, m);
        rig_wait(rig, &answer);
        if (answer.error)
                return NULL;
        g_assert_cmpint(sd_bus_message_read(answer.reply, "v", "s", &text), >, 0);
        return g_strdup(text);
}

/* --- what is true, and what is told --- */

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
        if (active && domain_has(domain, census->address)) {
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

        domains_walk(rig, census_take, &census);
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

        if (strcmp(fake_kernel_driver(rig->kernel, address), native) != 0)
                return g_strdup_printf("%s is on '%s'", address,
                                       fake_kernel_driver(rig->kernel, address));
        if (*fake_kernel_override(rig->kernel, address))
                return g_strdup_printf("%s has the override '%s'", address,
                                       fake_kernel_override(rig->kernel, address));
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

static char *bound_wrong(Rig *rig, const Census *census) {
        if (census->defined)
                return g_strdup("a machine is left defined");
        if (strcmp(fake_kernel_driver(rig->kernel, GPU), "vfio-pci") != 0 ||
            strcmp(fake_kernel_driver(rig->kernel, AUDIO), "vfio-pci") != 0)
                return g_strdup("the card is not on vfio-pci");
        if (!is_recorded(rig, GPU))
                return g_strdup("nobody remembers where the GPU came from");
        return fault_wrong(rig, GPU);
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

        domains_walk(rig, census_take, &gpu);
        domains_walk(rig, census_take, &other);
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

        for (;;) {
                char *why = wrong(rig, expectation);

                if (!why || g_get_monotonic_time() > end)
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

unsigned rig_number(const char *name, unsigned fallback) {
        const char *text = g_getenv(name);
        guint64 number;

        if (!text || !*text)
                return fallback;
        if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT32, &number, NULL))
                g_error("%s is no number", name);
        return (unsigned)number;
}
