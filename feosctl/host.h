/* The host as the service shows it, read whole. */
#pragma once

#include "ctl.h"

/* The service's properties, and in them "GPUs", ordered by address, and "Machines", ordered by
 * name: arrays of their properties, each with its "Path". NULL = complained. */
json_object *host_read(Ctl *ctl);

/* Adds "Holders" to those of @gpus that the host has and that no machine is to get, as far as the
 * caller may know them without a password. */
void host_read_holders(Ctl *ctl, json_object *gpus);

/* Adds "Holders" to one. False when the caller may not know. */
bool host_read_gpu_holders(Ctl *ctl, json_object *gpu);
