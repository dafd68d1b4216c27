/* A machine that is to be written as libvirt XML, and what it can be given. */
#pragma once

#include "hypervisor/domain-xml.h"

#define UUID "5cba7a3e-0d4c-4b0e-9f4c-2c8a4f1f7d10"

typedef struct Fixture {
        Request request;
        DomainSpec spec;
} Fixture;

/* A test's setup and teardown: its state is a Fixture of a machine with nothing. */
int setup(void **state);
int teardown(void **state);

#define TEST(func) cmocka_unit_test_setup_teardown(func, setup, teardown)

/* Adds a card: the GPU, then its companions, up to NULL. */
G_GNUC_NULL_TERMINATED void add_card(Fixture *f, const char *gpu, ...);

/* A disk as a request asks for it, at @path, which is a block device's when it is in /dev. */
DeviceRequest *disk(const char *id, const char *path, ImageFormat format, bool read_only);

/* A network interface as a request asks for it; @mac NULL = any. */
DeviceRequest *nic(const char *id, NicType type, const char *source, const char *mac);

/* Everything that a machine can have. */
void fill(Fixture *f);

/* The XML of the machine as it is now. */
char *write_xml(Fixture *f);
