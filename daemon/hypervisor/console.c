/* Between one terminal and many sockets. Whatever the terminal says is copied into each stream's
 * backlog and goes out as its reader takes it; the terminal is always read, whoever does not. In
 * the other direction there is room for one chunk: while the terminal does not take it, no stream
 * is read, and the writers wait. It knows no libvirt and no machines, only UUIDs. */
#include "hypervisor/console.h"

#include "autoptr-bus.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

/* What a terminal takes at once is no more than 4 KiB. */
#define INPUT_CHUNK  4096
#define OUTPUT_CHUNK 65536

/* How long a stream that has ended keeps what its reader has not taken, and one that its owner has
 * closed what the guest has not. */
#define LINGER_USEC (30 * G_USEC_PER_SEC)

typedef struct Console Console;

/* One stream. */
typedef struct Stream {
        Console *console;
        uid_t owner;
        int fd;
        sd_event_source *source;
        sd_event_source *linger; /* NULL unless it has ended or is closed */
        GByteArray *backlog;     /* said by the guest, not taken yet: from @taken on */
        size_t taken;
        bool input_ended; /* its owner will write nothing more */
        bool closed;      /* its owner has gone */
        bool ended;       /* the guest will say nothing more */
} Stream;

struct Console {
        Consoles *consoles;
        char *uuid;
        int fd; /* the terminal; -1 = it has hung up, or the domain is off */
        sd_event_source *source;
        GPtrArray *streams;     /* Stream, owned */
        char *input;            /* INPUT_CHUNK: read from a stream, on its way to the guest */
        size_t from, to;        /* what of it is not written yet */
        sd_event_source *sweep; /* frees the streams that are done */
};

struct Consoles {
        sd_event *event;
        GPtrArray *all; /* Console, owned; of one UUID at most one has a terminal */
        char *output;   /* OUTPUT_CHUNK */
};

static void stream_free(void *data) {
        Stream *stream = data;

        sd_event_source_disable_unref(stream->source);
        sd_event_source_disable_unref(stream->linger);
        close(stream->fd);
        g_byte_array_unref(stream->backlog);
        g_free(stream);
}

static void terminal_close(Console *console) {
        console->source = sd_event_source_disable_unref(console->source);
        if (console->fd >= 0)
                close(console->fd);
        console->fd = -1;
        console->from = console->to = 0;
}

static void console_free(void *data) {
        Console *console = data;

        terminal_close(console);
        sd_event_source_disable_unref(console->sweep);
        g_ptr_array_unref(console->streams);
        g_free(console->input);
        g_free(console->uuid);
        g_free(console);
}

/* --- One stream --- */

static size_t stream_behind(const Stream *stream) {
        return stream->backlog->len - stream->taken;
}

/* Done for good: swept away as soon as the loop has called nobody else. */
static void stream_drop(Stream *stream) {
        stream->closed = stream->ended = true;
        (void)sd_event_source_set_enabled(stream->source, SD_EVENT_OFF);
        (void)sd_event_source_set_enabled(stream->console->sweep, SD_EVENT_ONESHOT);
}

static int on_linger(sd_event_source *source, uint64_t usec, void *userdata) {
        stream_drop(userdata);
        return 0;
}

static void stream_linger(Stream *stream) {
        if (stream->linger)
                return;
        if (sd_event_add_time_relative(stream->console->consoles->event, &stream->linger,
                                       CLOCK_MONOTONIC, LINGER_USEC, 0, on_linger, stream) < 0)
                stream_drop(stream);
}

static bool stream_is_dropped(const Stream *stream) {
        return stream->closed && stream->ended;
}

/* What is to wake us: its owner writes, if the terminal has room; or reads, if there is something
 * to be read. That its owner closes wakes us in any case, so one that is closed but not read to the
 * end has to be deaf while the terminal has no room. */
static void stream_listen(Stream *stream) {
        const Console *console = stream->console;
        bool room = console->fd >= 0 && console->from == console->to;
        uint32_t events = 0;

        if (stream_is_dropped(stream))
                return;
        if (!stream->input_ended && room)
                events |= EPOLLIN;
        if (!stream->closed && stream_behind(stream) > 0)
                events |= EPOLLOUT;
        if (sd_event_source_set_io_events(stream->source, events) < 0 ||
            sd_event_source_set_enabled(stream->source,
                                        stream->closed && !room ? SD_EVENT_OFF : SD_EVENT_ON) < 0)
                stream_drop(stream);
}

static void console_listen(Console *console) {
        for (unsigned i = 0; i < console->streams->len; i++)
                stream_listen(g_ptr_array_index(console->streams, i));
}

