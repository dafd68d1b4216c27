# A machine starts with the card that it was made with, and not with another one that
# sits in its slot by then. The second card has an e1000e as its companion, one of the
# few devices of QEMU 7.2 that have a serial number; it is made of the MAC. No guest
# gets that one: QEMU has been seen to freeze when a second one of it was passed
# through in the same place.
# timeout: 500
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
check "every card is home" cards_are_home

companion=${GPU_HOTPLUG%.0}.1
serial=52-54-00-ff-ff-00-00-0a
mac=52:54:00:00:00:0a
other_serial=52-54-00-ff-ff-00-00-0b
other_mac=52:54:00:00:00:0b

# Every function says that there are more: one that is plugged in gets its IOMMU group
# before the kernel has seen the others.
plug() { # DRIVER ADDR ID [MORE]
    local where="\"bus\":\"rp_hotplug\",\"addr\":\"$2\",\"multifunction\":\"on\""
    qmp device_add "{\"driver\":\"$1\",\"id\":\"$3\",$where${4-}}"
}
plug_nic() { plug e1000e "$1" "$2" ",\"mac\":\"$3\",\"romfile\":\"\""; }
plug_gpu() {
    check "a GPU is put in" plug secondary-vga 0.0 "$1"
    wait_until "it is one on the bus" 30 gpu_is "$GPU_HOTPLUG" host-bound
    wait_until "the host drives it" 10 driver_is "$GPU_HOTPLUG" bochs-drm
}
# plug_card NUMBER MAC: function 0 last, the kernel looks at the slot then.
plug_card() {
    check "a companion is put in" plug_nic 0.1 "nic_$1" "$2"
    plug_gpu "gpu_$1"
    wait_until "and its companion" 10 driver_is "$companion" e1000e
}
is_gone() { [[ ! -e /sys/bus/pci/devices/$1 ]]; }
gpu_is_gone() { ! gpu_get "$GPU_HOTPLUG" State; }
# pull ID: the whole slot is emptied by it.
pull() {
    check "$1 is pulled" qmp device_del "{\"id\":\"$1\"}"
    wait_until "its slot is empty" 30 is_gone "$GPU_HOTPLUG"
    wait_until "on all its functions" 10 is_gone "$companion"
    wait_until "and nobody has the GPU" 10 gpu_is_gone
}
# nothing_happened MACHINE STATE DRIVER...: of the slot's functions.
nothing_happened() {
    local machine=$1 state=$2 function=0 driver device ledger=(/run/feos-vmd/*.card)
    shift 2
    for driver; do
        device=${GPU_HOTPLUG%.0}.$((function++))
        driver_is "$device" "$driver" || return 1
        [[ $(< "/sys/bus/pci/devices/$device/driver_override") == '(null)' ]] || return 1
    done
    [[ ! -e ${ledger[0]} ]] && machine_is "$machine" "$state"
}

# --- A card, another one, and the first one put back ---

plug_gpu gpu_1
check "Create" create keeper "$GPU_HOTPLUG"
check "libvirt has the card's ids" bash -c \
    "virsh dumpxml keeper | grep 'function address=.$GPU_HOTPLUG. vendor=.0x1234. device=.0x1111.'"
guest_says keeper 'GUEST ready' 120
check "Shutdown" machine keeper Shutdown
wait_until "it is stopped" 60 machine_is keeper stopped
wait_until "the card is home" 30 nothing_happened keeper stopped bochs-drm
pull gpu_1
refused NoSuchGPU "Start with an empty slot" machine keeper Start
check "a network card is put in its place" plug_nic 0.0 nic_2 "$mac"
wait_until "the host drives it" 30 driver_is "$GPU_HOTPLUG" e1000e
refused_saying IdentityMismatch "1234:1111 .* $GPU_HOTPLUG.* 8086:10d3" \
    "Start with another card" machine keeper Start
check "nothing has happened" nothing_happened keeper stopped e1000e
pull nic_2
plug_gpu gpu_3
: > "$(guest_console keeper)"
check "Start with the card put back" machine keeper Start
guest_says keeper "GUEST drives .* ok" 120
guest_says keeper 'GUEST ready' 60
check "the GPU is attached" gpu_is "$GPU_HOTPLUG" attached
check "PowerOff" machine keeper PowerOff
wait_until "it is stopped" 30 machine_is keeper stopped
wait_until "the card is home" 30 nothing_happened keeper stopped bochs-drm
check "Delete" machine keeper Delete
pull gpu_3

# --- The same model, another one of it ---

plug_card 4 "$mac"
equal "the GPU has its companion" "1 \"$companion\"" "$(gpu_get "$GPU_HOTPLUG" Companions)\""
check "Create" create twin "$GPU_HOTPLUG" start b false
check "libvirt has the companion's serial number" bash -c \
    "virsh dumpxml twin | grep 'function address=.$companion. .*serial=.$serial.'"
pull gpu_4
plug_gpu gpu_5
refused_saying IdentityMismatch "$serial.* $companion.* no function of that card" \
    "Start with a card that lacks a companion" machine twin Start
check "nothing has happened" nothing_happened twin created bochs-drm
pull gpu_5
plug_card 6 "$other_mac"
refused_saying IdentityMismatch "$serial.* $companion.* $other_serial" \
    "Start with a card that has another serial number" machine twin Start
check "nothing has happened" nothing_happened twin created bochs-drm e1000e
systemctl restart feos-vmd
wait_until "a restarted daemon has libvirt" 60 machine_is twin created
refused_saying IdentityMismatch "$other_serial" "Start, asked of a restarted daemon" machine twin Start
check "Delete" machine twin Delete
pull gpu_6
check "every card is home" cards_are_home
check "no override is left" overrides_are_clean
