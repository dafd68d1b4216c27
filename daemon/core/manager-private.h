/* The manager's inside, shared by the files that together are the manager: manager.c (callers),
 * gpus.c (GPUs), records.c (where they came from), cards.c (moving them), drift.c (when somebody
 * else does), keep.c (keeping some for machines), holders.c (who has them open), domains.c
 * (libvirt's domains), machines.c (those that are ours), machine-calls.c (what is asked of them),
 * machine-start.c (Start), autostart.c (what starts with the host), tenancy.c (who has which card),
 * launcher.c (launches), intake.c (what a check needs), file-uses.c (which files are whose), turn.c
 * (what follows). Nobody else includes this. */
#pragma once

#include "core/check.h"
#include "core/manager.h"
#include "launch.h"

typedef struct Intake Intake;

/* A libvirt domain, ours or not: the truth about who has which GPU. */
typedef struct Domain {
        Manager *manager; /* weak */
        DomainFacts *facts;
        uint64_t watch;        /* on QEMU's process; 0 = none */
        bool process_lives;    /* as the watch says; libvirt's word alone proves no death */
        bool process_died;     /* the watch has seen it die */
        bool unreaped;         /* it died while libvirt was away, which is not through with it */
        bool start_asked;      /* libvirt was asked to start it and has not answered, or went */
        bool has_run;          /* it was seen to run: no unfinished Create any more */
        bool undefine_asked;   /* of an unfinished Create; */
        bool undefine_refused; /* then it is shown, so that it can be deleted */
        bool gone;             /* libvirt has forgotten it; only the process is left */
        uint64_t seen;         /* at which of all looks; 0 = never */
        bool due;              /* what follows from what is known of it has not been seen to */
        GArray *lost;          /* PciAddress: functions that have gone from the bus under its QEMU,
                                * and that libvirt still lists */
        GPtrArray *claims; /* FileClaim: what the disks that it runs with led to when it was given
                            * them; NULL = not known */
} Domain;

typedef struct Launch {
        Manager *manager; /* weak */
        LaunchKind kind;
        LaunchStep step;
        Request *request;     /* of a Create; NULL for a Start */
        SurveyAnswer *survey; /* of a Create: the resolved paths */
        char name[65];
        char uuid[37];
        GArray *gpus;               /* PciAddress: a GPU may vanish under a launch */
        GPtrArray *claims;          /* FileClaim: its disks */
        uint64_t memory_mib;        /* what it takes of the host's memory, */
        RequestHugepages hugepages; /* and of which */
        unsigned waiting;           /* cards whose helper is awaited in this step */
        bool awaits_cards;          /* it goes on when none is */
        Refusal *failure;           /* the first thing that went wrong */
        bool left_over;             /* libvirt went before it could undo a step */
        bool asked;                 /* libvirt was asked for the start, and may have begun it */
        ManagerDone done;           /* NULL once answered */
        void (*ended)(void *userdata);
        void *userdata;
} Launch;

/* A call on one GPU or machine that waits for something to end. */
typedef struct Call {
        Manager *manager; /* weak */
        PciAddress gpu;
        uint64_t instance; /* Release: the card that was at the address when it was asked for */
        char uuid[37];
        Refusal *failure;   /* told when everything is undone; NULL = none */
        bool over;          /* Bind, Release: to be answered at the end of the turn */
        bool accepts;       /* Recover: a card that stays where it is does so without a fault */
        bool stops;         /* the machine is to end */
        bool awaits_launch; /* PowerOff, Delete: of a machine that is starting; then the plug is
                             * pulled */
        bool plug_pulled;   /* Delete: no QEMU is wanted any more */
        bool forgetting;    /* Delete: libvirt was asked to undefine it */
        ManagerDone done;
        void *userdata;
} Call;

struct Manager {
        Host host;
        Hypervisor hypervisor;
        Observer observer;
        void *observer_data;

