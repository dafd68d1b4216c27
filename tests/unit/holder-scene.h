/* The scene of the holders' tests: umockdev's card, whose nodes carry the numbers of real devices,
 * and real processes that have one of those open. What asserts fails the test when it is not so. */
#pragma once

#include "core/host.h"

#include <umockdev.h>

/* How a process has a node open. */
typedef enum Hold {
        HOLD_PLAINLY,    /* by its first thread, twice */
        HOLD_LEADERLESS, /* by a thread, and its first one has ended */
        HOLD_OWN_TABLE,  /* by a thread that has a table of descriptors of its own */
        HOLD_MAPPED,     /* by a thread that has it mapped and closed; the first has ended */
} Hold;

/* Starts a process that has @node open; @ret_hold is to be closed for it to end. */
pid_t process_start(const char *node, Hold how, int *ret_hold);
/* The same, plainly; and it has @other (NULL = none) by its name alone (O_PATH), which needs no
 * driver.
 */
pid_t process_start_with(const char *node, const char *other, int *ret_hold);
/* Ends it, and waits until it has. */
void process_end(pid_t pid, int hold);

/* The GPU 0000:01:00.0 with this driver (NULL = none); its folder is the caller's (g_free()). */
char *add_gpu(UMockdevTestbed *testbed, const char *driver);
/* That function as a survey is asked about it: a new array. */
GArray *gpu_functions(void);

/* A node in the testbed's /dev, of a device that sysfs shows elsewhere. */
void make_node(UMockdevTestbed *testbed, const char *name, unsigned major, unsigned minor);
void make_file(UMockdevTestbed *testbed, const char *path, const char *text);
void make_link(UMockdevTestbed *testbed, const char *path, const char *target);
void make_folder(UMockdevTestbed *testbed, const char *path);

/* A survey that succeeds. New holders. */
GPtrArray *survey(const GArray *functions);
/* Those of a kind, NULL = none; fails when there are several. Lent. */
const Holder *find_holder(const GPtrArray *holders, HolderKind kind);
/* The one of process @pid, likewise. */
const Holder *find_process(const GPtrArray *holders, pid_t pid);
