/* One PCI function in sysfs, as the handover helper reads and writes it. It belongs to the helper's
 * program and not to the daemon: any of these may hang in the kernel for ever. */
#pragma once

#include "core/host.h"

#define VFIO_PCI "vfio-pci"

#define FUNCTION_NAME_BYTES 64

/* All take the function's @address as text, "0000:01:00.0". What cannot be read is a negative
 * errno: never taken for "none". */

/* The name of the driver that is bound, "" for none. 0 or a negative errno. */
int function_driver_read(const char *address, char ret[static FUNCTION_NAME_BYTES]);

/* Asks @driver, and no other, to let go. That it does not have the function any more is fine. 0 or
 * a negative errno. */
int function_driver_unbind(const char *address, const char *driver);

/* Has the kernel look for a driver until @wanted is bound; NULL: any host driver, or none where
 * none fits. Whether that is so in the end; it may take seconds. */
bool function_driver_probe(const char *address, const char *wanted);

/* Waits, a second or so at most, for a driver that goes on after its probe has returned and sets
 * power/control only then. */
void function_probe_await(const char *address);

/* A new string, "" when no override is set. 0 or a negative errno, -ENODEV when there is no such
 * function. */
int function_override_read(const char *address, char **ret);

/* 0 or a negative errno. */
int function_override_write(const char *address, const char *name);

/* How the function is kept powered now; "" for each attribute that it does not have. 0 or a
 * negative errno. */
int function_power_read(const char *address, FunctionPower *ret);

/* Wakes the function where it sleeps and keeps it awake and out of D3cold. @was is what
 * function_power_read() has told; an attribute that it has not read and that is there is an error.
 * To be said again after vfio-pci's probe. 0 or a negative errno. */
int function_power_hold(const char *address, const FunctionPower *was);

/* Puts back what function_power_read() has told, "" leaving an attribute as it is. To be done after
 * the last probe, in which drivers set their own. 0 or a negative errno. */
int function_power_restore(const char *address, const FunctionPower *was);

/* The number of its IOMMU group as text, "" for none. 0 or a negative errno. */
int function_group_read(const char *address, char ret[static FUNCTION_NAME_BYTES]);

typedef enum FunctionPresence {
        FUNCTION_ANSWERS,
        FUNCTION_SILENT, /* on the bus, but its configuration space reads as all ones */
        FUNCTION_GONE,
        FUNCTION_UNREADABLE, /* which of them could not be found out */
} FunctionPresence;

FunctionPresence function_ask(const char *address);
