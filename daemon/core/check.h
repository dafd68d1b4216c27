/* Facts + request -> findings. Pure: the one judgement behind Check, Create, Start and Bind. In
 * check.c, but check-group.c, check-holders.c and check-memory.c. */
#pragma once

#include "core/host.h"
#include "core/hypervisor.h"
#include "core/refusal.h"
#include "core/request.h"
#include "gpu-state.h"

/* One requested card with everything known of it; all pointers are lent. */
typedef struct CheckCard {
        PciAddress address;
        const DeviceFacts *facts; /* NULL = there is no such PCI device */
        bool unread;              /* but it could not be looked at now: nothing is known of it */
        GpuView view;
        bool unasked; /* who holds it was not asked, for it was taken, faulted or on its way */
        const char *fault_message;
        const char *taken_by;           /* the machine that has or gets it, "" = none */
        const char *named_by;           /* the running machine in which libvirt says that the card
                                         * is, also where another was there before; "" = none */
        const char *neighbour_taken_by; /* the machine that has or gets a device of the same IOMMU
                                         * group outside the card, "" = none */
} CheckCard;

typedef struct CheckFacts {
        HostFacts host;
        HypervisorFacts hypervisor;
        bool domains_known; /* libvirt has told which domains there are */
        GArray *cards;      /* CheckCard, in the order of the request */
        bool name_taken;
        bool uuid_taken;
        const SurveyAnswer *survey; /* NULL = nothing was asked */
        GArray *nics;               /* NetdevKind of each requested NIC's source; NULL = none */
        uint64_t machines_mib;      /* memory of the domains that run, huge pages left out */
        GPtrArray *files;           /* FileUse: the files that running domains write */
} CheckFacts;

/* A file that a domain has as a disk; lent. */
typedef struct FileUse {
        const char *path;
        const char *domain;
} FileUse;

/* What is said of a device whose last look has failed. The caller's (refusal_free()). */
Refusal *unread_refusal(PciAddress address);

/* Whether the device is a GPU that could ever be given away whole. */
bool check_identity(const CheckCard *card, GPtrArray *findings);

/* Whether the card can be moved to vfio-pci and given away; adds what stands in the way. */
void check_card(const CheckFacts *facts, const CheckCard *card, bool allow_boot_display,
                GPtrArray *findings);

/* Whether VFIO lets anybody have a card of this IOMMU group. */
void check_group(const CheckFacts *facts, const CheckCard *card, GPtrArray *findings);

/* What the survey found: images that are not there or not allowed, processes that hold the cards.
 */
void check_survey(const CheckFacts *facts, GPtrArray *findings);

/* Processes that hold the cards, and what the kernel does with their disks. */
void check_holders(const GPtrArray *holders, GPtrArray *findings);

/* What a machine wants of the host's memory. */
typedef struct MachineMemory {
        uint64_t mib;
        bool huge;   /* made of huge pages */
        bool now;    /* it is to run at once */
        bool pinned; /* it gets GPUs: all of its memory must be there, and stays */
} MachineMemory;

/* Whether the host has the memory, and has it free. */
void check_memory(const CheckFacts *facts, const MachineMemory *memory, GPtrArray *findings);

/* Whether the host has the huge pages that @request asks for, if it does. */
void check_hugepages(const CheckFacts *facts, const Request *request, GPtrArray *findings);

/* Whether @device, a disk with its answer or a NIC with its interface's kind, can be given to a
 * machine: its source is there, and its file in no running domain. */
void check_device(const CheckFacts *facts, const DeviceRequest *device, const ImageAnswer *image,
                  NetdevKind netdev, GPtrArray *findings);

/* Whether libvirt can be asked for anything; adds HypervisorUnavailable where not. */
void check_hypervisor(const CheckFacts *facts, const char *subject, GPtrArray *findings);

/* Everything that Create asks of a request. */
void check_request(const CheckFacts *facts, const Request *request, GPtrArray *findings);

/* Whether the function leads its card: it is a display controller, and no display controller of the
 * card comes before it. One card is one GPU, however many of its functions are display controllers.
 */
bool device_facts_lead_card(const DeviceFacts *facts);
