/* Starts a dbus-daemon on a socket of its own. A caller is another user by connecting as that user:
 * the daemon asks the kernel who connected and nobody else, so the rest of the test may stay root,
 * and nothing has to be forked. */
#include "private-bus.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_USEC (10 * G_USEC_PER_SEC)

struct PrivateBus {
        char *dir;
        pid_t daemon;
        sd_event *event;
        sd_bus *probes[2];
};

static const char config_format[] =
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN\"\n"
        "  \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
        "<busconfig>\n"
        "  <listen>unix:path=%s/socket</listen>\n"
        "  <auth>EXTERNAL</auth>\n"
        "  <policy context=\"default\">\n"
        "    <allow user=\"*\"/>\n"
        "    <allow own=\"*\"/>\n"
        "    <allow send_destination=\"*\"/>\n"
        "    <allow receive_sender=\"*\"/>\n"
        "  </policy>\n"
        "  %s\n"
        "</busconfig>\n";

static pid_t start_daemon(const char *config, int ready) {
        g_autofree char *config_argument = g_strdup_printf("--config-file=%s", config);
        g_autofree char *ready_argument = g_strdup_printf("--print-address=%d", ready);
        pid_t pid = fork();

        if (pid != 0)
                return pid;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("dbus-daemon", "dbus-daemon", "--nofork", "--nopidfile", config_argument,
               ready_argument, NULL);
        _exit(127);
}

PrivateBus *private_bus_new(const char *policy) {
        PrivateBus *self = g_new0(PrivateBus, 1);
        g_autofree char *config = NULL;
        g_autofree char *text = NULL;
        g_autofree char *address = NULL;
        int ready[2];
        char byte;

        self->dir = g_dir_make_tmp("feos-bus-XXXXXX", NULL);
        g_assert_nonnull(self->dir);
        g_assert_cmpint(chmod(self->dir, 0755), ==, 0);
        config = g_build_filename(self->dir, "bus.conf", NULL);
        text = g_strdup_printf(config_format, self->dir, policy ?: "");
        g_assert_true(g_file_set_contents(config, text, -1, NULL));

        g_assert_cmpint(pipe(ready), ==, 0);
        self->daemon = start_daemon(config, ready[1]);
        g_assert_cmpint(self->daemon, >, 0);
        close(ready[1]);
        /* The first byte of its address, or the end of the pipe when it could not start. */
        g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
        close(ready[0]);

        address = g_strdup_printf("unix:path=%s/socket", self->dir);
        g_setenv("DBUS_SYSTEM_BUS_ADDRESS", address, TRUE);
        g_assert_cmpint(sd_event_new(&self->event), >=, 0);
        for (size_t i = 0; i < G_N_ELEMENTS(self->probes); i++)
                self->probes[i] = private_bus_connect(self, geteuid());
        return self;
}

void private_bus_kill(PrivateBus *self) {
        if (self->daemon <= 0)
                return;
        kill(self->daemon, SIGKILL);
        g_assert_cmpint(waitpid(self->daemon, NULL, 0), ==, self->daemon);
        self->daemon = 0;
}

void private_bus_free(PrivateBus *self) {
        g_autofree char *config = g_build_filename(self->dir, "bus.conf", NULL);
        g_autofree char *socket = g_build_filename(self->dir, "socket", NULL);

        for (size_t i = 0; i < G_N_ELEMENTS(self->probes); i++)
                sd_bus_flush_close_unref(self->probes[i]);
        private_bus_kill(self);
        sd_event_unref(self->event);
        g_unlink(config);
        g_unlink(socket);
        g_rmdir(self->dir);
        g_unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
        g_free(self->dir);
        g_free(self);
}

sd_event *private_bus_event(PrivateBus *self) {
        return self->event;
}

bool private_bus_can_be_anybody(void) {
        return getuid() == 0;
}

sd_bus *private_bus_connect(PrivateBus *self, uid_t uid) {
        sd_bus *bus = NULL;
        const char *name;

        /* The kernel notes the effective user at the time of connect(). */
        if (private_bus_can_be_anybody())
                g_assert_cmpint(seteuid(uid), ==, 0);
        g_assert_cmpint(sd_bus_open_system(&bus), >=, 0);
        if (private_bus_can_be_anybody())
                g_assert_cmpint(seteuid(0), ==, 0);
        /* Waits until the daemon has taken us in. */
        g_assert_cmpint(sd_bus_get_unique_name(bus, &name), >=, 0);
        g_assert_cmpint(sd_bus_attach_event(bus, self->event, 0), >=, 0);
        return bus;
}

void private_bus_wait(PrivateBus *self, const bool *flag) {
        gint64 end = g_get_monotonic_time() + WAIT_USEC;

        while (!*flag) {
                gint64 left = end - g_get_monotonic_time();

                g_assert_cmpint(left, >, 0);
                g_assert_cmpint(sd_event_run(self->event, (uint64_t)left), >=, 0);
        }
}

/* The daemon serves its clients in turn, and so does the loop: when a message has gone from one
 * connection of ours to another a few times, whatever was on its way before has arrived, and so
 * have the answers to it, and theirs. */
void private_bus_settle(PrivateBus *self) {
        const char *name;
        int r;

        g_assert_cmpint(sd_bus_get_unique_name(self->probes[1], &name), >=, 0);
        for (unsigned i = 0; i < 8; i++) {
                g_auto(Answer) answer = { 0 };
                sd_bus_message *m = NULL;

                g_assert_cmpint(sd_bus_message_new_method_call(self->probes[0], &m, name, "/",
                                                               "org.freedesktop.DBus.Peer", "Ping"),
                                >=, 0);
                answer_expect(&answer, self->probes[0], m);
                private_bus_wait(self, &answer.there);
        }
        /* And what waits for a quiet moment. */
        while ((r = sd_event_run(self->event, 0)) > 0)
                ;
        g_assert_cmpint(r, ==, 0);
}

void answer_clear(Answer *answer) {
        sd_bus_slot_unref(answer->slot);
        sd_bus_message_unref(answer->reply);
        g_free(answer->error);
        g_free(answer->text);
        *answer = (Answer){ 0 };
}

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        Answer *answer = userdata;

        g_assert_false(answer->there);
        answer->reply = sd_bus_message_ref(reply);
        if (error) {
                answer->error = g_strdup(error->name);
                answer->text = g_strdup(error->message);
        }
        answer->there = true;
        return 1;
}

void answer_expect(Answer *answer, sd_bus *caller, sd_bus_message *m) {
        g_assert_cmpint(sd_bus_call_async(caller, &answer->slot, m, on_answer, answer, WAIT_USEC),
                        >=, 0);
        sd_bus_message_unref(m);
}
