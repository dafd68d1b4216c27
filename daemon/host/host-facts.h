/* What the host as a whole has to offer, besides its PCI devices. */
#pragma once

#include "core/host.h"

void host_facts_read(HostFacts *ret);

/* What kind of network interface the host has by the name @name; a name that no interface can have
 * is NETDEV_NONE. */
NetdevKind host_netdev(const char *name);
