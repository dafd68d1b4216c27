/* In which order domains are looked at. A look takes time in another thread, and two looks at one
 * domain could overtake each other; so there is never more than one at a time per domain, and none
 * beside a listing of all domains. Pure: it starts nothing itself. */
#pragma once

#include <glib.h>

typedef struct Looks Looks;

typedef enum LookOutcome {
        LOOK_DELIVERED, /* the domain was seen, or is gone */
        LOOK_FAILED,    /* libvirt did not want to tell */
        LOOK_LOST,      /* there is no connection any more */
} LookOutcome;

typedef struct LooksOps {
        /* Starts a look; looks_looked() must follow, later. */
        void (*start_look)(void *self, const char *uuid);
        /* Starts a listing; looks_listed() must follow, later. */
        void (*start_list)(void *self);
        /* The look that @waiter waited for has come to an end. */
        void (*answer)(void *self, void *waiter, LookOutcome outcome);
        /* @waiter will not be answered: this is the end. */
        void (*drop)(void *waiter);
} LooksOps;

/* @ops and @self must outlive it. */
Looks *looks_new(const LooksOps *ops, void *self);
/* Drops all waiters. */
void looks_free(Looks *looks);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Looks, looks_free)

/* Wants a look that starts after this call. @waiter, unless NULL, is answered after exactly such a
 * look. The look may be started from within this call. */
void looks_want(Looks *looks, const char *uuid, void *waiter);
/* Wants a listing that starts after this call. */
void looks_want_list(Looks *looks);

/* The look at @uuid, or the listing, has ended, and what it found was delivered. Answers waiters
 * and starts what is wanted next. */
void looks_looked(Looks *looks, const char *uuid, LookOutcome outcome);
void looks_listed(Looks *looks);

/* The connection is lost: nothing is wanted and nothing under way any more; every waiter is
 * answered with LOOK_LOST. */
void looks_reset(Looks *looks);
