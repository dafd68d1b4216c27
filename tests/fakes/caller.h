/* A caller of the manager that remembers its answer. */
#pragma once

#include "core/manager.h"

typedef struct Caller {
        unsigned answers;
        bool refused;
        RefusalCode code; /* meaningful when refused */
        char *message;
        char *id; /* of what was attached */
        int fd;   /* of a console */
} Caller;

/* Zero it before; these are what the manager calls, with the caller as userdata. */
void caller_done(void *userdata, const Refusal *refusal);
void caller_attached(void *userdata, const char *id, const Refusal *refusal);
void caller_console(void *userdata, int fd, const Refusal *refusal);
void caller_xml(void *userdata, const char *xml, const Refusal *refusal);
/* Refused: there is an error among the findings. */
void caller_checked(void *userdata, const GPtrArray *findings);

/* Fail the test unless there was exactly one answer and it was this; then forget it. */
void assert_done(Caller *caller);
void assert_refused(Caller *caller, RefusalCode code);

void caller_forget(Caller *caller);
