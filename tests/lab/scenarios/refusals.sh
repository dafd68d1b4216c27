# Every bad request gets its own error, says why, and touches nothing.
# timeout: 400
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
check "every card is the host's" cards_are_home

# --- Addresses ---

refused InvalidAddress "a malformed address" create box "00:00"
refused NoSuchGPU "an unknown address" create box 0000:ff:00.0
refused NotAGPU "a network card's address" create box "$NIC"
refused NotAGPU "a companion's address" create box "$GPU_AUDIO_COMPANION"
refused InvalidOption "the same GPU twice" create box "$GPU_AUDIO $GPU_AUDIO"
refused InvalidOption "the same GPU twice, once short" create box "$GPU_AUDIO ${GPU_AUDIO#0000:}"
refused GroupNotViable "a group shared with a device on a host driver" create box "$GPU_BAD_GROUP"
refused BootDisplay "the boot display" create box "$GPU_BOOT"
refused NotAGPU "several GPUs of which one is none" create box "$GPU_AUDIO $GPU_VIRTIO $NIC"
refused InvalidAddress "GetGPU of a malformed address" vm1 GetGPU s gpu0
refused NoSuchGPU "GetGPU of an unknown address" vm1 GetGPU s 0000:ff:00.0
refused NotAGPU "GetGPU of a card's companion" vm1 GetGPU s "$GPU_AUDIO_COMPANION"
refused NoSuchMachine "GetMachine of an unknown name" vm1 GetMachine s nobody

# --- Names and options ---

refused InvalidName "a bad name" create "../box" "$GPU_AUDIO"
refused InvalidName "no name" create "" "$GPU_AUDIO"
refused InvalidOption "an unknown option" create box "$GPU_AUDIO" colour s red
refused InvalidOption "a wrong type" vm1 Create 'sasa{sv}' box 0 1 vcpus s two
refused InvalidOption "no vcpus" vm1 Create 'sasa{sv}' box 0 1 vcpus u 0
refused InvalidOption "no memory" vm1 Create 'sasa{sv}' box 0 1 memory-mib t 0
refused InvalidOption "more vcpus than the host has" vm1 Create 'sasa{sv}' box 0 1 vcpus u 1000
refused InvalidOption "more memory than the host has" \
    vm1 Create 'sasa{sv}' box 0 1 memory-mib t 1000000

# --- Images ---

echo secret > /etc/feos-secret
ln -s /etc/feos-secret $IMAGES/way-out.img
truncate -s 1M $IMAGES/disk.img
refused ImageNotFound "a missing image" vm1 Create 'sasa{sv}' box 0 1 image s missing.img
refused ImageNotAllowed "an image elsewhere" vm1 Create 'sasa{sv}' box 0 1 image s /etc/feos-secret
refused ImageNotAllowed "an image by symlink" vm1 Create 'sasa{sv}' box 0 1 image s way-out.img
refused ImageNotAllowed "an image by .." vm1 Create 'sasa{sv}' box 0 1 image s ../../../etc/feos-secret
refused ImageNotAllowed "a kernel elsewhere" vm1 Create 'sasa{sv}' box 0 1 kernel s /etc/feos-secret
refused ImageNotAllowed "a device" vm1 Create 'sasa{sv}' box 0 1 image s /dev/mem
check "Check names the same finding" grep -q '"error" "BootDisplay"' <<< "$(
    vm1 Check 'sasa{sv}' box 1 "$GPU_BOOT" 0)"
check "Check tells several findings at once" \
    grep -qE '"BootDisplay".*"NotAGPU".*"ImageNotFound"' <<< "$(
        vm1 Check 'sasa{sv}' box 2 "$GPU_BOOT" "$NIC" 1 image s missing.img)"

# --- Other people's GPUs and names ---

check "a machine with one card" create one "$GPU_THIRD"
refused GPUInUse "a GPU that another machine has" create box "$GPU_THIRD"
refused GPUInUse "to bind it" gpu "$GPU_THIRD" Bind
refused GPUInUse "to release it" gpu "$GPU_THIRD" Release
refused MachineExists "a name that is taken" create one "$GPU_AUDIO"
refused InvalidState "to start it again" machine one Start

check "Delete" machine one Delete

# --- A process that uses the GPU ---

card=$(basename /sys/bus/pci/devices/"$GPU_THIRD"/drm/card*)
exec {held}<> "/dev/dri/$card"
refused GPUBusy "a GPU that a process has open" create box "$GPU_THIRD"
check "ListHolders names the process and the node" \
    grep -q " $$ \"bash\" \"feos-lab-refusals.service\" \"/dev/dri/$card\"" <<< "$(gpu "$GPU_THIRD" ListHolders)"
exec {held}>&-

# --- A process that has the VFIO group of a card that nobody's machine has ---

check "Bind" gpu "$GPU_THIRD" Bind
exec {held}<> "/dev/vfio/$(basename "$(realpath "/sys/bus/pci/devices/$GPU_THIRD/iommu_group")")"
refused_saying GPUBusy "Process $$ \\(bash, .* has /dev/vfio/[0-9]+ open" "to release it" gpu "$GPU_THIRD" Release
check "it has no fault" gpu_is "$GPU_THIRD" vfio-bound
exec {held}>&-
check "Release, when the process has let go" gpu "$GPU_THIRD" Release

# --- libvirt refuses, libvirt is down ---

mount --bind /bin/false /usr/bin/qemu-system-x86_64
refused HypervisorFailed "libvirt refuses to define it" create box "$GPU_AUDIO $GPU_VIRTIO"
umount /usr/bin/qemu-system-x86_64
check "the cards are home when the error comes" cards_are_home
check "no machine is left" domain_is_gone box

refused ImageNotAllowed "what is no kernel" vm1 Create 'sasa{sv}' box 2 \
    "$GPU_AUDIO" "$GPU_VIRTIO" 4 firmware s bios memory-mib t 512 kernel s disk.img initrd s guest.img
check "the cards are home when the error comes" cards_are_home
# QEMU has the cards already when it finds that this does not fit into the guest's memory.
truncate -s 600M $IMAGES/large.img
refused HypervisorFailed "QEMU refuses to start it" vm1 Create 'sasa{sv}' box 2 \
    "$GPU_AUDIO" "$GPU_VIRTIO" 4 firmware s bios memory-mib t 512 kernel s vmlinuz initrd s large.img
check "the cards are home again when the error comes" cards_are_home
check "no override is left" overrides_are_clean
check "no machine is left of it" domain_is_gone box

check "a machine with one card" create one "$GPU_THIRD"
systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
wait_until "the service sees that libvirt is down" 30 \
    bash -c "busctl get-property org.feos.VM1 /org/feos/VM1 org.feos.VM1 HypervisorState | grep -q connecting"
refused HypervisorUnavailable "libvirt is down" create box "$GPU_AUDIO"
check "its GPU is still shown attached" gpu_is "$GPU_THIRD" attached
systemctl start libvirtd.socket libvirtd.service
wait_until "the service finds libvirt again" 60 \
    bash -c "busctl get-property org.feos.VM1 /org/feos/VM1 org.feos.VM1 HypervisorState | grep -q connected"
wait_until "the machine is there again" 30 machine_is one running
check "Delete" machine one Delete

# --- Nothing was touched ---

check "every card is the host's" cards_are_home
check "no override is left" overrides_are_clean
equal "no machine is left" "a(sssaso) 0" "$(vm1 ListMachines)"
