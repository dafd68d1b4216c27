/* The seam to libvirt on the real library and its test driver, and what was last heard through it.
 * Nothing sleeps: the loop runs until what is awaited has happened, or a deadline passes. */
#pragma once

#include "hypervisor/libvirt.h"

/* A driver of its own for each connection, beginning with one running domain; and the one that all
 * connections of the process share. */
#define TEST_URI      "test://" GOLDEN_DIR "/libvirt-node.xml"
#define SHARED_URI    "test:///default"
#define TEST_DOMAIN   "6695eb01-f6a4-8304-79aa-97f2502e193f" /* "test", in both */
#define UUID          "5cba7a3e-0d4c-4b0e-9f4c-2c8a4f1f7d10"
#define OTHER_UUID    "5cba7a3e-0d4c-4b0e-9f4c-2c8a4f1f7d11"
#define SERIAL        "00-1b-21-ff-ff-12-34-56"
#define DEADLINE_USEC (30 * G_USEC_PER_SEC)

typedef struct Fixture {
        sd_event *event;
        Libvirt *libvirt;
        Hypervisor hypervisor;
        Request request;
        DomainSpec spec;

        unsigned n_connection_changed, n_listed, n_seen, n_gone, n_done, n_unreachable, n_overdue;
        GHashTable *domains; /* UUID -> DomainFacts as last told */
        GPtrArray *order;    /* what was called, words */
        Refusal *refusal;    /* of the last verb */
        char *xml;           /* that was told last */
        int fd;              /* of the last console */
} Fixture;

/* What begins the seam, with the fixture as userdata. */
extern const HypervisorEvents fixture_events;

/* Makes the seam to the libvirt at @uri, and a machine to define there. */
void fixture_open(Fixture *f, const char *uri);

/* Takes it all down, with whatever is under way. */
void fixture_close(Fixture *f);

/* Runs the loop until @counter, one of the fixture's, is at least @value. */
void await(Fixture *f, const unsigned *counter, unsigned value);

/* Begins, and runs the loop until all domains have been listed. */
void await_connected(Fixture *f);

/* Takes the answer of a verb, with the fixture as userdata. */
void on_done(void *userdata, const Refusal *refusal);

/* Asks for a verb and awaits its answer. */
void act(Fixture *f, HypervisorVerb verb, const char *uuid);

/* Defines the fixture's machine and awaits the answer. */
void define(Fixture *f);

/* Fails the test unless the last answer was a yes. */
void assert_done(Fixture *f);

/* Fails the test unless it was this refusal. */
void assert_refused(Fixture *f, RefusalCode code);

/* The domain as it was last told, NULL = there is none. */
const DomainFacts *domain(Fixture *f, const char *uuid);
