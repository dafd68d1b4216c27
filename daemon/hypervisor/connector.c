/* One link at a time, and the attempts to make it, each in a thread of its own. Every attempt has a
 * number; what is heard from an earlier one is stale and dropped. It knows nothing of what the link
 * is used for. */
#include "hypervisor/connector.h"

#include "hypervisor/timer.h"

#include <errno.h>
#include <systemd/sd-journal.h>

#define RETRY_MIN_SEC 1
#define RETRY_MAX_SEC 30

/* An attempt that takes longer is as good as one that failed; its answer still counts. */
#define PATIENCE_SEC 30

struct Connector {
        MainQueue *queue;
        const char *uri;
        const ConnectorOps *ops;
        void *self;

        Link *link;        /* NULL while not connected */
        uint64_t attempt;  /* the number of the latest */
        bool closed_early; /* lost before we heard that it was there */
        bool tried;
        bool told;   /* what is lost with this URI */
        bool asking; /* an attempt is under way */
        unsigned retry_sec;
        sd_event_source *timer;
        sd_event_source *patience;
};

/* An attempt to connect: filled by its thread, then read by the main one. */
typedef struct Attempt {
        Connector *connector; /* weak; main thread only, likewise below */
        MainQueue *queue;
        uint64_t number;
        char *uri;
        Link *link;  /* result, or */
        char *error; /* why not */
} Attempt;

/* Heard on libvirt's thread; also what its callbacks share, and then neither news nor UUID count.
 */
typedef struct Notice {
        Connector *connector;
        MainQueue *queue;
        uint64_t attempt;
        LinkNews news;
        char *uuid;
} Notice;

static void attempt_free(void *data) {
        Attempt *attempt = data;

        link_unref(attempt->link);
        main_queue_unref(attempt->queue);
        g_free(attempt->uri);
        g_free(attempt->error);
        g_free(attempt);
}

static void notice_free(void *data) {
        Notice *notice = data;

        main_queue_unref(notice->queue);
        g_free(notice->uuid);
        g_free(notice);
}

static void retry_later(Connector *self) {
        timer_arm(self->timer, self->retry_sec);
        self->retry_sec = MIN(self->retry_sec * 2, RETRY_MAX_SEC);
}

static void connection_lost(Connector *self) {
        sd_journal_print(LOG_WARNING, "The connection to libvirt at %s is lost.", self->uri);
        link_abandon(self->link);
        g_clear_pointer(&self->link, link_unref);
        retry_later(self);
        self->ops->lost(self->self);
}

static void notice_take(Connector *self, const Notice *notice) {
        switch (notice->news) {
        case LINK_LOST:
                if (self->link)
                        connection_lost(self);
                else
                        self->closed_early = true;
                return;
        case LINK_DOMAIN:
                if (self->link)
                        self->ops->domain_changed(self->self, notice->uuid);
                return;
        case LINK_NETWORKS:
                if (self->link)
                        self->ops->networks_changed(self->self);
                return;
        }
}

/* Main thread. */
static void on_notice(void *owner, void *data) {
        Notice *notice = data;

        if (notice->attempt == notice->connector->attempt)
                notice_take(notice->connector, notice);
        notice_free(notice);
}

static Notice *notice_new(Connector *connector, MainQueue *queue, uint64_t attempt, LinkNews news,
                          const char *uuid) {
        Notice *notice = g_new(Notice, 1);

        *notice = (Notice){
                .connector = connector,
                .queue = main_queue_ref(queue),
                .attempt = attempt,
                .news = news,
                .uuid = g_strdup(uuid),
        };
        return notice;
}

/* libvirt's thread. */
static void on_link_notify(void *userdata, LinkNews news, const char *uuid) {
        const Notice *shared = userdata;

        main_queue_post(shared->queue, on_notice,
                        notice_new(shared->connector, shared->queue, shared->attempt, news, uuid),
                        notice_free);
}

