/* What the tests on others' doings have beside the manager's scene: a diary of what the manager
 * tells, and those doings. What asserts fails the test when it is not so. */
#pragma once

#include "manager-scene.h"

/* What an observer has written down. */
typedef struct Diary {
        GString *drifts; /* "0000:01:00.0 bochs-drm>vfio-pci" and so on, a line each */
        GString *states; /* of AUDIO_CARD: "host-bound>vfio-bound (reason)", a line each */
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

/* booted_scene(), observed from then on. */
World *observed_scene(Diary *diary);

/* gpu_at_rest(), on this driver and shown so. */
void assert_driven(World *world, const char *address, GpuState state, const char *driver);

/* The guest of "box" has shut it down, and what follows has been done. */
void end_box(World *world);

/* Calls that method for AUDIO_CARD, and lets everything come to rest. */
void call_and_run(World *world,
                  void (*method)(Manager *manager, PciAddress address, ManagerDone done,
                                 void *userdata),
                  Caller *caller);

/* Bind of AUDIO_CARD, which succeeds. */
void bind_card(World *world);

/* Somebody else binds a function of AUDIO_CARD to that driver, and udev tells of it. */
void rebind(World *world, const char *address, const char *driver);
