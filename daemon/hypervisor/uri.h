/* What a libvirt URI says of where its domains are. Pure. */
#pragma once

#include <stdbool.h>

/* Whether @uri, as virConnectGetURI() tells it, leads to the QEMUs of this host that root's
 * libvirtd or virtqemud runs: qemu:///system in any spelling, over whatever UNIX socket. */
bool uri_is_of_this_host(const char *uri);
