/* A host with GPUs and a libvirt, in memory: the two seams of core, with every step of every
 * operation as a separate event, so that a test can stop the world anywhere, make any step fail, or
 * take the daemon away in the middle. What it imitates was seen in the lab (tests/lab), which has
 * the last word. */
#pragma once

#include "core/manager.h"

typedef struct WorldFunction {
        PciFunction facts;
        int group;
        bool boot_display;
        bool kept;
        char native_driver[64]; /* what drivers_probe gives it without an override; vfio-pci where
                                 * that was told the device's id */
        char driver_override[64];
        FunctionPower power; /* "1" and "auto" at first; "" = it has no such attribute */
        bool dead;           /* answers all ones */
        const char *serial;  /* constant; NULL = none */
} WorldFunction;

typedef struct WorldDomain {
        char uuid[37];
        char *name;
        bool ours;
        bool active; /* libvirt's opinion */
        bool qemu;   /* the truth */
        bool known;  /* libvirt still has its definition */
        DomainState state;
        DomainOffReason off_reason;
        FirstStart first_start;
        GArray *gpus;
        GArray *cards;    /* CardIdentity */
        GArray *hostdevs; /* as libvirt lists them */
        GArray *lost;     /* PciAddress: those that have gone from the bus under its QEMU */
        GPtrArray *disks; /* char *: ids; likewise nics */
        GPtrArray *nics;
        GPtrArray *files;    /* DomainFile: of its disks; "live" is set as they are told */
        GArray *managed;     /* PciAddress: of its host devices those that libvirt is to move */
        Request *definition; /* of one of ours: what it was made with; its name, size, GPUs and host
                              * devices are told as they are above and below */
        bool stop_asked;     /* since it runs */
        uint32_t vcpus;
        uint64_t memory_mib;
        bool autostart;
        pid_t pid;
        int pidfd; /* as it was last given out: only a number to know it by */
} WorldDomain;

typedef struct World World;

struct World {
        GPtrArray *functions; /* WorldFunction */
        GPtrArray *domains;   /* WorldDomain */
        GPtrArray *ledger;    /* CardRecord */
        GQueue todo;
        GPtrArray *watches;
        GArray *helpers; /* PciAddress: cards at which a helper is */
        GQueue held;     /* verbs that are held back */

        HostFacts host_facts;
        bool connected;
        bool connecting; /* while not connected: libvirt takes the call and has not answered yet */
        bool connects_when_asked; /* it was not there when it was tried last, and is by now */
        bool awaited;             /* as HypervisorFacts has it; likewise the next */
        bool silent;
        bool kvm;
        bool uefi;

        /* What goes wrong. */
        bool fail_verb[_HYPERVISOR_VERB_MAX];
        bool hold_verb[_HYPERVISOR_VERB_MAX]; /* not carried out before world_let_go() */
        bool lose_define;   /* libvirt goes before it has read what it is to define; once */
        bool fail_attach;   /* and detach */
        bool quit_at_once;  /* a started domain's QEMU ends before the answer */
        bool start_paused;  /* a started domain is paused at once */
        GArray *unreadable; /* PciAddress: looking at these fails with -EIO */
        int fail_look;      /* looking at a device returns this */
        int survey_error;   /* every survey ends with this, 0 or negative errno */
        int fail_ledger;    /* writing to the ledger returns this */
        int fail_ledger_read;
        unsigned set_aside;  /* records that are of another card */
        GArray *stuck;       /* PciAddress: helpers that never end by themselves */
        GArray *refused;     /* PciAddress: the kernel refuses to bind vfio-pci */
        GArray *no_return;   /* PciAddress: the kernel refuses to bind the host driver */
        GPtrArray *holders;  /* Holder, given to every survey about cards */
        GHashTable *netdevs; /* name -> NetdevKind as pointer */
        HugepagesMount hugepages;
        GPtrArray *networks;  /* char *, NULL-terminated: the active libvirt networks */
        int fail_boot;        /* nobody knows whether; */
        bool booted_before;   /* somebody has asked since the host was booted */
        bool hold_console;    /* a console does not hang up; guest is its other end */
        int guest;            /* -1 = none */
        GHashTable *images;   /* path -> ImageVerdict as pointer; unknown ones are not found. A name
                               * "x" is "/images/x", by which it is known too */
        GHashTable *leads;    /* path -> char *: what else it leads to; others lead to themselves */
        GHashTable *backings; /* path -> char *: its backing file, by what that leads to */
        GHashTable *dark;     /* path -> negative errno as pointer: files of domains that cannot be
                               * looked at */
        void (*before_answer)(World *world); /* called before each survey is answered */
        unsigned surveys;                    /* answered so far */
        bool drop_hostdevs;                  /* a domain is started without its host devices */

