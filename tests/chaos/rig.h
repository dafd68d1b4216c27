/* The real programs on a fake host: feos-vmd and its helpers on the fake kernel, a bus daemon and a
 * polkitd of the test's own, and a libvirtd of its own too that serves libvirt's test driver, so
 * that domains outlive the daemon. A group is held as long as libvirt says that a domain with one
 * of its functions runs, and a moment longer, as a QEMU does.
 *
 * There are two cards: GPU with its companion AUDIO, and OTHER. */
#pragma once

#include "fake-kernel.h"
#include "mock-polkit.h"

#include <libvirt/libvirt.h>

#define GPU   "0000:01:00.0"
#define AUDIO "0000:01:00.1"
#define OTHER "0000:03:00.0"
#define GROUP 16

#define VM1 "/org/feos/VM1"

typedef struct Rig {
        PrivateBus *bus;
        MockPolkit *polkit;
        sd_event *event; /* weak */
        sd_bus *caller;
        FakeKernel *kernel;
        char *dir;        /* configuration, ledger, sockets */
        char *helper_dir; /* where the daemon takes its helpers from */
        pid_t daemon;
        pid_t libvirtd;
        int ready; /* sd_notify's socket, of both */
        sd_event_source *domains;
        int domain_pipe[2];
        virConnectPtr libvirt;
        GPtrArray *holds;   /* Hold */
        GPtrArray *journal; /* what the daemon has logged since it was booted */
        bool moving;        /* a handover was under way at the last look */

        /* Takes each uevent of a function, to send it (fake_kernel_send()) when it wants; NULL =
         * all are sent at once. */
        void (*uevent)(void *userdata, const char *address, const char *action);
        void *userdata;
} Rig;

/* Runs under umockdev-wrapper; ends with status 77 where such a rig cannot be. @helper_dir: NULL =
 * the programs as they were built. The daemon is running. */
Rig *rig_new(const char *helper_dir);
void rig_free(Rig *rig);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rig, rig_free)

/* Starts the daemon and waits until it has its name. */
void rig_boot(Rig *rig);
/* The same, and false when it has ended instead: @ret_status is how, as waitpid() tells. */
bool rig_try_boot(Rig *rig, int *ret_status);
/* As its unit does; its helpers go on. */
void rig_stop(Rig *rig);
/* kill -9; its helpers go on, as under its unit's KillMode=process. */
void rig_kill(Rig *rig);
/* After somebody else has killed it. */
void rig_buried(Rig *rig);

/* Sends Create for that card, or for the GPU; @machine runs when that is answered without an error.
 */
void rig_create_with(Rig *rig, sd_bus *caller, const char *machine, const char *address,
                     Answer *answer);
void rig_create(Rig *rig, sd_bus *caller, const char *machine, Answer *answer);
/* A method without arguments of an object. */
void rig_call(Rig *rig, const char *path, const char *interface, const char *member,
              Answer *answer);
void rig_wait(Rig *rig, const Answer *answer);
/* Runs the loop for so long. */
void rig_run(Rig *rig, unsigned milliseconds);

/* libvirt pulls the plug of all machines of ours. */
void rig_end_machines(Rig *rig);
bool rig_machine_runs(Rig *rig);

typedef enum RigExpectation {
        RIG_HOME,    /* every card with the host, and no machine of ours */
        RIG_RUNNING, /* one machine runs with the GPU */
        RIG_HOME_OR_RUNNING,
        RIG_STOPPED,       /* every card with the host; a machine may be defined */
        RIG_BOUND,         /* the GPU on vfio-pci, in no machine */
        RIG_HOME_OR_FAULT, /* the GPU has a fault with a reason, or is with the host */
        RIG_AGREES,        /* D-Bus tells the truth, whatever that is */
} RigExpectation;

/* Waits until all is as expected, and D-Bus, sysfs, libvirt and the ledger agree. NULL, or what is
 * still not as it should be @seconds after a handover was last under way; the caller frees it. A
 * handover has a clock of its own. */
char *rig_settle(Rig *rig, RigExpectation expectation, unsigned seconds);

/* One string property. The caller frees it; NULL when it cannot be had. */
char *rig_property(Rig *rig, const char *path, const char *interface, const char *property);
char *rig_gpu_path(const char *address);

/* What the daemon has open, how many children, and how much memory in KiB. */
typedef struct RigUsage {
        unsigned descriptors, children, memory;
} RigUsage;
RigUsage rig_usage(Rig *rig);

/* The last lines of the daemon's journal, for a failure's message. The caller frees it. */
char *rig_last_words(Rig *rig);

/* How many of the trials are to be made: the number in the environment variable @name, or
 * @fallback. */
unsigned rig_number(const char *name, unsigned fallback);

/* A group of tests that shares one rig, as cmocka's fixtures: *@state is the Rig. Return 0. */
int rig_setup(void **state);
int rig_teardown(void **state);
