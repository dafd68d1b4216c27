/* The seam to the kernel's side: what core asks of the host, and what it is told in return. Core
 * knows no sysfs, no udev and no helper processes; it is given this. Everything here is called on,
 * and calls back on, the main loop's thread, and nothing here blocks. */
#pragma once

#include "core/card-identity.h"
#include "core/pci-address.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* One PCI function as sysfs shows it. */
typedef struct PciFunction {
        PciAddress address;
        uint32_t class; /* 24 bits: base class, subclass, programming interface */
        uint16_t vendor;
        uint16_t device;
        uint16_t subsystem_vendor;
        uint16_t subsystem_device;
        char driver[64];       /* "" when none is bound */
        bool virtual_function; /* an SR-IOV virtual function */
        unsigned enabled_vfs;  /* virtual functions switched on beneath it */
} PciFunction;

typedef enum DevicePower {
        POWER_ON,     /* any state but D3cold, or unknown */
        POWER_ASLEEP, /* in D3cold, where runtime power management has put it */
        POWER_OFF,    /* in D3cold, and nobody has put it there to sleep */
} DevicePower;

/* A device and everything around it that decides whether it can be given away. */
typedef struct DeviceFacts {
        PciFunction function;
        GArray *companions; /* PciFunction: same slot and same IOMMU group, by address */
        GArray *neighbours; /* PciFunction: the rest of the IOMMU group, bridges too */
        int iommu_group;    /* -1 = none */
        int numa_node;      /* -1 = unknown */
        bool boot_display;  /* it shows the host's console: it is the firmware's primary VGA device,
                             * or: */
        char *boot_framebuffer; /* the firmware's framebuffer lies in one of its BARs: its name in
                                 * /proc/iomem; "" = none */
        bool kept;              /* the administrator wants it on vfio-pci ahead of any machine */
        char *vendor_name;      /* from udev's hardware database; "" when unknown */
        char *model_name;
        GArray *bar_sizes; /* uint64_t, bytes, BAR 0 to 5; 0 = not there */
        char **reset_methods;
        bool no_reset; /* the kernel knows no way to reset it, neither alone nor with its card */
        DevicePower power;
} DeviceFacts;

/* Whether the function is a display controller (base class 03). */
bool pci_function_is_gpu(const PciFunction *function);
bool pci_function_on_vfio(const PciFunction *function);
/* Whether a host driver is bound, that is any but vfio-pci, pci-stub or none. */
bool pci_function_on_host_driver(const PciFunction *function);
/* Whether its driver keeps the whole IOMMU group from VFIO: the kernel lets nobody own a group in
 * which a driver does DMA by the kernel's own tables. */
bool pci_function_blocks_group(const PciFunction *function);
/* Whether it is a bridge between PCI buses, or from the host to PCI. */
bool pci_function_is_bridge(const PciFunction *function);

DeviceFacts *device_facts_new(void);
void device_facts_free(DeviceFacts *facts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DeviceFacts, device_facts_free)

typedef struct HostFacts {
        bool unread;            /* some of it could not be read, and is false or 0 */
        bool iommu;             /* the kernel has IOMMU groups */
        bool vfio;              /* the vfio-pci driver is there */
        bool unsafe_interrupts; /* the IOMMU is known not to remap interrupts, and VFIO to refuse
                                 * every device for that */
        unsigned cpus;          /* online */
        uint64_t memory_mib;    /* physical memory */
        /* What programs can have without swapping; and what the control group of all machines may
         * have. 0 = not known, no limit. */
        uint64_t memory_available_mib, machines_limit_mib;
        /* Reserved huge pages that nobody uses, and all that are reserved. */
        uint64_t hugepages_2m_free, hugepages_2m_total;
        uint64_t hugepages_1g_free, hugepages_1g_total;
        /* The kernel promises no more memory than it has (vm.overcommit_memory is 2), and this much
         * of what it may promise is left. */
        bool promises_bounded;
        uint64_t promises_left_mib;
} HostFacts;

