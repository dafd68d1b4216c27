/* What the host as a whole has to offer, besides its PCI devices. */
#pragma once

#include "core/host.h"

void host_facts_read(HostFacts *ret);

/* What kind of network interface the host has by the name @name; a name that no interface can have
 * is NETDEV_NONE. @folder: where the kernel shows them, HOST_NETDEVS but in tests. */
#define HOST_NETDEVS "/sys/class/net"
NetdevKind host_netdev(const char *folder, const char *name);

/* Whether no line of the text @mounts, as in /proc/mounts, mounts huge pages of @page_mib MiB. */
bool host_mounts_lack_hugepages(const char *mounts, unsigned page_mib);

/* The same of this host; false when that could not be read. */
bool host_hugepages_unmounted(unsigned page_mib);
