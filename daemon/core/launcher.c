/* A launch: from the reservation to the answer, and the way back from wherever it failed. The order
 * is launch.c's; this file does the steps. Nothing here waits: each step ends in a callback. */
#include "core/manager-private.h"

#include <errno.h>
#include <string.h>

static void launch_run(Launch *launch);

void launch_free(Launch *launch) {
        request_free(launch->request);
        survey_answer_free(launch->survey);
        g_array_unref(launch->gpus);
        g_clear_pointer(&launch->claims, g_ptr_array_unref);
        refusal_free(launch->failure);
        g_free(launch);
}

static void launch_advance(Launch *launch, bool went_well) {
        launch->awaits_cards = false;
        launch->step = launch_next(launch->kind, launch->step, went_well);
        launch_run(launch);
}

static void launch_fail(Launch *launch, Refusal *refusal) {
        if (launch->failure)
                refusal_free(refusal);
        else
                launch->failure = refusal;
}

static Machine *launch_machine(Launch *launch) {
        return manager_find_machine(launch->manager, launch->uuid);
}

static Gpu *launch_gpu(Launch *launch, guint i) {
        return manager_find_gpu(launch->manager, g_array_index(launch->gpus, PciAddress, i));
}

static void launch_act(Launch *launch, HypervisorVerb verb, HypervisorDone done) {
        Manager *manager = launch->manager;

        manager->hypervisor.ops->act(manager->hypervisor.self, verb, launch->uuid, done, launch);
}

/* One that went before it answered may have done it all the same. */
static bool is_unavailable(const Refusal *refusal) {
        return refusal && refusal->code == REFUSAL_HYPERVISOR_UNAVAILABLE;
}

/* --- define --- */

static void launch_defined(void *userdata, const Refusal *refusal) {
        Launch *launch = userdata;
        TURN(launch->manager);

        launch->left_over = is_unavailable(refusal);
        if (refusal)
                launch_fail(launch, refusal_copy(refusal));
        launch_advance(launch, !refusal);
}

/* What the definition is to remember of the files: what a name leads to is asked before each start.
 */
static void launch_name_files(const Launch *launch, DomainSpec *spec) {
        g_autoptr(GArray) images = request_images(launch->request);

        for (guint i = 0; i < images->len; i++) {
                const RequestImage *image = &g_array_index(images, RequestImage, i);
                const ImageAnswer *answer = g_ptr_array_index(launch->survey->images, i);

                if (image->device) {
                        g_free(image->device->name);
                        image->device->name = g_strdup(answer->name);
                        image->device->block = answer->block;
                } else if (image->disk) {
                        spec->image = answer->name;
                        spec->image_is_block = answer->block;
                } else if (image->path == launch->request->kernel)
                        spec->kernel = answer->name;
                else
                        spec->initrd = answer->name;
        }
}

static void launch_define(Launch *launch) {
        Manager *manager = launch->manager;
        const Request *request = launch->request;
        g_autoptr(GArray) cards = g_array_new(FALSE, TRUE, sizeof(CardIdentity));
        const GArray *serials = launch->survey ? launch->survey->serials : NULL;
        HypervisorFacts hypervisor;
        DomainSpec spec;

        manager->hypervisor.ops->facts(manager->hypervisor.self, &hypervisor);
        for (guint i = 0; i < launch->gpus->len; i++) {
                const Gpu *gpu = launch_gpu(launch, i);

                if (gpu) {
                        CardIdentity card = card_identity_of(gpu->facts, serials);

                        g_array_append_val(cards, card);
                }
        }
        spec = (DomainSpec){
                .request = request,
                .uuid = launch->uuid,
                .cards = cards,
                .kvm = hypervisor.kvm,
                .uefi = request->firmware == FIRMWARE_UEFI ||
                        (request->firmware == FIRMWARE_DEFAULT && hypervisor.uefi),
        };
        launch_name_files(launch, &spec);
        manager->hypervisor.ops->define(manager->hypervisor.self, &spec, launch_defined, launch);
}

/* --- rehearse --- */

