#include "world.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef void (*TodoRun)(World *world, void *data);

typedef struct Todo {
        TodoRun run;
        void *data;
        GDestroyNotify free;
        bool survives_daemon; /* libvirt's own work, not the daemon's */
} Todo;

static void todo_free(Todo *todo) {
        if (todo->free)
                todo->free(todo->data);
        g_free(todo);
}

static void world_later(World *world, TodoRun run, void *data, GDestroyNotify free_data,
                        bool survives) {
        Todo *todo = g_new(Todo, 1);

        *todo = (Todo){ run, data, free_data, survives };
        g_queue_push_tail(&world->todo, todo);
}

bool world_step(World *world) {
        Todo *todo = g_queue_pop_head(&world->todo);

        if (!todo)
                return false;
        todo->run(world, todo->data);
        todo_free(todo);
        world_check(world);
        return true;
}

void world_run(World *world) {
        unsigned steps = 0;

        while (world_step(world))
                if (++steps > 100000)
                        fail_msg("the world does not come to rest");
}

static PciAddress world_address(const char *address) {
        PciAddress ret;

        assert_true(pci_address_parse(address, &ret));
        return ret;
}

static bool world_is_marked(const GArray *list, PciAddress address) {
        for (guint i = 0; i < list->len; i++)
                if (pci_address_equal(g_array_index(list, PciAddress, i), address))
                        return true;
        return false;
}

static void world_unmark(GArray *list, PciAddress address) {
        for (guint i = list->len; i-- > 0;)
                if (pci_address_equal(g_array_index(list, PciAddress, i), address))
                        g_array_remove_index(list, i);
}

void world_mark(GArray *list, const char *address) {
        PciAddress a = world_address(address);

        g_array_append_val(list, a);
}

/* --- the kernel --- */

static WorldFunction *world_function_at(World *world, PciAddress address) {
        for (guint i = 0; i < world->functions->len; i++) {
                WorldFunction *function = g_ptr_array_index(world->functions, i);

                if (pci_address_equal(function->facts.address, address))
                        return function;
        }
        return NULL;
}

WorldFunction *world_function(World *world, const char *address) {
        return world_function_at(world, world_address(address));
}

const char *world_driver(World *world, const char *address) {
        return world_function(world, address)->facts.driver;
}

WorldFunction *world_add(World *world, const char *address, uint32_t class, int group,
                         const char *driver) {
        WorldFunction *function = g_new0(WorldFunction, 1);

        function->facts.address = world_address(address);
        function->facts.class = class;
        function->facts.vendor = 0x1234;
        function->facts.device = 0x1111;
        function->group = group;
        g_strlcpy(function->facts.driver, driver, sizeof(function->facts.driver));
        g_strlcpy(function->native_driver, driver, sizeof(function->native_driver));
        function->power = (FunctionPower){ "1", "auto" };
        g_ptr_array_add(world->functions, function);
        return function;
}

/* Whether its QEMU has the device open; libvirt may list another that was there before. */
static bool world_domain_holds(const WorldDomain *domain, PciAddress address) {
        return domain->qemu && world_is_marked(domain->hostdevs, address) &&
               !world_is_marked(domain->lost, address);
}

static bool world_group_is_held(World *world, int group) {
        for (guint i = 0; i < world->domains->len; i++) {
                const WorldDomain *domain = g_ptr_array_index(world->domains, i);

                for (guint j = 0; j < world->functions->len; j++) {
                        const WorldFunction *function = g_ptr_array_index(world->functions, j);

                        if (function->group == group &&
                            world_domain_holds(domain, function->facts.address))
                                return true;
                }
        }
        return false;
}

static void world_facts(void *self, HostFacts *ret) {
        *ret = ((World *)self)->host_facts;
}

static NetdevKind world_netdev(void *self, const char *name) {
        World *world = self;

        return GPOINTER_TO_INT(g_hash_table_lookup(world->netdevs, name));
}

static bool world_first_since_boot(void *self) {
        World *world = self;
        bool first = !world->booted_before;

        world->booted_before = true;
        return first;
}

static int world_look(void *self, PciAddress address, DeviceFacts **ret) {
        World *world = self;
        WorldFunction *function = world_function_at(world, address);
        DeviceFacts *facts;

        if (world->fail_look < 0)
                return world->fail_look;
        if (!function)
                return -ENODEV;
        facts = device_facts_new();
        facts->function = function->facts;
        facts->iommu_group = function->group;
        facts->boot_display = function->boot_display;
        facts->kept = function->kept;
        for (guint i = 0; i < world->functions->len; i++) {
                const WorldFunction *other = g_ptr_array_index(world->functions, i);

                if (other == function || other->group != function->group || other->group < 0)
                        continue;
                if (pci_address_same_slot(other->facts.address, address))
                        g_array_append_val(facts->companions, other->facts);
                else
                        g_array_append_val(facts->neighbours, other->facts);
        }
        *ret = facts;
        return 0;
}