        GPtrArray *gpus;          /* Gpu, owned, by address */
        GPtrArray *lost;          /* Gpu, owned: not there any more; somebody may hold one of them
                                   * until the turn ends */
        GPtrArray *machines;      /* Machine, owned, by name */
        GHashTable *domains;      /* uuid -> Domain, owned */
        GPtrArray *launches;      /* Launch, owned */
        GPtrArray *intakes;       /* Intake, owned: checks that wait for their survey */
        GPtrArray *gpu_calls;     /* Call, owned: Bind and Release under way */
        GPtrArray *lists;         /* ListHolders under way; holders.c owns what they are */
        GPtrArray *releases;      /* Call, owned: Release that waits to hear who has the card */
        GPtrArray *deletes;       /* Call, owned: Delete under way */
        GPtrArray *machine_calls; /* Call, owned: Shutdown, PowerOff and their like under way */
        GPtrArray *attaches;      /* Attach, owned: AttachDisk and AttachNIC under way */
        GPtrArray *undefines;     /* Call, owned: unfinished Creates that libvirt is to forget */
        GHashTable *condemned;    /* uuid -> Condemned, owned: domains that a failed launch may have
                                   * left behind */
        GArray *unseen;           /* PciAddress: devices that were told of, and that no look has
                                   * been able to read yet */
        uint64_t instances;       /* GPUs seen so far */
        bool begun;               /* the host has listed its GPUs once */
        GPtrArray *keeps;         /* Keep, owned: kept cards on their way to vfio-pci */
        bool autostarted;         /* it is known what is to start with the host */
        struct {
                char *version;
                bool connected;
                bool iommu;
        } told;             /* of the service itself */
        bool domains_known; /* libvirt has listed its domains since it was connected */
        unsigned turns;     /* entries that are under way, one within the other */
        GQueue waits;       /* Wait, owned: for libvirt */
        uint64_t looks;     /* at domains, so far */
        bool domains_due;   /* some domain is due */
        bool owners_due;    /* domains have changed: who has which GPU is to be looked at */
};

/* --- turn.c --- */

/* From an event, a completion or a call until it returns; what follows is done at the end of the
 * outermost one. Every function that host, hypervisor or a caller may call, and that changes
 * something or looks at a device, declares one with TURN() before anything else. */
typedef Manager Turn;

Turn *turn_begin(Manager *manager);
void turn_end(Turn *turn);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Turn, turn_end)

#define TURN(manager) g_autoptr(Turn) turn G_GNUC_UNUSED = turn_begin(manager)

/* --- gpus.c --- */

Gpu *manager_find_gpu(Manager *manager, PciAddress address);

/* Looks at the device again, makes or drops its GPU as needed, and tells what changed. Returns the
 * GPU or NULL. A GPU that is dropped is freed at the end of the turn, and who waits for it is told
 * then. */
Gpu *manager_look_at_gpu(Manager *manager, PciAddress address);

/* Whether what is at @address could be read, its record in the ledger too. Of anything else nothing
 * is to be begun, and nothing is to be said but that. */
bool manager_knows_card(Manager *manager, PciAddress address);

/* Notes whether the device at @address is one that no look has been able to read yet. */
void manager_note_unseen(Manager *manager, PciAddress address, bool unseen);

/* The same for what is known of who has the GPUs, without looking at any device. */
void manager_refresh_holders(Manager *manager);

/* One event through the rules; nobody is told yet. */
GpuVerdict gpu_apply(Gpu *gpu, GpuEvent event) G_GNUC_WARN_UNUSED_RESULT;

/* The same for an observation or a completion, which cannot be refused. */
void gpu_note(Gpu *gpu, GpuEvent event);

/* What is told when the GPU may not be asked for what it was. The caller's (refusal_free()). */
Refusal *gpu_refusal(const Gpu *gpu, GpuVerdict verdict);

/* Tells what has changed since the last time, if anything: every property once, every change of
 * State once, with @reason. */
void gpu_tell(Manager *manager, Gpu *gpu, const char *reason);

/* Who has or gets the GPU: a domain that runs with it, or the launch that reserved it. @reason is
 * told for a change of State that neither this nor a helper at work explains; NULL = none. */
void gpu_refresh(Manager *manager, Gpu *gpu, const char *reason);

