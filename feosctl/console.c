/* The console: bytes both ways, and a terminal that comes out as it went in. Signals are taken as
 * bytes of a descriptor, so that there is one way out. */
#include "console.h"

#include "bus.h"
#include "complaint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>

#define INPUT_MOST 65536

/* What a guest's programs may have switched on and not off again: another screen, the mouse,
 * pasting in brackets, keys for applications, a hidden cursor, margins, colours. The cursor is kept
 * where it is, for taking the margins away moves it (xterm, "Control Sequences"). */
#define TERMINAL_RESET                                                                  \
        "\033[?1049l\033[?1000l\033[?1002l\033[?1003l\033[?1006l\033[?1004l\033[?2004l" \
        "\033[?1l\033>\0337\033[r\0338\033[?7h\033[?25h\033[0m"
/* The window's title is kept on the terminal's own stack. */
#define TITLE_PUSH "\033[22;0t"
#define TITLE_POP  "\033[23;0t"

typedef struct Copy {
        int console, in, out, signals;
        bool terminal;     /* at in */
        GByteArray *input; /* read from in, not yet taken by the console */
        bool input_ended;
        ConsoleEnd end;
        int signal;
        bool over;
} Copy;

static void finish(Copy *copy, ConsoleEnd end) {
        copy->end = end;
        copy->over = true;
}

static bool write_all(int fd, const void *data, size_t size) {
        const char *from = data;

        while (size > 0) {
                ssize_t n = write(fd, from, size);

                if (n < 0 && errno == EAGAIN)
                        poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
                else if (n < 0 && errno != EINTR)
                        return false;
                else if (n > 0) {
                        from += n;
                        size -= (size_t)n;
                }
        }
        return true;
}

/* Keys go to the guest as far as there is room for them; a guest that takes none must not keep the
 * escape character from working. */
static void take_input(Copy *copy) {
        guint8 data[4096];
        ssize_t n = read(copy->in, data, sizeof data);
        const guint8 *escape;
        gsize room;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                copy->input_ended = true;
                /* A terminal that has hung up. */
                if (copy->terminal)
                        finish(copy, CONSOLE_KILLED);
                return;
        }
        escape = copy->terminal ? memchr(data, CONSOLE_ESCAPE, (size_t)n) : NULL;
        room = INPUT_MOST - copy->input->len;
        g_byte_array_append(copy->input, data,
                            (guint)MIN(escape ? (gsize)(escape - data) : (gsize)n, room));
        if (escape)
                finish(copy, CONSOLE_LEFT);
}

static void give_input(Copy *copy) {
        ssize_t n = send(copy->console, copy->input->data, copy->input->len, MSG_NOSIGNAL);

        if (n > 0)
                g_byte_array_remove_range(copy->input, 0, (guint)n);
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
                finish(copy, CONSOLE_ENDED);
}

static void take_output(Copy *copy) {
        char data[65536];
        ssize_t n = read(copy->console, data, sizeof data);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0)
                finish(copy, CONSOLE_ENDED);
        else if (!write_all(copy->out, data, (size_t)n))
                finish(copy, CONSOLE_KILLED);
}

static void take_signal(Copy *copy) {
        struct signalfd_siginfo info;

        if (read(copy->signals, &info, sizeof info) != sizeof info)
                return;
        /* Whoever stops us would have a raw terminal. */
        if (info.ssi_signo == SIGTSTP)
                return;
        copy->signal = (int)info.ssi_signo;
        finish(copy, CONSOLE_KILLED);
}

static void copy_loop(Copy *copy) {
        while (!copy->over) {
                bool want_input =
                        !copy->input_ended && (copy->terminal || copy->input->len < INPUT_MOST / 2);
                struct pollfd fds[] = {
                        { .fd = copy->signals, .events = POLLIN },
                        { .fd = want_input ? copy->in : -1, .events = POLLIN },
                        { .fd = copy->console,
                          .events = (short)(POLLIN | (copy->input->len > 0 ? POLLOUT : 0)) },
                };

                if (poll(fds, G_N_ELEMENTS(fds), -1) < 0)
                        continue;
                if (fds[0].revents)
                        take_signal(copy);
                if (!copy->over && fds[1].revents)
                        take_input(copy);
                if (!copy->over && fds[2].revents & POLLOUT)
                        give_input(copy);
                if (!copy->over && fds[2].revents & (POLLIN | POLLHUP | POLLERR))
                        take_output(copy);
        }
}