/* Where programs get huge pages of one size: the first mount of them. All zero when nothing is
 * known. */
typedef struct HugepagesMount {
        bool unmounted;     /* it is known that there is none */
        uint64_t limit_mib; /* no more than that, 0 = no limit */
        bool shut;          /* none but its owner may enter it */
        uid_t owner;
} HugepagesMount;

typedef enum NetdevKind {
        NETDEV_NONE, /* there is no such interface */
        NETDEV_BRIDGE,
        NETDEV_TAP,
        NETDEV_TAP_TAKEN,  /* a process has it */
        NETDEV_TAP_QUEUES, /* it has several queues, and libvirt opens it with one */
        NETDEV_OTHER,
        NETDEV_UNKNOWN, /* it could not be looked at */
} NetdevKind;

#define FUNCTION_POWER_BYTES 16

/* What lets a function be powered down, as sysfs words it. "" where it has no such attribute or
 * where nobody knows, as in a record of the version that left them alone: then it stays as it is.
 * What we have set meanwhile keeps the card awake; that costs power and no card. */
typedef struct FunctionPower {
        char d3cold_allowed[FUNCTION_POWER_BYTES]; /* "0" or "1" */
        char control[FUNCTION_POWER_BYTES];        /* power/control: "on" or "auto" */
} FunctionPower;

/* Whether any of it is known. */
bool function_power_is_known(const FunctionPower *power);

/* What tells one model of device from another; vendor 0 = not known. */
typedef struct FunctionIds {
        uint16_t vendor, device, subsystem_vendor, subsystem_device;
} FunctionIds;

/* Where one function came from, kept so that it can go back there. */
typedef struct FunctionOrigin {
        PciAddress address;
        FunctionIds ids; /* of the device that came from there; another one's way is not its. Not
                          * known in a record of an earlier version */
        char driver[64]; /* "" = no driver */
        char driver_override[64]; /* "" = none was set */
        FunctionPower power;
        bool known; /* read by a helper before the function was touched. False: the
                     * driver is as it was last seen, the override nobody knows */
} FunctionOrigin;

/* The ledger's entry for one card. It is written before the card is touched and removed when the
 * card is back where it came from, so whoever reads it knows what is left to do. */
typedef struct CardRecord {
        PciAddress card;
        GArray *origins;       /* FunctionOrigin; the GPU's own function first */
        char machine_uuid[37]; /* who it was taken for; "" = Bind, ahead of any machine */
        bool return_to_host;   /* when that machine ends: to where each function was, which may be
                                * vfio-pci. Else it stays on vfio-pci, and ours, until a Release */
        bool any_host_driver;  /* an explicit Release of a card that somebody else had put on
                                * vfio-pci: any host driver will do */
} CardRecord;

CardRecord *card_record_new(PciAddress card);
CardRecord *card_record_copy(const CardRecord *record);
bool card_records_equal(const CardRecord *one, const CardRecord *other);
/* Whether both have the same functions come from the same places. */
bool card_origins_equal(const CardRecord *one, const CardRecord *other);
void card_record_free(CardRecord *record);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CardRecord, card_record_free)

typedef enum HandoverDirection {
        HANDOVER_TO_VFIO,
        HANDOVER_TO_HOST,
} HandoverDirection;

typedef enum HandoverOutcome {
        HANDOVER_DONE,    /* every driver link says so */
        HANDOVER_STAYS,   /* to the host: done, but a function that any host driver was right for is
                           * on vfio-pci again, which claims it by itself (vfio-pci.ids=) */
        HANDOVER_FAILED,  /* the kernel refused; the helper is gone */
        HANDOVER_LOST,    /* the device does not answer any more; the helper is gone */
        HANDOVER_OVERDUE, /* the deadline has passed and the helper, or one that an earlier daemon
                           * has left at the card, is still at it. Told again when what it waits
                           * for changes; one of the other three follows, perhaps never */
} HandoverOutcome;

