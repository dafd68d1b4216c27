/* The consoles, on terminals of the test's own: it plays QEMU, which has the other end, and the
 * readers. Nothing sleeps: the loop runs until what is awaited has happened, or a deadline passes.
 */
#include "hypervisor/console.h"

#include "autoptr-bus.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#define UUID          "5cba7a3e-0d4c-4b0e-9f4c-2c8a4f1f7d10"
#define OTHER_UUID    "5cba7a3e-0d4c-4b0e-9f4c-2c8a4f1f7d11"
#define BURST         (1024 * 1024)
#define DEADLINE_USEC (30 * G_USEC_PER_SEC)

typedef struct Fixture {
        sd_event *event;
        Consoles *consoles;
        int qemu;        /* the terminal's other end */
        unsigned n_fds;  /* before anything was made */
        unsigned n_idle; /* with a loop, and nothing open */
} Fixture;

static unsigned count_fds(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

static int pty_new(int *ret_terminal) {
        int qemu, terminal;

        assert_int_equal(openpty(&qemu, &terminal, NULL, NULL, NULL), 0);
        assert_int_equal(fcntl(qemu, F_SETFL, O_NONBLOCK), 0);
        *ret_terminal = terminal;
        return qemu;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata) {
        return 0;
}

/* A loop makes its timer when the first is wanted, and keeps it. */
static void loop_warm_up(sd_event *event) {
        g_autoptr(sd_event_source) source = NULL;

        assert_true(sd_event_add_time(event, &source, CLOCK_MONOTONIC, 0, 0, on_time, NULL) >= 0);
        while (sd_event_run(event, 0) > 0)
                ;
}

static int setup(void **state) {
        Fixture *f = g_new0(Fixture, 1);

        f->n_fds = count_fds();
        assert_true(sd_event_new(&f->event) >= 0);
        f->consoles = consoles_new(f->event);
        loop_warm_up(f->event);
        f->qemu = -1;
        f->n_idle = count_fds();
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        if (f->qemu >= 0)
                close(f->qemu);
        consoles_free(f->consoles);
        sd_event_unref(f->event);
        assert_int_equal(count_fds(), f->n_fds);
        g_free(f);
        return 0;
}

/* A stream; the first brings the terminal. */
static int stream_new(Fixture *f) {
        int terminal = -1, fd = -1;

        if (!consoles_are_open(f->consoles, UUID))
                f->qemu = pty_new(&terminal);
        assert_int_equal(consoles_open(f->consoles, UUID, 0, terminal, &fd), 0);
        assert_true(consoles_are_open(f->consoles, UUID));
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        return fd;
}

/* One turn of the loop, which need not have anything to do. */
static void turn(Fixture *f) {
        assert_true(sd_event_run(f->event, 1000) >= 0);
}

/* Turns for as long as there is something to do. */
static void settle(Fixture *f) {
        while (sd_event_run(f->event, 0) > 0)
                ;
}

static char *pattern(size_t size, unsigned seed) {
        g_autoptr(GRand) random = g_rand_new_with_seed(seed);
        char *data = g_malloc(size);

        for (size_t i = 0; i < size; i++)
                data[i] = (char)g_rand_int(random);
        return data;
}

/* Writes what goes; returns how much that was. */
static size_t push(int fd, const char *data, size_t size) {
        ssize_t n = write(fd, data, size);

        if (n < 0)
                assert_int_equal(errno, EAGAIN);
        return n < 0 ? 0 : (size_t)n;
}

/* Takes what is there. False: it has ended. */
static bool pull(int fd, GByteArray *into) {
        char buffer[65536];
        ssize_t n;

        while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                g_byte_array_append(into, (guint8 *)buffer, n);
        if (n < 0)
                assert_int_equal(errno, EAGAIN);
        return n != 0;
}

static void await_bytes(Fixture *f, int fd, GByteArray *into, size_t size) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;

        while (into->len < size) {
                assert_true(g_get_monotonic_time() < deadline);
                turn(f);
                (void)pull(fd, into);
        }
        assert_int_equal(into->len, size);
}