/* Sets a text of the GPU; a change is told with @change. */
void gpu_set_text(char **field, const char *value, Gpu *gpu, GpuChange change);

/* Takes @facts in the place of those of the last look. */
void gpu_take_facts(Gpu *gpu, DeviceFacts *facts);

/* Why its driver changes while a helper is at it. Constant. */
const char *gpu_move_reason(const Gpu *gpu);

/* --- records.c --- */

/* Takes what the ledger has of a card that has no record here yet. Where that cannot be read the
 * GPU gets a fault, and it is to be asked again at the next look. */
void gpu_learn_record(Manager *manager, Gpu *gpu);

/* Removes the records of cards that are certainly gone. */
void manager_clear_ledger(Manager *manager);

/* What tells the function's model. */
FunctionIds function_ids(const PciFunction *function);

/* --- drift.c --- */

/* Takes @facts, those of a new look, as gpu_take_facts() does, and gives up what the card's record
 * says of functions that somebody else has moved since the last one. Those: a new array of
 * GpuDrift.
 */
GArray *gpu_take_look(Manager *manager, Gpu *gpu, DeviceFacts *facts);

/* Why the driver of the GPU's own function has changed: a new text, NULL when it has not. */
char *gpu_drift_reason(const Gpu *gpu, const GArray *drifts);

void gpu_tell_drifts(Manager *manager, const Gpu *gpu, const GArray *drifts);

/* --- cards.c --- */

/* Whether anybody waits for a helper at the card: at one that was plugged in where another was, an
 * outcome says nothing of this one. */
bool gpu_is_moving(const Gpu *gpu);

/* Starts the helper that takes the card to vfio-pci for machine @uuid ("" = none). 0 or negative
 * errno. */
int gpu_begin_binding(Manager *manager, Gpu *gpu, const char *uuid);

/* Finishes what its record says is left to do with a card that nobody needs any more; a faulted one
 * only on request. */
void gpu_settle(Manager *manager, Gpu *gpu, bool despite_fault);
void manager_settle(Manager *manager);

/* Puts the card's record into the ledger; 0, also when that failed and the same stands there
 * already, or a negative errno. And forgets it, there and here. */
int gpu_write_record(Manager *manager, Gpu *gpu);
void gpu_forget_record(Manager *manager, Gpu *gpu);

/* The record's entry for a function, or NULL. Weak. */
FunctionOrigin *record_origin(const CardRecord *record, PciAddress function);

/* Where the function came from, as the card's record says; NULL = it does not. */
const FunctionOrigin *gpu_origin(const Gpu *gpu, PciAddress function);

/* From now on the card is to go back to the host, whatever it was taken for, and with
 * @any_host_driver also what was on vfio-pci before. 0, or a negative errno when that could not be
 * written to the ledger: then all is as it was. */
int gpu_want_on_host(Manager *manager, Gpu *gpu, bool any_host_driver);

void call_free(Call *call);

/* Forgets a GPU whose device is gone. Whoever waits for it is told at the end of the turn, when it
 * is freed. */
void manager_drop_gpu(Manager *manager, Gpu *gpu);

/* Whether the card waits for its way back from machine @uuid. */
bool gpu_owes_return(const Gpu *gpu, const char *uuid);

/* Whether every function of the card is on vfio-pci, or any. */
bool gpu_wholly_on_vfio(const Gpu *gpu);
bool gpu_partly_on_vfio(const Gpu *gpu);

/* --- keep.c --- */

/* Begins to take to vfio-pci what is kept for machines and was not seen to yet. */
void manager_keep_gpus(Manager *manager);

/* A Bind of the GPU has ended; @failed: the helper had begun to move it. And somebody else has
 * changed something about it: what had failed is tried again, by the clock. */
void gpu_note_keep(Gpu *gpu, bool failed);
void gpu_keep_again(Manager *manager, Gpu *gpu);

/* Leaves the GPU where it is, as a Release asks, until it is kept no more. */
void gpu_stop_keeping(Manager *manager, Gpu *gpu);

/* --- holders.c --- */

/* GPUBusy when one of @holders has the VFIO group of the card, or its device, open; NULL = none. A
 * host driver may have the other functions of the card, and keeps them. The caller's
 * (refusal_free()). */
