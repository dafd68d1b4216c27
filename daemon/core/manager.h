/* Owns the GPUs and machines. The only caller of statemachine/ and the only writer of state: every
 * event of the host, the hypervisor and the callers comes together here, on one thread. */
#pragma once

#include "core/gpu.h"
#include "core/host.h"
#include "core/hypervisor.h"
#include "core/machine.h"
#include "core/observer.h"
#include "core/refusal.h"
#include "core/request.h"

typedef struct Manager Manager;

/* Keeps copies of the seams; @host and @hypervisor must outlive it. */
Manager *manager_new(Host host, Hypervisor hypervisor);
void manager_free(Manager *manager);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Manager, manager_free)

/* One observer; @observer is copied. Without one nobody is told. */
void manager_set_observer(Manager *manager, const Observer *observer, void *userdata);

/* What host and hypervisor are to call, with the manager as userdata. Constant. */
const HostEvents *manager_host_events(void);
const HypervisorEvents *manager_hypervisor_events(void);

/* Look-ups; what they return is the manager's and lives until the next event. NULL = there is none.
 */
const Gpu *manager_gpu(Manager *manager, PciAddress address);
const Machine *manager_machine(Manager *manager, const char *name_or_uuid); /* a name goes first */
/* NULL when there is a GPU at @address, else why there is none: a new refusal. */
Refusal *manager_why_no_gpu(Manager *manager, PciAddress address);
/* Why there is no machine that is called so: NoSuchMachine, or HypervisorUnavailable where libvirt
 * has not told which there are. A new refusal. */
Refusal *manager_why_no_machine(Manager *manager, const char *shown);
/* New arrays of weak pointers, ordered by address and by name. Caller frees. */
GPtrArray *manager_gpus(Manager *manager);
GPtrArray *manager_machines(Manager *manager);

void manager_host_facts(Manager *manager, HostFacts *ret);
void manager_hypervisor_facts(Manager *manager, HypervisorFacts *ret);

/* All calls below answer through @done exactly once, perhaps from within the call, with @refusal
 * NULL when all went well; @refusal is lent. Without an answer they end only in manager_free(). */
typedef void (*ManagerDone)(void *userdata, const Refusal *refusal);

/* @findings is lent: what stands in the way, and what was found while the request was parsed. */
typedef void (*ManagerChecked)(void *userdata, const GPtrArray *findings);

/* What Create would say of the request. Takes @request, and @findings as parsing left them. */
void manager_check(Manager *manager, Request *request, GPtrArray *findings, ManagerChecked done,
                   void *userdata);

/* Checks, reserves every GPU or none, defines, hands over, starts; or undoes it all. Takes
 * @request. With request->wait false it answers when the GPUs are reserved. */
void manager_create(Manager *manager, Request *request, ManagerDone done, void *userdata);

/* The same; @ended is called once, after @done, when nothing of it is under way any more. */
void manager_create_to_the_end(Manager *manager, Request *request, ManagerDone done,
                               void (*ended)(void *userdata), void *userdata);

void manager_bind_gpu(Manager *manager, PciAddress address, ManagerDone done, void *userdata);
void manager_release_gpu(Manager *manager, PciAddress address, ManagerDone done, void *userdata);
void manager_recover_gpu(Manager *manager, PciAddress address, ManagerDone done, void *userdata);

/* @holders: Holder *, lent; empty together with a refusal. */
typedef void (*ManagerHolders)(void *userdata, const GPtrArray *holders, const Refusal *refusal);
void manager_list_holders(Manager *manager, PciAddress address, ManagerHolders done,
                          void *userdata);

/* The calls on machines take the UUID of the one that the caller was allowed to ask for: by the
 * time that one is carried out, another may have its name. Where that one has another name itself,
 * or other GPUs, it is refused with InvalidState. */
void manager_start_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata);
/* What Start would say now. */
void manager_check_start(Manager *manager, const char *uuid, ManagerChecked done, void *userdata);
void manager_shutdown_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata);
void manager_power_off_machine(Manager *manager, const char *uuid, ManagerDone done,
                               void *userdata);
void manager_delete_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata);

void manager_reboot_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata);
void manager_pause_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata);
void manager_resume_machine(Manager *manager, const char *uuid, ManagerDone done, void *userdata);

/* @id is lent, NULL together with a refusal. */
typedef void (*ManagerAttached)(void *userdata, const char *id, const Refusal *refusal);

/* Gives a machine, running or not, one more disk or NIC. Takes @device, finished and without
 * errors. */
void manager_attach_device(Manager *manager, const char *uuid, DeviceRequest *device,
                           ManagerAttached done, void *userdata);
void manager_detach_device(Manager *manager, const char *uuid, DeviceKind kind, const char *id,
                           ManagerDone done, void *userdata);

/* The results are as the hypervisor's of the same name. */
void manager_get_machine_xml(Manager *manager, const char *uuid, HypervisorXML done,
                             void *userdata);
/* For user @owner. */
void manager_open_machine_console(Manager *manager, const char *uuid, uid_t owner,
                                  HypervisorConsole done, void *userdata);

/* Whether libvirt is about to say which domains there are: until then a machine that is not shown
 * may be there all the same. */
bool manager_awaits_libvirt(Manager *manager);

/* Calls @then once when libvirt has said it, or is known not to, which takes 30 s at most; at once,
 * from within this call, where that is so already. */
void manager_await_libvirt(Manager *manager, void (*then)(void *userdata), void *userdata);

/* Whether it has seen both worlds whole, or libvirt is not there to be seen: only then is what it
 * shows the truth. */
bool manager_has_looked(Manager *manager);
