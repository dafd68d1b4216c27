/* Gathers what a check needs. First the host's slow side is asked (image files, other processes),
 * which takes a while; then everything else is looked at and judged in one turn of the loop, so
 * that nothing can change between the judgement and the reservation that follows it. Where what was
 * asked about has changed meanwhile, it is asked again. */
#include "core/manager-private.h"

#include <errno.h>
#include <string.h>

/* How often the host is asked for one intake. */
#define TRIES_MAX 3

void intake_free(Intake *intake) {
        request_free(intake->request);
        g_free(intake->machine);
        g_clear_pointer(&intake->gpus, g_array_unref);
        g_array_unref(intake->asked);
        g_ptr_array_unref(intake->files);
        g_ptr_array_unref(intake->findings);
        survey_answer_free(intake->survey);
        g_free(intake);
}

/* The machine that has, or gets, the function; "" = none. */
static const char *manager_taker(Manager *manager, const PciFunction *function) {
        g_autoptr(GArray) none = g_array_new(FALSE, FALSE, sizeof(PciFunction));
        DeviceFacts alone = { .function = *function, .companions = none };
        const Domain *domain = manager_domain_with(manager, &alone);
        PciAddress address = function->address;

        if (domain)
                return domain->facts->name;
        for (guint i = 0; i < manager->gpus->len; i++) {
                const Gpu *gpu = g_ptr_array_index(manager->gpus, i);

                if (!gpu->launch)
                        continue;
                if (pci_address_equal(gpu->address, address))
                        return gpu->launch->name;
                for (guint j = 0; j < gpu->facts->companions->len; j++)
                        if (pci_address_equal(
                                    g_array_index(gpu->facts->companions, PciFunction, j).address,
                                    address))
                                return gpu->launch->name;
        }
        return "";
}

const char *manager_neighbour_taker(Manager *manager, const DeviceFacts *facts) {
        for (guint i = 0; i < facts->neighbours->len; i++) {
                const char *taker =
                        manager_taker(manager, &g_array_index(facts->neighbours, PciFunction, i));

                if (taker[0])
                        return taker;
        }
        return "";
}

void intake_look_at_card(Manager *manager, PciAddress address, CheckCard *ret,
                         GPtrArray *keep_facts) {
        const Gpu *gpu = manager_find_gpu(manager, address);
        const Domain *namer;

        *ret = (CheckCard){
                .address = address,
                .fault_message = "",
                .taken_by = "",
                .named_by = "",
                .neighbour_taken_by = "",
        };
        if (gpu) {
                ret->facts = gpu->facts;
                ret->unread = gpu->unread;
                ret->view = gpu->view;
                ret->fault_message = gpu->fault_message;
                ret->taken_by = gpu->machine_name;
                namer = manager_domain_naming(manager, gpu->facts);
                ret->named_by = namer ? namer->facts->name : "";
                ret->neighbour_taken_by = manager_neighbour_taker(manager, gpu->facts);
        } else {
                DeviceFacts *facts;
                int r = manager->host.ops->look(manager->host.self, address, &facts);

                ret->unread = r < 0 && r != -ENODEV;
                if (r < 0)
                        return;
                g_ptr_array_add(keep_facts, facts);
                ret->facts = facts;
        }
}

Refusal *manager_why_no_gpu(Manager *manager, PciAddress address) {
        TURN(manager);
        g_autoptr(GPtrArray) findings = findings_new();
        g_autoptr(GPtrArray) keep =
                g_ptr_array_new_with_free_func((GDestroyNotify)device_facts_free);
        CheckCard card;

        if (manager_look_at_gpu(manager, address))
                return NULL;
        intake_look_at_card(manager, address, &card, keep);
        check_identity(&card, findings);
        return findings->len > 0 ? refusal_copy(g_ptr_array_index(findings, 0))
                                 : no_such_gpu(address);
}

static bool manager_has_domain(Manager *manager, const char *name, const char *uuid) {
        GHashTableIter iter;
        Domain *domain;

        if ((name && manager_find_machine_named(manager, name)) ||
            (uuid && manager_find_machine(manager, uuid)))
                return true;
        g_hash_table_iter_init(&iter, manager->domains);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&domain))
                if ((name && g_str_equal(domain->facts->name, name)) ||
                    (uuid && g_ascii_strcasecmp(domain->facts->uuid, uuid) == 0))
                        return true;
        return false;
}