typedef enum HolderKind {
        HOLDER_PROCESS, /* has the node open or mapped */
        HOLDER_SHARER,  /* has a node open that all cards of the driver share, and none of a card:
                         * it may use this one */
        HOLDER_UNSEEN,  /* a process of which nobody knows what it has open; without one, so many
                         * more  as the command says */
        HOLDER_MOUNT,   /* the file system on it is mounted */
        HOLDER_SWAP,    /* the host swaps to it */
        HOLDER_DEVICE,  /* another block device is made of it */
        HOLDER_MEMBER,  /* part of a mounted file system over several devices, btrfs */
        HOLDER_NETDEV,  /* a network interface is up, or in another network namespace */
        HOLDER_MDEV,    /* a mediated device was made of the card */
        HOLDER_CONSOLE, /* the host's text console is on its framebuffer */
        HOLDER_MODULE,  /* a kernel module has the card and does not let go of it */
        _HOLDER_KIND_MAX,
} HolderKind;

/* What holds a card: a process, or the kernel itself. */
typedef struct Holder {
        HolderKind kind;
        pid_t pid;     /* the process; of a mount, one in whose mount namespace it is. 0 = none: the
                        * kernel, in the host's own */
        uid_t uid;     /* that process's, as the next three */
        char *user;    /* its name, or its number where it has none; "" without a process */
        char *command; /* "" = none, or the process has ended meanwhile; likewise */
        char *unit;    /* systemd unit, "" = none */
        char *node;    /* the device node, /dev/...; else the name of the interface, of the mediated
                        * device, of the module; "" = unknown */
        char *at;      /* of a mount: where; of a device: that device's node; of a member: the file
                        * system's UUID; of a mediated device
                        * and a module: the function's address; of a console: its name; of a process
                        * that could not be looked at: why. Else "" */
} Holder;

/* "process", "mount" and so on; constant. */
const char *holder_kind_to_string(HolderKind kind);
bool holder_kind_from_string(const char *text, HolderKind *ret);

/* A holder of @node (copied), whose other texts are "". */
Holder *holder_new(HolderKind kind, const char *node);
Holder *holder_copy(const Holder *holder);
/* What is done with the card, in few words: the process's command, "mounted at /mnt". A new string.
 */
char *holder_words(const Holder *holder);
void holder_free(Holder *holder);

typedef enum ImageVerdict {
        IMAGE_OK,
        IMAGE_NOT_FOUND,
        IMAGE_NOT_ALLOWED,
} ImageVerdict;

/* What a path leads to, by the kernel's numbers: two names with one identity are one thing. */
typedef struct FileIdentity {
        bool block;      /* a block device; else a file */
        uint64_t device; /* the number of the block device, or of the file system that the file is
                            on */
        uint64_t inode;  /* of a file; 0 for a block device */
        bool read;       /* it is only read, whatever is written to the whole: a backing file, or
                          * what one is made of */
} FileIdentity;

/* What QEMU takes it for. */
typedef enum ImageUse {
        IMAGE_AS_FILE, /* a raw disk, or an initial ramdisk: whatever is in it */
        IMAGE_AS_QCOW2,
        IMAGE_AS_KERNEL,
} ImageUse;

const char *image_use_to_string(ImageUse use);
bool image_use_from_string(const char *text, ImageUse *ret);

/* What became of one path that a request named. */
typedef struct ImageAnswer {
        ImageVerdict verdict;
        char *path; /* as asked */
        char *name; /* as a definition is to have it: absolute, with the links that it had when it
                     * was asked for, so that it means the same after the host was booted anew;
                     * NULL unless the verdict is ok */
        char *resolved; /* where it leads now: absolute, free of symlinks; NULL unless the verdict
                         * is ok */
        bool block;     /* that is a block device; else a regular file */
        GArray *identities; /* FileIdentity: of what it leads to, and then of all that this is made
                             * of; empty unless the verdict is ok */
        bool read_only; /* its file system or device takes no writes, or the file is immutable */
        bool kept;      /* some process has the file open as QEMU does, and lets nobody else write
                         * to it */
        bool written;   /* such a process writes to it */
        char *why;      /* a clause that continues "The image … ", NULL when the verdict is ok */
        char *remedy;   /* a sentence that says what would help; NULL = nothing in particular */
} ImageAnswer;

