/* The host of the world: its functions with their drivers, groups and power settings, the ledger,
 * surveys and processes. */
#include "world-private.h"

#include "testing.h"

#include <errno.h>
#include <string.h>

/* --- the kernel --- */

WorldFunction *world_function_at(World *world, PciAddress address) {
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

bool world_group_is_held(World *world, int group) {
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

static void world_hugepages_mount(void *self, unsigned page_mib, HugepagesMount *ret) {
        *ret = ((World *)self)->hugepages;
}

static int world_first_since_boot(void *self) {
        World *world = self;
        bool first = !world->booted_before;

        if (world->fail_boot < 0)
                return world->fail_boot;
        world->booted_before = true;
        return first;
}

static int world_look(void *self, PciAddress address, DeviceFacts **ret) {
        World *world = self;
        WorldFunction *function = world_function_at(world, address);
        DeviceFacts *facts;

        if (world->fail_look < 0)
                return world->fail_look;
        if (world_is_marked(world->unreadable, address))
                return -EIO;
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

void world_power_set(char *attribute, const char *value) {
        if (attribute[0] && value[0])
                g_strlcpy(attribute, value, FUNCTION_POWER_BYTES);
}

bool world_function_is_awake(const WorldFunction *function) {
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

void world_function_set_driver(WorldFunction *function, const char *driver) {
        if (g_str_equal(function->facts.driver, driver))
                return;
        if (pci_function_on_vfio(&function->facts))
                world_power_set(function->power.control, "on");
        g_strlcpy(function->facts.driver, driver, sizeof(function->facts.driver));
        if (driver[0])
                world_power_set(function->power.control, "auto");
}

static void world_look_later(void *self, PciAddress address, bool wanted) {
        World *world = self;

        world_unmark(world->looks_later, address);
        if (wanted)
                g_array_append_val(world->looks_later, address);
}

void world_let_time_pass(World *world) {
        g_autoptr(GArray) due = g_array_copy(world->looks_later);

        g_array_set_size(world->looks_later, 0);
        for (guint i = 0; i < due->len; i++)
                world->host_events->retry_due(world->manager, g_array_index(due, PciAddress, i));
        world_run(world);
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

void world_take_away(World *world, const char *address) {
        PciAddress gone = world_address(address);

        for (guint i = 0; i < world->domains->len; i++) {
                WorldDomain *domain = g_ptr_array_index(world->domains, i);

                if (world_domain_holds(domain, gone))
                        g_array_append_val(domain->lost, gone);
        }
        g_ptr_array_remove(world->functions, world_function_at(world, gone));
}

void world_remove(World *world, const char *address) {
        world_take_away(world, address);
        world->host_events->device_removed(world->manager, world_address(address));
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

static int world_ledger_read(void *self, PciAddress card, CardRecord **ret) {
        World *world = self;

        *ret = NULL;
        if (world->fail_ledger_read < 0)
                return world->fail_ledger_read;
        for (guint i = 0; i < world->ledger->len; i++) {
                const CardRecord *record = g_ptr_array_index(world->ledger, i);

                if (!pci_address_equal(record->card, card))
                        continue;
                *ret = card_record_copy(record);
                return 1;
        }
        return 0;
}

static int world_ledger_list(void *self, GArray **ret) {
        World *world = self;

        if (world->fail_ledger_read < 0)
                return world->fail_ledger_read;
        *ret = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        for (guint i = 0; i < world->ledger->len; i++)
                g_array_append_val(*ret, ((CardRecord *)g_ptr_array_index(world->ledger, i))->card);
        return 0;
}

static int world_ledger_set_aside(void *self, PciAddress card) {
        World *world = self;

        if (world->fail_ledger < 0)
                return world->fail_ledger;
        world->set_aside++;
        return world_ledger_remove(self, card);
}

/* --- surveys and processes --- */

typedef struct Survey {
        SurveyAnswer *answer;
        SurveyDone done;
        void *userdata;
} Survey;

static void survey_run(World *world, void *data) {
        Survey *survey = data;

        if (world->before_answer)
                world->before_answer(world);
        world->surveys++;
        survey->done(survey->userdata, g_steal_pointer(&survey->answer));
}

static void survey_free(void *data) {
        Survey *survey = data;

        survey_answer_free(survey->answer);
        g_free(survey);
}

#define IMAGES "/images/"

/* What two names of one thing have in common. */
static GArray *identities_of(World *world, const char *path) {
        GArray *identities = g_array_new(FALSE, TRUE, sizeof(FileIdentity));
        const char *target = g_hash_table_lookup(world->leads, path) ?: path;
        FileIdentity identity = { .device = 1, .inode = g_str_hash(target) };

        g_array_append_val(identities, identity);
        target = g_hash_table_lookup(world->backings, path);
        if (target) {
                identity = (FileIdentity){ .device = 1, .inode = g_str_hash(target), .read = true };
                g_array_append_val(identities, identity);
        }
        return identities;
}

static ImageAnswer *world_image(World *world, const char *path) {
        ImageAnswer *answer = g_new0(ImageAnswer, 1);
        const char *known = g_str_has_prefix(path, IMAGES) ? path + strlen(IMAGES) : path;
        void *verdict;

        answer->path = g_strdup(path);
        answer->verdict = g_hash_table_lookup_extended(world->images, known, NULL, &verdict)
                                  ? (ImageVerdict)GPOINTER_TO_INT(verdict)
                                  : IMAGE_NOT_FOUND;
        if (answer->verdict == IMAGE_OK) {
                answer->name = known[0] == '/' ? g_strdup(known) : g_strconcat(IMAGES, known, NULL);
                answer->resolved =
                        g_strdup(g_hash_table_lookup(world->leads, answer->name) ?: answer->name);
                answer->identities = identities_of(world, answer->name);
        } else
                answer->why = g_strdup(answer->verdict == IMAGE_NOT_FOUND ? "is not there"
                                                                          : "is elsewhere");
        return answer;
}

static FileAnswer *world_file(World *world, const char *path) {
        FileAnswer *answer = file_answer_new(path);
        int error = GPOINTER_TO_INT(g_hash_table_lookup(world->dark, path));

        answer->found = error < 0 ? error : 1;
        if (error < 0)
                return answer;
        g_array_unref(answer->identities);
        answer->identities = identities_of(world, path);
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
        survey->answer->error = world->survey_error;
        if (question->serials)
                world_add_serials(world, question->cards, survey->answer->serials);
        for (guint i = 0; question->cards && question->cards->len > 0 && i < world->holders->len;
             i++)
                g_ptr_array_add(survey->answer->holders,
                                holder_copy(g_ptr_array_index(world->holders, i)));
        for (guint i = 0; question->images && i < question->images->len; i++)
                g_ptr_array_add(survey->answer->images,
                                world_image(world, g_ptr_array_index(question->images, i)));
        survey->answer->files = g_ptr_array_new_with_free_func((GDestroyNotify)file_answer_free);
        for (guint i = 0; question->files && i < question->files->len; i++)
                g_ptr_array_add(survey->answer->files,
                                world_file(world, g_ptr_array_index(question->files, i)));
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

void world_process_died(World *world, void *data) {
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
                .hugepages_mount = world_hugepages_mount,
                .first_since_boot = world_first_since_boot,
                .look = world_look,
                .look_later = world_look_later,
                .read_link = world_read_link,
                .handover = world_handover,
                .handing_over = world_handing_over,
                .ledger_write = world_ledger_write,
                .ledger_remove = world_ledger_remove,
                .ledger_read = world_ledger_read,
                .ledger_list = world_ledger_list,
                .ledger_set_aside = world_ledger_set_aside,
                .survey = world_survey,
                .watch_process = world_watch,
                .unwatch_process = world_unwatch,
        };

        return (Host){ &ops, world };
}
