/* Attaches and detaches one device of one domain. A running domain has two descriptions, as it is
 * and as it will be at its next start, and after everything here a device is in both or in neither,
 * save where libvirt itself fails half way. Whose file or network it is was judged before. */
#include "hypervisor/domain-device.h"

#include "hypervisor/device-xml.h"
#include "hypervisor/domain-ours.h"
#include "hypervisor/domain-refusal.h"
#include "hypervisor/domain-xml.h"

#include "autoptr.h"

#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>

/* An event can be lost; then it is looked at all the same. */
#define LOOK_INTERVAL_USEC G_USEC_PER_SEC

#define TERMINAL_PREFIX "/dev/pts/"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

/* One domain, taken in hand for a device. */
typedef struct Hand {
        Line *line;
        virDomainPtr domain;
        const char *name;
        char *doing;
        bool active;
        bool persistent;
        char *now;  /* its XML as it runs; NULL = it does not */
        char *next; /* its XML as defined; NULL = it is not */
} Hand;

static void hand_clear(Hand *hand) {
        g_free(hand->doing);
        g_free(hand->now);
        g_free(hand->next);
        if (hand->domain)
                virDomainFree(hand->domain);
        if (hand->line)
                line_give_back(hand->line);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Hand, hand_clear)

static Refusal *hand_refuse(const Hand *hand, const char *uuid) {
        return domain_refuse_by_libvirt(hand->line, hand->doing, hand->name ?: uuid);
}

static char *xml_take(virDomainPtr domain, unsigned flags) {
        char *xml = virDomainGetXMLDesc(domain, flags);
        char *copy = g_strdup(xml);

        free(xml);
        return copy;
}

static Refusal *hand_find(Hand *hand, Link *link, const char *uuid, const char *name) {
        bool missing = false;

        hand->line = link_take_line(link);
        if (!hand->line)
                return hand_refuse(hand, uuid);
        hand->domain = line_domain(hand->line, uuid, &missing);
        if (!hand->domain)
                return missing ? domain_refuse_missing(uuid) : hand_refuse(hand, uuid);
        hand->name = virDomainGetName(hand->domain);
        return domain_refuse_unless_ours(hand->line, hand->domain, hand->doing, name);
}

static Refusal *hand_read(Hand *hand, const char *uuid) {
        int active = virDomainIsActive(hand->domain);
        int persistent = active >= 0 ? virDomainIsPersistent(hand->domain) : -1;

        if (active < 0 || persistent < 0)
                return hand_refuse(hand, uuid);
        hand->active = active;
        hand->persistent = persistent;
        if (active)
                hand->now = xml_take(hand->domain, 0);
        if (persistent)
                hand->next = xml_take(hand->domain, VIR_DOMAIN_XML_INACTIVE);
        if ((active && !hand->now) || (persistent && !hand->next))
                return hand_refuse(hand, uuid);
        return NULL;
}

static Refusal *hand_take(Hand *hand, Link *link, const char *uuid, const char *name) {
        Refusal *refusal = hand_find(hand, link, uuid, name);

        return refusal ?: hand_read(hand, uuid);
}

static bool has(const char *xml, DeviceKind kind, const char *id) {
        return xml && domain_xml_has_device(xml, kind, id);
}

char *device_doing(bool attach, DeviceKind kind, const char *id) {
        return g_strdup_printf("%s %s %s %s machine", attach ? "attach" : "detach",
                               device_kind_to_string(kind), id, attach ? "to" : "from");
}

/* --- Attach --- */

static Refusal *attach_describe(const Hand *hand, const DeviceRequest *device, char **ret) {
        g_autofree char *target = NULL;

        if (device->kind == DEVICE_DISK)
                target = domain_xml_free_target(hand->now, hand->next);
        if (device_xml_write(device, target, ret) >= 0)
                return NULL;
        return refusal_new(REFUSAL_HYPERVISOR_FAILED, hand->name,
                           "Leave control characters out of its path, and write it in UTF-8.",
                           "The %s %s of machine %s cannot be described to libvirt.",
                           device_kind_to_string(device->kind), device->id, hand->name);
}

Refusal *domain_attach(Link *link, const char *uuid, const char *name,
                       const DeviceRequest *device) {
        g_auto(Hand) hand = { .doing = device_doing(true, device->kind, device->id) };
        g_autofree char *xml = NULL;
        Refusal *refusal = hand_take(&hand, link, uuid, name);
        unsigned flags = 0;

        if (refusal)
                return refusal;
        if (has(hand.now, device->kind, device->id) || has(hand.next, device->kind, device->id))
                return refusal_new(REFUSAL_INVALID_OPTION, "id", "Choose another id, or none.",
                                   "Machine %s has a %s %s already.", hand.name,
                                   device_kind_to_string(device->kind), device->id);
        refusal = attach_describe(&hand, device, &xml);
        if (refusal)
                return refusal;
        /* With both, libvirt keeps the definition as it was when QEMU refuses. */
        flags |= hand.active ? VIR_DOMAIN_AFFECT_LIVE : 0;
        flags |= hand.persistent ? VIR_DOMAIN_AFFECT_CONFIG : 0;
        if (virDomainAttachDeviceFlags(hand.domain, xml, flags) == 0)
                return NULL;
        return hand_refuse(&hand, uuid);
}

/* --- Detach --- */

/* Whether the running domain still has it; one that runs no longer has not. Negative: libvirt's
 * error is why it cannot be said. */
