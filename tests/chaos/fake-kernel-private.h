/* What the fake kernel's files share. Nobody else includes this. */
#pragma once

#include "fake-kernel.h"

#include <umockdev.h>

#define VFIO_PCI "vfio-pci"

typedef struct Function {
        char *address;
        char *class;
        char *native;
        char *driver;   /* "" = none */
        char *override; /* "" = none */
        int group;
        bool present;
        bool sticks; /* to its host driver */
} Function;

struct FakeKernel {
        sd_event *event;
        FakeKernelHooks hooks;
        UMockdevTestbed *testbed;
        char *root;
        int fd;
        sd_event_source *source;
        GPtrArray *functions; /* Function */
        GPtrArray *clients;   /* of fake-kernel-clients.c */
        GHashTable *held;     /* groups that a QEMU has, as pointers */
        GPtrArray *log;
        GPtrArray *violations;
};

/* --- fake-kernel.c --- */

/* Where in the testbed that is. The caller's. */
char *fake_kernel_path(const FakeKernel *kernel, const char *path);
/* Lent; NULL = never was one. */
Function *fake_kernel_function(const FakeKernel *kernel, const char *address);

/* --- fake-kernel-clients.c --- */

void fake_kernel_listen(FakeKernel *kernel);
