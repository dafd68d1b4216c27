/* The seam to libvirt's side: domains as core sees them, and what it asks for them. Core knows no
 * libvirt and no threads; everything here is called on, and calls back on, the main loop's thread,
 * and nothing here blocks. */
#pragma once

#include "core/card-identity.h"
#include "core/pci-address.h"
#include "core/refusal.h"
#include "core/request.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef enum DomainState {
        DOMAIN_OFF,      /* defined, no QEMU; see reason */
        DOMAIN_STARTING, /* whoever starts it has not come to the end; its QEMU may be there */
        DOMAIN_RUNNING,
        DOMAIN_PAUSED,
        DOMAIN_STOPPING, /* the guest is shutting down, QEMU still lives */
} DomainState;

typedef enum DomainOffReason {
        DOMAIN_OFF_UNKNOWN,
        DOMAIN_OFF_SHUTDOWN,  /* the guest powered off */
        DOMAIN_OFF_DESTROYED, /* somebody pulled the plug */
        DOMAIN_OFF_CRASHED,   /* QEMU died or the guest crashed */
        DOMAIN_OFF_FAILED,    /* it could not be started */
} DomainOffReason;

/* What Create intended with the first start; kept in our metadata element, where it survives a
 * crash of the daemon. */
typedef enum FirstStart {
        FIRST_START_LATER,   /* Create with start=false: defined, to be started by Start */
        FIRST_START_PENDING, /* Create with start=true, which has not got there: to be undone when
                              * the Create is no longer under way */
        FIRST_START_DONE,
} FirstStart;

/* A file or device that a domain has as a disk, by the name that the domain has for it: what that
 * leads to has to be looked up each time. Disks that have no name in a file system of this host
 * (network disks, NVMe functions, vhost-user) are not among them. */
typedef struct DomainFile {
        char *path;   /* absolute; NULL = a volume of which libvirt does not tell where it is */
        char *pool;   /* of a storage pool's volume; else NULL, as the next */
        char *volume; /* its name there */
        bool writes;
        bool qcow2; /* QEMU opens it as qcow2, and so reads what its header names */
        bool live;  /* the running domain has it; else only its definition says so */
} DomainFile;

DomainFile *domain_file_copy(const DomainFile *file);
void domain_file_free(DomainFile *file);

/* A PCI function that a domain's definition has. */
typedef struct DefinedHostdev {
        PciAddress address;
        bool managed; /* libvirt is to take it from its driver and to give it back */
} DefinedHostdev;

/* One libvirt domain at the time of one look. */
typedef struct DomainFacts {
        char uuid[37]; /* lower case */
        char *name;
        bool ours;   /* has our metadata element, as it runs and in its definition */
        bool active; /* libvirt says that it runs, in whatever state */
        DomainState state;
        DomainOffReason off_reason;
        FirstStart first_start;  /* ours only */
        GArray *gpus;            /* PciAddress, as Create was asked; ours only */
        GArray *cards;           /* CardIdentity of those of gpus of which our metadata says it: an
                                  * earlier version's says nothing; ours only */
        GArray *hostdevs;        /* PciAddress of every PCI function in its XML; when active, of the
                                  * live XML */
        uint32_t vcpus;          /* those that it has now, or would be started with */
        uint64_t memory_mib;     /* the most that it can have without a reconfiguration */
        uint64_t memory_now_mib; /* what it has now, less what its balloon has taken back; where it
                                  * is off, what it would be given */
        bool balloon;            /* it has one: else it always has all of memory_mib */
        bool hugepages;          /* its memory is made of the host's huge pages */
        bool stop_asked;  /* ours only, from our metadata: its guest was asked to shut down since it
                           * was started, perhaps by an earlier daemon */
        bool autostart;   /* ours only, from our metadata: this service starts it, not libvirt */
        GPtrArray *disks; /* char *: ids of the further disks; ours only; when active, of the live
                           * XML and of the definition: a detach that a guest did not heed leaves
                           * its id in one of them */
        GPtrArray *nics;  /* char *: ids of the NICs; likewise */
        GPtrArray *files; /* DomainFile, of any domain; when active, of the live XML and of the
                           * definition */
        /* What the definition says, in Create's words, and so what the next start would have. Names
         * of files are as they stand there. NULL unless ours. */
        Request *definition;
        GArray *defined_hostdevs; /* DefinedHostdev; ours only */
        bool needs_kvm;           /* its definition is of type kvm; ours only */
        char *console; /* the serial console's terminal, /dev/pts/N; NULL = none, not running */
        pid_t pid;     /* QEMU, 0 = none */
        int pidfd; /* of @pid, checked to be this domain's QEMU; -1 = none. Owned by the facts */
} DomainFacts;

DomainFacts *domain_facts_new(void);
void domain_facts_free(DomainFacts *facts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DomainFacts, domain_facts_free)

/* A machine to define: the request with the names of its files, its UUID chosen, and the cards
 * looked at. */
typedef struct DomainSpec {
        const Request *request;
        const char *uuid;
        const char *image;   /* see ImageAnswer's name; NULL = none; likewise kernel and initrd */
        bool image_is_block; /* it is a block device, and no file */
        const char *kernel;
        const char *initrd;
        GArray *cards; /* CardIdentity, in the order of the request */
        bool kvm;      /* else plain emulation */
        bool uefi;
} DomainSpec;

