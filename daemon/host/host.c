/* Ties the rooms of the kernel's side together into the one host that core is given. Holds no logic
 * of its own: each operation is another file's. */
#include "host/host.h"

#include "boot-mark.h"
#include "gpu-policy.h"
#include "handover.h"
#include "host-facts.h"
#include "ledger.h"
#include "look-again.h"
#include "pci-facts.h"
#include "process-watch.h"
#include "survey.h"
#include "udev-monitor.h"

#include <errno.h>
#include <systemd/sd-journal.h>

#define STATE_DIR "/run/feos-vmd"
#define UDEV_DATA "/run/udev/data"

struct SystemHost {
        const HostEvents *events; /* weak; NULL before the beginning */
        void *userdata;

        DeviceMonitor *monitor;
        Handovers *handovers;
        Ledger *ledger;
        Surveys *surveys;
        ProcessWatches *watches;
        GpuPolicy *policy;
        LookAgain *again;
        LookAgain *retries; /* a clock of its own: no other failure makes it tick */
        BootMark *boot;
};

static void host_facts(void *self, HostFacts *ret) {
        host_facts_read(ret);
}

static void host_find_hugepages(void *self, unsigned page_mib, HugepagesMount *ret) {
        *ret = host_hugepages_mount(page_mib);
}

static NetdevKind host_netdev_kind(void *self, const char *name) {
        return host_netdev(HOST_NETDEVS, name);
}

static int host_first(void *self) {
        SystemHost *host = self;

        return boot_mark_first(host->boot);
}

static int host_look(void *self, PciAddress address, DeviceFacts **ret) {
        SystemHost *host = self;
        g_autoptr(DeviceFacts) facts = NULL;
        int kept, r = pci_facts_read(address, &facts);

        kept = r < 0 ? r : gpu_policy_keeps(host->policy, address);
        look_again_note(host->again, address, LOOK_AT_DEVICE, kept == -ENODEV ? 0 : kept);
        if (kept < 0)
                return kept;

        g_free(facts->vendor_name);
        g_free(facts->model_name);
        device_monitor_names(host->monitor, &facts->function, &facts->vendor_name,
                             &facts->model_name);
        facts->kept = kept > 0;
        *ret = g_steal_pointer(&facts);
        return 0;
}

static void host_look_later(void *self, PciAddress address, bool wanted) {
        SystemHost *host = self;

        look_again_note(host->retries, address, LOOK_TO_RETRY, wanted ? -EBUSY : 0);
}

static void host_read_link(void *self, PciAddress address) {
        SystemHost *host = self;

        if (host->events)
                surveys_read_link(host->surveys, address, host->events, host->userdata);
}

static int host_handover(void *self, HandoverDirection direction, const CardRecord *record) {
        SystemHost *host = self;

        if (!host->events)
                return -ENOTCONN;
        return handovers_start(host->handovers, direction, record);
}

static bool host_handing_over(void *self, PciAddress card) {
        SystemHost *host = self;

        return handovers_running(host->handovers, card);
}

static int host_ledger_write(void *self, const CardRecord *record) {
        SystemHost *host = self;
        int r = ledger_write(host->ledger, record);

        look_again_note(host->again, record->card, LOOK_AT_RECORD, r);
        return r;
}

static int host_ledger_remove(void *self, PciAddress card) {
        SystemHost *host = self;

        return ledger_remove(host->ledger, card);
}

static int host_ledger_read(void *self, PciAddress card, CardRecord **ret) {
        SystemHost *host = self;
        int r = ledger_read(host->ledger, card, ret);

        look_again_note(host->again, card, LOOK_AT_RECORD, r);
        return r;
}

static int host_ledger_list(void *self, GArray **ret) {
        SystemHost *host = self;

        return ledger_list(host->ledger, ret);
}

static int host_ledger_set_aside(void *self, PciAddress card) {
        SystemHost *host = self;
        int r = ledger_set_aside(host->ledger, card);

        look_again_note(host->again, card, LOOK_AT_RECORD, r);
        return r;
}

static void host_survey(void *self, const SurveyQuestion *question, SurveyDone done,
                        void *userdata) {
        SystemHost *host = self;

        surveys_ask(host->surveys, question, done, userdata);
}