static void await_end(Fixture *f, int fd, GByteArray *into) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;

        while (pull(fd, into)) {
                assert_true(g_get_monotonic_time() < deadline);
                turn(f);
        }
}

/* The guest says @data, at the pace at which the terminal takes it; @readers read all the while. */
static void guest_says(Fixture *f, const char *data, size_t size, const int *fds,
                       GByteArray **readers, unsigned n_readers) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;

        for (size_t done = 0; done < size;) {
                assert_true(g_get_monotonic_time() < deadline);
                done += push(f->qemu, data + done, MIN(size - done, 4096));
                settle(f);
                for (unsigned i = 0; i < n_readers; i++)
                        (void)pull(fds[i], readers[i]);
        }
}

static void test_burst(void **state) {
        Fixture *f = *state;
        int fds[] = { stream_new(f), stream_new(f) };
        GByteArray *heard[] = { g_byte_array_new(), g_byte_array_new() };
        g_autofree char *burst = pattern(BURST, 1);

        guest_says(f, burst, BURST, fds, heard, 2);
        for (unsigned i = 0; i < 2; i++) {
                await_bytes(f, fds[i], heard[i], BURST);
                assert_memory_equal(heard[i]->data, burst, BURST);
                g_byte_array_unref(heard[i]);
                close(fds[i]);
        }
}

/* Both write a burst at once, while the guest reads now and then: all of each arrives, in order. */
static void test_both_write(void **state) {
        Fixture *f = *state;
        int fds[] = { stream_new(f), stream_new(f) };
        g_autoptr(GByteArray) guest = g_byte_array_new();
        g_autofree char *lower = g_malloc(BURST / 4), *upper = g_malloc(BURST / 4);
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;
        size_t sent[2] = { 0 }, seen[2] = { 0 };

        for (size_t i = 0; i < BURST / 4; i++) {
                lower[i] = (char)('a' + i % 26);
                upper[i] = (char)('A' + i % 26);
        }
        while (guest->len < BURST / 2) {
                assert_true(g_get_monotonic_time() < deadline);
                for (unsigned i = 0; i < 2; i++)
                        sent[i] += push(fds[i], (i ? upper : lower) + sent[i], BURST / 4 - sent[i]);
                settle(f);
                (void)pull(f->qemu, guest);
        }
        assert_int_equal(guest->len, BURST / 2);
        for (size_t i = 0; i < guest->len; i++) {
                bool is_upper = g_ascii_isupper(guest->data[i]);

                assert_int_equal(guest->data[i], (is_upper ? upper : lower)[seen[is_upper]++]);
        }
        assert_int_equal(seen[0], BURST / 4);
        assert_int_equal(seen[1], BURST / 4);
        close(fds[0]);
        close(fds[1]);
}

/* While the guest takes nothing a writer has to wait, and can still read. */
static void test_back_pressure(void **state) {
        Fixture *f = *state;
        int fd = stream_new(f);
        g_autofree char *text = pattern(BURST * 4, 2);
        g_autoptr(GByteArray) guest = g_byte_array_new(), heard = g_byte_array_new();
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;
        size_t sent = 0, n;

        do {
                n = push(fd, text + sent, BURST * 4 - sent);
                sent += n;
                settle(f);
        } while (n > 0);
        assert_true(sent < BURST * 4);

        assert_int_equal(push(f->qemu, "hello", 5), 5);
        await_bytes(f, fd, heard, 5);
        while (guest->len < sent) {
                assert_true(g_get_monotonic_time() < deadline);
                (void)pull(f->qemu, guest);
                settle(f);
        }
        assert_int_equal(guest->len, sent);
        assert_memory_equal(guest->data, text, sent);
        close(fd);
}