static NetdevKind manager_netdev(Manager *manager, const DeviceRequest *nic) {
        return nic->type == NIC_NETWORK
                       ? NETDEV_NONE
                       : manager->host.ops->netdev(manager->host.self, nic->source);
}

static HugepagesMount intake_hugepages(const Intake *intake) {
        const Host *host = &intake->manager->host;
        HugepagesMount mount = { 0 };

        switch (intake->request->hugepages) {
        case HUGEPAGES_2M:
                host->ops->hugepages_mount(host->self, 2, &mount);
                break;
        case HUGEPAGES_1G:
                host->ops->hugepages_mount(host->self, 1024, &mount);
                break;
        default:
                break;
        }
        return mount;
}

static void intake_look_at_nics(const Intake *intake, GArray *nics) {
        for (guint i = 0; i < intake->request->nics->len; i++) {
                NetdevKind kind = manager_netdev(intake->manager,
                                                 g_ptr_array_index(intake->request->nics, i));

                g_array_append_val(nics, kind);
        }
}

/* The domain of the machine that is to start or to get something; NULL = it has none. */
static const Domain *intake_domain(const Intake *intake) {
        return manager_find_domain(intake->manager, intake->uuid);
}

/* A function that is not there any more would have libvirt refuse, in words of its own and after
 * the cards have been moved. */
static void intake_look_at_hostdevs(const Intake *intake, const DomainFacts *domain,
                                    GArray *hostdevs, GPtrArray *keep_facts) {
        const Host *host = &intake->manager->host;

        for (guint i = 0; i < domain->defined_hostdevs->len; i++) {
                const DefinedHostdev *defined =
                        &g_array_index(domain->defined_hostdevs, DefinedHostdev, i);
                CheckHostdev hostdev = { .address = defined->address, .managed = defined->managed };
                DeviceFacts *facts = NULL;
                int r = host->ops->look(host->self, defined->address, &facts);

                if (r >= 0)
                        g_ptr_array_add(keep_facts, facts);
                hostdev.facts = facts;
                hostdev.missing = r == -ENODEV;
                g_array_append_val(hostdevs, hostdev);
        }
}

/* Holders matter where a host driver would have to let go, and where a QEMU that no libvirt knows
 * has the card already. */
static void intake_ask_cards(Intake *intake) {
        const GArray *gpus = intake->request->gpus;

        g_array_set_size(intake->asked, 0);
        for (guint i = 0; i < gpus->len; i++) {
                PciAddress address = g_array_index(gpus, PciAddress, i);
                const Gpu *gpu = manager_find_gpu(intake->manager, address);

                if (gpu && gpu->view.state != GPU_ATTACHED &&
                    gpu->view.pending == GPU_PENDING_NONE && gpu->view.fault == GPU_FAULT_NONE)
                        g_array_append_val(intake->asked, address);
        }
}

static bool intake_has_asked(const Intake *intake, PciAddress address) {
        for (guint i = 0; i < intake->asked->len; i++)
                if (pci_address_equal(g_array_index(intake->asked, PciAddress, i), address))
                        return true;
        return false;
}

/* What the machines that run have of the memory that is not set aside for huge pages. */
static uint64_t manager_machines_mib(Manager *manager) {
        GHashTableIter iter;
        Domain *domain;
        uint64_t sum = 0;

        g_hash_table_iter_init(&iter, manager->domains);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&domain))
                if (domain->facts->active && !domain->facts->hugepages)
                        sum += domain->facts->memory_mib;
        return sum;
}

static uint64_t less(uint64_t from, uint64_t what) {
        return from > what ? from - what : 0;
}

/* From when libvirt was asked to start it QEMU takes them, and what it has taken the kernel does
 * not count as free. */
static void launch_count_hugepages(const Launch *launch, HostFacts *host) {
        if (launch->asked)
                return;
        if (launch->hugepages == HUGEPAGES_2M)
                host->hugepages_2m_free = less(host->hugepages_2m_free, launch->memory_mib / 2);
        else if (launch->hugepages == HUGEPAGES_1G)
                host->hugepages_1g_free = less(host->hugepages_1g_free, launch->memory_mib / 1024);
}