void image_answer_free(ImageAnswer *answer);

/* What a path leads to that some libvirt domain has as a disk. */
typedef struct FileAnswer {
        char *path;         /* as asked */
        int found;          /* 1: it is there; 0: nothing is; negative errno: nobody knows */
        GArray *identities; /* FileIdentity, as ImageAnswer has them, with the backing files of a
                             * qcow2; empty unless found */
} FileAnswer;

FileAnswer *file_answer_new(const char *path);
void file_answer_free(FileAnswer *answer);

/* Whether they are one thing, however it is used. */
bool file_identity_equal(const FileIdentity *one, const FileIdentity *other);

/* Whether one of two users writes to what the other has: the things are the same, or one is made of
 * the other. Both are arrays of FileIdentity, the whole first; each user writes to its whole, or
 * only reads it. */
bool file_identities_meet(const GArray *one, bool one_writes, const GArray *other,
                          bool other_writes);

/* What is asked of the slow side of the host: files that may lie on a dead server, other processes'
 * memory, a device's own configuration space. */
typedef struct SurveyQuestion {
        GArray *cards;     /* PciAddress: whose holders are wanted; NULL or empty for none */
        bool serials;      /* the serial numbers of the cards' functions too */
        GPtrArray *images; /* char *path, absolute or relative to an image directory; as above */
        GArray *uses;      /* ImageUse, parallel to @images; NULL = all as files */
        uid_t qemu_uid;    /* whose QEMU's processes are, who must reach the images; 0 = root's, or
                            * not known: then nothing is foreseen */
        bool apparmor;     /* QEMU is confined by AppArmor, whose rules names must fit into */
        GPtrArray *files;  /* char *path: of other domains' disks, which are only to be known again;
                            * NULL or empty for none */
        GArray *files_qcow2; /* bool, parallel to @files: QEMU opens it as qcow2, and with it what
                              * its header names; NULL = none */
} SurveyQuestion;

typedef struct SurveyAnswer {
        GPtrArray *holders; /* Holder * */
        GArray *serials;    /* FunctionSerial: of the functions that have one; NULL = none */
        GPtrArray *images;  /* ImageAnswer *, in the order asked */
        GPtrArray *files;   /* FileAnswer *, in the order asked; NULL = none was asked. Where the
                             * survey ran out of time the rest are not known (-ETIMEDOUT) */
        int error; /* negative errno when the survey itself failed, -ETIMEDOUT when overdue */
} SurveyAnswer;

/* @answer is the caller's (survey_answer_free()). */
typedef void (*SurveyDone)(void *userdata, SurveyAnswer *answer);

void survey_answer_free(SurveyAnswer *answer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SurveyAnswer, survey_answer_free)

/* The link as it runs now; reading it touches the hardware, so it arrives later than the facts. */
typedef struct LinkFacts {
        char *speed; /* as sysfs words it, "8.0 GT/s PCIe"; "" = unknown */
        unsigned width;
} LinkFacts;

/* An address that no device has: look_later takes it for the machines that start with the host. */
#define NO_DEVICE ((PciAddress){ .slot = UINT8_MAX })

