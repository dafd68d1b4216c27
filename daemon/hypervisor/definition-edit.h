/* Changes what a machine's definition says for the time of its start, and back. Pure: text in, text
 * out. It touches the functions of the machine's own cards and the path of its console's log, and
 * leaves whatever else somebody has written there. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* The functions (PciAddress) of the cards that our metadata names, of those that the definition has
 * as host devices. New array (g_array_unref()), empty also when @xml is no libvirt domain. */
GArray *definition_functions(const char *xml);

/* What libvirt is to start: the console's log is the machine's own, also after it was renamed or
 * cloned; with @managed its functions are managed ones, see domain-lend.h. Returns 1 and a new
 * definition (g_free()), 0 when @xml is that already, -EBADMSG when it is no libvirt domain. */
int definition_for_start(const char *xml, bool managed, char **ret);

/* What stays: no function is managed; with @started our metadata says that the first start has
 * happened. Returns as above; 0 unless a function was managed. */
int definition_at_rest(const char *xml, bool started, char **ret);

/* The files in folders beneath DOMAIN_CONSOLE_DIRECTORY into which its consoles' output goes. New
 * array of absolute paths (g_strfreev()), never NULL. */
char **definition_logs(const char *xml);