static void launch_rehearsed(void *userdata, const Refusal *refusal) {
        Launch *launch = userdata;
        TURN(launch->manager);

        if (refusal)
                launch_fail(launch, refusal_copy(refusal));
        /* A card may have gone from the bus meanwhile. */
        launch_advance(launch, !launch->failure);
}

static void launch_rehearse(Launch *launch) {
        if (launch->failure)
                launch_advance(launch, false); /* since it was begun */
        else
                launch_act(launch, HYPERVISOR_REHEARSE, launch_rehearsed);
}

/* --- bind --- */

static void launch_bind(Launch *launch) {
        for (guint i = 0; i < launch->gpus->len; i++) {
                Gpu *gpu = launch_gpu(launch, i);
                int r = gpu ? gpu_begin_binding(launch->manager, gpu, launch->uuid) : -ENODEV;

                if (r < 0) {
                        launch_fail(launch, handover_refusal(
                                                    g_array_index(launch->gpus, PciAddress, i), r));
                        continue;
                }
                gpu->awaited_by = launch;
                launch->waiting++;
        }
        launch->awaits_cards = true;
}

bool launch_is_ready(const Launch *launch) {
        return launch->awaits_cards && launch->waiting == 0;
}

void launch_go_on(Launch *launch) {
        launch_advance(launch, !launch->failure);
}

void launch_card_ended(Launch *launch, Gpu *gpu, HandoverOutcome outcome, const char *message) {
        gpu->awaited_by = NULL;
        if (outcome != HANDOVER_DONE && launch->step == LAUNCH_BIND)
                launch_fail(launch, card_refusal(gpu->address, outcome, message));
        launch->waiting--;
}

void launch_card_gone(Launch *launch, PciAddress address, bool was_awaited) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(address, shown);
        launch_fail(launch, refusal_new(REFUSAL_NO_SUCH_GPU, shown,
                                        "See whether the card is seated and powered.",
                                        "GPU %s has gone from the bus.", shown));
        if (was_awaited)
                launch->waiting--;
}

/* --- start --- */

/* The domain is not ours any more, or not as it was: libvirt was not asked for anything. */
static bool is_of_another(const Refusal *refusal) {
        return refusal &&
               (refusal->code == REFUSAL_NO_SUCH_MACHINE || refusal->code == REFUSAL_INVALID_STATE);
}

static bool is_among(const GArray *addresses, PciAddress address) {
        for (guint i = 0; i < addresses->len; i++)
                if (pci_address_equal(g_array_index(addresses, PciAddress, i), address))
                        return true;
        return false;
}

static void launch_miss(Launch *launch, PciAddress function, PciAddress gpu) {
        char shown[PCI_ADDRESS_BUFFER], whole[PCI_ADDRESS_BUFFER];

        pci_address_print(gpu, whole);
        launch_fail(
                launch,
                refusal_new(
                        REFUSAL_INVALID_STATE, whole,
                        "Look at its definition with virsh dumpxml --inactive, then call again.",
                        "libvirt has started machine %s without PCI device %s of GPU %s.",
                        launch->name, pci_address_print(function, shown), whole));
}

/* libvirt gives a machine what the definition says by then, and that may have been edited since it
 * was judged. One that runs without its GPU is none that was asked for. */
static void launch_look_for_cards(Launch *launch, const Domain *domain) {
        for (guint i = 0; domain && domain->facts->active && i < launch->gpus->len; i++) {
                const Gpu *gpu = launch_gpu(launch, i);

                if (!gpu)
                        continue; /* one that is gone has said so: launch_card_gone() */
                if (!is_among(domain->facts->hostdevs, gpu->address))
                        launch_miss(launch, gpu->address, gpu->address);
                for (guint j = 0; j < gpu->facts->companions->len; j++) {
                        PciAddress address =
                                g_array_index(gpu->facts->companions, PciFunction, j).address;

                        if (!is_among(domain->facts->hostdevs, address))
                                launch_miss(launch, address, gpu->address);
                }
        }
}