/* What was promised to machines that are being started, and that nobody sees yet, is not to be had
 * by another: many start at once with the host. */
static void manager_count_launches(Manager *manager, CheckFacts *facts) {
        HostFacts *host = &facts->host;

        for (guint i = 0; i < manager->launches->len; i++) {
                const Launch *launch = g_ptr_array_index(manager->launches, i);
                const Domain *domain = manager_find_domain(manager, launch->uuid);

                if (launch->kind == LAUNCH_CREATE_ONLY || (domain && domain->facts->active))
                        continue;
                launch_count_hugepages(launch, host);
                if (launch->hugepages != HUGEPAGES_NONE)
                        continue;
                facts->machines_mib += launch->memory_mib;
                /* 0 = not known, and stays so. */
                if (host->memory_available_mib > 1)
                        host->memory_available_mib =
                                MAX(less(host->memory_available_mib, launch->memory_mib), 1);
        }
}

static void intake_look_at_cards(const Intake *intake, GArray *cards, GPtrArray *keep_facts) {
        const GArray *gpus = intake->request->gpus;

        /* All looks come first: what one loses another card's facts must not say. */
        for (guint i = 0; i < gpus->len; i++)
                manager_look_at_gpu(intake->manager, g_array_index(gpus, PciAddress, i));
        for (guint i = 0; i < gpus->len; i++) {
                CheckCard card;

                intake_look_at_card(intake->manager, g_array_index(gpus, PciAddress, i), &card,
                                    keep_facts);
                card.unasked = !intake_has_asked(intake, card.address);
                g_array_append_val(cards, card);
        }
}

static bool domain_has_id(const Domain *domain, const DeviceRequest *device) {
        const GPtrArray *ids = domain_device_ids(domain->facts, device->kind);

        return device->id && domain_ids_have(ids, device->id);
}

static void intake_judge_create(const Intake *intake, CheckFacts *facts) {
        const Request *request = intake->request;

        facts->name_taken = manager_has_domain(intake->manager, request->name, NULL);
        facts->uuid_taken =
                request->uuid && manager_has_domain(intake->manager, NULL, request->uuid);
        check_request(facts, request, intake->findings);
}

static void intake_judge_start(const Intake *intake, CheckFacts *facts, GPtrArray *keep_facts) {
        const DomainFacts *domain = intake_domain(intake)->facts;
        g_autoptr(GArray) hostdevs = g_array_new(FALSE, TRUE, sizeof(CheckHostdev));

        intake_look_at_hostdevs(intake, domain, hostdevs, keep_facts);
        facts->definition = &(CheckDefinition){ domain->cards, hostdevs, domain->needs_kvm };
        check_request(facts, intake->request, intake->findings);
}

static void intake_judge_attach(const Intake *intake, CheckFacts *facts) {
        const Request *request = intake->request;
        const GPtrArray *wished = request->disks->len > 0 ? request->disks : request->nics;

        facts->id_taken = domain_has_id(intake_domain(intake), g_ptr_array_index(wished, 0));
        check_attach(facts, request, intake->findings);
}

static void intake_judge(Intake *intake) {
        Manager *manager = intake->manager;
        g_autoptr(GArray) cards = g_array_new(FALSE, TRUE, sizeof(CheckCard));
        g_autoptr(GArray) nics = g_array_new(FALSE, TRUE, sizeof(NetdevKind));
        g_autoptr(GArray) files = NULL;
        g_autoptr(GPtrArray) keep =
                g_ptr_array_new_with_free_func((GDestroyNotify)device_facts_free);
        CheckFacts facts = {
                .domains_known = manager->domains_known,
                .cards = cards,
                .survey = intake->survey,
                .nics = nics,
                .machines_mib = manager_machines_mib(manager),
                .hugepages = intake_hugepages(intake),
        };

        manager->host.ops->facts(manager->host.self, &facts.host);
        if (facts.host.unread) {
                g_ptr_array_add(intake->findings, host_unread_refusal("host"));
                return;
        }
        manager->hypervisor.ops->facts(manager->hypervisor.self, &facts.hypervisor);
        manager_count_launches(manager, &facts);
        intake_look_at_cards(intake, cards, keep);
        intake_look_at_nics(intake, nics);
        facts.files = files = intake_file_uses(intake);
        switch (intake->kind) {
        case INTAKE_CREATE:
                intake_judge_create(intake, &facts);
                break;
        case INTAKE_START:
                intake_judge_start(intake, &facts, keep);
                break;
        case INTAKE_ATTACH:
                intake_judge_attach(intake, &facts);
                break;
        case INTAKE_BIND:
                check_bind(&facts, intake->findings);
                break;
        }
}

