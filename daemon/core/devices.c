/* What a machine gets and loses while it exists: disks, NICs, a look at its XML, a hand at its
 * console; and the machines that start with the host. */
#include "core/manager-private.h"

#include <string.h>

struct Attach {
        Manager *manager; /* weak */
        char *name;
        DeviceRequest *device;
        ManagerAttached done;
        void *userdata;
};

void attach_free(Attach *attach) {
        g_free(attach->name);
        device_request_free(attach->device);
        g_free(attach);
}

static void attach_end(Attach *attach, const Refusal *refusal) {
        Manager *manager = attach->manager;
        guint index;

        g_ptr_array_find(manager->attaches, attach, &index);
        g_ptr_array_steal_index_fast(manager->attaches, index);
        attach->done(attach->userdata, refusal ? NULL : attach->device->id, refusal);
        attach_free(attach);
}

static void attach_done(void *userdata, const Refusal *refusal) {
        TURN(((Attach *)userdata)->manager);

        attach_end(userdata, refusal);
}

static const GPtrArray *domain_ids(const DomainFacts *facts, DeviceKind kind) {
        return kind == DEVICE_DISK ? facts->disks : facts->nics;
}

static bool has_id(const GPtrArray *ids, const char *id) {
        for (guint i = 0; i < ids->len; i++)
                if (g_str_equal(g_ptr_array_index(ids, i), id))
                        return true;
        return false;
}

/* The images that were asked about come first; a NIC asked about none. */
static void attach_check(Attach *attach, const Domain *domain, const SurveyAnswer *answer,
                         GPtrArray *findings) {
        Manager *manager = attach->manager;
        DeviceRequest *device = attach->device;
        g_autoptr(GPtrArray) files = manager_files_in_use(manager, domain->facts->uuid);
        CheckFacts facts = { .domains_known = manager->domains_known, .files = files };
        bool disk = device->kind == DEVICE_DISK;

        manager->hypervisor.ops->facts(manager->hypervisor.self, &facts.hypervisor);
        check_hypervisor(&facts, attach->name, findings);
        if (device->id && has_id(domain_ids(domain->facts, device->kind), device->id))
                findings_error(findings, REFUSAL_INVALID_OPTION, device->id,
                               "Choose another id, or leave it out.",
                               "Machine %s has a %s %s already.", attach->name,
                               device_kind_to_string(device->kind), device->id);
        if (disk && answer->error < 0)
                findings_error(findings, REFUSAL_IMAGE_NOT_FOUND, device->path,
                               "See whether the image directories' file systems answer.",
                               "The host could not be asked about file %s.", device->path);
        else
                check_device(&facts, device, disk ? g_ptr_array_index(answer->images, 0) : NULL,
                             disk ? NETDEV_NONE : manager_netdev(manager, device), findings);
}

static void attach_refused(void *userdata, const Refusal *refusal) {
        attach_end(userdata, refusal);
}

static void attach_go(Attach *attach, const SurveyAnswer *answer) {
        Manager *manager = attach->manager;
        g_autoptr(GPtrArray) findings = findings_new();
        Machine *machine =
                machine_to_ask(manager, attach->name, MACHINE_ASK_CHANGE, attach_refused, attach);
        const Domain *domain;

        if (!machine)
                return;
        domain = manager_find_domain(manager, machine->uuid);
        attach_check(attach, domain, answer, findings);
        if (findings_first_error(findings)) {
                attach_end(attach, findings_first_error(findings));
                return;
        }
        device_request_name(attach->device, domain_ids(domain->facts, attach->device->kind));
        if (answer) {
                const ImageAnswer *image = g_ptr_array_index(answer->images, 0);

                attach->device->resolved = g_strdup(image->resolved);
                attach->device->block = image->block;
        }
        manager->hypervisor.ops->attach(manager->hypervisor.self, machine->uuid, attach->device,
                                        attach_done, attach);
}

static void attach_surveyed(void *userdata, SurveyAnswer *answer) {
        g_autoptr(SurveyAnswer) owned = answer;
        TURN(((Attach *)userdata)->manager);

        attach_go(userdata, owned);
}

