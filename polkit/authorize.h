/* Who may do what: asks polkit, and counts what one user has under way. */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

typedef struct Authorizer Authorizer;

typedef struct AuthorizerConfig {
        unsigned pending_per_user; /* requests under way per user; 0 = 16 */
        /* How long polkit may think; 0 = 120 s where a person is asked, 25 s where not. */
        uint64_t timeout_usec;
} AuthorizerConfig;

/* What polkit's rules get to see besides the action: the first three, always given; "" = none. */
typedef struct AuthorizeDetails {
        const char *machine;
        const char *gpus; /* full addresses, sorted, comma-separated */
        const char *verb; /* the D-Bus method */
        /* Tells the thing itself from another that has come in its place under the same name while
         * polkit was asked: the answer is not for that one. */
        const char *instance;
} AuthorizeDetails;

/* A new authoriser for callers on @bus, which must be attached to an event loop. Keeps a reference
 * to the bus. NULL when the event loop takes no more sources. */
Authorizer *authorizer_new(sd_bus *bus, const AuthorizerConfig *config);

/* How many requests one user may have under way from now on; 0 = 16. Those that are go on. */
void authorizer_set_limit(Authorizer *self, unsigned pending_per_user);

/* Withdraws what polkit is still asked; the callers concerned get no answer from here. */
void authorizer_free(Authorizer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Authorizer, authorizer_free)

/* To be called by the handler of method call @m before it changes anything, and again each time
 * that the handler runs. With @action NULL everybody may, and the call is only counted.
 *
 * Returns 1 when the handler may go on; the call counts against *@ret_uid until
 * authorizer_release().
 *
 * Returns 0 when the question is under way. The handler returns 1 and is run again, with the same
 * message from its beginning. It looks everything up anew then: the world may have changed.
 *
 * Returns -EDQUOT, and leaves @error alone, when the caller has too many requests under way.
 *
 * Any other negative errno is a no: @error says why, and the handler returns the number.
 *
 * A caller who leaves the bus meanwhile is forgotten, and its handler does not run again. */
int authorize(Authorizer *self, sd_bus_message *m, const char *action,
              const AuthorizeDetails *details, uid_t *ret_uid, sd_bus_error *error);

/* A call for which authorize() returned 1 is over. */
void authorizer_release(Authorizer *self, uid_t uid);
