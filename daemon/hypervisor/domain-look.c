/* One look at a domain: libvirt's state, its XML, and the QEMU process behind it with a pidfd,
 * which tells its end even when libvirt does not. It decides nothing; the one thing that it changes
 * is our own metadata, when a machine's first start has happened. */
#include "hypervisor/domain-look.h"

#include "hypervisor/domain-lend.h"
#include "hypervisor/domain-xml.h"

#include "autoptr.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <string.h>
#include <sys/pidfd.h>
#include <systemd/sd-journal.h>

/* Where libvirtd and virtqemud keep the PID file of each of their QEMUs (libvirt 9: qemu_conf.c,
 * stateDir of a privileged daemon). */
#define PID_DIRECTORY "/run/libvirt/qemu"

/* A domain can start or stop between two questions; then both are asked again. */
#define STATE_TRIES 5

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

static DomainOffReason off_reason_from_libvirt(int state, int reason) {
        if (state == VIR_DOMAIN_CRASHED)
                return DOMAIN_OFF_CRASHED;
        if (state != VIR_DOMAIN_SHUTOFF)
                return DOMAIN_OFF_UNKNOWN;
        switch (reason) {
        case VIR_DOMAIN_SHUTOFF_SHUTDOWN:
                return DOMAIN_OFF_SHUTDOWN;
        case VIR_DOMAIN_SHUTOFF_DESTROYED:
                return DOMAIN_OFF_DESTROYED;
        case VIR_DOMAIN_SHUTOFF_CRASHED:
                return DOMAIN_OFF_CRASHED;
        case VIR_DOMAIN_SHUTOFF_FAILED:
                return DOMAIN_OFF_FAILED;
        default:
                return DOMAIN_OFF_UNKNOWN;
        }
}

static DomainState state_from_libvirt(int state, int reason, bool active) {
        if (!active)
                return DOMAIN_OFF;
        switch (state) {
        case VIR_DOMAIN_PAUSED:
                return reason == VIR_DOMAIN_PAUSED_STARTING_UP ? DOMAIN_STARTING : DOMAIN_PAUSED;
        case VIR_DOMAIN_PMSUSPENDED:
        case VIR_DOMAIN_CRASHED: /* kept for a post-mortem: its QEMU stands still but lives */
                return DOMAIN_PAUSED;
        case VIR_DOMAIN_SHUTDOWN:
                return DOMAIN_STOPPING;
        default:
                return DOMAIN_RUNNING;
        }
}

/* @ret_started: it has got past being started, however it is now. */
static int state_read(virDomainPtr domain, DomainFacts *facts, bool *ret_started) {
        int state = VIR_DOMAIN_NOSTATE, reason = 0, active = 0;

        for (unsigned i = 0; i < STATE_TRIES; i++) {
                active = virDomainIsActive(domain);
                if (active < 0 || virDomainGetState(domain, &state, &reason, 0) < 0)
                        return -1;
                if (state == VIR_DOMAIN_NOSTATE || state == VIR_DOMAIN_CRASHED)
                        break; /* says neither */
                if (active == (state != VIR_DOMAIN_SHUTOFF))
                        break;
        }
        facts->active = active;
        facts->state = state_from_libvirt(state, reason, active);
        facts->off_reason = active ? DOMAIN_OFF_UNKNOWN : off_reason_from_libvirt(state, reason);
        *ret_started = active && facts->state != DOMAIN_STARTING;
        return 0;
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStoragePool, virStoragePoolFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStorageVol, virStorageVolFree)

/* A pool that is not active, or a volume that libvirt has not met, says nothing of where it is. */
static char *volume_path(void *userdata, const char *pool_name, const char *name) {
        virConnectPtr connection = userdata;
        g_autoptr(virStoragePool) pool = virStoragePoolLookupByName(connection, pool_name);
        g_autoptr(virStorageVol) volume = pool ? virStorageVolLookupByName(pool, name) : NULL;
        char *path = volume ? virStorageVolGetPath(volume) : NULL;
        char *copy = g_strdup(path);

        free(path);
        return copy;
}

static int xml_parse(virDomainPtr domain, const char *xml, bool definition, DomainFacts *facts) {
        VolumeFinder volumes = { volume_path, virDomainGetConnect(domain) };
        int r = definition ? domain_xml_add_definition(xml, &volumes, facts)
                           : domain_xml_parse(xml, &volumes, facts);

        if (r < 0)
                sd_journal_print(LOG_WARNING, "Cannot read the XML of domain %s.", facts->name);
        return r;
}