static void world_read_link(void *self, PciAddress address) {
}

/* "" leaves it, and what is not there stays so. */
static void world_power_set(char *attribute, const char *value) {
        if (attribute[0] && value[0])
                g_strlcpy(attribute, value, FUNCTION_POWER_BYTES);
}

static void function_hold(WorldFunction *function) {
        world_power_set(function->power.d3cold_allowed, "0");
        world_power_set(function->power.control, "on");
}

static bool world_function_is_awake(const WorldFunction *function) {
        return !g_str_equal(function->power.d3cold_allowed, "1") &&
               !g_str_equal(function->power.control, "auto");
}

bool world_is_awake(World *world, const char *address) {
        return world_function_is_awake(world_function(world, address));
}

void world_set_power(World *world, const char *address, const char *d3cold_allowed,
                     const char *control) {
        FunctionPower *power = &world_function(world, address)->power;

        g_strlcpy(power->d3cold_allowed, d3cold_allowed, sizeof power->d3cold_allowed);
        g_strlcpy(power->control, control, sizeof power->control);
}

/* Drivers let their device sleep when they probe it, vfio-pci too, which forbids it when it lets
 * go.
 */
static void world_function_set_driver(WorldFunction *function, const char *driver) {
        if (g_str_equal(function->facts.driver, driver))
                return;
        if (pci_function_on_vfio(&function->facts))
                world_power_set(function->power.control, "on");
        g_strlcpy(function->facts.driver, driver, sizeof(function->facts.driver));
        if (driver[0])
                world_power_set(function->power.control, "auto");
}

typedef struct Handover {
        HandoverDirection direction;
        CardRecord *record;
        guint next; /* the step now: one for each function on either of two rounds */
} Handover;

static void handover_free(void *data) {
        Handover *handover = data;

        card_record_free(handover->record);
        g_free(handover);
}

static Handover *handover_copy(const Handover *handover) {
        Handover *copy = g_memdup2(handover, sizeof(*handover));

        copy->record = card_record_copy(handover->record);
        return copy;
}

static void handover_end(World *world, const Handover *handover, HandoverOutcome outcome,
                         const char *message) {
        PciAddress card = handover->record->card;

        if (outcome != HANDOVER_OVERDUE)
                world_unmark(world->helpers, card);
        if (world->manager)
                world->host_events->handover_ended(world->manager, card, outcome, message);
}

/* Whether the kernel refuses; then the function is left without a driver. */
static bool handover_is_refused(World *world, const Handover *handover, WorldFunction *function) {
        bool there = handover->direction == HANDOVER_TO_VFIO;

        if (!world_is_marked(there ? world->refused : world->no_return, handover->record->card))
                return false;
        world_function_set_driver(function, "");
        return true;
}

/* One function's step. On the way there the first round wakes all and the second moves them, each
 * awake when it is done; on the way back the first moves and the second restores. */
static void handover_step(const Handover *handover, const FunctionOrigin *origin,
                          WorldFunction *function) {
        bool first = handover->next < handover->record->origins->len;
        bool any = g_str_equal(origin->driver, "vfio-pci") && handover->record->any_host_driver;

        if (handover->direction == HANDOVER_TO_VFIO) {
                if (!first) {
                        g_strlcpy(function->driver_override, "vfio-pci",
                                  sizeof(function->driver_override));
                        world_function_set_driver(function, "vfio-pci");
                }
                function_hold(function);
        } else if (first) {
                if (origin->known || any)
                        g_strlcpy(function->driver_override, any ? "" : origin->driver_override,
                                  sizeof(function->driver_override));
                if (!pci_function_on_host_driver(&function->facts))
                        world_function_set_driver(function,
                                                  any ? function->native_driver : origin->driver);
        } else {
                world_power_set(function->power.d3cold_allowed, origin->power.d3cold_allowed);
                if (!any)
                        world_power_set(function->power.control, origin->power.control);
        }
}

static void handover_move(World *world, void *data) {
        const Handover *handover = data;
        const GArray *origins = handover->record->origins;
        PciAddress card = handover->record->card;
        const FunctionOrigin *origin;
        WorldFunction *function;
        Handover *rest;

        if (handover->next == 2 * origins->len) {
                handover_end(world, handover, HANDOVER_DONE, NULL);
                return;
        }
        if (world_is_marked(world->stuck, card))
                return; /* until world_unstick() */
        origin = &g_array_index(origins, FunctionOrigin, handover->next % origins->len);
        function = world_function_at(world, origin->address);
        if (!function) {
                handover_end(world, handover, HANDOVER_FAILED, "the device has gone.");
                return;
        }
        if (function->dead) {
                handover_end(world, handover, HANDOVER_LOST, "it answers all ones.");
                return;
        }
        if (handover->direction == HANDOVER_TO_HOST &&
            world_group_is_held(world, function->group)) {
                /* The helper waits for the VFIO group. */
                world_later(world, handover_move, handover_copy(handover), handover_free, false);
                return;
        }
        if (handover_is_refused(world, handover, function)) {
                handover_end(world, handover, HANDOVER_FAILED, "the kernel refused.");
                return;
        }
        handover_step(handover, origin, function);
        rest = handover_copy(handover);
        rest->next++;
        world_later(world, handover_move, rest, handover_free, false);
}

