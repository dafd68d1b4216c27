/* The libvirt of the world, with its domains and their QEMUs. */
#include "world-private.h"

#include "testing.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

void world_domain_free(void *data) {
        WorldDomain *domain = data;

        g_free(domain->name);
        g_array_unref(domain->gpus);
        g_array_unref(domain->cards);
        g_array_unref(domain->hostdevs);
        g_array_unref(domain->lost);
        g_ptr_array_unref(domain->disks);
        g_ptr_array_unref(domain->nics);
        g_ptr_array_unref(domain->files);
        g_array_unref(domain->managed);
        request_free(domain->definition);
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
        domain->files = g_ptr_array_new_with_free_func((GDestroyNotify)domain_file_free);
        domain->managed = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_ptr_array_add(world->domains, domain);
        return domain;
}

bool world_domain_holds(const WorldDomain *domain, PciAddress address) {
        return domain->qemu && world_is_marked(domain->hostdevs, address) &&
               !world_is_marked(domain->lost, address);
}

static void copy_texts(const GPtrArray *from, GPtrArray *to) {
        for (guint i = 0; i < from->len; i++)
                g_ptr_array_add(to, g_strdup(g_ptr_array_index(from, i)));
}

static void fill_files(const WorldDomain *domain, DomainFacts *facts) {
        for (guint i = 0; i < domain->files->len; i++) {
                DomainFile *file = domain_file_copy(g_ptr_array_index(domain->files, i));

                file->live = domain->active;
                g_ptr_array_add(facts->files, file);
        }
}

static void fill_definition(const WorldDomain *domain, DomainFacts *facts) {
        Request *definition = request_copy(domain->definition);

        g_free(definition->name);
        definition->name = g_strdup(domain->name);
        g_array_set_size(definition->gpus, 0);
        g_array_append_vals(definition->gpus, domain->gpus->data, domain->gpus->len);
        definition->vcpus = definition->max_vcpus = domain->vcpus;
        definition->memory_mib = domain->memory_mib;
        facts->definition = definition;
        for (guint i = 0; i < domain->hostdevs->len; i++) {
                DefinedHostdev hostdev = { g_array_index(domain->hostdevs, PciAddress, i), false };

                hostdev.managed = world_is_marked(domain->managed, hostdev.address);
                g_array_append_val(facts->defined_hostdevs, hostdev);
        }
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
        fill_files(domain, facts);
        if (domain->ours)
                fill_definition(domain, facts);
        facts->console = domain->active ? g_strdup("/dev/pts/7") : NULL;
        facts->vcpus = domain->vcpus;
        facts->memory_mib = facts->memory_now_mib = domain->memory_mib;
        facts->autostart = domain->autostart;
        facts->stop_asked = domain->active && domain->stop_asked;
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
        world->awaited = world->silent = false;
        world->hypervisor_events->domains_listed(world->manager, all);
}

void world_tire_of_libvirt(World *world) {
        world->awaited = false;
        world->silent = true;
        world->hypervisor_events->answer_overdue(world->manager);
}

static void world_hypervisor_facts(void *self, HypervisorFacts *ret) {
        const World *world = self;

        *ret = (HypervisorFacts){
                .tried = true,
                .connected = world->connected,
                .awaited = world->awaited,
                .silent = world->silent,
                .uri = "qemu:///system",
                .version = world->connected ? "9.0.0 (QEMU 7.2.0)" : "",
                .kvm = world->kvm,
                .uefi = world->uefi,
                .networks = (const char *const *)world->networks->pdata,
        };
}

static void reach_run(World *world, void *data) {
        if (!world->manager || world->connected || world->connecting)
                return;
        world->awaited = world->silent = false;
        world->hypervisor_events->unreachable(world->manager);
}