void manager_attach_device(Manager *manager, const char *name, DeviceRequest *device,
                           ManagerAttached done, void *userdata) {
        TURN(manager);
        Attach *attach = g_new0(Attach, 1);

        *attach = (Attach){ manager, g_strdup(name), device, done, userdata };
        g_ptr_array_add(manager->attaches, attach);
        if (device->kind == DEVICE_DISK) {
                g_autoptr(GPtrArray) images = g_ptr_array_new();
                g_autoptr(GArray) qcow2 = g_array_new(FALSE, TRUE, sizeof(bool));
                SurveyQuestion question = { .images = images, .qcow2 = qcow2 };
                bool is_qcow2 = device->format == IMAGE_QCOW2;

                g_ptr_array_add(images, device->path);
                g_array_append_val(qcow2, is_qcow2);
                manager->host.ops->survey(manager->host.self, &question, attach_surveyed, attach);
        } else
                attach_go(attach, NULL);
}

void manager_detach_device(Manager *manager, const char *name, DeviceKind kind, const char *id,
                           ManagerDone done, void *userdata) {
        Machine *machine = machine_to_ask(manager, name, MACHINE_ASK_CHANGE, done, userdata);
        const Domain *domain;

        if (!machine)
                return;
        domain = manager_find_domain(manager, machine->uuid);
        if (!has_id(domain_ids(domain->facts, kind), id)) {
                g_autofree char *shown = refusal_show(id);
                g_autoptr(Refusal) refusal = refusal_new(
                        REFUSAL_INVALID_OPTION, shown, "GetXML shows what it has.",
                        "Machine %s has no %s \"%s\".", name, device_kind_to_string(kind), shown);

                done(userdata, refusal);
                return;
        }
        manager->hypervisor.ops->detach(manager->hypervisor.self, machine->uuid, kind, id, done,
                                        userdata);
}

void manager_get_machine_xml(Manager *manager, const char *name, HypervisorXML done,
                             void *userdata) {
        const Machine *machine = manager_find_machine_named(manager, name);

        if (!machine) {
                g_autoptr(Refusal) refusal = no_such_machine(name);

                done(userdata, NULL, refusal);
                return;
        }
        manager->hypervisor.ops->get_xml(manager->hypervisor.self, machine->uuid, done, userdata);
}

void manager_open_machine_console(Manager *manager, const char *name, uid_t owner,
                                  HypervisorConsole done, void *userdata) {
        const Machine *machine = manager_find_machine_named(manager, name);
        const Domain *domain = machine ? manager_find_domain(manager, machine->uuid) : NULL;
        g_autoptr(Refusal) refusal = NULL;
        MachineState after;

        if (!machine)
                refusal = no_such_machine(name);
        else if (machine_step(machine->state, MACHINE_ASK_CONSOLE, &after) == MACHINE_REFUSED ||
                 !domain || !domain->facts->console)
                refusal = machine_refusal(machine, MACHINE_ASK_CONSOLE);
        if (refusal)
                done(userdata, -1, refusal);
        else
                manager->hypervisor.ops->open_console(manager->hypervisor.self, machine->uuid,
                                                      domain->facts->console, owner, done,
                                                      userdata);
}

/* --- machines that start with the host --- */

typedef struct Autostart {
        Manager *manager; /* weak */
        char *name;
} Autostart;

static void autostart_ended(void *userdata, const Refusal *refusal) {
        Autostart *autostart = userdata;
        Manager *manager = autostart->manager;

        if (refusal && manager->observer.autostart_failed)
                manager->observer.autostart_failed(manager->observer_data, autostart->name,
                                                   refusal);
        g_free(autostart->name);
        g_free(autostart);
}

/* The names of the machines to start; a start may end at once, and take its machine along. */
static char **manager_autostart_names(Manager *manager) {
        g_autoptr(GStrvBuilder) names = g_strv_builder_new();

        for (guint i = 0; i < manager->machines->len; i++) {
                const Machine *machine = g_ptr_array_index(manager->machines, i);

                if (machine->autostart && !machine_state_is_up(machine->state))
                        g_strv_builder_add(names, machine->name);
        }
        return g_strv_builder_end(names);
}

void manager_autostart(Manager *manager) {
        g_auto(GStrv) names = NULL;

        /* A card that is on its way to being kept could not be a machine's now. */
        if (manager->autostarted || !manager->begun || !manager->domains_known ||
            manager->keeps->len > 0)
                return;
        manager->autostarted = true;
        /* A daemon that is only restarted starts nothing that its administrator has stopped. */
        if (!manager->host.ops->first_since_boot(manager->host.self))
                return;
        names = manager_autostart_names(manager);
        for (guint i = 0; names[i]; i++) {
                Autostart *autostart = g_new(Autostart, 1);

                *autostart = (Autostart){ manager, g_strdup(names[i]) };
                manager_start_machine(manager, names[i], autostart_ended, autostart);
        }
}