/* What it has now, and what it will have at its next start. A device that the guest let go of after
 * all, when its detach had been refused, is still in the definition: its id is not free, and
 * detaching it is what clears it. */
static int xml_read(virDomainPtr domain, DomainFacts *facts) {
        char *now = virDomainGetXMLDesc(domain, 0);
        char *next =
                now && facts->active ? virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE) : NULL;
        int r = now && (next || !facts->active) ? xml_parse(domain, now, false, facts) : -1;

        if (r >= 0)
                r = xml_parse(domain, next ?: now, true, facts);
        free(now);
        free(next);
        return r;
}

/* Whether process @pid was started with @uuid among its arguments, as libvirt starts QEMU. */
static bool process_is_of_domain(pid_t pid, const char *uuid) {
        g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
        g_autofree char *cmdline = NULL;
        size_t length;

        if (!g_file_get_contents(path, &cmdline, &length, NULL))
                return false;
        for (const char *p = cmdline; p < cmdline + length; p += strlen(p) + 1)
                if (strcmp(p, uuid) == 0)
                        return true;
        return false;
}

static void process_find(DomainFacts *facts) {
        g_autofree char *file = g_strconcat(facts->name, ".pid", NULL);
        g_autofree char *path = g_build_filename(PID_DIRECTORY, file, NULL);
        g_autofree char *text = NULL;
        g_autofd int fd = -1;
        gint64 pid;

        if (!g_file_get_contents(path, &text, NULL, NULL))
                return;
        pid = g_ascii_strtoll(text, NULL, 10);
        if (pid <= 0 || pid > G_MAXINT32)
                return;
        fd = pidfd_open((pid_t)pid, 0);
        /* Asked only now, when the number can no longer be passed on to another process. */
        if (fd < 0 || !process_is_of_domain((pid_t)pid, facts->uuid))
                return;
        facts->pid = (pid_t)pid;
        facts->pidfd = fd;
        fd = -1;
}

/* A socket that leads to another host's libvirt looks like this host's until now. */
static void process_look_for(Line *line, virDomainPtr domain, DomainFacts *facts, bool started) {
        g_autofree char *shown = NULL;

        process_find(facts);
        if (facts->pid != 0 || !started || virDomainIsActive(domain) != 1 ||
            !line_may_tell_missing(line))
                return;
        shown = refusal_show(facts->name);
        sd_journal_print(
                LOG_WARNING,
                "Cannot find the QEMU of domain %s on this host: there is no such process, or no "
                "file of it in " PID_DIRECTORY ". The service has only libvirt's word for when it "
                "ends.",
                shown);
}

static int metadata_set(virDomainPtr domain, const char *metadata, unsigned flags) {
        return virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, metadata,
                                    DOMAIN_METADATA_PREFIX, DOMAIN_METADATA_URI, flags);
}

static void first_start_done(virDomainPtr domain, DomainFacts *facts) {
        unsigned config = virDomainIsPersistent(domain) == 1 ? VIR_DOMAIN_AFFECT_CONFIG : 0;
        g_autofree char *metadata = NULL;

        facts->first_start = FIRST_START_DONE;
        metadata = domain_metadata_write(facts);
        if (metadata_set(domain, metadata, config | VIR_DOMAIN_AFFECT_LIVE) == 0)
                return;
        /* It may have ended meanwhile. */
        if (config && metadata_set(domain, metadata, config) == 0)
                return;
        /* The next look tries again; that it has started is true all the same. */
        sd_journal_print(LOG_WARNING, "Could not note the first start of machine %s: %s",
                         facts->name, virGetLastErrorMessage());
}

void domain_note_first_start(virDomainPtr domain) {
        g_autoptr(DomainFacts) facts = domain_facts_new();

        facts->name = g_strdup(virDomainGetName(domain));
        if (xml_read(domain, facts) >= 0 && facts->ours && facts->first_start != FIRST_START_DONE)
                first_start_done(domain, facts);
}