static void intake_end(Intake *intake) {
        intake->judged(intake, intake->findings);
        g_ptr_array_remove_fast(intake->manager->intakes, intake);
}

/* --- what is wished --- */

/* A start is of what the definition says, and a device goes to a machine that has one. */
static bool intake_is_known(const Intake *intake) {
        const Domain *domain = intake_domain(intake);

        return (intake->kind != INTAKE_START && intake->kind != INTAKE_ATTACH) ||
               (domain && domain->facts->definition);
}

/* What the definition says now. */
static void intake_take_wish(Intake *intake) {
        const DomainFacts *facts;

        if (intake->kind != INTAKE_START)
                return;
        facts = intake_domain(intake)->facts;
        request_free(intake->request);
        intake->request = request_copy(facts->definition);
        /* The same GPUs, each once. */
        g_array_set_size(intake->request->gpus, 0);
        g_array_append_vals(intake->request->gpus, facts->gpus->data, facts->gpus->len);
}

static void intake_end_without_wish(Intake *intake) {
        CheckFacts facts = { .domains_known = intake->manager->domains_known };

        intake->manager->hypervisor.ops->facts(intake->manager->hypervisor.self, &facts.hypervisor);
        check_hypervisor(&facts, intake->machine, intake->findings);
        if (!findings_first_error(intake->findings))
                findings_error(intake->findings, REFUSAL_INVALID_STATE, intake->machine,
                               "Try again in a moment; virsh dumpxml shows its definition.",
                               "libvirt does not say how machine %s is defined.", intake->machine);
        intake_end(intake);
}

static ImageUse image_use(const RequestImage *image) {
        if (image->kernel)
                return IMAGE_AS_KERNEL;
        return image->qcow2 ? IMAGE_AS_QCOW2 : IMAGE_AS_FILE;
}

static bool images_are_same(const Request *one, const Request *other) {
        g_autoptr(GArray) these = request_images(one);
        g_autoptr(GArray) those = request_images(other);

        for (guint i = 0; these->len == those->len && i < these->len; i++) {
                const RequestImage *this = &g_array_index(these, RequestImage, i);
                const RequestImage *that = &g_array_index(those, RequestImage, i);

                if (!g_str_equal(this->path, that->path) || image_use(this) != image_use(that))
                        return false;
        }
        return these->len == those->len;
}

static bool has_disks(const Request *request) {
        return request->image || request->disks->len > 0;
}

/* Takes what is wished now, which is known. Whether the host was asked about all of that. */
static bool intake_is_up_to_date(Intake *intake) {
        g_autoptr(Request) asked = request_copy(intake->request);

        intake_take_wish(intake);
        return images_are_same(asked, intake->request) &&
               pci_addresses_equal(asked->gpus, intake->request->gpus) &&
               (!has_disks(intake->request) || intake_has_asked_files(intake));
}

/* --- what the host is asked --- */

static void intake_ask(Intake *intake);

static void intake_finish(Intake *intake) {
        intake_judge(intake);
        intake_end(intake);
}

static void intake_give_up(Intake *intake) {
        findings_error(intake->findings, REFUSAL_INVALID_STATE, intake->request->name, "Try again.",
                       "Machines or their disks kept changing while the service checked the disks "
                       "of machine %s.",
                       intake->request->name);
        findings_note_passing(intake->findings);
        intake_end(intake);
}

static void intake_surveyed(void *userdata, SurveyAnswer *answer) {
        Intake *intake = userdata;
        TURN(intake->manager);

        intake->survey = answer;
        if (!intake_is_known(intake))
                intake_end_without_wish(intake);
        else if (intake_is_up_to_date(intake) || answer->error < 0)
                intake_finish(intake);
        else if (++intake->tries < TRIES_MAX)
                intake_ask(intake);
        else
                intake_give_up(intake);
}