static void handover_origins(World *world, void *data) {
        const Handover *handover = data;
        g_autoptr(GArray) origins = g_array_new(FALSE, TRUE, sizeof(FunctionOrigin));

        for (guint i = 0; i < handover->record->origins->len; i++) {
                FunctionOrigin origin = {
                        .address =
                                g_array_index(handover->record->origins, FunctionOrigin, i).address,
                        .known = true,
                };
                const WorldFunction *function = world_function_at(world, origin.address);

                if (!function)
                        continue;
                g_strlcpy(origin.driver, function->facts.driver, sizeof(origin.driver));
                g_strlcpy(origin.driver_override, function->driver_override,
                          sizeof(origin.driver_override));
                origin.power = function->power;
                g_array_append_val(origins, origin);
        }
        if (handover->direction == HANDOVER_TO_VFIO &&
            world->host_events->handover_origins(world->manager, handover->record->card, origins) <
                    0) {
                handover_end(world, handover, HANDOVER_FAILED, "it could not be recorded.");
                return;
        }
        world_later(world, handover_move, handover_copy(handover), handover_free, false);
}

static int world_handover(void *self, HandoverDirection direction, const CardRecord *record) {
        World *world = self;
        Handover handover = { .direction = direction, .record = (CardRecord *)record };

        if (world_is_marked(world->helpers, record->card))
                return -EBUSY;
        g_array_append_val(world->helpers, record->card);
        world->handovers_begun++;
        world_later(world, handover_origins, handover_copy(&handover), handover_free, false);
        return 0;
}

static bool world_handing_over(void *self, PciAddress card) {
        return world_is_marked(((World *)self)->helpers, card);
}

void world_overdue(World *world, const char *address) {
        world->host_events->handover_ended(world->manager, world_address(address), HANDOVER_OVERDUE,
                                           "driver bochs-drm has not let go for 30 s.");
        world_check(world);
}

/* Which way a stuck helper was going, the world reads off the pending state. */
void world_unstick(World *world, const char *address) {
        PciAddress card = world_address(address);
        const Gpu *gpu = manager_gpu(world->manager, card);
        Handover handover = {
                .direction = gpu->view.pending == GPU_PENDING_RELEASING ? HANDOVER_TO_HOST
                                                                        : HANDOVER_TO_VFIO,
                .record = gpu->record,
        };

        world_unmark(world->stuck, card);
        world_later(world, handover_move, handover_copy(&handover), handover_free, false);
}

void world_end_helper(World *world, const char *address, HandoverOutcome outcome) {
        PciAddress card = world_address(address);

        world_unmark(world->stuck, card);
        world_unmark(world->helpers, card);
        world->host_events->handover_ended(world->manager, card, outcome, "the helper has ended.");
        world_check(world);
}

void world_kill_helper(World *world, const char *address) {
        world_function(world, address)->facts.driver[0] = '\0';
        world_end_helper(world, address, HANDOVER_FAILED);
}

/* --- the ledger --- */

static int world_ledger_remove(void *self, PciAddress card) {
        World *world = self;

        for (guint i = 0; i < world->ledger->len; i++) {
                const CardRecord *record = g_ptr_array_index(world->ledger, i);

                if (pci_address_equal(record->card, card)) {
                        g_ptr_array_remove_index(world->ledger, i);
                        break;
                }
        }
        return 0;
}

static int world_ledger_write(void *self, const CardRecord *record) {
        World *world = self;

        if (world->fail_ledger < 0)
                return world->fail_ledger;
        world_ledger_remove(world, record->card);
        g_ptr_array_add(world->ledger, card_record_copy(record));
        return 0;
}

static GPtrArray *world_ledger_read(void *self) {
        World *world = self;
        GPtrArray *copy = g_ptr_array_new_with_free_func((GDestroyNotify)card_record_free);

        for (guint i = 0; i < world->ledger->len; i++)
                g_ptr_array_add(copy, card_record_copy(g_ptr_array_index(world->ledger, i)));
        return copy;
}

/* --- surveys and processes --- */

typedef struct Survey {
        SurveyAnswer *answer;
        SurveyDone done;
        void *userdata;
} Survey;

static void survey_run(World *world, void *data) {
        Survey *survey = data;

        survey->done(survey->userdata, g_steal_pointer(&survey->answer));
}

static void survey_free(void *data) {
        Survey *survey = data;

        survey_answer_free(survey->answer);
        g_free(survey);
}