static uint64_t host_watch_process(void *self, int pidfd, void (*died)(void *userdata),
                                   void *userdata) {
        SystemHost *host = self;

        return process_watches_add(host->watches, pidfd, died, userdata);
}

static void host_unwatch_process(void *self, uint64_t ticket) {
        SystemHost *host = self;

        process_watches_remove(host->watches, ticket);
}

static const HostOps host_ops = {
        .facts = host_facts,
        .netdev = host_netdev_kind,
        .hugepages_mount = host_find_hugepages,
        .first_since_boot = host_first,
        .look = host_look,
        .look_later = host_look_later,
        .read_link = host_read_link,
        .handover = host_handover,
        .handing_over = host_handing_over,
        .ledger_write = host_ledger_write,
        .ledger_remove = host_ledger_remove,
        .ledger_read = host_ledger_read,
        .ledger_list = host_ledger_list,
        .ledger_set_aside = host_ledger_set_aside,
        .survey = host_survey,
        .watch_process = host_watch_process,
        .unwatch_process = host_unwatch_process,
};

static void host_look_again(void *userdata, PciAddress address) {
        SystemHost *host = userdata;

        if (host->events)
                host->events->device_changed(host->userdata, address);
}

static void host_retry(void *userdata, PciAddress address) {
        SystemHost *host = userdata;

        if (host->events)
                host->events->retry_due(host->userdata, address);
}

static void host_boot_told(void *userdata) {
        SystemHost *host = userdata;

        if (host->events)
                host->events->boot_told(host->userdata);
}

int system_host_new(sd_event *event, const HostConfig *config, SystemHost **ret) {
        g_autoptr(SystemHost) host = g_new0(SystemHost, 1);
        const char *state_dir = config->state_dir ?: STATE_DIR;
        g_autofree char *handover = g_build_filename(config->helper_dir, "feos-vm-handover", NULL);
        g_autofree char *survey = g_build_filename(config->helper_dir, "feos-vm-survey", NULL);
        int r = ledger_open(state_dir, &host->ledger);

        if (r < 0) {
                sd_journal_print(LOG_ERR, "cannot open %s: %s", state_dir, g_strerror(-r));
                return r;
        }

        r = device_monitor_new(event, &host->monitor);
        if (r >= 0)
                r = look_again_new(event, host_look_again, host, &host->again);
        if (r >= 0)
                r = look_again_new(event, host_retry, host, &host->retries);
        if (r >= 0)
                r = boot_mark_new(event, state_dir, host_boot_told, host, &host->boot);
        if (r < 0)
                return r;

        host->handovers = handovers_new(event, handover, state_dir, config->handover_timeout_sec);
        host->surveys =
                surveys_new(event, survey, config->image_directories, config->block_devices);
        host->watches = process_watches_new(event);
        host->policy = gpu_policy_new(UDEV_DATA);
        gpu_policy_set(host->policy, config->kept_gpus);
        *ret = g_steal_pointer(&host);
        return 0;
}

void system_host_configure(SystemHost *host, const HostConfig *config) {
        handovers_set_timeout(host->handovers, config->handover_timeout_sec);
        surveys_allow(host->surveys, config->image_directories, config->block_devices);
        gpu_policy_set(host->policy, config->kept_gpus);
        /* One that fails tries again by itself. */
        if (host->events)
                (void)device_monitor_list(host->monitor);
}

void system_host_free(SystemHost *host) {
        if (!host)
                return;

        boot_mark_free(host->boot);
        look_again_free(host->again);
        look_again_free(host->retries);
        gpu_policy_free(host->policy);
        process_watches_free(host->watches);
        surveys_free(host->surveys);
        handovers_free(host->handovers);
        device_monitor_free(host->monitor);
        ledger_close(host->ledger);
        g_free(host);
}

Host system_host_seam(SystemHost *host) {
        return (Host){ .ops = &host_ops, .self = host };
}

int system_host_begin(SystemHost *host, const HostEvents *events, void *userdata) {
        host->events = events;
        host->userdata = userdata;
        handovers_set_events(host->handovers, events, userdata);
        return device_monitor_begin(host->monitor, events, userdata);
}
