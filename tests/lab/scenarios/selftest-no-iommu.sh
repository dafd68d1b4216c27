# Topology no-iommu: the same cards, and no group to pass any of them through.
# shellcheck shell=bash

wait_until "bochs-drm drives the card with a companion" 20 driver_is "$GPU_AUDIO" bochs-drm
wait_until "virtio-pci drives the virtio card" 20 driver_is "$GPU_VIRTIO" virtio-pci
for card in "$GPU_AUDIO" "$GPU_VIRTIO" "$GPU_THIRD" "$GPU_BOOT" "$NIC" "$GPU_BAD_GROUP"; do
    check "$card is there" test -e "/sys/bus/pci/devices/$card"
    equal "$card has no IOMMU group" "" "$(group_of "$card")"
done