typedef enum HypervisorVerb {
        HYPERVISOR_DEFINE,
        HYPERVISOR_REHEARSE, /* try whether it could be started, and start nothing */
        HYPERVISOR_START,
        HYPERVISOR_SHUTDOWN, /* press the power button */
        HYPERVISOR_DESTROY,  /* pull the plug; also fine when it is off already */
        HYPERVISOR_UNDEFINE, /* forget; also fine when it is not there */
        HYPERVISOR_REBOOT,
        HYPERVISOR_PAUSE,
        HYPERVISOR_RESUME,
        _HYPERVISOR_VERB_MAX,
} HypervisorVerb;

typedef struct HypervisorFacts {
        bool tried; /* an attempt to connect has ended, well or not */
        bool connected;
        bool awaited; /* it was asked to connect, or is connected, and has yet to say which domains
                       * there are: domains_listed, unreachable or, after 30 s, answer_overdue
                       * follows */
        bool silent;  /* it was asked so, and had no answer within 30 s: it still may come */
        bool elsewhere;              /* its QEMUs are not known to be processes of this host */
        const char *uri;             /* as configured */
        const char *version;         /* "9.0.0 (QEMU 7.2.0)"; "" while not connected */
        bool kvm;                    /* domains may be of type kvm */
        bool uefi;                   /* there is UEFI firmware for them */
        const char *const *networks; /* the active libvirt networks, NULL-terminated; never NULL */
        bool networks_unknown;       /* libvirt has not told them: there may be others */
        uid_t qemu_uid;              /* whose QEMU's processes are; 0 = root's, or not known */
        bool apparmor;               /* they are confined by AppArmor */
} HypervisorFacts;

typedef struct HypervisorEvents {
        /* Connected or no longer so. After a connect the domains follow. */
        void (*connection_changed)(void *userdata);
        /* Nobody is there to ask: an attempt to connect has failed, or is without an answer for
         * half a minute. Told of each. */
        void (*unreachable)(void *userdata);
        /* What HypervisorFacts.awaited waits for has not come within 30 s. */
        void (*answer_overdue)(void *userdata);
        /* All domains there are: @domains' DomainFacts are lent (take pidfd by setting it to -1).
         * Domains not among them are gone. */
        void (*domains_listed)(void *userdata, GPtrArray *domains);
        /* One domain was looked at anew; facts lent as above. */
        void (*domain_seen)(void *userdata, DomainFacts *facts);
        void (*domain_gone)(void *userdata, const char *uuid);
} HypervisorEvents;

/* @xml and @refusal are lent; one of them is NULL. */
typedef void (*HypervisorXML)(void *userdata, const char *xml, const Refusal *refusal);
/* @fd is -1 together with a refusal; else it is the receiver's. */
typedef void (*HypervisorConsole)(void *userdata, int fd, const Refusal *refusal);

/* @refusal is NULL when done; lent. Codes: HypervisorUnavailable, HypervisorFailed, MachineExists,
 * NoSuchMachine. */
typedef void (*HypervisorDone)(void *userdata, const Refusal *refusal);

typedef struct HypervisorOps {
        void (*facts)(void *self, HypervisorFacts *ret); /* strings lent until the next event */
        /* While there is no connection one is attempted at once. HypervisorFacts.awaited says
         * whether to wait for what comes of it. */
        void (*reach)(void *self);
        /* Defines a machine. @done is called exactly once, never from within this call. */
        void (*define)(void *self, const DomainSpec *spec, HypervisorDone done, void *userdata);
        /* Any verb but define, on the domain with @uuid. @done as above. The look at the domain
         * that follows every verb reaches domain_seen or domain_gone before @done is called. */
        void (*act)(void *self, HypervisorVerb verb, const char *uuid, HypervisorDone done,
                    void *userdata);
        /* Gives the domain one more disk or NIC, or takes the one with @id away: for good, and at
         * once where it runs. A detach is done when the guest has let go, and refused when it has
         * not within 10 s. @done as above, the look at the domain before it; @device is copied, has
         * its id, and a disk its name. */
        void (*attach)(void *self, const char *uuid, const DeviceRequest *device,
                       HypervisorDone done, void *userdata);
        void (*detach)(void *self, const char *uuid, DeviceKind kind, const char *id,
                       HypervisorDone done, void *userdata);
        /* The domain's XML as it is now, without secrets. */
        void (*get_xml)(void *self, const char *uuid, HypervisorXML done, void *userdata);
        /* A new two-way stream of the running domain's serial console, for a user; LimitsExceeded
         * when that one has too many open: all who have one read all
         * that the guest says from then on, and all may write. One that reads too slowly loses what
         * does not fit; nobody else does. It sees end-of-file when the domain stops. @terminal is
         * the domain's facts' console. @done may be called from within this call. */
        void (*open_console)(void *self, const char *uuid, const char *terminal, uid_t owner,
                             HypervisorConsole done, void *userdata);
        /* Look at this domain again; domain_seen or domain_gone follows. While there is no
         * connection one is attempted at once, and domains_listed or unreachable follows. */
        void (*look)(void *self, const char *uuid);
} HypervisorOps;

typedef struct Hypervisor {
        const HypervisorOps *ops;
        void *self;
} Hypervisor;