        GArray *looks_later; /* PciAddress: what the clock is set for */
        unsigned handovers_begun;
        pid_t next_pid;
        const HostEvents *host_events;
        const HypervisorEvents *hypervisor_events;
        Manager *manager;
};

World *world_new(void);
void world_free(World *world);

/* A function of the host: "0000:01:00.0", class 0x038000, its IOMMU group and its driver. */
WorldFunction *world_add(World *world, const char *address, uint32_t class, int group,
                         const char *driver);
WorldFunction *world_function(World *world, const char *address);
const char *world_driver(World *world, const char *address);
/* It goes from the bus, from under a QEMU too; libvirt lists it on until world_unlist(). */
void world_remove(World *world, const char *address);
/* The same, and nobody is told. */
void world_take_away(World *world, const char *address);
/* QEMU has told libvirt that it has let go of the device; world_look_again() tells the daemon. */
void world_unlist(WorldDomain *domain, const char *address);
/* Somebody else gives the function another driver, "" = none, as driverctl or virsh do: an override
 * that stands against it goes. That it lets go of a group which a QEMU holds is only begun: the
 * link is gone, the QEMU has it still. Nobody is told before world_uevent(). */
void world_rebind(World *world, const char *address, const char *driver);

/* Starts a daemon's core on this world and lets it look around. */
Manager *world_boot(World *world);
/* Takes it away at once, as kill -9 does, with the helpers of its cgroup; what libvirt has been
 * asked goes on. */
void world_kill_daemon(World *world);

/* The UUID of the machine that the manager shows by that name, which calls on it take; constant.
 * Where it shows none, the name itself, which is nobody's UUID. */
const char *world_machine(World *world, const char *name);

/* Runs the next event; false when nothing is left to happen. */
bool world_step(World *world);
void world_run(World *world);

/* Tells the daemon that something about the function may have changed, as udev does. */
void world_uevent(World *world, const char *address);
/* Tells it of every GPU there is, as after lost events. */
void world_list(World *world);
/* The clock: what was to be looked at later is looked at now. */
void world_let_time_pass(World *world);
/* Ends a helper that is stuck, with its work done. */
void world_unstick(World *world, const char *address);
/* Ends it without: killed at its deadline, it is gone when the driver lets go at last. */
void world_kill_helper(World *world, const char *address);
/* Ends it with any other @outcome. */
void world_end_helper(World *world, const char *address, HandoverOutcome outcome);
void world_overdue(World *world, const char *address);
void world_mark(GArray *list, const char *address);
void world_unmark(GArray *list, PciAddress address);

WorldDomain *world_domain(World *world, const char *name);
/* A running domain that is not ours. */
WorldDomain *world_add_foreign(World *world, const char *name, const char *hostdev);
/* It has one more disk, by this name. */
void world_add_file(WorldDomain *domain, const char *path, bool writes, bool qcow2);
/* The guest powers off, or QEMU is killed: libvirt notices after the process. */
void world_end_domain(World *world, WorldDomain *domain, DomainOffReason reason);
/* libvirt tells of the domain once more; and does it at once. */
void world_look_again(World *world, WorldDomain *domain);
void world_tell_domain(World *world, WorldDomain *domain);
/* QEMU dies and libvirt has not noticed, or is not there to. */
void world_kill_qemu(World *world, WorldDomain *domain);
void world_set_connected(World *world, bool connected);
/* libvirt takes the call and has not answered within 30 s. */
void world_tire_of_libvirt(World *world);
/* Carries out the verbs that were held back. */
void world_let_go(World *world);

Host world_host(World *world);
Hypervisor world_hypervisor(World *world);

/* Whether the function is kept awake and out of D3cold. */
bool world_is_awake(World *world, const char *address);
void world_set_power(World *world, const char *address, const char *d3cold_allowed,
                     const char *control);

/* Fails the test when a host driver has a function whose group a live QEMU holds, when two live
 * domains have one function, or when one of ours has a function that may sleep. */
void world_check(World *world);
