/* Reads a libvirt URI as libvirt does: driver+transport://server/path?parameters (libvirt 9.0,
 * src/remote/remote_sockets.c, remoteSplitURIScheme()). */
#include "hypervisor/uri.h"

#include <glib.h>
#include <libxml/uri.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlURI, xmlFreeURI)

/* Without a server libvirt takes the UNIX socket by itself. The one that "socket" names is on this
 * host too; whether it is forwarded to another host shows in the process behind each domain. */
static bool is_local_qemu(const char *scheme) {
        return g_strcmp0(scheme, "qemu") == 0 || (scheme && g_str_has_prefix(scheme, "qemu+") &&
                                                  g_ascii_strcasecmp(scheme, "qemu+unix") == 0);
}

bool uri_is_of_this_host(const char *uri) {
        g_autoptr(xmlURI) parsed = xmlParseURI(uri);

        return parsed && is_local_qemu(parsed->scheme) && (!parsed->server || !parsed->server[0]) &&
               g_strcmp0(parsed->path, "/system") == 0;
}
