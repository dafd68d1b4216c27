/* Preloaded into the real programs before umockdev's library, which leads their paths into the
 * testbed. Files there do not react, so some calls are taken out here: what the handover
 * helper writes to sysfs and the VFIO groups that it opens are asked of the fake kernel
 * (fake-kernel-clients.c), and the daemon's udev socket says once that it has overflowed when the
 * fake kernel wants it to. Everything else goes on to umockdev. It refuses to know what the answers
 * mean, and itself asks the real kernel only. */
/* Both names of open() are wanted, each by itself. */
#undef _FILE_OFFSET_BITS

#include "kernel-shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* The function of that name which this library's hides. */
#define NEXT(name)                                                         \
        ({                                                                 \
                static __typeof__(&name) next;                             \
                if (!next)                                                 \
                        next = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
                next;                                                      \
        })

static const char *testbed(void) {
        return getenv("UMOCKDEV_DIR");
}

/* The daemon never writes there; what it did would go into a plain file and be seen by nobody. */
static bool is_helper(void) {
        return strcmp(program_invocation_short_name, "feos-vm-handover") == 0;
}

/* Sends a word and two texts, each with its NUL. A socket or -1, and the answer, 0 or a negative
 * errno. */
static int kernel_ask(char word, const char *path, const void *data, size_t size, int32_t *ret) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char message[PATH_MAX + 4096];
        int length = snprintf(message, sizeof message, "%c%s", word, path) + 1;
        int fd, error;

        if (size > sizeof message - (size_t)length) {
                errno = EINVAL;
                return -1;
        }
        memcpy(message + length, data, size);
        snprintf(address.sun_path, sizeof address.sun_path, "%s/kernel", testbed());

        fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -1;
        if (syscall(SYS_connect, fd, &address, sizeof address) == 0 &&
            syscall(SYS_sendto, fd, message, (size_t)length + size, MSG_NOSIGNAL, NULL, 0) >= 0 &&
            syscall(SYS_recvfrom, fd, ret, sizeof *ret, 0, NULL, NULL) == (long)sizeof *ret)
                return fd;
        error = errno;
        syscall(SYS_close, fd);
        errno = error;
        return -1;
}

/* Whether @fd is a file of sysfs, whose path in it is @ret then: 1, 0 or a negative errno. */
static int file_of(int fd, char path[static PATH_MAX], const char **ret) {
        const char *root = testbed();
        size_t length = root ? strlen(root) : 0;
        char link[64];
        long n;

        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
        if (n < 0)
                return -errno;
        path[n] = '\0';
        if (length == 0 || strncmp(path, root, length) != 0 ||
            strncmp(path + length, "/sys/", strlen("/sys/")) != 0)
                return 0;
        *ret = path + length;
        return 1;
}

static const char *mark_path(char path[static PATH_MAX], const char *mark, int pid) {
        snprintf(path, PATH_MAX, "%s/%s-%d", testbed(), mark, pid);
        return path;
}

/* A signal waits for who is in the kernel. */
int pidfd_send_signal(int pidfd, int number, siginfo_t *info, unsigned flags) {
        char path[64], line[128], kept[PATH_MAX], killed[PATH_MAX];
        FILE *file;
        int pid = 0;

        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
        file = testbed() ? fopen(path, "re") : NULL;
        while (file && fgets(line, sizeof line, file))
                (void)sscanf(line, "Pid: %d", &pid);
        if (file)
                fclose(file);
        if (pid > 0 && syscall(SYS_rename, mark_path(kept, KERNEL_KEEPS, pid),
                               mark_path(killed, KERNEL_KILLS, pid)) == 0)
                return 0;
        return (int)syscall(SYS_pidfd_send_signal, pidfd, number, info, flags);
}

ssize_t write(int fd, const void *data, size_t size) {
        char path[PATH_MAX], killed[PATH_MAX];
        const char *file = NULL;
        int r = fd > STDERR_FILENO && is_helper() ? file_of(fd, path, &file) : 0;
        int32_t answer;
        int connection;

        if (r == 0)
                return NEXT(write)(fd, data, size);
        if (r < 0) {
                errno = -r;
                return -1;
        }
        connection = kernel_ask('w', file, data, size, &answer);
        if (syscall(SYS_unlink, mark_path(killed, KERNEL_KILLS, getpid())) == 0)
                kill(getpid(), SIGKILL);
        if (connection < 0)
                return -1;
        syscall(SYS_close, connection);
        if (answer < 0) {
                errno = -answer;
                return -1;
        }
        return (ssize_t)size;
}

/* The connection is the open group: it is let go of when it is closed, or with the process. */
static int group_open(const char *group) {
        int32_t answer;
        int connection = kernel_ask('o', group, "", 0, &answer);

        if (connection < 0)
                return -1;
        if (answer < 0) {
                syscall(SYS_close, connection);
                errno = -answer;
                return -1;
        }
        return connection;
}

static const char *group_of(const char *path) {
        static const char groups[] = "/dev/vfio/";

        return strncmp(path, groups, strlen(groups)) == 0 ? path + strlen(groups) : NULL;
}

/* What the kernel would take from a caller that gives no mode is not looked at. */
#define OPEN(name)                                                                \
        int name(const char *path, int flags, ...) {                              \
                const char *group = group_of(path);                               \
                va_list arguments;                                                \
                mode_t mode;                                                      \
                                                                                  \
                va_start(arguments, flags);                                       \
                mode = va_arg(arguments, mode_t);                                 \
                va_end(arguments);                                                \
                return group ? group_open(group) : NEXT(name)(path, flags, mode); \
        }

OPEN(open)
OPEN(open64)

/* umockdev's stand-in for the udev socket is a Unix socket in the testbed. */
static bool is_udev_socket(int fd) {
        struct sockaddr_un address = { 0 };
        socklen_t length = sizeof address - 1;

        return syscall(SYS_getsockname, fd, &address, &length) == 0 &&
               address.sun_family == AF_UNIX && strstr(address.sun_path, "/event");
}

/* The kernel says so once, before what is still queued (net/netlink/af_netlink.c). */
static bool overflow_take(int fd) {
        char flag[PATH_MAX];

        if (is_helper() || !testbed())
                return false;
        snprintf(flag, sizeof flag, "%s/overflow", testbed());
        return syscall(SYS_faccessat, AT_FDCWD, flag, F_OK) == 0 && is_udev_socket(fd) &&
               syscall(SYS_unlinkat, AT_FDCWD, flag, 0) == 0;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
        if (overflow_take(fd)) {
                errno = ENOBUFS;
                return -1;
        }
        return NEXT(recvmsg)(fd, message, flags);
}

/* Whether umockdev's library is behind this one. */
static bool has_umockdev(void) {
        Dl_info info;

        return dladdr((void *)(uintptr_t)NEXT(recvmsg), &info) != 0 && info.dli_fname &&
               strstr(info.dli_fname, "umockdev");
}

__attribute__((constructor)) static void announce(void) {
        if (has_umockdev())
                syscall(SYS_close, KERNEL_IS_THERE);
}

typedef int Main(int argc, char **argv, char **environment);

static Main *program_main;

static int announced_main(int argc, char **argv, char **environment) {
        syscall(SYS_close, KERNEL_MAIN_BEGINS);
        return program_main(argc, argv, environment);
}

/* libc's, which is the first that a program calls. */
int __libc_start_main(Main *main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end);
int __libc_start_main(Main *main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end) {
        program_main = main;
        return NEXT(__libc_start_main)(announced_main, argc, argv, init, fini, rtld_fini,
                                       stack_end);
}
