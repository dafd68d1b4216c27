/* Defines a domain together with the file that holds its Ignition text: both or neither. Whether
 * the machine makes sense has been judged before; here libvirt has the word. */
#include "hypervisor/domain-define.h"

#include "hypervisor/domain-refusal.h"
#include "hypervisor/domain-xml.h"
#include "hypervisor/ignition.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

static Refusal *refuse(Line *line, const char *name) {
        return domain_refuse_by_libvirt(line, domain_verb_doing(HYPERVISOR_DEFINE), name);
}

static Refusal *refuse_existing(const char *name, const char *what) {
        return refusal_new(REFUSAL_MACHINE_EXISTS, name,
                           "Choose another one, or remove that domain first.",
                           "There is a libvirt domain with the %s %s already.", what, name);
}

/* virDomainDefineXML() would replace a domain that has both, so they are looked for first. */
static Refusal *refuse_taken(Line *line, const char *name, const char *uuid) {
        g_autoptr(virDomain) by_name = NULL, by_uuid = NULL;

        by_name = virDomainLookupByName(line_connection(line), name);
        if (by_name)
                return refuse_existing(name, "name");
        if (!link_error_is_no_domain())
                return refuse(line, name);
        by_uuid = virDomainLookupByUUIDString(line_connection(line), uuid);
        if (by_uuid)
                return refuse_existing(uuid, "UUID");
        if (!link_error_is_no_domain())
                return refuse(line, name);
        return NULL;
}

/* libvirt gives the file to QEMU's user for as long as the machine runs, but an administrator can
 * tell it not to (dynamic_ownership in qemu.conf). The group is what works in either case. */
static gid_t qemu_group(Line *line) {
        char *xml = virConnectGetCapabilities(line_connection(line));
        gid_t group = (gid_t)-1;
        uid_t user;

        if (xml)
                (void)capabilities_get_owner(xml, &user, &group);
        free(xml);
        return group;
}

/* --- whose Ignition text it is --- */

/* Whether one of the domain's descriptions has a word of @file; negative: libvirt does not say. A
 * text that is merely mentioned is kept as well: that costs nobody a machine. */
static int domain_mentions(virDomainPtr domain, const char *file) {
        static const unsigned descriptions[] = { 0, VIR_DOMAIN_XML_INACTIVE };
        bool found = false;

        for (unsigned i = 0; i < G_N_ELEMENTS(descriptions) && !found; i++) {
                char *xml = virDomainGetXMLDesc(domain, descriptions[i]);

                if (!xml)
                        return link_error_is_no_domain() ? 0 : -1;
                found = strstr(xml, file);
                free(xml);
        }
        return found;
}

/* Whether a domain has the text at @path, as a clone has its original's; negative: libvirt does not
 * say. The domain's name goes into @ret_name (g_free()). */
static int ignition_user(Line *line, const char *path, char **ret_name) {
        g_autofree char *file = g_path_get_basename(path);
        virDomainPtr *domains = NULL;
        int n = virConnectListAllDomains(line_connection(line), &domains, 0);
        int found = n < 0 ? -1 : 0;

        for (int i = 0; i < n; i++) {
                if (found == 0)
                        found = domain_mentions(domains[i], file);
                if (found > 0 && !*ret_name)
                        *ret_name = g_strdup(virDomainGetName(domains[i]));
                virDomainFree(domains[i]);
        }
        free(domains);
        return found;
}

/* One that may still be somebody's goes another time: domain_forget_others(). */
static void ignition_let_go(Line *line, const char *path) {
        g_autofree char *user = NULL;

        if (g_file_test(path, G_FILE_TEST_EXISTS) && ignition_user(line, path, &user) == 0)
                ignition_remove(path);
}

/* A clone whose original is gone by now has the text that is there. */
static Refusal *refuse_text_of_another(Line *line, const char *name, const char *uuid,
                                       const char *path) {
        g_autofree char *user = NULL, *shown = NULL;
        int r = g_file_test(path, G_FILE_TEST_EXISTS) ? ignition_user(line, path, &user) : 0;

        if (r < 0)
                return refuse(line, name);
        if (r == 0)
                return NULL;
        shown = refusal_show(user);
        return refusal_new(REFUSAL_MACHINE_EXISTS, uuid,
                           "Choose another UUID, or remove that domain first.",
                           "The libvirt domain %s, a clone, still uses the Ignition configuration "
                           "of an earlier machine with the UUID %s.",
                           shown, uuid);
}

