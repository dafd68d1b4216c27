/* What a machine gets and loses while it exists: disks, NICs, a look at its XML, a hand at its
 * console. */
#include "core/manager-private.h"

#include <string.h>

struct Attach {
        Manager *manager; /* weak */
        char *name;
        char uuid[37];
        DeviceRequest *device; /* NULL while it is judged */
        GPtrArray *claims;     /* FileClaim: its file, once libvirt was asked; NULL before */
        ManagerAttached done;
        void *userdata;
};

void attach_free(Attach *attach) {
        g_free(attach->name);
        device_request_free(attach->device);
        g_clear_pointer(&attach->claims, g_ptr_array_unref);
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
        Attach *attach = userdata;
        TURN(attach->manager);
        Domain *domain = manager_find_domain(attach->manager, attach->uuid);

        if (!refusal && domain && domain_may_live(domain))
                domain_claim_more(domain, g_steal_pointer(&attach->claims));
        attach_end(attach, refusal);
}

const GPtrArray *domain_device_ids(const DomainFacts *facts, DeviceKind kind) {
        return kind == DEVICE_DISK ? facts->disks : facts->nics;
}

bool domain_ids_have(const GPtrArray *ids, const char *id) {
        for (guint i = 0; i < ids->len; i++)
                if (g_str_equal(g_ptr_array_index(ids, i), id))
                        return true;
        return false;
}

bool manager_attaches(Manager *manager, const char *uuid) {
        for (guint i = 0; i < manager->attaches->len; i++) {
                const Attach *attach = g_ptr_array_index(manager->attaches, i);

                if (attach->claims && g_str_equal(attach->uuid, uuid))
                        return true;
        }
        return false;
}

/* A disk that goes to a machine which does not run is only defined for now. */
void manager_add_attaching(Manager *manager, GArray *uses) {
        for (guint i = 0; i < manager->attaches->len; i++) {
                const Attach *attach = g_ptr_array_index(manager->attaches, i);

                if (attach->claims)
                        claims_add_uses(attach->claims, attach->name,
                                        manager_domain_may_live(manager, attach->uuid), uses);
        }
}

/* Takes from the intake what libvirt is to be asked for. */
static void attach_take(Attach *attach, Intake *intake, const Domain *domain) {
        Request *request = intake->request;
        GPtrArray *wished = request->disks->len > 0 ? request->disks : request->nics;

        attach->claims = claims_new(request, false, intake->survey);
        attach->device = g_ptr_array_steal_index(wished, 0);
        device_request_name(attach->device, domain_device_ids(domain->facts, attach->device->kind));
        if (attach->device->kind == DEVICE_DISK) {
                const ImageAnswer *image = g_ptr_array_index(intake->survey->images, 0);

                attach->device->name = g_strdup(image->name);
                attach->device->block = image->block;
        }
}

static void attach_refused(void *userdata, const Refusal *refusal) {
        attach_end(userdata, refusal);
}

static void attach_judged(Intake *intake, GPtrArray *findings) {
        Attach *attach = intake->userdata;
        Manager *manager = attach->manager;
        const Refusal *error = findings_first_error(findings);
        Refusal *refusal;

        if (error) {
                attach_end(attach, error);
                return;
        }
        if (!intake_machine(intake, &refusal)) {
                call_refuse(attach_refused, attach, refusal);
                return;
        }
        if (!machine_to_ask(manager, attach->uuid, MACHINE_ASK_CHANGE, attach_refused, attach))
                return;
        attach_take(attach, intake, manager_find_domain(manager, attach->uuid));
        manager->hypervisor.ops->attach(manager->hypervisor.self, attach->uuid, attach->device,
                                        attach_done, attach);
}

static Intake *attach_intake(Attach *attach, const Machine *machine, DeviceRequest *device) {
        Request *request = request_new_empty(machine->name);
        Intake *intake = intake_new(attach->manager, INTAKE_ATTACH, request, NULL, attach_judged);

        /* What a machine has that does not run matters when it is started. */
        request->start = manager_domain_may_live(attach->manager, machine->uuid);
        g_ptr_array_add(device->kind == DEVICE_DISK ? request->disks : request->nics, device);
        intake_set_machine(intake, machine);
        intake->userdata = attach;
        return intake;
}

void manager_attach_device(Manager *manager, const char *uuid, DeviceRequest *device,
                           ManagerAttached done, void *userdata) {
        TURN(manager);
        g_autoptr(DeviceRequest) owned = device;
        Attach *attach = g_new0(Attach, 1);
        const Machine *machine;

        *attach = (Attach){ .manager = manager, .done = done, .userdata = userdata };
        g_ptr_array_add(manager->attaches, attach);
        machine = machine_to_ask(manager, uuid, MACHINE_ASK_CHANGE, attach_refused, attach);
        if (!machine)
                return;
        attach->name = g_strdup(machine->name);
        g_strlcpy(attach->uuid, machine->uuid, sizeof(attach->uuid));
        intake_begin(attach_intake(attach, machine, g_steal_pointer(&owned)));
}

void manager_detach_device(Manager *manager, const char *uuid, DeviceKind kind, const char *id,
                           ManagerDone done, void *userdata) {
        Machine *machine = machine_to_ask(manager, uuid, MACHINE_ASK_CHANGE, done, userdata);
        const Domain *domain;

        if (!machine)
                return;
        domain = manager_find_domain(manager, machine->uuid);
        if (!domain_ids_have(domain_device_ids(domain->facts, kind), id)) {
                g_autofree char *shown = refusal_show(id);
                g_autoptr(Refusal) refusal =
                        refusal_new(REFUSAL_INVALID_OPTION, shown, "GetXML shows what it has.",
                                    "Machine %s has no %s \"%s\".", machine->name,
                                    device_kind_to_string(kind), shown);

                done(userdata, refusal);
                return;
        }
        manager->hypervisor.ops->detach(manager->hypervisor.self, machine->uuid, kind, id, done,
                                        userdata);
}

void manager_get_machine_xml(Manager *manager, const char *uuid, HypervisorXML done,
                             void *userdata) {
        if (!manager_shows_machine(manager, uuid)) {
                g_autoptr(Refusal) refusal = no_such_machine(uuid);

                done(userdata, NULL, refusal);
                return;
        }
        manager->hypervisor.ops->get_xml(manager->hypervisor.self, uuid, done, userdata);
}

void manager_open_machine_console(Manager *manager, const char *uuid, uid_t owner,
                                  HypervisorConsole done, void *userdata) {
        const Machine *machine = manager_find_machine(manager, uuid);
        const Domain *domain = manager_find_domain(manager, uuid);
        g_autoptr(Refusal) refusal = NULL;
        MachineState after;

        if (!machine || !machine->shown)
                refusal = no_such_machine(uuid);
        else if (machine_step(machine->state, MACHINE_ASK_CONSOLE, &after) == MACHINE_REFUSED ||
                 !domain || !domain->facts->console)
                refusal = machine_refusal(machine, MACHINE_ASK_CONSOLE);
        if (refusal)
                done(userdata, -1, refusal);
        else
                manager->hypervisor.ops->open_console(manager->hypervisor.self, uuid,
                                                      domain->facts->console, owner, done,
                                                      userdata);
}
