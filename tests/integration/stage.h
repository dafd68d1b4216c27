/* The whole service on a stage: the real manager on a world in memory, a bus daemon, a polkitd that
 * does as told, and callers of two users. Every function fails the test when something is not as it
 * says. */
#pragma once

#include "bus.h"
#include "mock-polkit.h"
#include "world.h"

#define VM1     "/org/feos/VM1"
#define GPU1    VM1 "/gpu/0000_01_00_0"
#define GPU2    VM1 "/gpu/0000_02_00_0"
#define MACHINE VM1 "/machine/vm_2d1"
#define ERROR   "org.feos.VM1.Error."
#define DBUS    "org.freedesktop.DBus."

typedef struct Stage {
        PrivateBus *private_bus;
        MockPolkit *polkit;
        World *world;
        sd_event_source *pump;
        bool paused; /* the world stands still */
        Bus *bus;
        sd_bus *root;
        sd_bus *somebody;
        GPtrArray *heard; /* one line per signal */
} Stage;

/* A host with a card of two functions, 01:00, and a GPU of one, 02:00. 0 = the default limit. */
Stage *stage_new(unsigned pending_per_user);
void stage_free(Stage *stage);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Stage, stage_free)

/* Runs the loop until @is says so; the test fails when that takes ten seconds. */
void stage_wait(Stage *stage, bool (*is)(const Stage *stage));

/* Where @line was heard first, which it must have been. */
guint heard_at(const Stage *stage, const char *line);

/* A call of the service, to be filled and given to answer_expect(). */
sd_bus_message *call_new(sd_bus *caller, const char *path, const char *interface,
                         const char *member);

/* A call without arguments, from beginning to end. */
void call(Stage *stage, sd_bus *caller, const char *path, const char *interface, const char *member,
          Answer *answer);

/* The same at the service itself with one string. */
void call_with(Stage *stage, const char *member, const char *text, Answer *answer);

/* Sends Create, or Check, with the GPUs 02 and 01 and one option. */
void request(Stage *stage, sd_bus *caller, const char *member, const char *name, const char *option,
             bool value, Answer *answer);

/* Create from beginning to end. */
void create(Stage *stage, sd_bus *caller, const char *name, Answer *answer);

void assert_path(const Answer *answer, const char *expected);
void assert_error(const Answer *answer, const char *name, const char *word);

/* A property of type s, read as anybody may; the caller frees it. */
char *text_property(Stage *stage, const char *path, const char *interface, const char *property);
void assert_text(Stage *stage, const char *path, const char *interface, const char *property,
                 const char *expected);

/* What polkit was asked last. */
void assert_asked(const Stage *stage, const char *action, const char *machine, const char *gpus,
                  const char *verb);
