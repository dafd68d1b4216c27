/* The scene of the manager's tests: a host with three cards and a NIC in a world in memory, what is
 * asked of its manager, and what holds then. What asserts, and what returns something that has to
 * be there, fails the test when it is not so. */
#pragma once

#include "caller.h"
#include "world.h"

#define AUDIO_CARD "0000:01:00.0"
#define AUDIO      "0000:01:00.1"
#define OTHER_CARD "0000:02:00.0"
#define THIRD_CARD "0000:03:00.0"
#define NIC        "0000:05:00.0"

/* The world, in which no daemon has been started yet. */
World *scene(void);

/* The same with a daemon that has looked around. */
World *booted_scene(void);

/* The card with its companion is on vfio-pci already, where it may sleep. */
World *scene_with_a_kept_card(void);

/* A request that is in order, for a machine with these GPUs, up to NULL. */
Request *request_for(const char *name, ...);

/* The address as the manager takes it. */
PciAddress at(const char *address);

/* What the manager says of the GPU. */
const Gpu *gpu_at(World *world, const char *address);

/* Asks for the machine "box" with two cards, AUDIO_CARD and OTHER_CARD. */
void create_box(World *world, Caller *caller);

/* The machine runs, and its cards are attached. */
void run_box(World *world);

/* AUDIO_CARD's driver has not let go of it within the deadline, in a Bind or in a Create of "box",
 * and who asked for that has been told. */
void get_stuck(World *world, bool by_bind);

/* What the manager says of the GPU, which is at rest and in order, in this state. */
const Gpu *gpu_at_rest(World *world, const char *address, GpuState state);

/* gpu_at_rest(), and with this machine, "" = none. */
void assert_gpu(World *world, const char *address, GpuState state, const char *machine);

/* The function's power settings are these. */
void assert_power(World *world, const char *address, const char *d3cold_allowed,
                  const char *control);

/* Every function's power settings are those that the scene has begun with. */
void assert_power_is_as_before(World *world);

/* Both functions of AUDIO_CARD are kept awake. */
void assert_awake(World *world);

/* Every function is as the scene has begun with it, no card is recorded, and no helper is left. */
void assert_everything_home(World *world);

/* So is the card of scene_with_a_kept_card(). */
void assert_kept_card_is_as_before(World *world);

/* There is no "box", neither for the manager nor for libvirt. */
void assert_no_machine(World *world);
