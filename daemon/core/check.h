/* Facts + request -> findings. Pure: the one judgement behind Check, Create, Start, AttachDisk,
 * AttachNIC and Bind. In check.c, but check-definition.c, check-files.c, check-group.c,
 * check-holders.c and check-memory.c. */
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

/* A PCI function that a definition has; lent. */
typedef struct CheckHostdev {
        PciAddress address;
        bool managed;             /* libvirt would take it from its driver and give it back */
        bool missing;             /* there is no such device */
        const DeviceFacts *facts; /* NULL = it is missing, or could not be looked at */
} CheckHostdev;

/* What a definition says beside the request that it is read back as. */
typedef struct CheckDefinition {
        const GArray
                *cards;   /* CardIdentity: what the machine was made with, as far as it says so */
        GArray *hostdevs; /* CheckHostdev */
        bool kvm;         /* it runs with KVM, or not at all */
} CheckDefinition;

/* A file that another machine has, or is to have, as a disk, or the same machine as another disk;
 * lent. */
typedef struct FileUse {
        const char *path; /* as that machine has it */
        const char *machine;
        bool writes;
        bool own;                 /* it is the machine that gets the file itself */
        bool now;                 /* it runs, or is being started; else it is only defined */
        int found;                /* as FileAnswer's */
        const GArray *identities; /* FileIdentity; NULL or empty unless found */
} FileUse;

typedef struct CheckFacts {
        HostFacts host;
        HypervisorFacts hypervisor;
        bool domains_known; /* libvirt has told which domains there are */
        GArray *cards;      /* CheckCard, in the order of the request */
        bool name_taken;
        bool uuid_taken;
        bool id_taken;                     /* of a device that is to be attached */
        const CheckDefinition *definition; /* NULL = the machine is to be made */
        const SurveyAnswer *survey;        /* NULL = nothing was asked */
        GArray *nics;             /* NetdevKind of each requested NIC's source; NULL = none */
        uint64_t machines_mib;    /* memory of the domains that run, huge pages left out */
        HugepagesMount hugepages; /* of those that the request asks for */
        GArray *files;            /* FileUse; NULL = none */
} CheckFacts;

/* What is said of the host, @subject "host", or of a network interface that could not be looked at.
 * The caller's (refusal_free()). */
Refusal *host_unread_refusal(const char *subject);

/* What is said of a device whose last look has failed. The caller's (refusal_free()). */
Refusal *unread_refusal(PciAddress address);

/* Whether the device is a GPU that could ever be given away whole. */
bool check_identity(const CheckCard *card, GPtrArray *findings);

/* Whether VFIO lets anybody have a card of this IOMMU group. */
void check_group(const CheckFacts *facts, const CheckCard *card, GPtrArray *findings);

/* What the survey found of the cards: processes that hold them, or that it could not tell. */
void check_survey(const CheckFacts *facts, GPtrArray *findings);

/* Processes that hold the cards, and what the kernel does with their disks. */
void check_holders(const GPtrArray *holders, GPtrArray *findings);

/* What a machine wants of the host's memory. */
typedef struct MachineMemory {
        const char *machine; /* its name */
        uint64_t mib;
        bool huge;   /* made of huge pages */
        bool now;    /* it is to run at once */
        bool pinned; /* it gets GPUs: all of its memory must be there, and stays */
} MachineMemory;

/* Whether the host has the memory, and may have it free. */
void check_memory(const CheckFacts *facts, const MachineMemory *memory, GPtrArray *findings);

/* Whether the host has the huge pages that @request asks for, if it does. */
void check_hugepages(const CheckFacts *facts, const Request *request, GPtrArray *findings);

/* Whether the files that @request names are there, may be used, and are in no other machine. */
void check_files(const CheckFacts *facts, const Request *request, GPtrArray *findings);

/* Whether @card is, as far as anybody can tell, the one that the machine was made with. */
bool check_made_with(const CheckFacts *facts, const CheckCard *card, const Request *request,
                     GPtrArray *findings);

/* Whether the host devices of the definition are the cards that @request names, and libvirt can
 * start it. */
void check_definition(const CheckFacts *facts, const Request *request, GPtrArray *findings);

/* Whether libvirt can be asked for anything; adds HypervisorUnavailable where not. */
void check_hypervisor(const CheckFacts *facts, const char *subject, GPtrArray *findings);

/* Everything that stands in the way of a machine that is @request: to be made, or, where the facts
 * have a definition, to be started. */
void check_request(const CheckFacts *facts, const Request *request, GPtrArray *findings);

/* The same of the disk or NIC that is all of @request, for the machine that it names. */
void check_attach(const CheckFacts *facts, const Request *request, GPtrArray *findings);

/* The same of GPUs that are to be taken to vfio-pci ahead of any machine. */
void check_bind(const CheckFacts *facts, GPtrArray *findings);

/* Whether the function leads its card: it is a display controller, and no display controller of the
 * card comes before it. One card is one GPU, however many of its functions are display controllers.
 */
bool device_facts_lead_card(const DeviceFacts *facts);

/* The GPU that the device is, or belongs to the card of: its address in @ret. False: none; a
 * virtual function is not a GPU. */
bool device_facts_find_gpu(const DeviceFacts *facts, PciAddress *ret);