/* Once: the URI stays the same until the daemon ends. */
static void tell_what_is_lost(Connector *self) {
        const ConnectionFacts *facts = link_facts(self->link);

        if (facts->on_this_host || facts->test || self->told)
                return;
        self->told = true;
        sd_journal_print(
                LOG_WARNING,
                "libvirt at %s is not known to be this host's (qemu:///system): its machines get "
                "no GPU, no Ignition configuration and no folder for their console logs, and the "
                "service has only libvirt's word that one has ended.",
                self->uri);
}

/* Main thread. */
static void on_attempted(void *owner, void *data) {
        Attempt *attempt = data;
        Connector *self = attempt->connector;

        self->tried = true;
        self->asking = false;
        timer_disarm(self->patience);
        if (attempt->link && !self->closed_early) {
                self->link = g_steal_pointer(&attempt->link);
                self->retry_sec = RETRY_MIN_SEC;
                sd_journal_print(LOG_INFO, "Connected to libvirt %s at %s.",
                                 link_facts(self->link)->version, self->uri);
                tell_what_is_lost(self);
                self->ops->connected(self->self);
        } else {
                /* Once aloud; while it stays away there is nothing new to say. */
                sd_journal_print(self->retry_sec == RETRY_MIN_SEC ? LOG_WARNING : LOG_DEBUG,
                                 "Could not connect to libvirt at %s: %s", self->uri,
                                 attempt->error ?: "it went away at once");
                retry_later(self);
                self->ops->unreachable(self->self);
        }
        attempt_free(attempt);
}

/* A thread of its own: there is no deadline for a libvirtd that accepts and then says nothing. */
static void *attempt_run(void *data) {
        Attempt *attempt = data;
        Notice *shared =
                notice_new(attempt->connector, attempt->queue, attempt->number, LINK_LOST, NULL);

        attempt->link =
                link_open(attempt->uri, on_link_notify, shared, notice_free, &attempt->error);
        main_queue_post(attempt->queue, on_attempted, attempt, attempt_free);
        return NULL;
}

int connector_begin(Connector *self) {
        Attempt *attempt = g_new(Attempt, 1);
        GThread *thread;

        self->closed_early = false;
        *attempt = (Attempt){
                .connector = self,
                .queue = main_queue_ref(self->queue),
                .number = ++self->attempt,
                .uri = g_strdup(self->uri),
        };
        thread = g_thread_try_new("libvirt-connect", attempt_run, attempt, NULL);
        if (!thread) {
                attempt_free(attempt);
                return -EAGAIN;
        }
        g_thread_unref(thread);
        self->asking = true;
        timer_arm(self->patience, PATIENCE_SEC);
        return 0;
}

void connector_ask(Connector *self) {
        if (!self->link && !self->asking)
                timer_arm(self->timer, 0);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Connector *self = userdata;

        /* It may have been begun by name meanwhile. */
        if (self->link || self->asking)
                return 0;
        if (connector_begin(self) < 0) {
                retry_later(self);
                self->ops->unreachable(self->self);
        }
        return 0;
}

static int on_impatient(sd_event_source *source, uint64_t usec, void *userdata) {
        Connector *self = userdata;

        self->ops->unreachable(self->self);
        return 0;
}

int connector_new(sd_event *event, MainQueue *queue, const char *uri, const ConnectorOps *ops,
                  void *self, Connector **ret) {
        Connector *connector = g_new(Connector, 1);
        int r;

        *connector = (Connector){
                .queue = queue,
                .uri = uri,
                .ops = ops,
                .self = self,
                .retry_sec = RETRY_MIN_SEC,
        };
        r = timer_new(event, on_timer, connector, "libvirt-connect", &connector->timer);
        if (r >= 0)
                r = timer_new(event, on_impatient, connector, "libvirt-patience",
                              &connector->patience);
        if (r < 0) {
                connector_free(connector);
                return r;
        }
        *ret = connector;
        return 0;
}

void connector_free(Connector *self) {
        if (!self)
                return;
        sd_event_source_disable_unref(self->timer);
        sd_event_source_disable_unref(self->patience);
        if (self->link)
                link_abandon(self->link);
        link_unref(self->link);
        g_free(self);
}

Link *connector_link(Connector *self) {
        return self->link;
}

bool connector_has_tried(Connector *self) {
        return self->tried;
}

bool connector_is_asking(Connector *connector) {
        return connector->asking;
}