Refusal *vfio_user_refusal(const GPtrArray *holders);

/* --- autostart.c --- */

/* Starts, once after the host has booted, the machines that are to start with it. And has those
 * tried again that were refused for a moment's reason. */
void manager_autostart(Manager *manager);
void manager_autostart_again(Manager *manager);

/* --- domains.c --- */

void domain_free(Domain *domain);

Domain *manager_find_domain(Manager *manager, const char *uuid);

/* A failed launch could not be undone in libvirt: whenever the domain is seen, it is. @forget: also
 * its definition. And takes that back: what is defined with that UUID from now on is another. */
void manager_condemn(Manager *manager, const char *uuid, bool forget);
void manager_pardon(Manager *manager, const char *uuid);

/* Sees to what follows from what was learned of domains in this turn: which are machines, how those
 * are, and which name each has on the bus. */
void manager_follow_domains(Manager *manager);

/* Whether a launch of the machine is under way. */
bool manager_launches(Manager *manager, const char *uuid);

/* Whether a QEMU of the domain lives or may live. */
bool domain_may_live(const Domain *domain);

/* libvirt is about to be asked to start it: from now on it may have a QEMU that nobody has seen. */
void domain_ask_for_start(Domain *domain);

/* Whether a QEMU of this domain lives or may live. */
bool manager_domain_may_live(Manager *manager, const char *uuid);

/* Whether only libvirt can say that this domain needs its cards no more: it is away and a QEMU may
 * live, or one has died while it was, and libvirt would reset the cards. */
bool manager_domain_awaits_libvirt(Manager *manager, const char *uuid);

/* --- waits.c --- */

/* Lets those go on who wait for libvirt, when it has answered or will not. */
void manager_end_waits(Manager *manager);

/* --- machines.c --- */

/* By UUID in either case, and by the name that it has on the bus: never by either at once, for one
 * machine may be named as another's UUID reads. */
Machine *manager_find_machine(Manager *manager, const char *uuid);
Machine *manager_find_machine_named(Manager *manager, const char *name);
/* Whether there is one with @uuid that has its path on the bus. */
bool manager_shows_machine(Manager *manager, const char *uuid);
/* Takes @machine and announces it. */
void manager_add_machine(Manager *manager, Machine *machine);
void manager_remove_machine(Manager *manager, Machine *machine);

/* One event through the rules; a change is told once. */
MachineVerdict machine_apply(Manager *manager, Machine *machine, MachineEvent event,
                             const char *reason) G_GNUC_WARN_UNUSED_RESULT;

/* The same for an observation or a completion, which cannot be refused. */
void machine_note(Manager *manager, Machine *machine, MachineEvent event, const char *reason);

/* Tells that properties have changed, a set of MachineChange, perhaps empty. */
void machine_tell(Manager *manager, const Machine *machine, unsigned changes);

/* A card that it had has gone from the bus: its StateReason says so, and the observer is told. */
void machine_lose_gpu(Manager *manager, Machine *machine, PciAddress gpu);

/* Brings the machine to what its domain says. */
void machine_refresh(Manager *manager, Machine *machine);

/* Makes the machine of a domain that has none; it is not on the bus yet. */
Machine *manager_adopt_machine(Manager *manager, const Domain *domain);

/* Takes from the bus each machine whose name there is not its own any more, and puts onto it each
 * that has one of its own. */
void manager_hide_machines(Manager *manager);
void manager_show_machines(Manager *manager);

/* --- tenancy.c --- */

/* The domain that has one of the card's functions and a live QEMU, or NULL. */
const Domain *manager_domain_with(Manager *manager, const DeviceFacts *card);

/* The domain with a live QEMU that libvirt says has one of the card's functions, or NULL. It need
 * not have it: see domain_has_function(). */
const Domain *manager_domain_naming(Manager *manager, const DeviceFacts *card);

/* Whether @name is a domain with a live QEMU. */
bool manager_has_live_domain(Manager *manager, const char *name);

