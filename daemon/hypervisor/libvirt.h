/* libvirt, as the hypervisor that core asks for. Everything is called on, and calls back on, the
 * thread that runs the sd_event loop; nothing blocks. libvirt's own calls are made in worker
 * threads. */
#pragma once

#include "core/hypervisor.h"

#include <systemd/sd-event.h>

typedef struct Libvirt Libvirt;

/* A hypervisor at the libvirt @uri, not yet connected. Returns 0 or a negative errno. From then on
 * the default GMainContext belongs to libvirt's event loop. */
int libvirt_new(sd_event *event, const char *uri, Libvirt **ret);

/* Begins to connect, and to connect again whenever that fails or ends. @events must outlive it. To
 * be called once. Returns 0 or a negative errno. */
int libvirt_begin(Libvirt *libvirt, const HypervisorEvents *events, void *userdata);

/* The seam, to be given to core; it lives as long as @libvirt. */
Hypervisor libvirt_seam(Libvirt *libvirt);

/* Does not wait for libvirt: a call that hangs is left behind with its thread. What was asked and
 * is not done is not answered any more. Not to be called from within a callback. */
void libvirt_free(Libvirt *libvirt);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Libvirt, libvirt_free)