static ImageAnswer *world_image(World *world, const char *path) {
        ImageAnswer *answer = g_new0(ImageAnswer, 1);
        void *verdict;

        answer->path = g_strdup(path);
        answer->verdict = g_hash_table_lookup_extended(world->images, path, NULL, &verdict)
                                  ? (ImageVerdict)GPOINTER_TO_INT(verdict)
                                  : IMAGE_NOT_FOUND;
        if (answer->verdict == IMAGE_OK)
                answer->resolved = g_strconcat("/images/", path, NULL);
        else
                answer->why = g_strdup(answer->verdict == IMAGE_NOT_FOUND ? "is not there"
                                                                          : "is elsewhere");
        return answer;
}

/* A function that does not answer has no serial number either. */
static void world_add_serials(World *world, const GArray *cards, GArray *serials) {
        for (guint i = 0; cards && i < cards->len; i++)
                for (guint j = 0; j < world->functions->len; j++) {
                        const WorldFunction *function = g_ptr_array_index(world->functions, j);
                        FunctionSerial serial = { .address = function->facts.address };

                        if (!function->serial || function->dead ||
                            !pci_address_same_slot(g_array_index(cards, PciAddress, i),
                                                   serial.address))
                                continue;
                        g_strlcpy(serial.serial, function->serial, sizeof(serial.serial));
                        g_array_append_val(serials, serial);
                }
}

static void world_survey(void *self, const SurveyQuestion *question, SurveyDone done,
                         void *userdata) {
        World *world = self;
        Survey *survey = g_new0(Survey, 1);

        survey->answer = g_new0(SurveyAnswer, 1);
        survey->answer->holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        survey->answer->images = g_ptr_array_new_with_free_func((GDestroyNotify)image_answer_free);
        survey->answer->serials = g_array_new(FALSE, FALSE, sizeof(FunctionSerial));
        if (question->serials)
                world_add_serials(world, question->cards, survey->answer->serials);
        for (guint i = 0; question->cards && question->cards->len > 0 && i < world->holders->len;
             i++)
                g_ptr_array_add(survey->answer->holders,
                                holder_copy(g_ptr_array_index(world->holders, i)));
        for (guint i = 0; question->images && i < question->images->len; i++)
                g_ptr_array_add(survey->answer->images,
                                world_image(world, g_ptr_array_index(question->images, i)));
        survey->done = done;
        survey->userdata = userdata;
        world_later(world, survey_run, survey, survey_free, false);
}

typedef struct Watch {
        uint64_t ticket;
        const WorldDomain *domain;
        void (*died)(void *userdata);
        void *userdata;
} Watch;

static uint64_t world_watch(void *self, int pidfd, void (*died)(void *userdata), void *userdata) {
        World *world = self;
        static uint64_t tickets;
        Watch *watch = g_new0(Watch, 1);

        *watch = (Watch){ .ticket = ++tickets, .died = died, .userdata = userdata };
        for (guint i = 0; i < world->domains->len; i++) {
                const WorldDomain *domain = g_ptr_array_index(world->domains, i);

                if (domain->pidfd == pidfd)
                        watch->domain = domain;
        }
        assert_non_null(watch->domain);
        g_ptr_array_add(world->watches, watch);
        return watch->ticket;
}

static void world_process_died(World *world, void *data) {
        const WorldDomain *domain = data;

        for (guint i = 0; i < world->watches->len; i++) {
                Watch *watch = g_ptr_array_index(world->watches, i);

                if (watch->domain != domain)
                        continue;
                watch = g_ptr_array_steal_index(world->watches, i);
                watch->died(watch->userdata);
                g_free(watch);
                return;
        }
}

static void world_unwatch(void *self, uint64_t ticket) {
        World *world = self;

        for (guint i = 0; i < world->watches->len; i++)
                if (((Watch *)g_ptr_array_index(world->watches, i))->ticket == ticket)
                        g_ptr_array_remove_index(world->watches, i--);
}

Host world_host(World *world) {
        static const HostOps ops = {
                .facts = world_facts,
                .netdev = world_netdev,
                .first_since_boot = world_first_since_boot,
                .look = world_look,
                .read_link = world_read_link,
                .handover = world_handover,
                .handing_over = world_handing_over,
                .ledger_write = world_ledger_write,
                .ledger_remove = world_ledger_remove,
                .ledger_read = world_ledger_read,
                .survey = world_survey,
                .watch_process = world_watch,
                .unwatch_process = world_unwatch,
        };

        return (Host){ &ops, world };
}

/* --- libvirt --- */

static WorldDomain *domain_at(World *world, const char *uuid) {
        for (guint i = 0; i < world->domains->len; i++) {
                WorldDomain *domain = g_ptr_array_index(world->domains, i);

                if (domain->known && g_str_equal(domain->uuid, uuid))
                        return domain;
        }
        return NULL;
}