/* One reads nothing while the guest says more than is kept; the other hears all of it. */
static void test_slow_reader(void **state) {
        Fixture *f = *state;
        int slow = stream_new(f), fast = stream_new(f);
        size_t size = CONSOLE_BACKLOG_MAX + 2 * BURST;
        GByteArray *heard = g_byte_array_new();
        g_autoptr(GByteArray) late = g_byte_array_new();
        g_autofree char *burst = pattern(size, 3);

        guest_says(f, burst, size, &fast, &heard, 1);
        await_bytes(f, fast, heard, size);
        assert_memory_equal(heard->data, burst, size);

        /* What is kept, and what the socket held; it has lost the end and nothing in between. */
        for (unsigned i = 0; i < 1000; i++) {
                (void)pull(slow, late);
                settle(f);
        }
        assert_in_range(late->len, CONSOLE_BACKLOG_MAX, CONSOLE_BACKLOG_MAX + BURST);
        assert_memory_equal(late->data, burst, late->len);

        /* From now on it hears everything again. */
        g_byte_array_set_size(late, 0);
        assert_int_equal(push(f->qemu, "again", 5), 5);
        await_bytes(f, slow, late, 5);
        assert_memory_equal(late->data, "again", 5);
        g_byte_array_unref(heard);
        close(slow);
        close(fast);
}

/* It goes on for as long as somebody listens; then the terminal is let go of. */
static void test_close(void **state) {
        Fixture *f = *state;
        int first = stream_new(f), second = stream_new(f);
        g_autoptr(GByteArray) heard = g_byte_array_new(), guest = g_byte_array_new();
        unsigned n_fds = count_fds();

        close(first);
        settle(f);
        assert_int_equal(count_fds(), n_fds - 2);
        assert_int_equal(push(f->qemu, "still here", 10), 10);
        await_bytes(f, second, heard, 10);
        /* What is written before one leaves arrives. */
        assert_int_equal(push(second, "bye", 3), 3);
        close(second);
        await_bytes(f, f->qemu, guest, 3);
        settle(f);
        assert_false(consoles_are_open(f->consoles, UUID));
        close(f->qemu);
        f->qemu = -1;
        assert_int_equal(count_fds(), f->n_idle);
}

/* Written by one that has gone while the guest did not take it: it arrives when the guest does. */
static void test_close_under_pressure(void **state) {
        Fixture *f = *state;
        int writer = stream_new(f), other = stream_new(f);
        g_autofree char *text = pattern(BURST, 4);
        g_autoptr(GByteArray) guest = g_byte_array_new();
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;
        size_t sent = 0, n;

        do {
                n = push(writer, text + sent, BURST - sent);
                sent += n;
                settle(f);
        } while (n > 0);
        close(writer);
        settle(f); /* and does not spin */
        while (guest->len < sent) {
                assert_true(g_get_monotonic_time() < deadline);
                (void)pull(f->qemu, guest);
                settle(f);
        }
        assert_memory_equal(guest->data, text, sent);
        close(other);
}

/* A pipe's end: done writing, not done reading. */
static void test_half_close(void **state) {
        Fixture *f = *state;
        int fd = stream_new(f);
        g_autoptr(GByteArray) heard = g_byte_array_new(), guest = g_byte_array_new();

        assert_int_equal(push(fd, "last", 4), 4);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        await_bytes(f, f->qemu, guest, 4);
        settle(f); /* and does not spin */
        assert_int_equal(push(f->qemu, "answer", 6), 6);
        await_bytes(f, fd, heard, 6);
        close(fd);
}

static void test_hang_up(void **state) {
        Fixture *f = *state;
        int fds[] = { stream_new(f), stream_new(f) };
        g_autoptr(GByteArray) heard = g_byte_array_new();

        assert_int_equal(push(f->qemu, "words", 5), 5);
        await_bytes(f, fds[0], heard, 5);
        close(f->qemu);
        f->qemu = -1;
        await_end(f, fds[0], heard);
        await_end(f, fds[1], heard);
        assert_int_equal(heard->len, 10);
        assert_false(consoles_are_open(f->consoles, UUID));
        close(fds[0]);
        close(fds[1]);
        settle(f);
        assert_int_equal(count_fds(), f->n_idle);
}