static void intake_add_images(const Intake *intake, SurveyQuestion *question) {
        g_autoptr(GArray) images = request_images(intake->request);

        for (guint i = 0; i < images->len; i++) {
                const RequestImage *image = &g_array_index(images, RequestImage, i);

                ImageUse use = image_use(image);

                g_ptr_array_add(question->images, (char *)image->path);
                g_array_append_val(question->uses, use);
        }
}

static void intake_add_files(const Intake *intake, SurveyQuestion *question) {
        for (guint i = 0; i < intake->files->len; i++) {
                const DomainFile *file = g_ptr_array_index(intake->files, i);

                g_ptr_array_add(question->files, file->path);
                g_array_append_val(question->files_qcow2, file->qcow2);
        }
}

/* Whose disks the others have matters only to who has some. */
static void intake_choose_files(Intake *intake) {
        g_ptr_array_unref(intake->files);
        intake->files = has_disks(intake->request)
                                ? intake_files(intake)
                                : g_ptr_array_new_with_free_func((GDestroyNotify)domain_file_free);
}

static void intake_ask(Intake *intake) {
        Manager *manager = intake->manager;
        HypervisorFacts hypervisor;
        g_autoptr(GPtrArray) images = g_ptr_array_new();
        g_autoptr(GPtrArray) files = g_ptr_array_new();
        g_autoptr(GArray) uses = g_array_new(FALSE, TRUE, sizeof(ImageUse));
        g_autoptr(GArray) files_qcow2 = g_array_new(FALSE, TRUE, sizeof(bool));
        SurveyQuestion question = {
                .cards = intake->asked,
                .serials = intake->kind == INTAKE_CREATE || intake->kind == INTAKE_START,
                .images = images,
                .uses = uses,
                .files = files,
                .files_qcow2 = files_qcow2,
        };

        g_clear_pointer(&intake->survey, survey_answer_free);
        manager->hypervisor.ops->facts(manager->hypervisor.self, &hypervisor);
        question.qemu_uid = hypervisor.qemu_uid;
        question.apparmor = hypervisor.apparmor;
        intake_ask_cards(intake);
        intake_choose_files(intake);
        intake_add_images(intake, &question);
        intake_add_files(intake, &question);
        if (intake->asked->len == 0 && images->len == 0)
                intake_finish(intake);
        else
                manager->host.ops->survey(manager->host.self, &question, intake_surveyed, intake);
}

Intake *intake_new(Manager *manager, IntakeKind kind, Request *request, GPtrArray *findings,
                   IntakeDone judged) {
        Intake *intake = g_new0(Intake, 1);

        intake->manager = manager;
        intake->kind = kind;
        intake->request = request;
        intake->asked = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        intake->files = g_ptr_array_new_with_free_func((GDestroyNotify)domain_file_free);
        intake->findings = findings ?: findings_new();
        intake->judged = judged;
        return intake;
}

void intake_set_machine(Intake *intake, const Machine *machine) {
        g_free(intake->machine);
        intake->machine = g_strdup(machine->name);
        g_strlcpy(intake->uuid, machine->uuid, sizeof(intake->uuid));
        g_clear_pointer(&intake->gpus, g_array_unref);
        intake->gpus = g_array_copy(machine->gpus);
}

Machine *intake_machine(const Intake *intake, Refusal **ret) {
        Machine *machine = manager_find_machine(intake->manager, intake->uuid);

        if (!machine || !machine->shown)
                *ret = no_such_machine(intake->machine);
        else if (g_str_equal(machine->name, intake->machine) &&
                 pci_addresses_equal(machine->gpus, intake->gpus))
                return machine;
        else
                *ret = refusal_new(
                        REFUSAL_INVALID_STATE, intake->machine, "Look at it, then call again.",
                        "Machine %s has been given another name or other GPUs in the meantime.",
                        intake->machine);
        return NULL;
}

/* What is wished is taken from the definition only now. */
static void intake_go(void *userdata) {
        Intake *intake = userdata;

        if (!intake_is_known(intake)) {
                intake_end_without_wish(intake);
                return;
        }
        intake_take_wish(intake);
        intake_ask(intake);
}

void intake_begin(Intake *intake) {
        g_ptr_array_add(intake->manager->intakes, intake);
        if (intake->kind == INTAKE_BIND)
                intake_go(intake);
        else
                manager_await_libvirt(intake->manager, intake_go, intake);
}