static void launch_started(void *userdata, const Refusal *refusal) {
        Launch *launch = userdata;
        TURN(launch->manager);
        Domain *domain = manager_find_domain(launch->manager, launch->uuid);

        launch->left_over = is_unavailable(refusal);
        if (domain && !is_unavailable(refusal))
                domain->start_asked = false;
        if (is_of_another(refusal))
                launch->asked = false;
        if (refusal)
                launch_fail(launch, refusal_copy(refusal));
        else if (!manager_domain_may_live(launch->manager, launch->uuid))
                launch_fail(launch, refusal_new(REFUSAL_HYPERVISOR_FAILED, launch->name,
                                                "QEMU's log says more: /var/log/libvirt/qemu/",
                                                "Machine %s ended as soon as it was started.",
                                                launch->name));
        else
                launch_look_for_cards(launch, domain);
        launch_advance(launch, !launch->failure);
}

/* Between the handover and now somebody may have rebound a card, or pulled it. */
static void launch_look_again(Launch *launch) {
        for (guint i = 0; i < launch->gpus->len; i++) {
                PciAddress address = g_array_index(launch->gpus, PciAddress, i);
                const Gpu *gpu = manager_look_at_gpu(launch->manager, address);
                char shown[PCI_ADDRESS_BUFFER];

                if (gpu && gpu->unread)
                        launch_fail(launch, unread_refusal(address));
                if (!gpu || gpu->unread || gpu_wholly_on_vfio(gpu))
                        continue; /* one that is gone has said so: launch_card_gone() */
                pci_address_print(address, shown);
                launch_fail(launch,
                            refusal_new(REFUSAL_INVALID_STATE, shown,
                                        "See what rebinds it (driverctl, virsh nodedev-reattach, a "
                                        "driver's package), then call again.",
                                        "Somebody else has taken GPU %s, or what travels with it, "
                                        "from vfio-pci before machine %s could be started.",
                                        shown, launch->name));
        }
}

/* While the cards were on their way somebody may have renamed the machine, or edited its GPUs. */
static void launch_look_at_domain(Launch *launch, const Domain *domain) {
        if (!domain || (g_str_equal(domain->facts->name, launch->name) &&
                        pci_addresses_equal(domain->facts->gpus, launch->gpus)))
                return;
        launch_fail(
                launch,
                refusal_new(
                        REFUSAL_INVALID_STATE, launch->name, "Look at it, then call again.",
                        "Machine %s was given another name or other GPUs before it could start.",
                        launch->name));
}

static void launch_start(Launch *launch) {
        Domain *domain = manager_find_domain(launch->manager, launch->uuid);

        launch_look_again(launch);
        launch_look_at_domain(launch, domain);
        if (launch->failure) {
                launch_advance(launch, false);
                return;
        }
        if (domain)
                domain_ask_for_start(domain);
        launch->asked = true;
        launch_act(launch, HYPERVISOR_START, launch_started);
}

/* --- the way back --- */

static void launch_undone_one(void *userdata, const Refusal *refusal) {
        Launch *launch = userdata;
        TURN(launch->manager);

        if (refusal && refusal->code != REFUSAL_NO_SUCH_MACHINE)
                launch->left_over = true;
        launch_advance(launch, !refusal);
}

/* What libvirt was not asked to start somebody else may have started. */
static void launch_undo_start(Launch *launch) {
        if (launch->asked)
                launch_act(launch, HYPERVISOR_DESTROY, launch_undone_one);
        else
                launch_advance(launch, true);
}

/* Every card goes where its record says, and the launch waits for those that move. A card that a
 * QEMU still has, or at which a helper is stuck, is not waited for: it settles when that has ended.
 */
static void launch_undo_bind(Launch *launch) {
        Manager *manager = launch->manager;

        for (guint i = 0; i < launch->gpus->len; i++) {
                Gpu *gpu = launch_gpu(launch, i);

                if (!gpu || gpu->launch != launch)
                        continue;
                gpu->launch = NULL;
                if (manager->host.ops->handing_over(manager->host.self, gpu->address)) {
                        gpu_refresh(manager, gpu, NULL);
                        continue;
                }
                gpu_note(gpu, GPU_LET_GO);
                gpu_refresh(manager, gpu, NULL);
                gpu_settle(manager, gpu, true);
                if (gpu->view.pending == GPU_PENDING_RELEASING) {
                        gpu->awaited_by = launch;
                        launch->waiting++;
                }
        }
        launch->awaits_cards = true;
}

