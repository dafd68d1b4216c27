#include "holder-scene.h"

#include "host/survey-holders.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Holding {
        const char *node;
        const char *other; /* NULL = none */
        Hold how;
        int ready, hold;
} Holding;

/* Takes the node, says so, and ends the process when it is to. */
static void *hold_node(void *userdata) {
        const Holding *holding = userdata;
        char byte;
        int fd;

        if (holding->how == HOLD_OWN_TABLE && unshare(CLONE_FILES) < 0)
                _exit(1);
        fd = open(holding->node, O_RDWR);
        if (fd < 0 || (holding->how == HOLD_PLAINLY && open(holding->node, O_RDWR) < 0))
                _exit(1);
        if (holding->other && open(holding->other, O_PATH) < 0)
                _exit(1);
        if (holding->how == HOLD_MAPPED &&
            (mmap(NULL, 1, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED || close(fd) < 0))
                _exit(1);
        if (write(holding->ready, "x", 1) != 1)
                _exit(1);
        (void)!read(holding->hold, &byte, 1);
        _exit(0);
}

static void hold_by_thread(Holding *holding) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, hold_node, holding) != 0)
                _exit(1);
        if (holding->how == HOLD_OWN_TABLE)
                pthread_join(thread, NULL);
        pthread_exit(NULL);
}

static pid_t start(const char *node, const char *other, Hold how, int *ret_hold) {
        static Holding holding; /* the child's outlives its first thread */
        int ready[2], hold[2];
        char byte;
        pid_t pid;

        assert_return_code(pipe2(ready, O_CLOEXEC), errno);
        assert_return_code(pipe2(hold, O_CLOEXEC), errno);
        holding = (Holding){ node, other, how, ready[1], hold[0] };
        pid = fork();
        assert_return_code(pid, errno);
        if (pid == 0) {
                close(hold[1]);
                if (how == HOLD_PLAINLY)
                        hold_node(&holding);
                hold_by_thread(&holding);
        }

        close(ready[1]);
        close(hold[0]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        *ret_hold = hold[1];
        return pid;
}

pid_t process_start(const char *node, Hold how, int *ret_hold) {
        return start(node, NULL, how, ret_hold);
}

pid_t process_start_with(const char *node, const char *other, int *ret_hold) {
        return start(node, other, HOLD_PLAINLY, ret_hold);
}

void process_end(pid_t pid, int hold) {
        close(hold);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

char *add_gpu(UMockdevTestbed *testbed, const char *driver) {
        char *gpu = umockdev_testbed_add_device(testbed, "pci", "0000:01:00.0", NULL, "class",
                                                "0x030000", NULL, NULL);
        g_autofree char *link = g_build_filename(gpu, "driver", NULL);
        g_autofree char *target = g_strconcat("/sys/bus/pci/drivers/", driver, NULL);

        if (driver)
                make_link(testbed, link, target);
        return gpu;
}

GArray *gpu_functions(void) {
        GArray *functions = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        PciAddress address;

        assert_true(pci_address_parse("01:00.0", &address));
        g_array_append_val(functions, address);
        return functions;
}

static char *testbed_path(UMockdevTestbed *testbed, const char *path) {
        g_autofree char *root = umockdev_testbed_get_root_dir(testbed);
        char *at = g_build_filename(root, path, NULL);
        g_autofree char *folder = g_path_get_dirname(at);

        assert_return_code(g_mkdir_with_parents(folder, 0755), errno);
        return at;
}

void make_node(UMockdevTestbed *testbed, const char *name, unsigned major, unsigned minor) {
        g_autofree char *text = g_strdup_printf("P: /devices/virtual/shared/%s\nN: %s\n"
                                                "E: DEVNAME=/dev/%s\nE: SUBSYSTEM=shared\n"
                                                "A: dev=%u:%u\n",
                                                name, name, name, major, minor);

        assert_true(umockdev_testbed_add_from_string(testbed, text, NULL));
}

void make_file(UMockdevTestbed *testbed, const char *path, const char *text) {
        g_autofree char *at = testbed_path(testbed, path);

        assert_true(g_file_set_contents(at, text, -1, NULL));
}

void make_link(UMockdevTestbed *testbed, const char *path, const char *target) {
        g_autofree char *at = testbed_path(testbed, path);

        assert_return_code(symlink(target, at), errno);
}

void make_folder(UMockdevTestbed *testbed, const char *path) {
        g_autofree char *at = testbed_path(testbed, path);

        assert_return_code(g_mkdir(at, 0755), errno);
}

GPtrArray *survey(const GArray *functions) {
        GPtrArray *holders = NULL;

        int r = holders_survey(functions, &holders);

        if (r < 0)
                print_message("%s\n", g_strerror(-r));
        assert_int_equal(r, 0);
        return holders;
}

const Holder *find_holder(const GPtrArray *holders, HolderKind kind) {
        const Holder *found = NULL;

        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);

                if (holder->kind != kind)
                        continue;
                assert_null(found);
                found = holder;
        }
        return found;
}

const Holder *find_process(const GPtrArray *holders, pid_t pid) {
        const Holder *found = NULL;

        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);

                assert_int_not_equal(holder->pid, getpid());
                assert_int_not_equal(holder->pid, getppid());
                if (holder->pid != pid)
                        continue;
                assert_null(found);
                found = holder;
        }
        return found;
}
