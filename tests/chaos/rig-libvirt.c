/* A libvirtd of the rig's own, and the QEMUs that there would be: libvirt's test driver starts
 * none, so what one would hold is held here. */
#include "rig-private.h"

#include <fcntl.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Between libvirt's word that a domain is off and its QEMU letting go of the group. */
#define QEMU_LINGERS_USEC 5000

typedef struct Hold {
        char uuid[VIR_UUID_STRING_BUFLEN];
        int group;
        Rig *rig;                /* weak */
        sd_event_source *ending; /* NULL = its QEMU lives */
} Hold;

char *rig_libvirt_uri(const Rig *rig) {
        return g_strdup_printf("test+unix:///default?socket=%s/libvirt-sock", rig->dir);
}

static void libvirtd_start(Rig *rig) {
        g_autofree char *config = g_build_filename(rig->dir, "libvirtd.conf", NULL);
        g_autofree char *pid_file = g_build_filename(rig->dir, "libvirtd.pid", NULL);
        g_autofree char *log = g_strdup_printf("4:file:%s/libvirtd.log", rig->dir);
        g_autofree char *text = g_strdup_printf("unix_sock_dir = \"%s\"\nauth_unix_rw = \"none\"\n"
                                                "auth_unix_ro = \"none\"\n"
                                                "unix_sock_rw_perms = \"0777\"\n",
                                                rig->dir);
        char *argv[] = { (char *)"/usr/sbin/libvirtd", (char *)"--config", config,
                         (char *)"--pid-file",         pid_file,           NULL };
        g_auto(GStrv) environment = g_get_environ();

        g_assert_true(g_file_set_contents(config, text, -1, NULL));
        environment = g_environ_unsetenv(environment, "LD_PRELOAD");
        /* No driver that would look at this machine: what is left is the test driver. */
        environment = g_environ_setenv(environment, "LIBVIRT_DRIVER_DIR", rig->dir, TRUE);
        environment = g_environ_setenv(environment, "LIBVIRT_LOG_OUTPUTS", log, TRUE);
        rig->libvirtd = rig_program_start(rig, argv, environment);
        rig_ready_await(rig, rig->libvirtd, "libvirtd");
}

static void hold_free(void *data) {
        Hold *hold = data;

        sd_event_source_disable_unref(hold->ending);
        g_free(hold);
}

static Hold *hold_find(Rig *rig, const char *uuid) {
        for (guint i = 0; i < rig->holds->len; i++) {
                Hold *hold = g_ptr_array_index(rig->holds, i);

                if (g_str_equal(hold->uuid, uuid) && !hold->ending)
                        return hold;
        }
        return NULL;
}

static void groups_refresh(Rig *rig, int group) {
        bool held = false;

        for (guint i = 0; i < rig->holds->len; i++)
                held = held || ((Hold *)g_ptr_array_index(rig->holds, i))->group == group;
        fake_kernel_hold(rig->kernel, group, held);
}

static int on_qemu_gone(sd_event_source *source, uint64_t usec, void *userdata) {
        Hold *hold = userdata;
        Rig *rig = hold->rig;
        int group = hold->group;

        g_ptr_array_remove(rig->holds, hold);
        groups_refresh(rig, group);
        return 0;
}

bool rig_domain_has(virDomainPtr domain, const char *address) {
        unsigned bus, slot, function;
        g_autofree char *wanted = NULL;
        char *xml = virDomainGetXMLDesc(domain, 0);
        bool has;

        sscanf(address, "%*x:%x:%x.%x", &bus, &slot, &function);
        wanted = g_strdup_printf(
                "<address domain='0x0000' bus='0x%02x' slot='0x%02x' function='0x%x'/>", bus, slot,
                function);
        has = xml && strstr(xml, wanted);
        free(xml);
        return has;
}

void rig_violation(Rig *rig, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        g_ptr_array_add(fake_kernel_violations(rig->kernel), g_strdup_vprintf(format, arguments));
        va_end(arguments);
}