WorldDomain *world_domain(World *world, const char *name) {
        for (guint i = 0; i < world->domains->len; i++) {
                WorldDomain *domain = g_ptr_array_index(world->domains, i);

                if (domain->known && g_str_equal(domain->name, name))
                        return domain;
        }
        return NULL;
}

static void world_domain_free(void *data) {
        WorldDomain *domain = data;

        g_free(domain->name);
        g_array_unref(domain->gpus);
        g_array_unref(domain->cards);
        g_array_unref(domain->hostdevs);
        g_array_unref(domain->lost);
        g_ptr_array_unref(domain->disks);
        g_ptr_array_unref(domain->nics);
        g_ptr_array_unref(domain->files);
        g_free(domain);
}

static WorldDomain *domain_new(World *world, const char *name, const char *uuid) {
        WorldDomain *domain = g_new0(WorldDomain, 1);

        domain->name = g_strdup(name);
        g_strlcpy(domain->uuid, uuid, sizeof(domain->uuid));
        domain->known = true;
        domain->pidfd = -1;
        domain->gpus = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        domain->cards = g_array_new(FALSE, TRUE, sizeof(CardIdentity));
        domain->hostdevs = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        domain->lost = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        domain->disks = g_ptr_array_new_with_free_func(g_free);
        domain->nics = g_ptr_array_new_with_free_func(g_free);
        domain->files = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(world->domains, domain);
        return domain;
}

static void copy_texts(const GPtrArray *from, GPtrArray *to) {
        for (guint i = 0; i < from->len; i++)
                g_ptr_array_add(to, g_strdup(g_ptr_array_index(from, i)));
}

static void domain_fill(WorldDomain *domain, DomainFacts *facts) {
        g_strlcpy(facts->uuid, domain->uuid, sizeof(facts->uuid));
        g_free(facts->name);
        facts->name = g_strdup(domain->name);
        facts->ours = domain->ours;
        facts->active = domain->active;
        facts->state = domain->active ? domain->state : DOMAIN_OFF;
        facts->off_reason = domain->off_reason;
        facts->first_start = domain->first_start;
        g_array_append_vals(facts->gpus, domain->gpus->data, domain->gpus->len);
        g_array_append_vals(facts->cards, domain->cards->data, domain->cards->len);
        g_array_append_vals(facts->hostdevs, domain->hostdevs->data, domain->hostdevs->len);
        copy_texts(domain->disks, facts->disks);
        copy_texts(domain->nics, facts->nics);
        copy_texts(domain->files, facts->files);
        facts->console = domain->active ? g_strdup("/dev/pts/7") : NULL;
        facts->vcpus = domain->vcpus;
        facts->memory_mib = domain->memory_mib;
        facts->autostart = domain->autostart;
        facts->pid = domain->active ? domain->pid : 0;
        facts->pidfd = domain->active ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
        domain->pidfd = facts->pidfd;
}

static void tell_domain(World *world, const char *uuid) {
        WorldDomain *domain = domain_at(world, uuid);

        if (!world->manager)
                return;
        if (!world->connected) {
                if (!world->connecting)
                        world->hypervisor_events->unreachable(world->manager);
                return;
        }
        if (!domain)
                world->hypervisor_events->domain_gone(world->manager, uuid);
        else {
                g_autoptr(DomainFacts) facts = domain_facts_new();

                domain_fill(domain, facts);
                world->hypervisor_events->domain_seen(world->manager, facts);
        }
}

static void look_run(World *world, void *data) {
        tell_domain(world, data);
}

static void world_look_domain(void *self, const char *uuid) {
        world_later(self, look_run, g_strdup(uuid), g_free, false);
}

static void list_run(World *world, void *data) {
        g_autoptr(GPtrArray) all =
                g_ptr_array_new_with_free_func((GDestroyNotify)domain_facts_free);

        if (!world->manager || !world->connected)
                return;
        for (guint i = 0; i < world->domains->len; i++) {
                WorldDomain *domain = g_ptr_array_index(world->domains, i);
                DomainFacts *facts;

                if (!domain->known)
                        continue;
                facts = domain_facts_new();
                domain_fill(domain, facts);
                g_ptr_array_add(all, facts);
        }
        world->hypervisor_events->domains_listed(world->manager, all);
}

static void world_hypervisor_facts(void *self, HypervisorFacts *ret) {
        const World *world = self;

        *ret = (HypervisorFacts){
                .tried = true,
                .connected = world->connected,
                .uri = "qemu:///system",
                .version = world->connected ? "9.0.0 (QEMU 7.2.0)" : "",
                .kvm = world->kvm,
                .uefi = world->uefi,
                .networks = (const char *const *)world->networks->pdata,
        };
}

typedef struct Answer {
        char uuid[37];
        Refusal *refusal;
        HypervisorDone done;
        void *userdata;
} Answer;

static void answer_free(void *data) {
        Answer *answer = data;

        refusal_free(answer->refusal);
        g_free(answer);
}

