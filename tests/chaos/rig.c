#include "rig-private.h"

#include "autoptr.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
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

#define BOOT_USEC (30 * G_USEC_PER_SEC)

/* A Create whose card is given up at its deadline, on a busy machine. */
#define ANSWER_USEC (20 * G_USEC_PER_SEC)

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

pid_t rig_program_start(const Rig *rig, char *const argv[], char **environment) {
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

/* Whether it says so; else it has ended, and how is @ret_status. One that does neither is killed.
 */
static bool ready_await(Rig *rig, pid_t pid, int *ret_status) {
        gint64 end = g_get_monotonic_time() + BOOT_USEC;
        char text[1024];

        for (;;) {
                ssize_t n = recv(rig->ready, text, sizeof text - 1, 0);

                text[MAX(n, 0)] = '\0';
                if (n > 0 && strstr(text, "READY=1"))
                        return true;
                if (n > 0)
                        continue;
                if (waitpid(pid, ret_status, WNOHANG) == pid)
                        return false;
                if (g_get_monotonic_time() > end)
                        kill(pid, SIGKILL);
                g_assert_cmpint(sd_event_run(rig->event, 20000), >=, 0);
        }
}

void rig_ready_await(Rig *rig, pid_t pid, const char *what) {
        int status;

        if (!ready_await(rig, pid, &status))
                g_error("%s does not start: status %#x", what, (unsigned)status);
}

/* --- the kernel's hooks --- */

static void active_with(virDomainPtr domain, void *userdata) {
        const char **address = userdata;

        if (*address && virDomainIsActive(domain) == 1 && rig_domain_has(domain, *address))
                *address = NULL;
}

static void on_moved(void *userdata, const char *address, const char *driver) {
        Rig *rig = userdata;
        const char *asked = address;

        /* Nobody else has a machine yet while the kernel is being set up. */
        if (!rig->libvirt || strcmp(driver, "vfio-pci") == 0)
                return;
        rig_domains_walk(rig, active_with, &asked);
        if (!asked)
                rig_violation(rig, "%s went to '%s' while a machine runs with it", address, driver);
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
        g_autofree char *uri = rig_libvirt_uri(rig);
        g_autofree char *text = g_strdup_printf("[Hypervisor]\nURI=%s\n"
                                                "[GPUs]\nHandoverTimeoutSec=5\n"
                                                "[Limits]\nPendingPerUser=64\n",
                                                uri);

        g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

bool rig_try_boot(Rig *rig, int *ret_status) {
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
        rig->daemon = rig_program_start(rig, argv, environment);
        if (ready_await(rig, rig->daemon, ret_status))
                return true;
        rig_buried(rig);
        return false;
}

void rig_boot(Rig *rig) {
        int status;

        if (!rig_try_boot(rig, &status)) {
                g_autofree char *words = NULL;

                while (sd_event_run(rig->event, 0) > 0)
                        continue;
                words = rig_last_words(rig);
                g_error("feos-vmd does not start: status %#x%s", (unsigned)status, words);
        }
}

void rig_buried(Rig *rig) {
        (void)waitpid(rig->daemon, NULL, 0); /* a tracer may have had it */
        rig->daemon = 0;
        fake_kernel_forget_listeners(rig->kernel);
}

void rig_stop(Rig *rig) {
        siginfo_t info = { 0 };

        kill(rig->daemon, SIGTERM);
        while (waitid(P_PID, (id_t)rig->daemon, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
               info.si_pid == 0)
                rig_run(rig, 5);
        rig_buried(rig);
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
        rig->holds = rig_holds_new();
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
        rig_libvirt_start(rig);
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

sd_bus_message *rig_call_new(sd_bus *caller, const char *path, const char *interface,
                             const char *member) {
        sd_bus_message *m = NULL;

        g_assert_cmpint(
                sd_bus_message_new_method_call(caller, &m, "org.feos.VM1", path, interface, member),
                >=, 0);
        return m;
}

void rig_create_with(Rig *rig, sd_bus *caller, const char *machine, const char *address,
                     Answer *answer) {
        sd_bus_message *m = rig_call_new(caller, VM1, "org.feos.VM1", "Create");

        g_assert_cmpint(sd_bus_message_append(m, "sasa{sv}", machine, 1, address, 1, "memory-mib",
                                              "t", UINT64_C(512)),
                        >=, 0);
        answer_expect(answer, caller, m);
}

void rig_create(Rig *rig, sd_bus *caller, const char *machine, Answer *answer) {
        rig_create_with(rig, caller, machine, GPU, answer);
}

void rig_call(Rig *rig, const char *path, const char *interface, const char *member,
              Answer *answer) {
        answer_expect(answer, rig->caller, rig_call_new(rig->caller, path, interface, member));
}

void rig_wait(Rig *rig, const Answer *answer) {
        gint64 end = g_get_monotonic_time() + ANSWER_USEC;

        while (!answer->there) {
                if (g_get_monotonic_time() > end) {
                        g_autofree char *words = rig_last_words(rig);

                        g_error("no answer in %d seconds%s", (int)(ANSWER_USEC / G_USEC_PER_SEC),
                                words);
                }
                g_assert_cmpint(sd_event_run(rig->event, 100000), >=, 0);
        }
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
        sd_bus_message *m =
                rig_call_new(rig->caller, path, "org.freedesktop.DBus.Properties", "Get");
        const char *text;

        g_assert_cmpint(sd_bus_message_append(m, "ss", interface, property), >=, 0);
        answer_expect(&answer, rig->caller, m);
        rig_wait(rig, &answer);
        if (answer.error)
                return NULL;
        g_assert_cmpint(sd_bus_message_read(answer.reply, "v", "s", &text), >, 0);
        return g_strdup(text);
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

int rig_setup(void **state) {
        *state = rig_new(NULL);
        return 0;
}

int rig_teardown(void **state) {
        rig_free(*state);
        return 0;
}
