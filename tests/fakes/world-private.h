/* What the world's files share. Nobody else includes this. */
#pragma once

#include "world.h"

/* --- world.c --- */

typedef void (*TodoRun)(World *world, void *data);

/* Puts an event at the end of what is left to happen; one that @survives is libvirt's own work, not
 * the daemon's. */
void world_later(World *world, TodoRun run, void *data, GDestroyNotify free_data, bool survives);

/* The address that is written so. */
PciAddress world_address(const char *address);

/* Whether world_mark() has put the address on the list. */
bool world_is_marked(const GArray *list, PciAddress address);

/* --- world-host.c --- */

/* The function there, NULL when there is none. */
WorldFunction *world_function_at(World *world, PciAddress address);

/* Whether a QEMU has a device of the IOMMU group open. */
bool world_group_is_held(World *world, int group);

/* Whether it is kept awake and out of D3cold. */
bool world_function_is_awake(const WorldFunction *function);

/* Writes an attribute of FunctionPower: "" leaves it, and what is not there stays so. */
void world_power_set(char *attribute, const char *value);

/* Drivers let their device sleep when they probe it, vfio-pci too, which forbids it when it lets
 * go. */
void world_function_set_driver(WorldFunction *function, const char *driver);

/* An event: the domain's QEMU has died, and who watches it is told. */
void world_process_died(World *world, void *domain);

/* --- world-handover.c: two of the host's operations --- */

/* Sends a helper to the card. */
int world_handover(void *self, HandoverDirection direction, const CardRecord *record);

/* Whether a helper is at the card. */
bool world_handing_over(void *self, PciAddress card);

/* --- world-hypervisor.c --- */

/* Whether its QEMU has the device open; libvirt may list another that was there before. */
bool world_domain_holds(const WorldDomain *domain, PciAddress address);

/* Frees a WorldDomain. */
void world_domain_free(void *data);
