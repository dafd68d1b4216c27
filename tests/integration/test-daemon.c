/* The real daemon on a bus of its own, with libvirt's test driver: how it reads its configuration,
 * at the start, on SIGHUP, and only to say what it thinks of it. Its program is the argument. */
#include "private-bus.h"
#include "testing.h"

#include "autoptr.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *program;

typedef struct Running {
        PrivateBus *bus;
        sd_bus *caller;
        char *folder;
        char *conf;
        char *state_dir;
        char *socket;
        int notify;
        sd_event_source *source;
        pid_t pid;
        char *expected; /* what the daemon is to notify */
        bool there;
        unsigned changes; /* of ImageDirectories, as told */
} Running;

static int on_notify(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Running *running = userdata;
        char text[4096];
        ssize_t n = recv(fd, text, sizeof text - 1, 0);

        assert_true(n >= 0);
        text[n] = '\0';
        if (running->expected && strstr(text, running->expected))
                running->there = true;
        return 0;
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Running *running = userdata;
        const char *interface, *property;

        assert_true(sd_bus_message_read(m, "s", &interface) > 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                assert_true(sd_bus_message_read(m, "s", &property) > 0);
                running->changes += g_str_equal(property, "ImageDirectories");
                assert_true(sd_bus_message_skip(m, "v") > 0);
                assert_true(sd_bus_message_exit_container(m) > 0);
        }
        return 0;
}

static void configure(const Running *running, const char *text) {
        assert_true(g_file_set_contents(running->conf, text, -1, NULL));
}

/* Expects a notification with @text from now on; expect_wait() waits until it is there. */
static void expect(Running *running, const char *text) {
        g_free(running->expected);
        running->expected = g_strdup(text);
        running->there = false;
}

static void expect_wait(Running *running) {
        private_bus_wait(running->bus, &running->there);
}

static void listen_for_notifications(Running *running) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        running->socket = g_build_filename(running->folder, "notify", NULL);
        g_strlcpy(address.sun_path, running->socket, sizeof address.sun_path);
        running->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_int_equal(bind(running->notify, (struct sockaddr *)&address, sizeof address), 0);
        assert_true(sd_event_add_io(private_bus_event(running->bus), &running->source,
                                    running->notify, EPOLLIN, on_notify, running) >= 0);
        g_setenv("NOTIFY_SOCKET", running->socket, true);
}