/* Returns how much of @data its owner took, or a negative errno. */
static ssize_t stream_send(Stream *stream, const void *data, size_t size) {
        ssize_t n;

        do
                n = send(stream->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        return n;
}

/* Its owner reads no more. What it has written before it went is the guest's all the same. */
static void stream_lose_reader(Stream *stream) {
        stream->closed = true;
        stream->taken = 0;
        g_byte_array_set_size(stream->backlog, 0);
        if (stream->input_ended || stream->console->fd < 0)
                stream_drop(stream);
        else
                stream_linger(stream);
}

/* Sends what it is behind with, and forgets what is sent. */
static void stream_catch_up(Stream *stream) {
        while (!stream->closed && stream_behind(stream) > 0) {
                ssize_t n = stream_send(stream, stream->backlog->data + stream->taken,
                                        stream_behind(stream));

                if (n < 0)
                        stream_lose_reader(stream);
                if (n <= 0)
                        break;
                stream->taken += n;
        }
        if (stream_behind(stream) == 0 && stream->backlog->len > 0) {
                /* Emptied, the array would keep what it once needed. */
                g_byte_array_unref(stream->backlog);
                stream->backlog = g_byte_array_new();
                stream->taken = 0;
        }
        if (stream->ended && stream_behind(stream) == 0)
                stream_drop(stream);
}

/* Makes room at the end by moving what is left to the front, once that is worth it. */
static void backlog_add(Stream *stream, const char *data, size_t size) {
        size_t room = CONSOLE_BACKLOG_MAX - MIN(stream_behind(stream), CONSOLE_BACKLOG_MAX);

        if (stream->taken > CONSOLE_BACKLOG_MAX / 2) {
                g_byte_array_remove_range(stream->backlog, 0, stream->taken);
                stream->taken = 0;
        }
        g_byte_array_append(stream->backlog, (const guint8 *)data, MIN(size, room));
}

static void stream_say(Stream *stream, const char *data, size_t size) {
        ssize_t n = 0;

        if (stream->closed)
                return;
        if (stream_behind(stream) == 0)
                n = stream_send(stream, data, size);
        if (n < 0) {
                stream_lose_reader(stream);
                return;
        }
        if ((size_t)n < size)
                backlog_add(stream, data + n, size - n);
}

static void stream_end(Stream *stream) {
        stream->ended = true;
        stream->input_ended = true;
        if (stream->closed || stream_behind(stream) == 0)
                stream_drop(stream);
        else {
                stream_linger(stream);
                stream_listen(stream);
        }
}

/* --- The terminal --- */

static void console_end(Console *console) {
        terminal_close(console);
        for (unsigned i = 0; i < console->streams->len; i++)
                stream_end(g_ptr_array_index(console->streams, i));
}

/* Everything that it says, to everybody. False: it has hung up. Ends after so much, as others want
 * to be heard too. */
static bool terminal_read(Console *console) {
        char *output = console->consoles->output;

        for (unsigned i = 0; i < 16; i++) {
                ssize_t n = read(console->fd, output, OUTPUT_CHUNK);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN;
                if (n == 0)
                        return false;
                for (unsigned k = 0; k < console->streams->len; k++)
                        stream_say(g_ptr_array_index(console->streams, k), output, n);
        }
        return true;
}

/* Writes what is on its way. False: it has hung up. */
static bool terminal_write(Console *console) {
        while (console->from < console->to) {
                ssize_t n = write(console->fd, console->input + console->from,
                                  console->to - console->from);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN;
                console->from += n;
        }
        console->from = console->to = 0;
        return true;
}

static void terminal_listen(Console *console) {
        uint32_t events = EPOLLIN | (console->from < console->to ? EPOLLOUT : 0);

        if (sd_event_source_set_io_events(console->source, events) < 0)
                console_end(console);
        console_listen(console);
}

static int on_terminal(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Console *console = userdata;
        bool there = terminal_read(console);

        if (there)
                there = terminal_write(console);
        if (there)
                terminal_listen(console);
        else
                console_end(console);
        return 0;
}

/* --- A stream's owner --- */

static void stream_input_ended(Stream *stream, bool gone) {
        stream->input_ended = true;
        /* One that only said that it is done writing may go on reading. */
        if (gone)
                stream_lose_reader(stream);
}

static void stream_read(Stream *stream, bool gone) {
        Console *console = stream->console;
        ssize_t n = recv(stream->fd, console->input, INPUT_CHUNK, MSG_DONTWAIT);

        if (n > 0) {
                console->to = n;
                if (!terminal_write(console))
                        console_end(console);
        } else if (n == 0)
                stream_input_ended(stream, gone);
        else if (errno != EAGAIN && errno != EINTR)
                stream_input_ended(stream, true);
}

static int on_stream(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Stream *stream = userdata;
        Console *console = stream->console;
        bool gone = revents & (EPOLLHUP | EPOLLERR);

        if (revents & EPOLLOUT)
                stream_catch_up(stream);
        if (gone && !stream->closed)
                stream_lose_reader(stream);
        if (stream_is_dropped(stream))
                return 0;
        if (console->fd >= 0 && console->from == console->to && !stream->input_ended)
                stream_read(stream, gone);
        if (console->fd >= 0)
                terminal_listen(console);
        else
                stream_listen(stream);
        return 0;
}

/* Runs by itself, with nothing of the console in use above it: frees what is done, and the terminal
 * with its last stream. */
static int on_sweep(sd_event_source *source, void *userdata) {
        Console *console = userdata;

        for (unsigned i = console->streams->len; i-- > 0;)
                if (stream_is_dropped(g_ptr_array_index(console->streams, i)))
                        g_ptr_array_remove_index(console->streams, i);
        if (console->streams->len == 0)
                g_ptr_array_remove(console->consoles->all, console);
        return 0;
}

/* --- All of them --- */

static Console *console_find(Consoles *consoles, const char *uuid) {
        for (unsigned i = 0; i < consoles->all->len; i++) {
                Console *console = g_ptr_array_index(consoles->all, i);

                if (console->fd >= 0 && strcmp(console->uuid, uuid) == 0)
                        return console;
        }
        return NULL;
}

bool consoles_are_open(Consoles *consoles, const char *uuid) {
        return console_find(consoles, uuid) != NULL;
}

/* Bytes in, bytes out: no echo, no signals, no line editing. */
static int terminal_prepare(int fd) {
        struct termios settings;
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        if (tcgetattr(fd, &settings) < 0)
                return -errno;
        cfmakeraw(&settings);
        return tcsetattr(fd, TCSANOW, &settings) < 0 ? -errno : 0;
}

/* Takes @terminal, also when it fails. */
static int console_new(Consoles *consoles, const char *uuid, int terminal, Console **ret) {
        Console *console = g_new0(Console, 1);
        int r;

        console->consoles = consoles;
        console->uuid = g_strdup(uuid);
        console->fd = terminal;
        console->streams = g_ptr_array_new_with_free_func(stream_free);
        console->input = g_malloc(INPUT_CHUNK);
        r = terminal_prepare(terminal);
        if (r >= 0)
                r = sd_event_add_io(consoles->event, &console->source, terminal, EPOLLIN,
                                    on_terminal, console);
        if (r >= 0)
                r = sd_event_add_defer(consoles->event, &console->sweep, on_sweep, console);
        if (r >= 0)
                r = sd_event_source_set_enabled(console->sweep, SD_EVENT_OFF);
        if (r < 0) {
                console_free(console);
                return r;
        }
        (void)sd_event_source_set_description(console->source, "console");
        *ret = console;
        return 0;
}

/* Takes @fd. */
static int console_add(Console *console, uid_t owner, int fd) {
        Stream *stream = g_new0(Stream, 1);
        int r;

        stream->console = console;
        stream->owner = owner;
        stream->fd = fd;
        stream->backlog = g_byte_array_new();
        r = sd_event_add_io(console->consoles->event, &stream->source, fd, EPOLLIN, on_stream,
                            stream);
        if (r < 0) {
                stream_free(stream);
                return r;
        }
        (void)sd_event_source_set_description(stream->source, "console-stream");
        g_ptr_array_add(console->streams, stream);
        stream_listen(stream);
        return 0;
}

static unsigned count_streams(const Consoles *consoles, uid_t owner) {
        unsigned n = 0;

        for (unsigned i = 0; i < consoles->all->len; i++) {
                const Console *console = g_ptr_array_index(consoles->all, i);

                for (unsigned k = 0; k < console->streams->len; k++) {
                        const Stream *stream = g_ptr_array_index(console->streams, k);

                        if (stream->owner == owner && !stream_is_dropped(stream))
                                n++;
                }
        }
        return n;
}

int consoles_open(Consoles *consoles, const char *uuid, uid_t owner, int terminal, int *ret) {
        Console *console = console_find(consoles, uuid);
        int pair[2], r = 0;

        if (!console && terminal < 0)
                return -ENOTCONN;
        if (count_streams(consoles, owner) >= CONSOLES_PER_OWNER) {
                if (terminal >= 0)
                        close(terminal);
                return -EDQUOT;
        }
        if (console && terminal >= 0)
                close(terminal);
        if (!console) {
                r = console_new(consoles, uuid, terminal, &console);
                if (r < 0)
                        return r;
                g_ptr_array_add(consoles->all, console);
        }
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                r = -errno;
        else {
                r = console_add(console, owner, pair[0]);
                if (r < 0)
                        close(pair[1]);
        }
        if (r < 0) {
                (void)sd_event_source_set_enabled(console->sweep, SD_EVENT_ONESHOT);
                return r;
        }
        *ret = pair[1];
        return 0;
}

void consoles_end(Consoles *consoles, const char *uuid) {
        Console *console = console_find(consoles, uuid);

        if (!console)
                return;
        /* Its last words. */
        (void)terminal_read(console);
        console_end(console);
}

Consoles *consoles_new(sd_event *event) {
        Consoles *consoles = g_new0(Consoles, 1);

        consoles->event = sd_event_ref(event);
        consoles->all = g_ptr_array_new_with_free_func(console_free);
        consoles->output = g_malloc(OUTPUT_CHUNK);
        return consoles;
}

void consoles_free(Consoles *consoles) {
        if (!consoles)
                return;
        g_ptr_array_unref(consoles->all);
        sd_event_unref(consoles->event);
        g_free(consoles->output);
        g_free(consoles);
}