/* The GPU is gone from the bus, and so from whatever machine had it. To be called before it is
 * dropped; returns the machine of ours that had it, or NULL. */
Machine *manager_take_from_domain(Manager *manager, const Gpu *gpu);

/* Tells of which of their GPUs machines have, when that has changed. */
void manager_refresh_present(Manager *manager);
void machine_refresh_present(Manager *manager, Machine *machine);
/* The same without telling; whether it has changed. */
bool machine_look_for_gpus(Manager *manager, Machine *machine);

/* Of what libvirt does not list any more nothing has to be remembered, and with a @new_process
 * nothing at all: whatever is listed at the address later was given to the domain later. */
void domain_forget_lost(Domain *domain, bool new_process);

/* --- manager.c --- */

Refusal *no_such_gpu(PciAddress address);

/* Notes how the service itself is; a set of ServiceChange, perhaps empty: what has changed since.
 */
unsigned manager_take_service(Manager *manager);

/* Answers with @refusal, and frees it. */
void call_refuse(ManagerDone done, void *userdata, Refusal *refusal);

/* Adds a call to one of the manager's arrays of them, which owns it. */
Call *manager_add_call(GPtrArray *calls, Manager *manager, ManagerDone done, void *userdata);

/* An @ended for those who need none. */
void nobody_waits(void *userdata);

/* --- machine-calls.c --- */

/* Whether it was asked to end, and that has not failed. */
bool machine_is_to_stop(Manager *manager, const Machine *machine);

Refusal *no_such_machine(const char *name);
Refusal *machine_refusal(const Machine *machine, MachineEvent event);

/* The machine with @uuid, when it may be asked @event now; else answers the caller and returns
 * NULL.
 */
Machine *machine_to_ask(Manager *manager, const char *uuid, MachineEvent event, ManagerDone done,
                        void *userdata);

/* Pulls the plug for every PowerOff and Delete whose machine is not starting any more. */
void manager_continue_stops(Manager *manager);

/* Takes every Delete as far as it can go now. */
void manager_continue_deletes(Manager *manager);

/* --- launcher.c --- */

void launch_free(Launch *launch);

/* Reserves and begins what @intake, which must have passed its check in this very turn of the loop,
 * is of: a Create, whose request and survey it takes, or the Start of @machine. Answers the
 * intake's caller, and calls its ended (NULL = nobody waits) last of all. */
void launch_begin(Intake *intake, Machine *machine);

/* Ends a launch that starts something: it fails with @refusal (taken), unless it has failed
 * already, and undoes what was done. A card at which a helper is at work is not waited for. */
void launch_cancel(Launch *launch, Refusal *refusal);

/* What is told when a helper could not move a card. The caller's (refusal_free()). */
Refusal *card_refusal(PciAddress address, HandoverOutcome outcome, const char *message);

/* The same where no helper could be started, with @r a negative errno. */
Refusal *handover_refusal(PciAddress address, int r);

/* A helper at one of the launch's cards has ended, or is overdue. The launch goes on at the end of
 * the turn. */
void launch_card_ended(Launch *launch, Gpu *gpu, HandoverOutcome outcome, const char *message);

/* A card of the launch is gone from the bus; @was_awaited: the launch waited for its helper. As
 * above. */
void launch_card_gone(Launch *launch, PciAddress address, bool was_awaited);

/* Whether every card that it waited for has come or gone; then it is to go on, which may free it.
 */
bool launch_is_ready(const Launch *launch);
void launch_go_on(Launch *launch);

/* --- intake.c --- */

/* Called with every finding; the intake's request and survey are there to be taken with
 * g_steal_pointer(). */
typedef void (*IntakeDone)(Intake *intake, GPtrArray *findings);

typedef enum IntakeKind {
        INTAKE_CREATE, /* what Create would make of the request */
        INTAKE_START,  /* what the machine's definition says; that is the request */
        INTAKE_ATTACH, /* the one device of the request, for the machine */
        INTAKE_BIND,   /* the one GPU of the request */
} IntakeKind;