static void answer_run(World *world, void *data) {
        Answer *answer = data;

        /* One that went before it answered has perhaps done it. */
        if (!world->connected && !answer->refusal)
                answer->refusal = refusal_new(REFUSAL_HYPERVISOR_UNAVAILABLE, answer->uuid,
                                              "Start libvirt.", "libvirt went away.");
        tell_domain(world, answer->uuid);
        answer->done(answer->userdata, answer->refusal);
}

static void world_answer(World *world, const char *uuid, Refusal *refusal, HypervisorDone done,
                         void *userdata) {
        Answer *answer = g_new0(Answer, 1);

        g_strlcpy(answer->uuid, uuid, sizeof(answer->uuid));
        answer->refusal = refusal;
        answer->done = done;
        answer->userdata = userdata;
        world_later(world, answer_run, answer, answer_free, false);
}

static Refusal *world_refusal(World *world, HypervisorVerb verb, const char *subject) {
        if (!world->connected)
                return refusal_new(REFUSAL_HYPERVISOR_UNAVAILABLE, subject, "Start libvirt.",
                                   "libvirt cannot be reached.");
        if (world->fail_verb[verb])
                return refusal_new(REFUSAL_HYPERVISOR_FAILED, subject, "Read its words.",
                                   "libvirt refused.");
        return NULL;
}

static void domain_attach(WorldDomain *domain, const DeviceRequest *device) {
        assert_non_null(device->id);
        g_ptr_array_add(device->kind == DEVICE_DISK ? domain->disks : domain->nics,
                        g_strdup(device->id));
        if (device->kind == DEVICE_DISK) {
                assert_non_null(device->resolved);
                if (!device->read_only)
                        g_ptr_array_add(domain->files, g_strdup(device->resolved));
        }
}

static Refusal *world_device_refusal(World *world, const char *uuid) {
        if (world->fail_attach)
                return refusal_new(REFUSAL_HYPERVISOR_FAILED, uuid, "Read its words.",
                                   "libvirt refused.");
        return world_refusal(world, HYPERVISOR_DEFINE, uuid);
}

static void world_attach(void *self, const char *uuid, const DeviceRequest *device,
                         HypervisorDone done, void *userdata) {
        World *world = self;
        Refusal *refusal = world_device_refusal(world, uuid);

        if (!refusal)
                domain_attach(domain_at(world, uuid), device);
        world_answer(world, uuid, refusal, done, userdata);
}

static void world_detach(void *self, const char *uuid, DeviceKind kind, const char *id,
                         HypervisorDone done, void *userdata) {
        World *world = self;
        Refusal *refusal = world_device_refusal(world, uuid);
        WorldDomain *domain = domain_at(world, uuid);
        GPtrArray *ids = kind == DEVICE_DISK ? domain->disks : domain->nics;

        for (guint i = 0; !refusal && i < ids->len; i++)
                if (g_str_equal(g_ptr_array_index(ids, i), id))
                        g_ptr_array_remove_index(ids, i--);
        world_answer(world, uuid, refusal, done, userdata);
}

static void world_get_xml(void *self, const char *uuid, HypervisorXML done, void *userdata) {
        done(userdata, "<domain/>", NULL);
}

static void world_open_console(void *self, const char *uuid, const char *terminal, uid_t owner,
                               HypervisorConsole done, void *userdata) {
        World *world = self;
        int ends[2];

        /* A console that says hello and, unless it is held, hangs up. */
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends),
                         0);
        assert_int_equal(write(ends[1], "hello", 5), 5);
        if (world->hold_console && world->guest < 0)
                world->guest = ends[1];
        else
                close(ends[1]);
        done(userdata, ends[0], NULL);
}

static void world_define(void *self, const DomainSpec *spec, HypervisorDone done, void *userdata) {
        World *world = self;
        Refusal *refusal = world_refusal(world, HYPERVISOR_DEFINE, spec->request->name);

        if (!refusal) {
                WorldDomain *domain = domain_new(world, spec->request->name, spec->uuid);

                domain->ours = true;
                domain->first_start =
                        spec->request->start ? FIRST_START_PENDING : FIRST_START_LATER;
                domain->vcpus = spec->request->vcpus;
                domain->memory_mib = spec->request->memory_mib;
                domain->autostart = spec->request->autostart;
                if (spec->image)
                        g_ptr_array_add(domain->files, g_strdup(spec->image));
                for (guint i = 0; i < spec->request->disks->len; i++)
                        domain_attach(domain, g_ptr_array_index(spec->request->disks, i));
                for (guint i = 0; i < spec->request->nics->len; i++)
                        domain_attach(domain, g_ptr_array_index(spec->request->nics, i));
                g_array_append_vals(domain->gpus, spec->request->gpus->data,
                                    spec->request->gpus->len);
                for (guint i = 0; i < spec->cards->len; i++) {
                        const CardIdentity *card = &g_array_index(spec->cards, CardIdentity, i);

                        for (guint k = 0; k < card->n_functions; k++)
                                g_array_append_val(domain->hostdevs, card->functions[k].address);
                }
                g_array_append_vals(domain->cards, spec->cards->data, spec->cards->len);
        }
        world_answer(world, spec->uuid, refusal, done, userdata);
}

