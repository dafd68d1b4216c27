/* Arguments, signals, the loop; wires the rooms together and holds no logic of its own. */
#include "autoptr-bus.h"
#include "bus.h"
#include "config.h"
#include "core/manager.h"
#include "host/host.h"
#include "hypervisor/libvirt.h"
#include "version.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

/* How long the name may wait for libvirt to say which domains there are. Callers who were first
 * shown cards as free that a running machine has would be misled; but a service that never comes
 * because libvirt does not is worse. D-Bus gives an activated service 25 s. */
#define NAME_WAITS_USEC (20 * UINT64_C(1000000))

/* When systemd could not be told. */
#define NOTIFY_AGAIN_USEC UINT64_C(1000000)

typedef struct Daemon {
        Config **config; /* main's own; replaced by a reload */
        SystemHost *host;
        Manager *manager;
        Bus *bus;
        bool named; /* it has its name on the bus */
        bool ready; /* and systemd has been told */
        sd_event_source *wake;
        uint64_t give_up; /* monotonic, usec */
} Daemon;

/* What systemd calls a configuration that is wrong (systemd.exec(7)): trying again cures nothing.
 */
#define EXIT_CONFIG 78

static char *arg_config = NULL;
static char *arg_state_dir = NULL;
static char *arg_helper_dir = NULL;
static gboolean arg_check_config = FALSE;
static gboolean arg_version = FALSE;

static const GOptionEntry entries[] = {
        { "config", 0, 0, G_OPTION_ARG_FILENAME, &arg_config,
          "Read this file and the drop-ins in FILE.d (default: " SYSCONFDIR "/feos/vmd.conf, and "
          "vmd.conf.d beside it, in /run/feos and in " VENDORCONFDIR "/feos)",
          "FILE" },
        { "check-config", 0, 0, G_OPTION_ARG_NONE, &arg_check_config,
          "Print the configuration in use, or what is wrong with it, and exit", NULL },
        { "state-dir", 0, 0, G_OPTION_ARG_FILENAME, &arg_state_dir,
          "Keep the ledger here (default: /run/feos-vmd)", "DIR" },
        { "helper-dir", 0, 0, G_OPTION_ARG_FILENAME, &arg_helper_dir,
          "Take the helpers from here (default: " PKGLIBEXECDIR ")", "DIR" },
        { "version", 0, 0, G_OPTION_ARG_NONE, &arg_version, "Print the version and exit", NULL },
        { NULL },
};

static int parse_arguments(int *argc, char ***argv) {
        g_autoptr(GOptionContext) context = g_option_context_new(NULL);
        g_autoptr(GError) error = NULL;

        g_option_context_set_summary(
                context, "Boots virtual machines with the host's GPUs, over D-Bus: org.feos.VM1.");
        g_option_context_add_main_entries(context, entries, NULL);
        if (!g_option_context_parse(context, argc, argv, &error)) {
                fprintf(stderr, "feos-vmd: %s\n", error->message);
                return -EINVAL;
        }
        if (*argc > 1) {
                fprintf(stderr, "feos-vmd: there is no argument \"%s\"\n", (*argv)[1]);
                return -EINVAL;
        }
        return 0;
}

/* As config_read(), of the files that the arguments say. */
static int config_load(Config **ret, char **ret_why) {
        g_autofree char *beside = arg_config ? g_strconcat(arg_config, ".d", NULL) : NULL;
        const char *const given[] = { beside, NULL };
        static const char *const usual[] = { SYSCONFDIR "/feos/vmd.conf.d", "/run/feos/vmd.conf.d",
                                             VENDORCONFDIR "/feos/vmd.conf.d", NULL };

        if (arg_config && access(arg_config, F_OK) < 0 && errno == ENOENT) {
                *ret_why = g_strdup_printf("%s: there is no such file", arg_config);
                return -ENOENT;
        }
        return config_read(arg_config ?: SYSCONFDIR "/feos/vmd.conf", arg_config ? given : usual,
                           ret, ret_why);
}

static void log_lines(const char *text) {
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

        for (char **line = lines; *line; line++)
                sd_journal_print(LOG_ERR, "%s", *line);
}

static HostConfig host_config(const Config *config) {
        return (HostConfig){
                .state_dir = arg_state_dir,
                .helper_dir = arg_helper_dir ?: PKGLIBEXECDIR,
                .handover_timeout_sec = config->handover_timeout_sec,
                .image_directories = config->image_directories,
                .block_devices = config->block_devices,
                .kept_gpus = config->kept_gpus,
        };
}

static BusConfig bus_config(const Config *config) {
        return (BusConfig){
                .version = VERSION,
                .image_directories = (const char *const *)config->image_directories,
                .pending_per_user = config->pending_per_user,
        };
}

static uint64_t now_usec(sd_event *event) {
        uint64_t now = 0;

        sd_event_now(event, CLOCK_MONOTONIC, &now);
        return now;
}

/* systemd would wait for its word, and then start us anew. */
static void daemon_wake_later(Daemon *daemon) {
        sd_event_source_set_time_relative(daemon->wake, NOTIFY_AGAIN_USEC);
        sd_event_source_set_enabled(daemon->wake, SD_EVENT_ONESHOT);
}

/* After every turn of the loop, until it is time: take the name and say that we are ready. */
static int daemon_show(sd_event_source *source, void *userdata) {
        Daemon *daemon = userdata;
        int r;

        if (!manager_has_looked(daemon->manager) &&
            now_usec(sd_event_source_get_event(source)) < daemon->give_up)
                return 0;
        r = daemon->named ? 0 : bus_take_name(daemon->bus);
        if (r < 0) {
                sd_journal_print(LOG_ERR, "The bus name org.feos.VM1 could not be taken: %s",
                                 g_strerror(-r));
                return sd_event_exit(sd_event_source_get_event(source), EXIT_FAILURE);
        }
        daemon->named = true;
        daemon->ready = sd_notify(0, "READY=1") >= 0;
        if (daemon->ready)
                sd_event_source_set_enabled(source, SD_EVENT_OFF);
        else
                daemon_wake_later(daemon);
        return 0;
}