static Refusal *ignition_put(Line *line, const char *name, const char *uuid, const char *ignition) {
        g_autofree char *path = domain_ignition_path(uuid);
        Refusal *refusal;
        int r;

        /* The test driver starts no QEMU that would read it. */
        if (!ignition || line_facts(line)->test)
                return NULL;
        if (!line_facts(line)->on_this_host)
                return refusal_new(REFUSAL_HYPERVISOR_FAILED, name,
                                   "Leave it out, or make the machine on the host itself.",
                                   "Machine %s cannot have an Ignition configuration: libvirt is "
                                   "not known to be on this host.",
                                   name);
        refusal = refuse_text_of_another(line, name, uuid, path);
        if (refusal)
                return refusal;
        r = ignition_write(path, ignition, qemu_group(line));
        if (r < 0)
                return refusal_new(REFUSAL_HYPERVISOR_FAILED, name,
                                   "Make room there, or see who may write to it.",
                                   "The Ignition configuration of machine %s could not be written "
                                   "to %s: %s",
                                   name, path, g_strerror(-r));
        return NULL;
}

static Refusal *define(Line *line, const char *name, const char *uuid, const char *xml) {
        g_autoptr(virDomain) domain = virDomainDefineXML(line_connection(line), xml);

        if (domain)
                return NULL;
        if (virGetLastErrorCode() == VIR_ERR_DOM_EXIST)
                return refuse_existing(name, "name");
        return refuse(line, name);
}

/* When the connection is lost, libvirt may have defined it all the same; then it is better that the
 * text is there. Where it has not, the text goes with the next listing. */
static bool is_known_to_be_undone(const Refusal *refusal) {
        return refusal->code != REFUSAL_HYPERVISOR_UNAVAILABLE;
}

static Refusal *make(Line *line, const char *name, const char *uuid, const char *xml,
                     const char *ignition) {
        Refusal *refusal = refuse_taken(line, name, uuid);

        if (refusal)
                return refusal;
        refusal = ignition_put(line, name, uuid, ignition);
        if (!refusal)
                refusal = define(line, name, uuid, xml);
        if (refusal && is_known_to_be_undone(refusal))
                domain_forget(line, uuid);
        return refusal;
}

Refusal *domain_define(Link *link, const char *name, const char *uuid, const char *xml,
                       const char *ignition) {
        g_autoptr(Line) line = link_take_line(link);
        Refusal *refusal;

        if (!line)
                return refuse(NULL, name);
        ignition_begin_making();
        refusal = make(line, name, uuid, xml, ignition);
        ignition_end_making();
        return refusal;
}

void domain_forget(Line *line, const char *uuid) {
        g_autofree char *path = domain_ignition_path(uuid);

        if (line_facts(line)->on_this_host)
                ignition_let_go(line, path);
}

/* The UUIDs of all domains, or NULL. */
static GHashTable *uuids_list(Line *line) {
        g_autoptr(GHashTable) uuids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        virDomainPtr *domains = NULL;
        int n = virConnectListAllDomains(line_connection(line), &domains, 0);

        for (int i = 0; i < n; i++) {
                char uuid[VIR_UUID_STRING_BUFLEN];

                if (virDomainGetUUIDString(domains[i], uuid) == 0)
                        g_hash_table_add(uuids, g_strdup(uuid));
                virDomainFree(domains[i]);
        }
        free(domains);
        return n < 0 ? NULL : g_steal_pointer(&uuids);
}

void domain_forget_others(Link *link) {
        g_autoptr(Line) line = NULL;
        g_autoptr(GHashTable) uuids = NULL;
        g_autoptr(GPtrArray) others = NULL;

        if (!link_facts(link)->on_this_host || !ignition_begin_removing())
                return;
        line = link_take_line(link);
        uuids = line ? uuids_list(line) : NULL;
        others = uuids ? ignition_find_others(DOMAIN_IGNITION_DIRECTORY, uuids) : NULL;
        for (unsigned i = 0; others && i < others->len; i++)
                ignition_let_go(line, g_ptr_array_index(others, i));
        ignition_end_removing();
}