/* What the host tells core. */
typedef struct HostEvents {
        /* Something about the device at @address may have changed: look again. Also sent once for
         * every GPU found at the start. */
        void (*device_changed)(void *userdata, PciAddress address);
        /* The device is gone from the bus. */
        void (*device_removed)(void *userdata, PciAddress address);
        /* Events were lost or this is the start: device_changed was sent for every GPU there is,
         * and every GPU that is not among @addresses (PciAddress, lent) is gone. */
        void (*devices_listed)(void *userdata, const GArray *addresses);
        /* The helper has read where the functions come from and waits. Returns 0 when that is
         * safely recorded, and only then the helper goes on; negative errno: it ends without
         * touching anything and the outcome is HANDOVER_FAILED. */
        int (*handover_origins)(void *userdata, PciAddress card, const GArray *origins);
        /* @message says why, for a person; NULL when done, or when it stays. */
        void (*handover_ended)(void *userdata, PciAddress card, HandoverOutcome outcome,
                               const char *message);
        void (*link_read)(void *userdata, PciAddress address, const LinkFacts *link);
        /* The time that look_later was asked for has come. */
        void (*retry_due)(void *userdata, PciAddress address);
        /* Whether the host was booted since may be known now: ask again. */
        void (*boot_told)(void *userdata);
} HostEvents;

typedef struct Host Host;

/* The functions that a host offers; @self is its own. */
typedef struct HostOps {
        void (*facts)(void *self, HostFacts *ret);
        /* What kind of network interface the host has by that name. */
        NetdevKind (*netdev)(void *self, const char *name);
        /* How huge pages of @page_mib MiB are mounted. */
        void (*hugepages_mount)(void *self, unsigned page_mib, HugepagesMount *ret);
        /* 1 for the first caller since the host was booted, and only for that one, else 0; or a
         * negative errno when it is not known yet: then boot_told follows, never from within this
         * call. */
        int (*first_since_boot)(void *self);
        /* Fresh facts of any PCI device. 0 and new facts (device_facts_free()), -ENODEV when there
         * is no such device, or another negative errno (-EMFILE, -ENOMEM) when they could not be
         * read: then nothing is known of the device, not even whether it is there. What could not
         * be read, as a record of the ledger or the writing of one, is tried again: device_changed
         * follows, later and later, until it has gone well. */
        int (*look)(void *self, PciAddress address, DeviceFacts **ret);
        /* Has retry_due follow by the clock: after a second, and later each time that it is @wanted
         * once more; until it is not. */
        void (*look_later)(void *self, PciAddress address, bool wanted);
        /* Asks for the link's speed and width; link_read follows, unless the device does not
         * answer. While the same is asked already nothing more is done. */
        void (*read_link)(void *self, PciAddress address);
        /* Starts the one helper that moves a whole card; its functions and where they go are
         * @record's origins. Returns 0 and handover_ended follows (never from within this call), or
         * -EBUSY while a helper is at this card already, or another negative errno. */
        int (*handover)(void *self, HandoverDirection direction, const CardRecord *record);
        /* Whether a helper is at this card now. */
        bool (*handing_over)(void *self, PciAddress card);
        /* The ledger. write is atomic and replaces; remove of what is not there is fine. Both 0 or
         * a negative errno. */
        int (*ledger_write)(void *self, const CardRecord *record);
        int (*ledger_remove)(void *self, PciAddress card);
        /* The card's record: 1 and a new one, the caller's; 0 = it has none, or had one that was
         * damaged; or a negative errno when nobody knows, -EPROTONOSUPPORT where a newer version of
         * this service has written it: then it must not be written, nor the card touched. */
        int (*ledger_read)(void *self, PciAddress card, CardRecord **ret);
        /* The cards that have one, readable or not: 0 and a new array of PciAddress, or a negative
         * errno. */
        int (*ledger_list)(void *self, GArray **ret);
        /* Keeps the record for a person to look at, where it is no record any more. 0 or a negative
         * errno. */
        int (*ledger_set_aside)(void *self, PciAddress card);
        /* Asks; @done is called exactly once, never from within this call. The question is copied.
         */
        void (*survey)(void *self, const SurveyQuestion *question, SurveyDone done, void *userdata);
        /* Calls @died once when the process behind @pidfd, which is duplicated, is dead; never from
         * within this call. Returns a ticket, 0 when it cannot be watched. */
        uint64_t (*watch_process)(void *self, int pidfd, void (*died)(void *userdata),
                                  void *userdata);
        void (*unwatch_process)(void *self, uint64_t ticket);
} HostOps;

struct Host {
        const HostOps *ops;
        void *self;
};
