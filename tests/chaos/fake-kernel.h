/* The part of Linux that gives PCI functions to drivers, on a umockdev testbed: a sysfs whose
 * driver_override, unbind, bind and drivers_probe react, VFIO groups that one may open at a time,
 * and uevents. What it answers stands in sequences.txt, to which the lab's scenario
 * "sequences" holds a real kernel. Attributes that it does not know are plain files.
 *
 * The process that has it runs under umockdev-wrapper; the programs that are to see it get
 * fake_kernel_environment(). */
#pragma once

#include "autoptr-bus.h"

#include <stdbool.h>

typedef struct FakeKernel FakeKernel;

typedef struct FakeKernelHooks {
        /* The function is on another driver now ("" = none), and its uevent not sent yet. */
        void (*moved)(void *userdata, const char *address, const char *driver);
        /* Takes the uevent, to send it (fake_kernel_send()) when it wants. */
        void (*uevent)(void *userdata, const char *address, const char *action);
        void *userdata;
} FakeKernelHooks;

FakeKernel *fake_kernel_new(sd_event *event, const FakeKernelHooks *hooks);
void fake_kernel_free(FakeKernel *kernel);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FakeKernel, fake_kernel_free)

/* What a program needs in its environment to see it: @shim is the preloaded library's path. The
 * caller's (g_strfreev()). */
char **fake_kernel_environment(FakeKernel *kernel, const char *shim);

/* A function of the host, on @driver, which is also what takes it without an override. */
void fake_kernel_add(FakeKernel *kernel, const char *address, const char *class, int group,
                     const char *driver);
/* Pulls it out, and plugs it in again. */
void fake_kernel_remove(FakeKernel *kernel, const char *address);
void fake_kernel_plug(FakeKernel *kernel, const char *address);

bool fake_kernel_is_there(FakeKernel *kernel, const char *address);
/* "" = none; lent. */
const char *fake_kernel_driver(FakeKernel *kernel, const char *address);
/* Of one that only keeps its value, d3cold_allowed or power/control. The caller's. */
char *fake_kernel_attribute(FakeKernel *kernel, const char *address, const char *name);
/* What power/control is then; constant. */
const char *fake_kernel_control_at_home(FakeKernel *kernel, const char *address);
const char *fake_kernel_native(FakeKernel *kernel, const char *address);
const char *fake_kernel_override(FakeKernel *kernel, const char *address);

/* As if somebody wrote @data to @path, which begins with /sys: 0 or a negative errno. */
int fake_kernel_write(FakeKernel *kernel, const char *path, const char *data);

/* The function's host driver does not let go of it until this is said again; who waits for that is
 * ended by no signal before. */
void fake_kernel_stick(FakeKernel *kernel, const char *address, bool sticks);

/* A QEMU has the group, or lets go of it. */
void fake_kernel_hold(FakeKernel *kernel, int group, bool held);
bool fake_kernel_is_held(const FakeKernel *kernel, int group);
int fake_kernel_group(FakeKernel *kernel, const char *address);
/* As a program that opens the group: 0 or a negative errno; it is closed again. */
int fake_kernel_try_group(FakeKernel *kernel, int group);

void fake_kernel_send(FakeKernel *kernel, const char *address, const char *action);
/* The listener learns that events were lost, before whatever is sent after this. */
void fake_kernel_overflow(FakeKernel *kernel);
/* Nobody listens any more on sockets that a killed program has left. */
void fake_kernel_forget_listeners(FakeKernel *kernel);

/* One line for each write that the helpers made, as sequences.txt has them, without the uevents;
 * lent. */
GPtrArray *fake_kernel_log(FakeKernel *kernel);
/* "DRIVER OVERRIDE" of the function, "-" for none. The caller's. */
char *fake_kernel_state(FakeKernel *kernel, const char *address);

/* What must never happen and did, a line each; lent. */
GPtrArray *fake_kernel_violations(FakeKernel *kernel);
