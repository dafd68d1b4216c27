/* Which GPUs the administrator keeps for machines: those that vmd.conf names, and those that a udev
 * rule has marked with FEOS_GPU_POLICY=vfio. */
#pragma once

#include "core/host.h"

typedef struct GpuPolicy GpuPolicy;

/* @udev_data is the folder of udev's database; copied. */
GpuPolicy *gpu_policy_new(const char *udev_data);
void gpu_policy_free(GpuPolicy *policy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GpuPolicy, gpu_policy_free)

/* @kept (PciAddress, copied; NULL = none) are the cards that vmd.conf names, by any function. */
void gpu_policy_set(GpuPolicy *policy, const GArray *kept);

/* Whether the GPU at @address is kept, as it is known now: 1, 0 or a negative errno. */
int gpu_policy_keeps(const GpuPolicy *policy, PciAddress address);
