/* What sysfs says of a PCI device, read in a way that cannot block. */
#pragma once

#include "core/host.h"

/* One function's facts. 0, or -ENODEV when there is no such device (@ret is then undefined). */
int pci_facts_read_function(PciAddress address, PciFunction *ret);

/* All facts but the names, which stay "". Returns 0 and new facts, the caller's
 * (device_facts_free()), or -ENODEV when there is no such device. */
int pci_facts_read(PciAddress address, DeviceFacts **ret);

/* The functions that travel with the one at @address, itself among them: same slot and same IOMMU
 * group, by address. A new array of PciFunction, the caller's; empty when there is no such device.
 */
GArray *pci_facts_read_card(PciAddress address);

/* The GPUs (display controllers that are no virtual functions) in the slot of @address: a new array
 * of PciAddress, the caller's. */
GArray *pci_facts_read_slot_gpus(PciAddress address);

void pci_facts_read_host(HostFacts *ret);