static void start_run(World *world, void *data) {
        WorldDomain *domain = domain_at(world, data);

        if (!domain || domain->active)
                return;
        for (guint i = 0; i < domain->hostdevs->len; i++) {
                const WorldFunction *function =
                        world_function_at(world, g_array_index(domain->hostdevs, PciAddress, i));

                /* The group would not be viable: QEMU refuses. */
                if (!function || !pci_function_on_vfio(&function->facts))
                        return;
        }
        g_array_set_size(domain->lost, 0);
        domain->qemu = domain->active = !world->quit_at_once;
        domain->state = world->start_paused ? DOMAIN_PAUSED : DOMAIN_RUNNING;
        domain->first_start = FIRST_START_DONE;
        domain->pid = ++world->next_pid;
        if (world->quit_at_once)
                domain->off_reason = DOMAIN_OFF_CRASHED;
}

static void world_act(void *self, HypervisorVerb verb, const char *uuid, HypervisorDone done,
                      void *userdata) {
        World *world = self;
        WorldDomain *domain = domain_at(world, uuid);
        Refusal *refusal = world_refusal(world, verb, uuid);

        if (!refusal && verb == HYPERVISOR_START) {
                world_later(world, start_run, g_strdup(uuid), g_free, true);
                world_later(world, look_run, g_strdup(uuid), g_free, false);
        } else if (!refusal && domain && verb == HYPERVISOR_DESTROY && domain->active) {
                domain->qemu = domain->active = false;
                domain->off_reason = DOMAIN_OFF_DESTROYED;
                world_later(world, world_process_died, domain, NULL, false);
        } else if (!refusal && domain && verb == HYPERVISOR_UNDEFINE)
                domain->known = false;
        else if (!refusal && domain && domain->active && verb == HYPERVISOR_PAUSE)
                domain->state = DOMAIN_PAUSED;
        else if (!refusal && domain && domain->active && verb == HYPERVISOR_RESUME)
                domain->state = DOMAIN_RUNNING;
        world_answer(world, uuid, refusal, done, userdata);
}

Hypervisor world_hypervisor(World *world) {
        static const HypervisorOps ops = {
                .facts = world_hypervisor_facts,
                .define = world_define,
                .act = world_act,
                .attach = world_attach,
                .detach = world_detach,
                .get_xml = world_get_xml,
                .open_console = world_open_console,
                .look = world_look_domain,
        };

        return (Hypervisor){ &ops, world };
}

WorldDomain *world_add_foreign(World *world, const char *name, const char *hostdev) {
        g_autofree char *uuid = g_uuid_string_random();
        WorldDomain *domain = domain_new(world, name, uuid);
        PciAddress address = world_address(hostdev);
        WorldFunction *function = world_function_at(world, address);

        g_array_append_val(domain->hostdevs, address);
        g_strlcpy(function->facts.driver, "vfio-pci", sizeof(function->facts.driver));
        domain->qemu = domain->active = true;
        domain->state = DOMAIN_RUNNING;
        domain->pid = ++world->next_pid;
        return domain;
}

void world_end_domain(World *world, WorldDomain *domain, DomainOffReason reason) {
        domain->qemu = false;
        domain->active = false;
        domain->off_reason = reason;
        world_later(world, world_process_died, domain, NULL, false);
        world_look_domain(world, domain->uuid);
}

void world_look_again(World *world, WorldDomain *domain) {
        world_look_domain(world, domain->uuid);
}

static void noticed_run(World *world, void *data) {
        WorldDomain *domain = data;

        domain->active = false;
        domain->off_reason = DOMAIN_OFF_CRASHED;
        if (world->connected)
                tell_domain(world, domain->uuid);
}

void world_kill_qemu(World *world, WorldDomain *domain) {
        domain->qemu = false;
        world_later(world, world_process_died, domain, NULL, false);
        world_later(world, noticed_run, domain, NULL, true);
}

static void connection_run(World *world, void *data) {
        if (!world->manager)
                return;
        world->hypervisor_events->connection_changed(world->manager);
        if (world->connected)
                list_run(world, NULL);
        else if (!world->connecting)
                world->hypervisor_events->unreachable(world->manager);
}

void world_set_connected(World *world, bool connected) {
        world->connected = connected;
        world_later(world, connection_run, NULL, NULL, false);
}

/* --- the world --- */

