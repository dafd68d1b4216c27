/* A bus daemon of the test's own, and callers of any user on it, all in one process and one loop.
 */
#pragma once

#include "autoptr-bus.h"

#include <stdbool.h>
#include <sys/types.h>

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(sd_bus_error, sd_bus_error_free)

/* Any user but root. */
#define SOMEBODY 65534

typedef struct PrivateBus PrivateBus;

/* Starts the daemon and makes it the system bus of this process. @policy is added to a policy that
 * allows everything; NULL = nothing. Ends the test when it cannot. */
PrivateBus *private_bus_new(const char *policy);
void private_bus_free(PrivateBus *self);

/* Owned by @self. */
sd_event *private_bus_event(PrivateBus *self);

/* Whether callers can be users of the test's choice; else each is whoever runs the test. */
bool private_bus_can_be_anybody(void);

/* A new connection of user @uid, attached to the loop. */
sd_bus *private_bus_connect(PrivateBus *self, uid_t uid);

/* Ends the daemon, as if it had crashed. */
void private_bus_kill(PrivateBus *self);

/* Runs the loop until *@flag; the test fails when that takes ten seconds. */
void private_bus_wait(PrivateBus *self, const bool *flag);

/* Runs the loop until what was sent from anybody on this loop has been received by the others. */
void private_bus_settle(PrivateBus *self);

/* What came back from one call. Zero it before; answer_clear() after. */
typedef struct Answer {
        bool there;
        sd_bus_message *reply; /* an error's too */
        char *error;           /* its name, NULL when all went well */
        char *text;
        sd_bus_slot *slot;
} Answer;

void answer_clear(Answer *answer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Answer, answer_clear)

/* Sends @m from @caller, which is released. The answer arrives while the loop runs. */
void answer_expect(Answer *answer, sd_bus *caller, sd_bus_message *m);