static int setup(void **state) {
        Running *running = g_new0(Running, 1);

        running->folder = g_dir_make_tmp("vmd-XXXXXX", NULL);
        running->conf = g_build_filename(running->folder, "vmd.conf", NULL);
        running->state_dir = g_build_filename(running->folder, "state", NULL);
        running->bus = private_bus_new(NULL);
        running->caller = private_bus_connect(running->bus, getuid());
        assert_true(sd_bus_match_signal(running->caller, NULL, NULL, "/org/feos/VM1",
                                        "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                        on_changed, running) >= 0);
        listen_for_notifications(running);
        *state = running;
        return 0;
}

static void start(Running *running) {
        const char *argv[] = {
                program,        "--config",      running->conf, "--state-dir", running->state_dir,
                "--helper-dir", running->folder, NULL
        };
        g_autoptr(GError) error = NULL;

        expect(running, "READY=1");
        if (!g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                           &running->pid, &error))
                fail_msg("%s", error->message);
        expect_wait(running);
}

static int teardown(void **state) {
        Running *running = *state;
        g_autofree char *all = g_strdup_printf("rm -rf %s", running->folder);
        int status = 0;

        if (running->pid > 0) {
                kill(running->pid, SIGTERM);
                while (waitpid(running->pid, &status, 0) < 0 && errno == EINTR)
                        continue;
        }
        g_unsetenv("NOTIFY_SOCKET");
        sd_event_source_disable_unref(running->source);
        close(running->notify);
        sd_bus_flush_close_unref(running->caller);
        private_bus_free(running->bus);
        if (system(all) != 0)
                status = -1;
        g_free(running->folder);
        g_free(running->conf);
        g_free(running->state_dir);
        g_free(running->socket);
        g_free(running->expected);
        g_free(running);
        return status;
}

/* A property of the service, a new string; lists are joined by blanks. */
static char *property(Running *running, const char *name) {
        g_auto(Answer) answer = { 0 };
        g_autoptr(sd_bus_message) m = NULL;
        g_auto(GStrv) list = NULL;
        const char *text;

        assert_true(sd_bus_message_new_method_call(running->caller, &m, "org.feos.VM1",
                                                   "/org/feos/VM1",
                                                   "org.freedesktop.DBus.Properties", "Get") >= 0);
        assert_true(sd_bus_message_append(m, "ss", "org.feos.VM1", name) >= 0);
        answer_expect(&answer, running->caller, g_steal_pointer(&m));
        private_bus_wait(running->bus, &answer.there);
        assert_null(answer.error);
        if (sd_bus_message_enter_container(answer.reply, 'v', "s") > 0) {
                assert_true(sd_bus_message_read(answer.reply, "s", &text) > 0);
                return g_strdup(text);
        }
        assert_true(sd_bus_message_enter_container(answer.reply, 'v', "as") > 0);
        assert_true(sd_bus_message_read_strv(answer.reply, &list) >= 0);
        return g_strjoinv(" ", list ?: (char *[]){ NULL });
}

static void assert_property(Running *running, const char *name, const char *expected) {
        g_autofree char *value = property(running, name);

        assert_string_equal(value, expected);
}

/* Asks for a reload and waits until systemd would know how it has ended. */
static void reload(Running *running, const char *says) {
        expect(running, "RELOADING=1\nMONOTONIC_USEC=");
        assert_int_equal(kill(running->pid, SIGHUP), 0);
        expect_wait(running);
        expect(running, says);
        expect_wait(running);
}

static void a_reload_takes_what_can_be_taken_and_tells(void **state) {
        Running *running = *state;

        configure(running, "[Hypervisor]\nURI=test:///default\n[Images]\nDirectories=/a\n");
        start(running);
        assert_property(running, "ImageDirectories", "/a");
        assert_property(running, "HypervisorURI", "test:///default");

        configure(running, "[Hypervisor]\nURI=test:///other\n[Images]\nDirectories=/b\n"
                           "Directories=/c\n");
        reload(running, "READY=1\nSTATUS=");
        assert_property(running, "ImageDirectories", "/b /c");
        assert_property(running, "HypervisorURI", "test:///default");
        assert_int_equal(running->changes, 1);

        reload(running, "READY=1\nSTATUS=");
        assert_property(running, "ImageDirectories", "/b /c");
        assert_int_equal(running->changes, 1);
}

static void a_wrong_file_changes_nothing_at_a_reload(void **state) {
        Running *running = *state;

        configure(running, "[Hypervisor]\nURI=test:///default\n[Images]\nDirectories=/a\n");
        start(running);
        configure(running, "[Images]\nDirectories=/b\n[Limits]\nPendingPerUser=0\n");
        reload(running, "READY=1\nSTATUS=The configuration is wrong");
        assert_property(running, "ImageDirectories", "/a");
        assert_int_equal(running->changes, 0);

        configure(running, "[Images]\nDirectories=/b\n");
        reload(running, "READY=1\nSTATUS=");
        assert_property(running, "ImageDirectories", "/b");
}

/* Runs the daemon to its end. Returns its exit status. */
static int run(const Running *running, const char *option, char **ret_output, char **ret_errors) {
        const char *argv[] = { program,       "--config",         running->conf,
                               "--state-dir", running->state_dir, option,
                               NULL };
        int status = -1;

        assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, ret_output,
                                 ret_errors, &status, NULL));
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void with_a_wrong_file_the_service_does_not_start(void **state) {
        static const struct {
                const char *option;
                int status;
        } cases[] = { { NULL, 78 }, { "--check-config", 1 } };
        Running *running = *state;

        configure(running, "[Images]\nDirectories=b\n[Limits]\nPendingPerUser=3\nPending=1\n");
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autofree char *output = NULL, *errors = NULL;
                g_autofree char *expected = g_strdup_printf(
                        "%s:2: [Images] Directories=b: expected is absolute paths, separated by "
                        "spaces\n%s:5: [Limits] Pending=: there is no such key in this section\n",
                        running->conf, running->conf);

                assert_int_equal(run(running, cases[i].option, &output, &errors), cases[i].status);
                assert_string_equal(errors, expected);
                assert_string_equal(output, "");
        }
        assert_false(g_file_test(running->state_dir, G_FILE_TEST_EXISTS));
}

static void check_config_prints_what_would_be_in_use(void **state) {
        Running *running = *state;
        g_autofree char *output = NULL, *errors = NULL;

        configure(running, "[Limits]\nPendingPerUser=3\n");
        assert_int_equal(run(running, "--check-config", &output, &errors), 0);
        assert_non_null(strstr(output, running->conf));
        assert_non_null(strstr(output, "\n[Hypervisor]\nURI=qemu:///system\n"));
        assert_non_null(strstr(output, "\n[Limits]\nPendingPerUser=3\n"));
        assert_string_equal(errors, "");
        assert_false(g_file_test(running->state_dir, G_FILE_TEST_EXISTS));

        assert_int_equal(g_remove(running->conf), 0);
        g_clear_pointer(&output, g_free);
        g_clear_pointer(&errors, g_free);
        assert_int_equal(run(running, "--check-config", &output, &errors), 1);
        assert_non_null(strstr(errors, "there is no such file"));
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
                TEST(a_reload_takes_what_can_be_taken_and_tells),
                TEST(a_wrong_file_changes_nothing_at_a_reload),
                TEST(with_a_wrong_file_the_service_does_not_start),
                TEST(check_config_prints_what_would_be_in_use),
        };

        assert_int_equal(argc, 2);
        program = argv[1];
        return cmocka_run_group_tests_name("daemon", tests, NULL, NULL);
}