static void domain_started(Rig *rig, virDomainPtr domain, const char *uuid) {
        static const char *const cards[] = { GPU, OTHER };

        /* What libvirt told may have ended since. */
        if (virDomainIsActive(domain) != 1)
                return;
        for (size_t i = 0; i < G_N_ELEMENTS(cards); i++) {
                Hold *hold;

                if (!rig_domain_has(domain, cards[i]))
                        continue;
                if (strcmp(fake_kernel_driver(rig->kernel, cards[i]), "vfio-pci") != 0)
                        rig_violation(rig, "a machine was started with %s, which is on '%s'",
                                      cards[i], fake_kernel_driver(rig->kernel, cards[i]));
                hold = g_new0(Hold, 1);
                *hold = (Hold){ .group = fake_kernel_group(rig->kernel, cards[i]), .rig = rig };
                for (guint j = 0; j < rig->holds->len; j++) {
                        const Hold *other = g_ptr_array_index(rig->holds, j);

                        if (other->group == hold->group && !other->ending)
                                rig_violation(rig, "%s has two owners", cards[i]);
                }
                g_strlcpy(hold->uuid, uuid, sizeof hold->uuid);
                g_ptr_array_add(rig->holds, hold);
                groups_refresh(rig, hold->group);
        }
}

static void domain_stopped(Rig *rig, const char *uuid) {
        Hold *hold;

        while ((hold = hold_find(rig, uuid)))
                g_assert_cmpint(sd_event_add_time_relative(rig->event, &hold->ending,
                                                           CLOCK_MONOTONIC, QEMU_LINGERS_USEC, 1,
                                                           on_qemu_gone, hold),
                                >=, 0);
}

/* "+UUID" or "-UUID", from libvirt's thread. */
static int on_domain(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Rig *rig = userdata;
        char word[VIR_UUID_STRING_BUFLEN + 1];

        while (read(fd, word, sizeof word) == (ssize_t)sizeof word) {
                virDomainPtr domain = virDomainLookupByUUIDString(rig->libvirt, word + 1);

                if (word[0] == '-')
                        domain_stopped(rig, word + 1);
                else if (domain)
                        domain_started(rig, domain, word + 1);
                if (domain)
                        virDomainFree(domain);
        }
        return 0;
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
                        void *userdata) {
        Rig *rig = userdata;
        char word[VIR_UUID_STRING_BUFLEN + 1];

        if (event != VIR_DOMAIN_EVENT_STARTED && event != VIR_DOMAIN_EVENT_STOPPED)
                return 0;
        word[0] = event == VIR_DOMAIN_EVENT_STARTED ? '+' : '-';
        virDomainGetUUIDString(domain, word + 1);
        g_assert_cmpint(write(rig->domain_pipe[1], word, sizeof word), ==, sizeof word);
        return 0;
}

static void *libvirt_run(void *data) {
        for (;;)
                virEventRunDefaultImpl();
        return NULL;
}

static void on_libvirt_error(void *userdata, virErrorPtr error) {
        /* What fails is looked at where it was asked. */
}

static void libvirt_connect(Rig *rig) {
        static GThread *thread;
        g_autofree char *uri = rig_libvirt_uri(rig);

        if (!thread) {
                virSetErrorFunc(NULL, on_libvirt_error);
                g_assert_cmpint(virInitialize(), ==, 0);
                g_assert_cmpint(virEventRegisterDefaultImpl(), ==, 0);
                thread = g_thread_new("libvirt", libvirt_run, NULL);
        }
        g_assert_cmpint(pipe2(rig->domain_pipe, O_CLOEXEC | O_NONBLOCK), ==, 0);
        g_assert_cmpint(sd_event_add_io(rig->event, &rig->domains, rig->domain_pipe[0], EPOLLIN,
                                        on_domain, rig),
                        >=, 0);
        rig->libvirt = virConnectOpen(uri);
        g_assert_nonnull(rig->libvirt);
        g_assert_cmpint(virConnectDomainEventRegisterAny(
                                rig->libvirt, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                /* By way of a type that clang lets everything be cast to. */
                                (virConnectDomainEventGenericCallback)(void (*)(void))on_lifecycle,
                                rig, NULL),
                        >=, 0);
}

void rig_domains_walk(Rig *rig, void (*each)(virDomainPtr domain, void *userdata), void *userdata) {
        virDomainPtr *all = NULL;
        int n = virConnectListAllDomains(rig->libvirt, &all, 0);

        for (int i = 0; i < n; i++) {
                if (strcmp(virDomainGetName(all[i]), "test") != 0)
                        each(all[i], userdata);
                virDomainFree(all[i]);
        }
        free(all);
}

GPtrArray *rig_holds_new(void) {
        return g_ptr_array_new_with_free_func(hold_free);
}

void rig_libvirt_start(Rig *rig) {
        libvirtd_start(rig);
        libvirt_connect(rig);
}

static void domain_end(virDomainPtr domain, void *userdata) {
        (void)virDomainDestroy(domain);
}

void rig_end_machines(Rig *rig) {
        rig_domains_walk(rig, domain_end, NULL);
}