/* --- the end --- */

static void launch_answer(Launch *launch) {
        ManagerDone done = launch->done;

        launch->done = NULL;
        if (done)
                done(launch->userdata, launch->failure);
}

static void launch_release_gpus(Launch *launch, GpuEvent event, const char *reason) {
        Manager *manager = launch->manager;

        for (guint i = 0; i < launch->gpus->len; i++) {
                Gpu *gpu = launch_gpu(launch, i);

                if (!gpu || gpu->launch != launch)
                        continue;
                gpu->launch = NULL;
                gpu_note(gpu, event);
                gpu_refresh(manager, gpu, reason);
        }
}

static void launch_end_well(Launch *launch) {
        Machine *machine = launch_machine(launch);
        Domain *domain = manager_find_domain(launch->manager, launch->uuid);

        if (domain && domain_may_live(domain))
                domain_claim(domain, g_steal_pointer(&launch->claims));
        launch_release_gpus(launch, GPU_STARTED, "its machine runs");
        if (machine) {
                machine->launch = NULL;
                machine_note(launch->manager, machine, MACHINE_STARTED, "");
                machine_refresh(launch->manager, machine);
        }
}

static void launch_end_badly(Launch *launch) {
        Manager *manager = launch->manager;
        Machine *machine = launch_machine(launch);
        g_autofree char *why = g_strdup_printf(
                "%s: %s", refusal_code_to_string(launch->failure->code), launch->failure->message);
        bool stopped;

        launch_release_gpus(launch, GPU_LET_GO, why);
        if (!machine)
                return;
        machine->launch = NULL;
        if (launch->left_over)
                manager_condemn(manager, launch->uuid, launch->kind != LAUNCH_START_ONLY);
        stopped = machine->state == MACHINE_STOPPING &&
                  !manager_domain_may_live(manager, launch->uuid);
        machine_note(manager, machine, stopped ? MACHINE_SEEN_OFF : MACHINE_START_FAILED, why);
        if (launch->kind == LAUNCH_START_ONLY)
                machine_refresh(manager, machine);
        else
                manager_remove_machine(manager, machine);
}

static void launch_end(Launch *launch) {
        Manager *manager = launch->manager;
        guint index;

        g_ptr_array_find(manager->launches, launch, &index);
        g_ptr_array_steal_index_fast(manager->launches, index);
        if (launch->step == LAUNCH_RUNNING)
                launch_end_well(launch);
        else
                launch_end_badly(launch);
        launch_answer(launch);
        if (launch->ended)
                launch->ended(launch->userdata);
        launch_free(launch);
}

static void launch_run(Launch *launch) {
        switch (launch->step) {
        case LAUNCH_DEFINE:
                launch_define(launch);
                break;
        case LAUNCH_REHEARSE:
                launch_rehearse(launch);
                break;
        case LAUNCH_BIND:
                launch_bind(launch);
                break;
        case LAUNCH_START:
                launch_start(launch);
                break;
        case LAUNCH_UNDO_START:
                launch_undo_start(launch);
                break;
        case LAUNCH_UNDO_BIND:
                launch_undo_bind(launch);
                break;
        case LAUNCH_UNDO_DEFINE:
                launch_act(launch, HYPERVISOR_UNDEFINE, launch_undone_one);
                break;
        default:
                launch_end(launch);
                break;
        }
}

/* --- an end before its time --- */

/* A helper cannot be called back: its card goes back when it has ended. */
static void launch_forsake_cards(Launch *launch) {
        for (guint i = 0; i < launch->gpus->len; i++) {
                Gpu *gpu = launch_gpu(launch, i);

                if (gpu && gpu->awaited_by == launch)
                        gpu->awaited_by = NULL;
        }
        launch->waiting = 0;
}

static void nobody_is_told(void *userdata, const Refusal *refusal) {
}

void launch_cancel(Launch *launch, Refusal *refusal) {
        Manager *manager = launch->manager;
        bool ends = launch->kind != LAUNCH_CREATE_ONLY && !launch->failure;

        if (!ends) {
                refusal_free(refusal);
                return;
        }
        launch_fail(launch, refusal);
        if (launch->step == LAUNCH_BIND)
                launch_forsake_cards(launch);
        /* libvirt lets this in while it starts the domain, and the start fails then. */
        if (launch->step == LAUNCH_START)
                manager->hypervisor.ops->act(manager->hypervisor.self, HYPERVISOR_DESTROY,
                                             launch->uuid, nobody_is_told, NULL);
}