static void world_reach(void *self) {
        World *world = self;

        if (world->connected || world->silent)
                return;
        world->awaited = true;
        if (world->connects_when_asked)
                world_set_connected(world, true);
        else if (!world->connecting)
                world_later(world, reach_run, NULL, NULL, false);
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

void world_add_file(WorldDomain *domain, const char *path, bool writes, bool qcow2) {
        DomainFile *file = g_new0(DomainFile, 1);

        file->path = g_strdup(path);
        file->writes = writes;
        file->qcow2 = qcow2;
        g_ptr_array_add(domain->files, file);
}

static void set_text(char **text, const char *value) {
        g_free(*text);
        *text = g_strdup(value);
}

static GPtrArray *definition_devices(WorldDomain *domain, DeviceKind kind) {
        return kind == DEVICE_DISK ? domain->definition->disks : domain->definition->nics;
}

static GPtrArray *domain_ids(WorldDomain *domain, DeviceKind kind) {
        return kind == DEVICE_DISK ? domain->disks : domain->nics;
}

/* What it was defined with is in its definition already. */
static void domain_take(WorldDomain *domain, const DeviceRequest *device) {
        assert_non_null(device->id);
        g_ptr_array_add(domain_ids(domain, device->kind), g_strdup(device->id));
        if (device->kind == DEVICE_DISK) {
                assert_non_null(device->name);
                world_add_file(domain, device->name, !device->read_only,
                               device->format == IMAGE_QCOW2);
        }
}

static void domain_attach(WorldDomain *domain, const DeviceRequest *device) {
        DeviceRequest *defined = device_request_copy(device);

        domain_take(domain, device);
        if (device->kind == DEVICE_DISK)
                set_text(&defined->path, device->name);
        g_ptr_array_add(definition_devices(domain, device->kind), defined);
}

static void remove_file(WorldDomain *domain, const char *path) {
        for (guint i = 0; path && i < domain->files->len; i++)
                if (g_strcmp0(((DomainFile *)g_ptr_array_index(domain->files, i))->path, path) == 0)
                        g_ptr_array_remove_index(domain->files, i--);
}

static void domain_detach(WorldDomain *domain, DeviceKind kind, const char *id) {
        GPtrArray *ids = domain_ids(domain, kind);
        GPtrArray *devices = definition_devices(domain, kind);

        for (guint i = 0; i < ids->len; i++)
                if (g_str_equal(g_ptr_array_index(ids, i), id))
                        g_ptr_array_remove_index(ids, i--);
        for (guint i = 0; i < devices->len; i++) {
                const DeviceRequest *device = g_ptr_array_index(devices, i);

                if (g_strcmp0(device->id, id) != 0)
                        continue;
                remove_file(domain, device->path);
                g_ptr_array_remove_index(devices, i--);
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

        if (!refusal)
                domain_detach(domain_at(world, uuid), kind, id);
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

/* As it is read back: made, and with the names that it was defined with. */
static Request *definition_of(const DomainSpec *spec) {
        Request *definition = request_copy(spec->request);

        set_text(&definition->image, spec->image);
        set_text(&definition->kernel, spec->kernel);
        set_text(&definition->initrd, spec->initrd);
        definition->image_block = spec->image_is_block;
        for (guint i = 0; i < definition->disks->len; i++) {
                DeviceRequest *disk = g_ptr_array_index(definition->disks, i);

                set_text(&disk->path, disk->name);
        }
        definition->start = definition->allow_boot_display = true;
        return definition;
}

static void world_define(void *self, const DomainSpec *spec, HypervisorDone done, void *userdata) {
        World *world = self;
        Refusal *refusal;

        if (world->lose_define)
                world_set_connected(world, false);
        world->lose_define = false;
        refusal = world_refusal(world, HYPERVISOR_DEFINE, spec->request->name);
        if (!refusal) {
                WorldDomain *domain = domain_new(world, spec->request->name, spec->uuid);

                domain->ours = true;
                domain->first_start =
                        spec->request->start ? FIRST_START_PENDING : FIRST_START_LATER;
                domain->vcpus = spec->request->vcpus;
                domain->memory_mib = spec->request->memory_mib;
                domain->autostart = spec->request->autostart;
                domain->definition = definition_of(spec);
                if (spec->image)
                        world_add_file(domain, spec->image, true,
                                       spec->request->image_format == IMAGE_QCOW2);
                for (guint i = 0; i < spec->request->disks->len; i++)
                        domain_take(domain, g_ptr_array_index(spec->request->disks, i));
                for (guint i = 0; i < spec->request->nics->len; i++)
                        domain_take(domain, g_ptr_array_index(spec->request->nics, i));
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
        domain->stop_asked = false;
        if (world->drop_hostdevs)
                g_array_set_size(domain->hostdevs, 0);
        domain->qemu = domain->active = !world->quit_at_once;
        domain->state = world->start_paused ? DOMAIN_PAUSED : DOMAIN_RUNNING;
        domain->first_start = FIRST_START_DONE;
        domain->pid = ++world->next_pid;
        if (world->quit_at_once)
                domain->off_reason = DOMAIN_OFF_CRASHED;
}

typedef struct HeldVerb {
        HypervisorVerb verb;
        char uuid[37];
        HypervisorDone done;
        void *userdata;
} HeldVerb;

static void verb_hold(World *world, HypervisorVerb verb, const char *uuid, HypervisorDone done,
                      void *userdata) {
        HeldVerb *held = g_new(HeldVerb, 1);

        *held = (HeldVerb){ .verb = verb, .done = done, .userdata = userdata };
        g_strlcpy(held->uuid, uuid, sizeof(held->uuid));
        g_queue_push_tail(&world->held, held);
}

static void world_act(void *self, HypervisorVerb verb, const char *uuid, HypervisorDone done,
                      void *userdata) {
        World *world = self;
        WorldDomain *domain = domain_at(world, uuid);
        Refusal *refusal;

        if (world->hold_verb[verb]) {
                verb_hold(world, verb, uuid, done, userdata);
                return;
        }
        refusal = world_refusal(world, verb, uuid);
        if (!refusal && domain && !domain->ours)
                refusal = refusal_new(REFUSAL_NO_SUCH_MACHINE, uuid, "Use virsh.",
                                      "It is not ours any more.");
        if (!refusal && verb == HYPERVISOR_START) {
                world_later(world, start_run, g_strdup(uuid), g_free, true);
                world_later(world, look_run, g_strdup(uuid), g_free, false);
        } else if (!refusal && domain && verb == HYPERVISOR_DESTROY && domain->active) {
                domain->qemu = domain->active = false;
                domain->off_reason = DOMAIN_OFF_DESTROYED;
                world_later(world, world_process_died, domain, NULL, false);
        } else if (!refusal && domain && verb == HYPERVISOR_UNDEFINE)
                domain->known = false;
        else if (!refusal && domain && verb == HYPERVISOR_SHUTDOWN)
                domain->stop_asked = domain->active;
        else if (!refusal && domain && domain->active && verb == HYPERVISOR_PAUSE)
                domain->state = DOMAIN_PAUSED;
        else if (!refusal && domain && domain->active && verb == HYPERVISOR_RESUME)
                domain->state = DOMAIN_RUNNING;
        world_answer(world, uuid, refusal, done, userdata);
}

void world_let_go(World *world) {
        HeldVerb *held;

        memset(world->hold_verb, 0, sizeof(world->hold_verb));
        while ((held = g_queue_pop_head(&world->held))) {
                world_act(world, held->verb, held->uuid, held->done, held->userdata);
                g_free(held);
        }
}

Hypervisor world_hypervisor(World *world) {
        static const HypervisorOps ops = {
                .facts = world_hypervisor_facts,
                .reach = world_reach,
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

void world_unlist(WorldDomain *domain, const char *address) {
        world_unmark(domain->hostdevs, world_address(address));
        world_unmark(domain->lost, world_address(address));
}

void world_end_domain(World *world, WorldDomain *domain, DomainOffReason reason) {
        domain->qemu = false;
        domain->active = false;
        domain->off_reason = reason;
        world_later(world, world_process_died, domain, NULL, false);
        world_look_domain(world, domain->uuid);
}

void world_tell_domain(World *world, WorldDomain *domain) {
        tell_domain(world, domain->uuid);
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
        else
                reach_run(world, NULL);
}

void world_set_connected(World *world, bool connected) {
        world->connected = connected;
        world_later(world, connection_run, NULL, NULL, false);
}
