/* Who asks the fake kernel: the helpers, each of whose calls kernel-shim.c brings here by a
 * connection of its own. */
#include "fake-kernel-private.h"

#include "kernel-shim.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

typedef struct Client {
        FakeKernel *kernel; /* weak */
        sd_event_source *source;
        int fd;
        pid_t pid;
        int group;             /* that it has open, -1 = none */
        char *path, *data;     /* of an unbind that waits for a QEMU or a driver to let go */
        const Function *waits; /* weak; NULL = none does */
} Client;

/* Only those by which a card changes hands. */
static void log_write(FakeKernel *kernel, const char *path, const char *data, int result) {
        g_autofree char *file = g_path_get_basename(path);
        g_autofree char *folder = g_path_get_dirname(path);
        g_autofree char *of = g_path_get_basename(folder);
        g_autofree char *text = g_strchomp(g_strdup(data));
        bool is_override = strcmp(file, "driver_override") == 0;
        bool is_probe = strcmp(file, "drivers_probe") == 0;
        const char *address = is_override ? of : text;
        g_autofree char *state = fake_kernel_state(kernel, address);
        g_autofree char *deed = NULL;

        if (!is_override && !is_probe && strcmp(file, "bind") != 0 && strcmp(file, "unbind") != 0)
                return;
        if (is_override)
                deed = g_strdup_printf("override %s %s", address, *text ? text : "-");
        else if (is_probe)
                deed = g_strdup_printf("probe %s", address);
        else
                deed = g_strdup_printf("%s %s %s", file, address, of);
        g_ptr_array_add(kernel->log,
                        g_strdup_printf("%s = %s -> %s", deed,
                                        result < 0 ? g_strerror(-result) : "ok", state));
}

/* For kernel-shim.c: no signal ends a process that waits in the kernel. */
static void mark(const Client *client, bool waits) {
        g_autofree char *name = g_strdup_printf(KERNEL_KEEPS "-%d", client->pid);
        g_autofree char *path = fake_kernel_path(client->kernel, name);

        if (waits)
                g_assert_true(g_file_set_contents(path, "", 0, NULL));
        else
                g_unlink(path);
}

static void client_free(void *data) {
        Client *client = data;

        sd_event_source_disable_unref(client->source);
        close(client->fd);
        mark(client, false);
        g_free(client->path);
        g_free(client->data);
        g_free(client);
}

static void client_answer(Client *client, int32_t result) {
        (void)send(client->fd, &result, sizeof result, MSG_NOSIGNAL);
}

static void client_write(Client *client, const char *path, const char *data) {
        FakeKernel *kernel = client->kernel;
        int result = fake_kernel_write(kernel, path, data);

        if (result == -EINPROGRESS) {
                client->waits = fake_kernel_function(kernel, data);
                client->path = g_strdup(path);
                client->data = g_strdup(data);
                mark(client, true);
                return;
        }
        log_write(kernel, path, data, result);
        client_answer(client, result);
}

static bool group_is_open(const FakeKernel *kernel, int group) {
        for (guint i = 0; i < kernel->clients->len; i++)
                if (((const Client *)g_ptr_array_index(kernel->clients, i))->group == group)
                        return true;
        return false;
}

/* VFIO lets one in (drivers/vfio/group.c). The node is there while a function is on vfio-pci. */
int fake_kernel_try_group(FakeKernel *kernel, int group) {
        bool there = false;

        for (guint i = 0; i < kernel->functions->len; i++) {
                const Function *function = g_ptr_array_index(kernel->functions, i);

                there = there || (function->group == group && function->present &&
                                  strcmp(function->driver, VFIO_PCI) == 0);
        }
        if (!there)
                return -ENOENT;
        return fake_kernel_is_held(kernel, group) || group_is_open(kernel, group) ? -EBUSY : 0;
}

static void client_open(Client *client, const char *text) {
        int group = (int)g_ascii_strtoll(text, NULL, 10);
        int result = fake_kernel_try_group(client->kernel, group);

        if (result == 0)
                client->group = group;
        client_answer(client, result);
}

static int on_client(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Client *client = userdata;
        char message[16384];
        ssize_t n = recv(fd, message, sizeof message - 1, MSG_DONTWAIT);

        if (n <= 0) {
                g_ptr_array_remove(client->kernel->clients, client);
                return 0;
        }
        message[n] = '\0';
        if (message[0] == 'w')
                client_write(client, message + 1, message + strlen(message) + 1);
        else
                client_open(client, message + 1);
        return 0;
}

static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        FakeKernel *kernel = userdata;
        int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        struct ucred peer = { 0 };
        socklen_t length = sizeof peer;
        Client *client;

        if (connection < 0)
                return 0;
        g_assert_cmpint(getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length), ==, 0);
        client = g_new0(Client, 1);
        *client = (Client){ .kernel = kernel, .fd = connection, .pid = peer.pid, .group = -1 };
        g_ptr_array_add(kernel->clients, client);
        g_assert_cmpint(sd_event_add_io(kernel->event, &client->source, connection, EPOLLIN,
                                        on_client, client),
                        >=, 0);
        return 0;
}

/* Who waits for a function of the group tries again. */
static void waiting_retry(FakeKernel *kernel, int group) {
        for (guint i = 0; i < kernel->clients->len; i++) {
                Client *client = g_ptr_array_index(kernel->clients, i);

                if (client->waits && client->waits->group == group) {
                        g_autofree char *path = g_steal_pointer(&client->path);
                        g_autofree char *data = g_steal_pointer(&client->data);

                        client->waits = NULL;
                        mark(client, false);
                        client_write(client, path, data);
                }
        }
}

bool fake_kernel_is_held(const FakeKernel *kernel, int group) {
        return g_hash_table_contains(kernel->held, GINT_TO_POINTER(group));
}

void fake_kernel_hold(FakeKernel *kernel, int group, bool held) {
        if (held) {
                g_hash_table_add(kernel->held, GINT_TO_POINTER(group));
                return;
        }
        g_hash_table_remove(kernel->held, GINT_TO_POINTER(group));
        waiting_retry(kernel, group);
}

void fake_kernel_stick(FakeKernel *kernel, const char *address, bool sticks) {
        Function *function = fake_kernel_function(kernel, address);

        function->sticks = sticks;
        if (!sticks)
                waiting_retry(kernel, function->group);
}

void fake_kernel_listen(FakeKernel *kernel) {
        g_autofree char *path = fake_kernel_path(kernel, "kernel");
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        g_assert_cmpuint(g_strlcpy(address.sun_path, path, sizeof address.sun_path), <,
                         sizeof address.sun_path);
        kernel->clients = g_ptr_array_new_with_free_func(client_free);
        kernel->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        g_assert_cmpint(kernel->fd, >=, 0);
        g_assert_cmpint(bind(kernel->fd, (struct sockaddr *)&address, sizeof address), ==, 0);
        g_assert_cmpint(listen(kernel->fd, 64), ==, 0);
        g_assert_cmpint(sd_event_add_io(kernel->event, &kernel->source, kernel->fd, EPOLLIN,
                                        on_connection, kernel),
                        >=, 0);
}