World *world_new(void) {
        World *world = g_new0(World, 1);

        world->functions = g_ptr_array_new_with_free_func(g_free);
        world->domains = g_ptr_array_new_with_free_func(world_domain_free);
        world->ledger = g_ptr_array_new_with_free_func((GDestroyNotify)card_record_free);
        world->watches = g_ptr_array_new_with_free_func(g_free);
        world->helpers = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        world->stuck = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        world->refused = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        world->no_return = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        world->holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        world->netdevs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        world->networks = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(world->networks, NULL);
        world->images = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        world->host_facts = (HostFacts){ true, true, 16, 65536 };
        world->connected = true;
        world->kvm = true;
        world->guest = -1;
        world->next_pid = 1000;
        g_queue_init(&world->todo);
        return world;
}

void world_free(World *world) {
        manager_free(world->manager);
        g_queue_clear_full(&world->todo, (GDestroyNotify)todo_free);
        g_ptr_array_unref(world->functions);
        g_ptr_array_unref(world->domains);
        g_ptr_array_unref(world->ledger);
        g_ptr_array_unref(world->watches);
        g_array_unref(world->helpers);
        g_array_unref(world->stuck);
        g_array_unref(world->refused);
        g_array_unref(world->no_return);
        g_ptr_array_unref(world->holders);
        g_hash_table_unref(world->images);
        g_hash_table_unref(world->netdevs);
        g_ptr_array_unref(world->networks);
        if (world->guest >= 0)
                close(world->guest);
        g_free(world);
}

static void look_around(World *world, void *data) {
        g_autoptr(GArray) gpus = g_array_new(FALSE, TRUE, sizeof(PciAddress));

        for (guint i = 0; i < world->functions->len; i++) {
                const WorldFunction *function = g_ptr_array_index(world->functions, i);

                if (!pci_function_is_gpu(&function->facts))
                        continue;
                g_array_append_val(gpus, function->facts.address);
                world->host_events->device_changed(world->manager, function->facts.address);
        }
        world->host_events->devices_listed(world->manager, gpus);
}

Manager *world_boot(World *world) {
        world->manager = manager_new(world_host(world), world_hypervisor(world));
        world->host_events = manager_host_events();
        world->hypervisor_events = manager_hypervisor_events();
        manager_begin(world->manager);
        world_later(world, look_around, NULL, NULL, false);
        world_set_connected(world, world->connected);
        return world->manager;
}

void world_kill_daemon(World *world) {
        GQueue rest = G_QUEUE_INIT;
        Todo *todo;

        while ((todo = g_queue_pop_head(&world->todo))) {
                if (todo->survives_daemon)
                        g_queue_push_tail(&rest, todo);
                else
                        todo_free(todo);
        }
        g_array_set_size(world->helpers, 0);
        g_ptr_array_set_size(world->watches, 0);
        g_clear_pointer(&world->manager, manager_free);
        while ((todo = g_queue_pop_head(&rest))) {
                todo->run(world, todo->data);
                todo_free(todo);
        }
}

void world_uevent(World *world, const char *address) {
        world->host_events->device_changed(world->manager, world_address(address));
        world_check(world);
}

void world_rebind(World *world, const char *address, const char *driver) {
        WorldFunction *function = world_function(world, address);

        g_strlcpy(function->facts.driver, driver, sizeof(function->facts.driver));
        if (driver[0] && !g_str_equal(driver, function->driver_override))
                function->driver_override[0] = '\0';
        if (g_str_equal(driver, "vfio-pci"))
                g_strlcpy(function->driver_override, driver, sizeof(function->driver_override));
        world_check(world);
}

void world_remove(World *world, const char *address) {
        PciAddress gone = world_address(address);

        for (guint i = 0; i < world->domains->len; i++) {
                WorldDomain *domain = g_ptr_array_index(world->domains, i);

                if (world_domain_holds(domain, gone))
                        g_array_append_val(domain->lost, gone);
        }
        g_ptr_array_remove(world->functions, world_function_at(world, gone));
        world->host_events->device_removed(world->manager, gone);
}

void world_unlist(WorldDomain *domain, const char *address) {
        world_unmark(domain->hostdevs, world_address(address));
        world_unmark(domain->lost, world_address(address));
}

void world_check(World *world) {
        for (guint i = 0; i < world->functions->len; i++) {
                const WorldFunction *function = g_ptr_array_index(world->functions, i);
                unsigned owners = 0;

                if (pci_function_on_host_driver(&function->facts) && function->group >= 0 &&
                    world_group_is_held(world, function->group))
                        fail_msg("a host driver has a function of a group that a QEMU holds");
                for (guint j = 0; j < world->domains->len; j++) {
                        const WorldDomain *domain = g_ptr_array_index(world->domains, j);

                        if (!world_domain_holds(domain, function->facts.address))
                                continue;
                        owners++;
                        if (domain->ours && !world_function_is_awake(function))
                                fail_msg("a machine has a function that may sleep");
                }
                if (owners > 1)
                        fail_msg("two machines have one function");
        }
}
