/* The kernel's side as one thing: monitor, facts, handovers, ledger and surveys behind core's seam.
 */
#pragma once

#include "core/host.h"

#include <systemd/sd-event.h>

typedef struct SystemHost SystemHost;

/* All texts are copied. */
typedef struct HostConfig {
        const char
                *state_dir; /* ledger and locks; NULL = /run/feos-vmd. Made where it is missing */
        const char *helper_dir; /* where feos-vm-handover and feos-vm-survey lie */
        unsigned handover_timeout_sec;
        char **image_directories; /* where images may lie, absolute; NULL for none */
        char **block_devices;     /* absolute paths or globs; NULL for none */
        const GArray *kept_gpus;  /* PciAddress: kept for machines; NULL for none */
} HostConfig;

/* 0 and a new host, the caller's (system_host_free()), or a negative errno. It needs no signal to
 * be blocked, and watches nothing yet. */
int system_host_new(sd_event *event, const HostConfig *config, SystemHost **ret);

/* Takes what of @config can change while the host lives: all but the folders of state and helpers.
 * What is under way ends as it began. Every GPU is then told of, as if events had been lost. */
void system_host_configure(SystemHost *host, const HostConfig *config);

/* Helpers that are moving a card are left to finish it. Nobody is told anything any more. */
void system_host_free(SystemHost *host);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SystemHost, system_host_free)

/* What core is given; valid while the host is. Everything but handover and read_link may be called
 * before system_host_begin(). */
Host system_host_seam(SystemHost *host);

/* Begins to listen to udev and tells what is there, from within this call. @events must outlive the
 * host. 0 or a negative errno. */
int system_host_begin(SystemHost *host, const HostEvents *events, void *userdata);