struct Intake {
        Manager *manager; /* weak */
        IntakeKind kind;
        Request *request; /* what is wished */
        char *machine; /* the machine that is to start or to get a device: its name when it was */
        char uuid[37]; /* asked for, and which it is; NULL and "" otherwise */
        GArray *gpus;  /* PciAddress: those that it had then; NULL otherwise */
        uint64_t instance; /* Bind: the card that was at the address then; 0 = none */
        GArray *asked;     /* PciAddress: those whose holders the survey was asked for */
        GPtrArray *files;  /* DomainFile: of other machines, which the survey was asked about */
        unsigned tries;    /* surveys that were out of date when they came */
        GPtrArray *findings;
        SurveyAnswer *survey;
        IntakeDone judged;
        ManagerChecked checked; /* the caller's: one of the two. Only the first hears warnings */
        ManagerDone done;
        void (*ended)(void *userdata); /* of a Create */
        void *userdata;
};

/* Takes @request (NULL for a start) and @findings (NULL = none yet). */
Intake *intake_new(Manager *manager, IntakeKind kind, Request *request, GPtrArray *findings,
                   IntakeDone judged);
void intake_free(Intake *intake);

/* Of a start or an attach: for @machine. */
void intake_set_machine(Intake *intake, const Machine *machine);

/* The machine that it is for; NULL and why in @ret (the caller's) when that has gone, or has
 * another name or other GPUs by now: whoever asked for it was allowed to ask for it as it was. */
Machine *intake_machine(const Intake *intake, Refusal **ret);

/* Hands @intake to its manager and asks the host's slow side about the files of the request and the
 * holders of the GPUs; then looks at the rest and judges. judged is called once, perhaps from
 * within this call, and the intake freed after it. */
void intake_begin(Intake *intake);

/* The facts around one card, without a new look at it. Facts that no GPU record owns are added to
 * @keep_facts, an array that frees DeviceFacts. */
void intake_look_at_card(Manager *manager, PciAddress address, CheckCard *ret,
                         GPtrArray *keep_facts);

/* The machine that has, or gets, another function of the card's IOMMU group; "" = none. */
const char *manager_neighbour_taker(Manager *manager, const DeviceFacts *facts);

/* --- file-uses.c --- */

/* A file that was given to a machine as a disk, for as long as no look at its domain has shown
 * that. */
typedef struct FileClaim {
        char *path; /* as the definition has it */
        bool writes;
        GArray *identities; /* FileIdentity */
        bool reviewed;      /* by a look at the domain that began after it was given */
} FileClaim;

/* The claims that follow from @request and what was found out about its files: a new array that
 * owns them. @defined: the request is what a definition says, and its names stay. And what they are
 * to others: adds a FileUse of @machine for each to @uses. */
GPtrArray *claims_new(const Request *request, bool defined, const SurveyAnswer *survey);
void claims_add_uses(const GPtrArray *claims, const char *machine, bool now, GArray *uses);

/* From now on the domain runs with what @claims (taken; NULL = nobody knows) says; and has more. */
void domain_claim(Domain *domain, GPtrArray *claims);
void domain_claim_more(Domain *domain, GPtrArray *claims);

/* After each look at a running domain: ends the claims of what it does not have any more. */
void domain_review_claims(Domain *domain);

/* The files of other machines that the host has to be asked about for @intake: a new array of
 * DomainFile. Whether its files are all of those that it would be now. */
GPtrArray *intake_files(const Intake *intake);
bool intake_has_asked_files(const Intake *intake);

/* What others have as disks, with what the survey has found out: a new array of FileUse, whose
 * texts are its owners'. */
GArray *intake_file_uses(const Intake *intake);

/* --- devices.c --- */

typedef struct Attach Attach;

void attach_free(Attach *attach);

/* Adds what is being attached to @uses (FileUse). */
void manager_add_attaching(Manager *manager, GArray *uses);

/* Whether the machine is being given a disk or NIC. */
bool manager_attaches(Manager *manager, const char *uuid);

/* The ids of the domain's further disks, or of its NICs; and whether @id is one of @ids. */
const GPtrArray *domain_device_ids(const DomainFacts *facts, DeviceKind kind);
bool domain_ids_have(const GPtrArray *ids, const char *id);