ConsoleEnd console_copy(int console, int in, int out, int *ret_signal) {
        g_autoptr(GByteArray) input = g_byte_array_new();
        Copy copy = { .console = console, .in = in, .out = out, .input = input };
        g_autofd int signals = -1;
        struct termios before, raw;
        sigset_t set, old;

        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGQUIT);
        sigaddset(&set, SIGPIPE);
        sigaddset(&set, SIGTSTP);
        pthread_sigmask(SIG_BLOCK, &set, &old);
        signals = copy.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        copy.terminal = tcgetattr(in, &before) == 0;
        if (copy.terminal) {
                raw = before;
                cfmakeraw(&raw);
                tcsetattr(in, TCSADRAIN, &raw);
        }

        copy_loop(&copy);

        if (copy.terminal)
                tcsetattr(in, TCSADRAIN, &before);
        *ret_signal = copy.signal;
        /* One that is still there was heard. */
        while (sigtimedwait(&set, NULL, &(struct timespec){ 0 }) > 0)
                ;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        return copy.end;
}

static int open_console(Ctl *ctl, const char *path) {
        g_autoptr(sd_bus_message) reply =
                bus_change(ctl, bus_call_new(ctl, path, MACHINE_INTERFACE, "OpenConsole"));
        int r, fd;

        if (!reply)
                return -1;
        r = sd_bus_message_read(reply, "h", &fd);
        /* The message closes its own. */
        if (r >= 0)
                r = fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (r >= 0)
                return fd;
        complain_of(ctl, NULL, r == -1 ? -errno : r);
        return -1;
}

static void greet(const Ctl *ctl, const char *name) {
        unsigned columns, rows;

        fprintf(stderr, "The console of machine %s. Ctrl-] leaves it.\n", name);
        /* A serial line has no way to tell. */
        if (terminal_size(STDOUT_FILENO, &columns, &rows))
                fprintf(stderr, "The guest does not know this window: stty rows %u cols %u\n", rows,
                        columns);
}

int console_run(Ctl *ctl, char **arguments) {
        bool person = isatty(STDIN_FILENO) && ctl->out.tty && !ctl->quiet;
        g_autofree char *path = NULL;
        g_autofd int console = -1;
        ConsoleEnd end;
        int number;

        if (ctl->host) {
                complain(ctl, "Usage", "Use ssh: ssh -t HOST feosctl console MACHINE",
                         "A console cannot be had over the bus of another host.");
                return EXIT_USAGE;
        }
        path = bus_find_machine(ctl, *arguments);
        console = path ? open_console(ctl, path) : -1;
        if (console < 0)
                return EXIT_FAILURE;
        /* The agent has done its work, and shall not share the terminal. */
        agent_stop(&ctl->agent);
        if (person)
                greet(ctl, *arguments);
        if (ctl->out.moves)
                fprintf(stdout, TITLE_PUSH "\033]0;%s - feosctl console\007", *arguments);
        fflush(stdout);
        end = console_copy(console, STDIN_FILENO, STDOUT_FILENO, &number);
        if (ctl->out.moves)
                fputs(TERMINAL_RESET TITLE_POP, stdout);
        fflush(stdout);
        if (person)
                fprintf(stderr, "\n%s machine %s.\n",
                        end == CONSOLE_LEFT ? "Left the console of"
                                            : "This was the end of the console of",
                        *arguments);
        if (end == CONSOLE_KILLED && number == 0)
                return EXIT_FAILURE;
        return end == CONSOLE_KILLED ? 128 + number : EXIT_SUCCESS;
}
