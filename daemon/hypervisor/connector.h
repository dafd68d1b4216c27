/* Keeps a link to libvirt: makes one, waits longer and longer while that fails, and makes a new one
 * when it is lost. Main thread. */
#pragma once

#include "hypervisor/link.h"
#include "hypervisor/main-queue.h"

#include <stdbool.h>
#include <systemd/sd-event.h>

typedef struct Connector Connector;

/* Never called from within a call to the connector. */
typedef struct ConnectorOps {
        void (*connected)(void *self);
        /* The link is abandoned and no longer the connector's. */
        void (*lost)(void *self);
        /* An attempt has failed, or has been under way for half a minute. */
        void (*unreachable)(void *self);
        /* The domain with @uuid may have changed; there may be other networks than before. Only
         * while connected. */
        void (*domain_changed)(void *self, const char *uuid);
        void (*networks_changed)(void *self);
} ConnectorOps;

/* @uri, @queue, @ops and @self must outlive it; @queue must be closed before it is freed. Returns 0
 * or a negative errno. */
int connector_new(sd_event *event, MainQueue *queue, const char *uri, const ConnectorOps *ops,
                  void *self, Connector **ret);
void connector_free(Connector *connector);

/* Begins the first attempt. Returns 0 or a negative errno. */
int connector_begin(Connector *connector);

/* Attempts it now rather than when it is due, unless there is a link or an attempt. */
void connector_ask(Connector *connector);

/* The link, lent; NULL while there is none. */
Link *connector_link(Connector *connector);

/* Whether an attempt has ended, well or not. */
bool connector_has_tried(Connector *connector);

/* Whether an attempt is under way. */
bool connector_is_asking(Connector *connector);