static int is_still_there(const Hand *hand, DeviceKind kind, const char *id) {
        g_autofree char *xml = NULL;
        int active = virDomainIsActive(hand->domain);

        if (active < 0)
                return link_error_is_no_domain() ? 0 : -1;
        if (!active)
                return 0;
        xml = xml_take(hand->domain, 0);
        return xml ? has(xml, kind, id) : -1;
}

static Refusal *refuse_clinging(const Hand *hand, DeviceKind kind, const char *id) {
        return refusal_new(
                REFUSAL_HYPERVISOR_FAILED, hand->name,
                "See what uses it inside the guest, or whether the guest runs at all; then ask "
                "again, or shut the machine down first.",
                "The guest of machine %s has not let go of %s %s within %d s.", hand->name,
                device_kind_to_string(kind), id, DETACH_TIMEOUT_SEC);
}

static Refusal *await_gone(const Hand *hand, Link *link, DeviceKind kind, const char *id,
                           uint64_t changes) {
        gint64 deadline = g_get_monotonic_time() + DETACH_TIMEOUT_SEC * G_USEC_PER_SEC;

        for (;;) {
                gint64 now = g_get_monotonic_time();
                int there = is_still_there(hand, kind, id);

                if (there < 0 || link_is_abandoned(link))
                        return hand_refuse(hand, NULL);
                if (!there)
                        return NULL;
                if (now >= deadline)
                        return refuse_clinging(hand, kind, id);
                link_await_device_change(link, changes, MIN(deadline, now + LOOK_INTERVAL_USEC));
                changes = link_device_changes(link);
        }
}

/* Asks the guest to let go, and waits for it. Asked first, while the definition is untouched: a
 * guest that refuses then leaves nothing to be put back. */
static Refusal *detach_now(const Hand *hand, Link *link, DeviceKind kind, const char *id,
                           const char *alias) {
        uint64_t changes = link_device_changes(link);
        g_autoptr(Refusal) refusal = NULL;

        if (virDomainDetachDeviceAlias(hand->domain, alias, VIR_DOMAIN_AFFECT_LIVE) == 0)
                return await_gone(hand, link, kind, id, changes);
        refusal = hand_refuse(hand, NULL);
        /* It, or the whole domain, may have gone by itself meanwhile. */
        if (is_still_there(hand, kind, id) == 0)
                return NULL;
        return g_steal_pointer(&refusal);
}

static Refusal *detach_next(const Hand *hand, const char *alias) {
        if (virDomainDetachDeviceAlias(hand->domain, alias, VIR_DOMAIN_AFFECT_CONFIG) == 0)
                return NULL;
        /* Somebody else was quicker. */
        if (virGetLastErrorCode() == VIR_ERR_DEVICE_MISSING || link_error_is_no_domain())
                return NULL;
        return hand_refuse(hand, NULL);
}

Refusal *domain_detach(Link *link, const char *uuid, const char *name, DeviceKind kind,
                       const char *id) {
        g_auto(Hand) hand = { .doing = device_doing(false, kind, id) };
        g_autofree char *alias = device_alias(kind, id);
        Refusal *refusal = hand_take(&hand, link, uuid, name);
        bool now, next;

        if (refusal)
                return refusal;
        now = has(hand.now, kind, id);
        next = has(hand.next, kind, id);
        if (!now && !next)
                return refusal_new(REFUSAL_INVALID_OPTION, "id",
                                   "See which it has; it may have been detached already.",
                                   "Machine %s has no %s %s.", hand.name,
                                   device_kind_to_string(kind), id);
        if (now)
                refusal = detach_now(&hand, link, kind, id, alias);
        if (!refusal && next)
                refusal = detach_next(&hand, alias);
        return refusal;
}

/* --- Asking --- */

Refusal *domain_get_xml(Link *link, const char *uuid, const char *name, char **ret) {
        g_auto(Hand) hand = { .doing = g_strdup("tell the XML of machine") };
        Refusal *refusal = hand_find(&hand, link, uuid, name);

        if (refusal)
                return refusal;
        /* No VIR_DOMAIN_XML_SECURE: without it there are no secrets in it. */
        *ret = xml_take(hand.domain, 0);
        return *ret ? NULL : hand_refuse(&hand, uuid);
}

static bool is_console_of(const Hand *hand, const char *terminal) {
        g_autoptr(DomainFacts) facts = domain_facts_new();

        return hand->now && domain_xml_parse(hand->now, NULL, facts) >= 0 && facts->ours &&
               g_strcmp0(facts->console, terminal) == 0;
}

Refusal *domain_open_console(Link *link, const char *uuid, const char *name, const char *terminal,
                             int *ret) {
        g_auto(Hand) hand = { .doing = g_strdup("open the console of machine") };
        g_autofd int fd = -1;
        Refusal *refusal;
        int r = 0;

        /* Opened first and asked about then: as long as QEMU runs, the number is its own. */
        if (g_str_has_prefix(terminal, TERMINAL_PREFIX))
                fd = open(terminal, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                r = errno;
        refusal = hand_take(&hand, link, uuid, name);
        if (refusal)
                return refusal;
        if (fd < 0 || !is_console_of(&hand, terminal))
                return refusal_new(REFUSAL_HYPERVISOR_FAILED, hand.name,
                                   "See whether the machine still runs, and ask again.",
                                   "The console of machine %s could not be opened%s%s", hand.name,
                                   r ? ": " : ".", r ? g_strerror(r) : "");
        *ret = fd;
        fd = -1;
        return NULL;
}