/* Takes a new configuration, but for what is fixed while the service runs. */
static void daemon_take_config(Daemon *daemon, Config *config) {
        const char *uri = (*daemon->config)->hypervisor_uri;
        HostConfig for_host;
        BusConfig for_bus;

        if (!g_str_equal(config->hypervisor_uri, uri)) {
                sd_journal_print(
                        LOG_WARNING,
                        "[Hypervisor] URI=%s takes effect when the service restarts; until then "
                        "it is %s.",
                        config->hypervisor_uri, uri);
                g_free(config->hypervisor_uri);
                config->hypervisor_uri = g_strdup(uri);
        }
        config_free(*daemon->config);
        *daemon->config = config;
        for_host = host_config(config);
        for_bus = bus_config(config);
        system_host_configure(daemon->host, &for_host);
        bus_configure(daemon->bus, &for_bus);
}

static int daemon_reload(sd_event_source *source, const struct signalfd_siginfo *signal,
                         void *userdata) {
        Daemon *daemon = userdata;
        g_autofree char *why = NULL;
        Config *config = NULL;

        if (daemon->ready)
                sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" G_GINT64_FORMAT,
                           g_get_monotonic_time());
        if (config_load(&config, &why) >= 0)
                daemon_take_config(daemon, config);
        else {
                log_lines(why);
                sd_journal_print(LOG_ERR, "The new configuration is wrong; the old one is kept.");
        }
        if (daemon->ready)
                sd_notifyf(0, "READY=1\nSTATUS=%s",
                           why ? "The configuration is wrong; an older one is in use." : "");
        return 0;
}

/* Only wakes the loop, so that daemon_show() looks at the clock. */
static int daemon_wake(sd_event_source *source, uint64_t usec, void *userdata) {
        return 0;
}

static int daemon_run(sd_event *event, Config **config) {
        g_autoptr(SystemHost) host = NULL;
        g_autoptr(Libvirt) libvirt = NULL;
        g_autoptr(Manager) manager = NULL;
        g_autoptr(Bus) bus = NULL;
        g_autoptr(sd_event_source) post = NULL, wake = NULL, reload = NULL;
        HostConfig for_host = host_config(*config);
        BusConfig for_bus = bus_config(*config);
        Daemon daemon;
        int r;

        r = system_host_new(event, &for_host, &host);
        if (r < 0)
                return r;
        r = libvirt_new(event, (*config)->hypervisor_uri, &libvirt);
        if (r < 0)
                return r;
        manager = manager_new(system_host_seam(host), libvirt_seam(libvirt));
        r = bus_new(event, manager, &for_bus, &bus);
        if (r < 0)
                return r;

        daemon = (Daemon){ .config = config,
                           .host = host,
                           .manager = manager,
                           .bus = bus,
                           .give_up = now_usec(event) + NAME_WAITS_USEC };
        r = sd_event_add_signal(event, &reload, SIGHUP, daemon_reload, &daemon);
        if (r >= 0)
                r = sd_event_add_post(event, &post, daemon_show, &daemon);
        if (r >= 0)
                r = sd_event_add_time(event, &wake, CLOCK_MONOTONIC, daemon.give_up, 0, daemon_wake,
                                      NULL);
        daemon.wake = wake;
        if (r < 0)
                return r;
        r = system_host_begin(host, manager_host_events(), manager);
        if (r >= 0)
                r = libvirt_begin(libvirt, manager_hypervisor_events(), manager);
        if (r < 0)
                return r;
        r = sd_event_loop(event);
        sd_notify(0, "STOPPING=1");
        return r;
}

static int daemon_prepare(sd_event **ret) {
        g_autoptr(sd_event) event = NULL;
        sigset_t signals;
        int r;

        sigemptyset(&signals);
        sigaddset(&signals, SIGHUP);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        signal(SIGPIPE, SIG_IGN); /* a helper that died is seen by its exit */

        r = sd_event_default(&event);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
        if (r >= 0)
                r = sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
        if (r >= 0)
                r = sd_event_set_watchdog(event, true);
        if (r < 0)
                return r;
        *ret = g_steal_pointer(&event);
        return 0;
}

int main(int argc, char *argv[]) {
        g_autoptr(sd_event) event = NULL;
        g_autoptr(Config) config = NULL;
        g_autofree char *why = NULL;
        int r;

        if (parse_arguments(&argc, &argv) < 0)
                return 2;
        if (arg_version) {
                printf("feos-vmd %s\n", VERSION);
                return EXIT_SUCCESS;
        }
        r = config_load(&config, &why);
        if (r < 0) {
                if (!arg_check_config)
                        log_lines(why);
                fprintf(stderr, "%s\n", why);
                return arg_check_config || r == -EIO ? EXIT_FAILURE : EXIT_CONFIG;
        }
        if (arg_check_config) {
                g_autofree char *text = config_print(config);

                fputs(text, stdout);
                return EXIT_SUCCESS;
        }
        r = daemon_prepare(&event);
        if (r >= 0)
                r = daemon_run(event, &config);
        if (r < 0)
                sd_journal_print(LOG_ERR, "The service could not run: %s", g_strerror(-r));
        /* A worker may hang in a call to libvirt, and libraries' exit handlers would pull the
         * ground from under it. Everything that matters was freed and written before. */
        _exit(r < 0 ? EXIT_FAILURE : r);
}
