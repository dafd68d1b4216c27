# A host without an IOMMU: GPUs are shown, and refused with what to do about it.
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
equal "the IOMMU is off" false "$(property $VM1 org.feos.VM1 IOMMUEnabled)"
equal "a GPU has no group" -1 "$(gpu_get "$GPU_AUDIO" IOMMUGroup)"
refused NoIOMMU "a GPU without IOMMU group" create box "$GPU_AUDIO"
refused NoIOMMU "to bind it" gpu "$GPU_AUDIO" Bind
equal "it keeps its driver" bochs-drm "$(driver_of "$GPU_AUDIO")"
check "a machine without GPUs is welcome all the same" create plain ""
check "Delete" machine plain Delete
