# The lab itself, without the product: devices, groups and drivers are as the
# topology says, and a real guest drives two real GPUs passed through by VFIO.
# shellcheck shell=bash disable=SC2153 # addresses are the topology's

guest=selftest

# --- The host ---

# Drivers are bound by udev, as they come.
wait_until "bochs-drm drives the card with a companion" 20 driver_is "$GPU_AUDIO" bochs-drm
wait_until "snd_hda_intel drives its companion" 20 driver_is "$GPU_AUDIO_COMPANION" snd_hda_intel
wait_until "virtio-pci drives the virtio card" 20 driver_is "$GPU_VIRTIO" virtio-pci
wait_until "bochs-drm drives the third card" 20 driver_is "$GPU_THIRD" bochs-drm
wait_until "bochs-drm drives the boot display" 20 driver_is "$GPU_BOOT" bochs-drm
wait_until "e1000e drives the network card" 20 driver_is "$NIC" e1000e
equal "the boot display is the boot display" 1 "$(< "/sys/bus/pci/devices/$GPU_BOOT/boot_vga")"
equal "a card and its companion share a group" \
    "$GPU_AUDIO $GPU_AUDIO_COMPANION" "$(group_of "$GPU_AUDIO")"
for card in "$GPU_VIRTIO" "$GPU_THIRD" "$GPU_BOOT" "$NIC"; do
    equal "$card has a group of its own" "$card" "$(group_of "$card")"
done
check "a card behind a PCI bridge shares its group with a network card" \
    grep -q "$GPU_BAD_GROUP $NIC_BAD_GROUP" <<< "$(group_of "$GPU_BAD_GROUP")"

check "polkit answers" pkaction --action-id org.freedesktop.policykit.exec

# --- Two cards to a guest ---

modprobe vfio-pci
for card in "$GPU_AUDIO" "$GPU_AUDIO_COMPANION" "$GPU_VIRTIO"; do
    bind_to vfio-pci "$card"
    equal "$card is on vfio-pci" vfio-pci "$(driver_of "$card")"
done

mkdir -p "$(dirname "$(guest_console $guest)")"
# hostdev ADDRESS GUEST-BUS GUEST-FUNCTION MULTIFUNCTION
hostdev() {
    local domain bus slot function
    IFS=:. read -r domain bus slot function <<< "$1"
    cat << END
<hostdev mode='subsystem' type='pci' managed='no'>
  <source><address domain='0x$domain' bus='0x$bus' slot='0x$slot' function='0x$function'/></source>
  <address type='pci' bus='$2' slot='0' function='$3' multifunction='$4'/>
</hostdev>
END
}
cat > "/tmp/$guest.xml" << END
<domain type='kvm'>
  <name>$guest</name>
  <memory unit='MiB'>512</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>$IMAGES/vmlinuz</kernel>
    <initrd>$IMAGES/guest.img</initrd>
    <cmdline>$GUEST_CMDLINE</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='host-passthrough'/>
  <devices>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='pci' index='1' model='pcie-root-port'/>
    <controller type='pci' index='2' model='pcie-root-port'/>
    $(hostdev "$GPU_AUDIO" 1 0 on)
    $(hostdev "$GPU_AUDIO_COMPANION" 1 1 off)
    $(hostdev "$GPU_VIRTIO" 2 0 off)
    <serial type='pty'><log file='$(guest_console $guest)' append='on'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
END
check "virsh create" virsh create "/tmp/$guest.xml"
guest_says $guest 'GUEST ready' 90
for line in \
    'pci 0000:01:00.0 1234:1111 class 038000 driver bochs-drm' \
    'pci 0000:01:00.1 8086:293e class 040300 driver snd_hda_intel' \
    'pci 0000:02:00.0 1af4:1050 class 038000 driver virtio-pci' \
    'drives 0000:01:00.0 ok' \
    'drives 0000:02:00.0 ok' \
    'node /dev/dri/renderD128'; do
    check "guest says '$line'" grep -q "^GUEST $line" "$(guest_console $guest)"
done

# shellcheck disable=SC2016 # for the guest's shell
equal "the guest obeys its console" 42 "$(guest_do $guest 'echo $((6 * 7))')"

# --- And back ---

check "virsh shutdown" virsh shutdown $guest
wait_until "the power button ends the guest" 60 domain_is_gone $guest
for card in "$GPU_AUDIO" "$GPU_AUDIO_COMPANION" "$GPU_VIRTIO"; do
    equal "$card stays on vfio-pci" vfio-pci "$(driver_of "$card")"
    bind_to "" "$card"
done
wait_until "bochs-drm drives the first card again" 20 driver_is "$GPU_AUDIO" bochs-drm
wait_until "snd_hda_intel drives its companion again" 20 driver_is "$GPU_AUDIO_COMPANION" snd_hda_intel
wait_until "virtio-pci drives the virtio card again" 20 driver_is "$GPU_VIRTIO" virtio-pci