/* The domain is seen to be off while its terminal seems to live: the end comes after what was still
 * to be read. */
static void test_end(void **state) {
        Fixture *f = *state;
        int fd = stream_new(f), terminal, other_qemu, other = -1;
        g_autoptr(GByteArray) heard = g_byte_array_new(), more = g_byte_array_new();
        g_autofree char *burst = pattern(BURST, 5);

        other_qemu = pty_new(&terminal);
        assert_int_equal(consoles_open(f->consoles, OTHER_UUID, 0, terminal, &other), 0);
        guest_says(f, burst, BURST, NULL, NULL, 0);
        while (push(f->qemu, "end", 3) == 0)
                turn(f); /* the terminal was still full */
        consoles_end(f->consoles, UUID);
        consoles_end(f->consoles, UUID);
        assert_false(consoles_are_open(f->consoles, UUID));
        await_end(f, fd, heard);
        assert_int_equal(heard->len, BURST + 3);
        assert_memory_equal(heard->data, burst, BURST);
        close(fd);

        assert_int_equal(push(other_qemu, "mine", 4), 4);
        await_bytes(f, other, more, 4);
        close(other_qemu);
        close(other);
        /* It is started again, with another terminal. */
        close(f->qemu);
        fd = stream_new(f);
        close(fd);
}

/* One user cannot have them all; another has his own, and one that is closed makes room. */
static void test_too_many(void **state) {
        Fixture *f = *state;
        int fds[CONSOLES_PER_OWNER], other = -1, one_more = -1;

        for (size_t i = 0; i < CONSOLES_PER_OWNER; i++)
                fds[i] = stream_new(f);
        assert_int_equal(consoles_open(f->consoles, UUID, 0, -1, &one_more), -EDQUOT);
        assert_int_equal(consoles_open(f->consoles, UUID, 1000, -1, &other), 0);
        close(fds[0]);
        while (consoles_open(f->consoles, UUID, 0, -1, &one_more) < 0)
                assert_true(sd_event_run(f->event, 1000000) > 0);
        fds[0] = one_more;
        for (size_t i = 0; i < CONSOLES_PER_OWNER; i++)
                close(fds[i]);
        close(other);
}

static void test_no_terminal(void **state) {
        Fixture *f = *state;
        int fd = -1, pair[2];

        assert_int_equal(consoles_open(f->consoles, UUID, 0, -1, &fd), -ENOTCONN);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        assert_true(consoles_open(f->consoles, UUID, 0, pair[0], &fd) < 0);
        assert_int_equal(read(pair[1], &(char){ 0 }, 1), 0); /* taken, and closed */
        close(pair[1]);
        assert_false(consoles_are_open(f->consoles, UUID));
        assert_int_equal(fd, -1);
}

/* The terminal adds nothing, swallows nothing and sends nothing back. */
static void test_raw(void **state) {
        Fixture *f = *state;
        int fd = stream_new(f);
        g_autoptr(GByteArray) guest = g_byte_array_new(), heard = g_byte_array_new();
        char all[256];

        for (unsigned i = 0; i < sizeof(all); i++)
                all[i] = (char)i;
        assert_int_equal(push(fd, all, sizeof(all)), sizeof(all));
        await_bytes(f, f->qemu, guest, sizeof(all));
        assert_memory_equal(guest->data, all, sizeof(all));
        assert_int_equal(push(f->qemu, all, sizeof(all)), sizeof(all));
        await_bytes(f, fd, heard, sizeof(all));
        assert_memory_equal(heard->data, all, sizeof(all));
        close(fd);
}

int main(void) {
#define TEST(func) cmocka_unit_test_setup_teardown(func, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_burst),       TEST(test_both_write), TEST(test_back_pressure),
                TEST(test_slow_reader), TEST(test_close),      TEST(test_close_under_pressure),
                TEST(test_half_close),  TEST(test_hang_up),    TEST(test_end),
                TEST(test_too_many),    TEST(test_raw),        TEST(test_no_terminal),
                TEST(test_raw),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