void domain_note_stop(virDomainPtr domain) {
        g_autoptr(DomainFacts) facts = domain_facts_new();
        g_autofree char *metadata = NULL;

        facts->name = g_strdup(virDomainGetName(domain));
        facts->active = true;
        if (xml_read(domain, facts) < 0 || !facts->ours)
                return;
        facts->stop_asked = true;
        metadata = domain_metadata_write(facts);
        if (metadata_set(domain, metadata, VIR_DOMAIN_AFFECT_LIVE) == 0 ||
            virDomainIsActive(domain) != 1)
                return; /* a quick guest has ended meanwhile */
        sd_journal_print(LOG_WARNING, "Could not note that machine %s was asked to shut down: %s",
                         facts->name, virGetLastErrorMessage());
}

static DomainFacts *facts_read(Line *line, virDomainPtr domain) {
        g_autoptr(DomainFacts) facts = domain_facts_new();
        virDomainInfo info;
        bool started;

        G_STATIC_ASSERT(sizeof(facts->uuid) == VIR_UUID_STRING_BUFLEN);
        if (virDomainGetUUIDString(domain, facts->uuid) < 0)
                return NULL;
        facts->name = g_strdup(virDomainGetName(domain));
        if (state_read(domain, facts, &started) < 0 || xml_read(domain, facts) < 0 ||
            virDomainGetInfo(domain, &info) < 0)
                return NULL;
        facts->vcpus = info.nrVirtCpu;
        facts->memory_mib = info.maxMem / 1024;
        /* Without a balloon the <currentMemory> of a definition means nothing: QEMU gets it all
         * (libvirt 9.0.0, src/qemu/qemu_process.c, qemuProcessRefreshBalloonState()). */
        facts->memory_now_mib =
                (facts->active || facts->balloon ? info.memory : info.maxMem) / 1024;
        if (facts->active && line_facts(line)->on_this_host)
                process_look_for(line, domain, facts, started);
        if (started || !facts->active)
                domain_mend(domain, facts, started);
        if (facts->ours && started && facts->first_start != FIRST_START_DONE)
                first_start_done(domain, facts);
        return g_steal_pointer(&facts);
}

static LookResult look(Line *line, const char *uuid, DomainFacts **ret) {
        bool missing;
        g_autoptr(virDomain) domain = line_domain(line, uuid, &missing);

        if (missing)
                return LOOK_RESULT_GONE;
        *ret = domain ? facts_read(line, domain) : NULL;
        if (*ret)
                return LOOK_RESULT_SEEN;
        /* It may have gone while it was looked at. */
        return domain && link_error_is_no_domain() ? LOOK_RESULT_GONE : LOOK_RESULT_FAILED;
}

LookResult domain_look(Link *link, const char *uuid, DomainFacts **ret, char **ret_error) {
        g_autoptr(Line) line = link_take_line(link);
        LookResult result = line ? look(line, uuid, ret) : LOOK_RESULT_FAILED;

        if (result == LOOK_RESULT_FAILED)
                *ret_error = link_error_words();
        return result;
}

static GPtrArray *look_all(Line *line) {
        g_autoptr(GPtrArray) all =
                g_ptr_array_new_with_free_func((GDestroyNotify)domain_facts_free);
        virDomainPtr *domains = NULL;
        int n = virConnectListAllDomains(line_connection(line), &domains, 0);
        bool failed = n < 0;

        /* virDomainFree() leaves the error alone that says why it failed. */
        for (int i = 0; i < n; i++) {
                DomainFacts *facts = failed ? NULL : facts_read(line, domains[i]);

                if (facts)
                        g_ptr_array_add(all, facts);
                else
                        failed = failed || !link_error_is_no_domain();
                virDomainFree(domains[i]);
        }
        free(domains);
        return failed ? NULL : g_steal_pointer(&all);
}

GPtrArray *domain_look_all(Link *link, char **ret_error) {
        g_autoptr(Line) line = link_take_line(link);
        GPtrArray *all = line ? look_all(line) : NULL;

        if (!all)
                *ret_error = link_error_words();
        return all;
}

char **networks_list(Link *link) {
        g_autoptr(Line) line = link_take_line(link);
        g_autoptr(GStrvBuilder) names = g_strv_builder_new();
        virNetworkPtr *networks = NULL;
        int n = line ? virConnectListAllNetworks(line_connection(line), &networks,
                                                 VIR_CONNECT_LIST_NETWORKS_ACTIVE)
                     : -1;

        for (int i = 0; i < n; i++) {
                g_strv_builder_add(names, virNetworkGetName(networks[i]));
                virNetworkFree(networks[i]);
        }
        free(networks);
        return n < 0 ? NULL : g_strv_builder_end(names);
}
