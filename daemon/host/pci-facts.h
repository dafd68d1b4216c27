/* What sysfs says of a PCI device, read in a way that cannot block. */
#pragma once

#include "core/host.h"

/* All of these return 0, or -ENODEV when there is no such device, or another negative errno when it
 * could not be read: then nothing is known, not even whether it is there. @ret is set only with 0;
 * a new array is the caller's. */

/* One function's facts; @ret is written in any case. */
int pci_facts_read_function(PciAddress address, PciFunction *ret);

/* All facts but the names, which stay "". New facts, the caller's (device_facts_free()). */
int pci_facts_read(PciAddress address, DeviceFacts **ret);

/* The functions that travel with the one at @address, itself among them: same slot and same IOMMU
 * group, by address. A new array of PciFunction. */
int pci_facts_read_card(PciAddress address, GArray **ret);

/* The GPUs (display controllers that are no virtual functions) in the slot of @address, and devices
 * that fail to say what they are (-EIO): a new array of PciAddress, empty where there are none. */
int pci_facts_read_slot_gpus(PciAddress address, GArray **ret);

/* All GPUs there are, likewise. */
int pci_facts_read_gpus(GArray **ret);

void pci_facts_read_host(HostFacts *ret);
