/* Gathers what a check needs. First the host's slow side is asked (image files, other processes),
 * which takes a while; then everything else is looked at and judged in one turn of the loop, so
 * that nothing can change between the judgement and the reservation that follows it. */
#include "core/manager-private.h"

#include <errno.h>

void intake_free(Intake *intake) {
        request_free(intake->request);
        g_free(intake->machine);
        g_array_unref(intake->gpus);
        g_array_unref(intake->asked);
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

GPtrArray *manager_files_in_use(Manager *manager, const char *also_uuid) {
        GPtrArray *files = g_ptr_array_new_with_free_func(g_free);
        GHashTableIter iter;
        Domain *domain;

        g_hash_table_iter_init(&iter, manager->domains);
        while (g_hash_table_iter_next(&iter, NULL, (void **)&domain))
                for (guint i = 0; i < domain->facts->files->len; i++) {
                        const DomainFile *file = g_ptr_array_index(domain->facts->files, i);
                        FileUse *use;

                        if (!file->path || !file->writes ||
                            (!domain->facts->active &&
                             g_strcmp0(domain->facts->uuid, also_uuid) != 0))
                                continue;
                        use = g_new(FileUse, 1);
                        use->path = file->path;
                        use->domain = domain->facts->name;
                        g_ptr_array_add(files, use);
                }
        return files;
}

NetdevKind manager_netdev(Manager *manager, const DeviceRequest *nic) {
        return nic->type == NIC_NETWORK
                       ? NETDEV_NONE
                       : manager->host.ops->netdev(manager->host.self, nic->source);
}

static void intake_look_at_nics(Intake *intake, GArray *nics) {
        for (guint i = 0; intake->request && i < intake->request->nics->len; i++) {
                NetdevKind kind = manager_netdev(intake->manager,
                                                 g_ptr_array_index(intake->request->nics, i));

                g_array_append_val(nics, kind);
        }
}

/* The domain of the machine that is to start, NULL = it was never seen, or nothing is to start. */
static const Domain *intake_domain(const Intake *intake) {
        const Machine *machine =
                intake->machine ? manager_find_machine_named(intake->manager, intake->machine)
                                : NULL;

        return machine ? manager_find_domain(intake->manager, machine->uuid) : NULL;
}

/* Whether the card is, as far as anybody can tell, the one that the machine was made with. A
 * definition by an earlier version says nothing of its cards, and is not taught at its next Start
 * either: what is in the slot by then may be another card already, and to note that one down would
 * be to vouch for it. */
static bool intake_knows_card(Intake *intake, const Domain *domain, const CheckCard *card) {
        const CardIdentity *made_with =
                domain ? cards_find(domain->facts->cards, card->address) : NULL;
        CardIdentity now;

        if (!made_with || !card->facts)
                return true;
        now = card_identity_of(card->facts, intake->survey ? intake->survey->serials : NULL);
        return card_identity_check(domain->facts->name, made_with, &now, intake->findings);
}

/* A function that is not there any more would have libvirt refuse, in words of its own and after
 * the cards have been moved. */
static void intake_look_at_definition(Intake *intake, const DomainFacts *domain) {
        const Host *host = &intake->manager->host;

        for (guint i = 0; i < domain->hostdevs->len; i++) {
                PciAddress address = g_array_index(domain->hostdevs, PciAddress, i);
                g_autoptr(DeviceFacts) facts = NULL;

                if (host->ops->look(host->self, address, &facts) == -ENODEV)
                        card_identity_miss(domain->name, address, intake->findings);
        }
}

/* Holders matter where a host driver would have to let go, and where a QEMU that no libvirt knows
 * has the card already. */
static void intake_ask_cards(Intake *intake) {
        for (guint i = 0; i < intake->gpus->len; i++) {
                PciAddress address = g_array_index(intake->gpus, PciAddress, i);
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

/* What a machine that is to start wants; nothing where it has gone meanwhile. */
static void intake_check_memory(Intake *intake, const Domain *domain, const CheckFacts *facts) {
        if (domain)
                check_memory(facts,
                             &(MachineMemory){
                                     .mib = domain->facts->memory_mib,
                                     .huge = domain->facts->hugepages,
                                     .now = true,
                                     .pinned = intake->gpus->len > 0,
                             },
                             intake->findings);
}

static void intake_judge(Intake *intake) {
        Manager *manager = intake->manager;
        const Request *request = intake->request;
        const Domain *domain;
        g_autoptr(GArray) cards = g_array_new(FALSE, TRUE, sizeof(CheckCard));
        g_autoptr(GArray) nics = g_array_new(FALSE, TRUE, sizeof(NetdevKind));
        g_autoptr(GPtrArray) files = manager_files_in_use(manager, NULL);
        g_autoptr(GPtrArray) keep =
                g_ptr_array_new_with_free_func((GDestroyNotify)device_facts_free);
        CheckFacts facts = {
                .domains_known = manager->domains_known,
                .cards = cards,
                .survey = intake->survey,
                .nics = nics,
                .machines_mib = manager_machines_mib(manager),
                .files = files,
        };

        manager->host.ops->facts(manager->host.self, &facts.host);
        manager->hypervisor.ops->facts(manager->hypervisor.self, &facts.hypervisor);
        /* All looks come first: what one loses another card's facts must not say. */
        for (guint i = 0; i < intake->gpus->len; i++)
                manager_look_at_gpu(manager, g_array_index(intake->gpus, PciAddress, i));
        for (guint i = 0; i < intake->gpus->len; i++) {
                CheckCard card;

                intake_look_at_card(manager, g_array_index(intake->gpus, PciAddress, i), &card,
                                    keep);
                card.unasked = !intake_has_asked(intake, card.address);
                g_array_append_val(cards, card);
        }
        intake_look_at_nics(intake, nics);
        domain = intake_domain(intake);
        if (request) {
                facts.name_taken = manager_has_domain(manager, request->name, NULL);
                facts.uuid_taken =
                        request->uuid && manager_has_domain(manager, NULL, request->uuid);
                check_request(&facts, request, intake->findings);
                return;
        }
        /* Create has asked about the boot display; the machine that it made may start again. */
        for (guint i = 0; i < cards->len; i++) {
                const CheckCard *card = &g_array_index(cards, CheckCard, i);

                if (intake_knows_card(intake, domain, card))
                        check_card(&facts, card, intake->machine != NULL, intake->findings);
        }
        if (domain)
                intake_look_at_definition(intake, domain->facts);
        if (intake->machine) {
                intake_check_memory(intake, domain, &facts);
                check_hypervisor(&facts, intake->machine, intake->findings);
        }
        check_survey(&facts, intake->findings);
}

static void intake_finish(Intake *intake) {
        intake_judge(intake);
        intake->judged(intake, intake->findings);
        g_ptr_array_remove_fast(intake->manager->intakes, intake);
}

static void intake_surveyed(void *userdata, SurveyAnswer *answer) {
        Intake *intake = userdata;
        TURN(intake->manager);

        intake->survey = answer;
        intake_finish(intake);
}

static void intake_ask_image(SurveyQuestion *question, const char *path, bool qcow2) {
        if (!path)
                return;
        g_ptr_array_add(question->images, (char *)path);
        g_array_append_val(question->qcow2, qcow2);
}

Intake *intake_new(Manager *manager, Request *request, const char *machine, const GArray *gpus,
                   GPtrArray *findings, IntakeDone judged) {
        Intake *intake = g_new0(Intake, 1);

        intake->manager = manager;
        intake->request = request;
        intake->machine = g_strdup(machine);
        intake->gpus = g_array_copy((GArray *)gpus);
        intake->asked = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        intake->findings = findings ?: findings_new();
        intake->judged = judged;
        return intake;
}

void intake_begin(Intake *intake) {
        Manager *manager = intake->manager;
        const Request *request = intake->request;
        g_autoptr(GPtrArray) images = g_ptr_array_new();
        g_autoptr(GArray) qcow2 = g_array_new(FALSE, TRUE, sizeof(bool));
        SurveyQuestion question = {
                .cards = intake->asked,
                .serials = request || intake->machine,
                .images = images,
                .qcow2 = qcow2,
        };

        g_ptr_array_add(manager->intakes, intake);
        intake_ask_cards(intake);
        if (request) {
                intake_ask_image(&question, request->image, request->image_format == IMAGE_QCOW2);
                intake_ask_image(&question, request->kernel, false);
                intake_ask_image(&question, request->initrd, false);
                for (guint i = 0; i < request->disks->len; i++) {
                        const DeviceRequest *disk = g_ptr_array_index(request->disks, i);

                        intake_ask_image(&question, disk->path, disk->format == IMAGE_QCOW2);
                }
        }
        if (intake->asked->len == 0 && images->len == 0)
                intake_finish(intake);
        else
                manager->host.ops->survey(manager->host.self, &question, intake_surveyed, intake);
}