/* --- the beginning --- */

static LaunchKind launch_kind(const Intake *intake) {
        if (intake->kind == INTAKE_START)
                return LAUNCH_START_ONLY;
        return intake->request->start ? LAUNCH_CREATE_AND_START : LAUNCH_CREATE_ONLY;
}

static Machine *launch_make_machine(Launch *launch) {
        const Request *request = launch->request;
        Machine *machine = machine_new(launch->name, launch->uuid);

        g_array_append_vals(machine->gpus, request->gpus->data, request->gpus->len);
        machine->vcpus = request->vcpus;
        machine->memory_mib = request->memory_mib;
        machine->autostart = request->autostart;
        machine->state = MACHINE_CREATED;
        machine->launch = launch;
        manager_add_machine(launch->manager, machine);
        return machine;
}

/* What was judged a moment ago cannot be refused now; if it is all the same nothing is done by
 * halves. */
static void launch_reserve(Launch *launch) {
        for (guint i = 0; i < launch->gpus->len; i++) {
                Gpu *gpu = launch_gpu(launch, i);
                GpuVerdict verdict;

                if (!gpu)
                        continue; /* launch_bind() will say so */
                verdict = gpu_apply(gpu, GPU_ASK_RESERVE);
                if (verdict != GPU_OK) {
                        launch_fail(launch, gpu_refusal(gpu, verdict));
                        continue;
                }
                gpu->launch = launch;
                gpu_refresh(launch->manager, gpu, NULL);
        }
}

static void launch_ask(Launch *launch, Machine *machine) {
        Manager *manager = launch->manager;
        HypervisorFacts hypervisor;
        const char *reason;

        manager->hypervisor.ops->facts(manager->hypervisor.self, &hypervisor);
        reason = hypervisor.kvm ? "asked to start"
                                : "asked to start; without KVM, in slow plain emulation";
        if (machine_apply(manager, machine, MACHINE_ASK_START, reason) == MACHINE_REFUSED)
                launch_fail(launch, machine_refusal(machine, MACHINE_ASK_START));
}

static Launch *launch_new(Intake *intake, const Machine *machine) {
        const Request *wish = intake->request;
        g_autofree char *uuid = wish->uuid ? NULL : g_uuid_string_random();
        Launch *launch = g_new0(Launch, 1);

        launch->manager = intake->manager;
        launch->kind = launch_kind(intake);
        launch->step = launch_first(launch->kind);
        g_strlcpy(launch->name, wish->name, sizeof(launch->name));
        g_strlcpy(launch->uuid, machine ? machine->uuid : uuid ?: wish->uuid, sizeof(launch->uuid));
        launch->gpus = g_array_copy(wish->gpus);
        launch->claims = claims_new(wish, launch->kind == LAUNCH_START_ONLY, intake->survey);
        launch->memory_mib = wish->memory_mib;
        launch->hugepages = wish->hugepages;
        launch->done = intake->done;
        launch->ended = intake->ended;
        launch->userdata = intake->userdata;
        if (launch->kind != LAUNCH_START_ONLY) {
                launch->request = g_steal_pointer(&intake->request);
                launch->survey = g_steal_pointer(&intake->survey);
        }
        return launch;
}

void launch_begin(Intake *intake, Machine *machine) {
        Manager *manager = intake->manager;
        Launch *launch = launch_new(intake, machine);

        g_ptr_array_add(manager->launches, launch);
        if (!machine)
                machine = launch_make_machine(launch);
        machine->launch = launch;
        manager_pardon(manager, launch->uuid);
        if (launch->kind != LAUNCH_CREATE_ONLY) {
                launch_reserve(launch);
                launch_ask(launch, machine);
        }
        if (launch->failure)
                launch->step = LAUNCH_UNDONE;
        if (launch->request && !launch->request->wait)
                launch_answer(launch);
        launch_run(launch);
}
