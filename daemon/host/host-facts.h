/* What the host as a whole has to offer, besides its PCI devices. */
#pragma once

#include "core/host.h"

void host_facts_read(HostFacts *ret);

/* What kind of network interface the host has by the name @name; a name that no interface can have
 * is NETDEV_NONE. @folder: where the kernel shows them, HOST_NETDEVS but in tests. */
#define HOST_NETDEVS "/sys/class/net"
NetdevKind host_netdev(const char *folder, const char *name);

/* How huge pages of @page_mib MiB are mounted, by the text @mounts, as in /proc/mounts. */
HugepagesMount host_mounts_find_hugepages(const char *mounts, unsigned page_mib);

/* The same of this host. */
HugepagesMount host_hugepages_mount(unsigned page_mib);
