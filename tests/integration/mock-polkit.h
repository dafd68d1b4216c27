/* A polkitd that answers what the test tells it to. */
#pragma once

#include "private-bus.h"

typedef enum MockVerdict {
        MOCK_YES,
        MOCK_NO,
        MOCK_CHALLENGE, /* not authorised, a password would do */
        MOCK_JUNK,      /* a reply of another type */
        MOCK_ERROR,
        MOCK_SILENT, /* no reply, until mock_polkit_answer() */
} MockVerdict;

typedef struct MockPolkit {
        sd_bus *bus;
        MockVerdict verdict;
        GPtrArray *held; /* sd_bus_message: silent's questions */

        /* The last question. */
        unsigned asked;
        bool was_asked;
        char *subject_kind;
        char *subject_name;
        char *action;
        GHashTable *details;
        uint32_t flags;
        char *cancellation;

        /* The last question withdrawn. */
        bool was_cancelled;
        char *cancelled;
} MockPolkit;

MockPolkit *mock_polkit_new(PrivateBus *bus);
void mock_polkit_free(MockPolkit *self);

/* Answers every question held. */
void mock_polkit_answer(MockPolkit *self, MockVerdict verdict);
