/* The scene of the tests on what others do to cards: a host with a card of two functions and
 * another one, in a world in memory, and a diary of what its manager tells. What asserts fails the
 * test when it is not so. */
#pragma once

#include "caller.h"
#include "world.h"

#define CARD  "0000:01:00.0"
#define AUDIO "0000:01:00.1"
#define OTHER "0000:02:00.0"

/* What an observer has written down. */
typedef struct Diary {
        GString *drifts; /* "0000:01:00.0 bochs-drm>vfio-pci" and so on, a line each */
        GString *states; /* of CARD: "host-bound>vfio-bound (reason)", a line each */
        GString *losses; /* "box 0000:01:00.0", a line each */
        unsigned gpus_changed;
} Diary;

#define DIARY \
        { g_string_new(NULL), g_string_new(NULL), g_string_new(NULL), 0 }

void diary_clear(Diary *diary);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Diary, diary_clear)

/* Writes down what the manager tells from now on. */
void observe(World *world, Diary *diary);

/* Empties one of its texts. */
void forget(GString *written);

/* The host with a daemon that has looked around and is observed; world_free() is the caller's. */
World *scene(Diary *diary);

/* The address as the manager takes it. */
PciAddress at(const char *address);

/* What the manager says of the GPU, which has to be there. */
const Gpu *gpu_at(World *world, const char *address);

/* The GPU is at rest and in order, in this state, on this driver and shown so. */
void assert_gpu(World *world, const char *address, GpuState state, const char *driver);

/* Asks for a machine with one GPU or two; @other may be NULL. */
void create(World *world, const char *name, const char *gpu, const char *other, Caller *caller);

/* The machine "box" runs with both cards. */
void run_box(World *world);

/* Its guest has shut it down, and what follows has been done. */
void end_box(World *world);

/* Calls that method for CARD, and lets everything come to rest. */
void call_and_run(World *world,
                  void (*method)(Manager *manager, PciAddress address, ManagerDone done,
                                 void *userdata),
                  Caller *caller);

/* Bind of CARD, which succeeds. */
void bind_card(World *world);

/* Somebody else binds a function of CARD to that driver, and udev tells of it. */
void rebind(World *world, const char *address, const char *driver);
