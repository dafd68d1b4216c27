# A machine starts with the card that it was made with, and not with another one that
# sits in its slot by then. The card has an e1000e as its companion, one of the few
# devices of QEMU 7.2 that have a serial number; it is made of the MAC.
# timeout: 500
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
check "every card is home" cards_are_home

companion=${GPU_HOTPLUG%.0}.1
serial=52-54-00-ff-ff-00-00-0a
mac=52:54:00:00:00:0a
other_mac=52:54:00:00:00:0b

# Every function says that there are more: one that is plugged in gets its IOMMU group
# before the kernel has seen the others.
plug() { # DRIVER ADDR ID [MORE]
    local where="\"bus\":\"rp_hotplug\",\"addr\":\"$2\",\"multifunction\":\"on\""
    qmp device_add "{\"driver\":\"$1\",\"id\":\"$3\",$where${4-}}"
}
plug_nic() { plug e1000e "$1" "$2" ",\"mac\":\"$3\",\"romfile\":\"\""; }
is_gone() { [[ ! -e /sys/bus/pci/devices/$1 ]]; }
# pull ID: the whole slot is emptied by it.
pull() {
    check "$1 is pulled" qmp device_del "{\"id\":\"$1\"}"
    wait_until "its slot is empty" 30 is_gone "$GPU_HOTPLUG"
    wait_until "on all its functions" 10 is_gone "$companion"
    wait_until "and nobody has the GPU" 10 gpu_is_gone
}
gpu_is_gone() { ! gpu_get "$GPU_HOTPLUG" State; }
# plug_card MAC NUMBER: function 0 last, the kernel looks at the slot then.
plug_card() {
    check "the companion is put in" plug_nic 0.1 "nic_$2" "$1"
    check "and with it the GPU" plug secondary-vga 0.0 "gpu_$2"
    wait_until "the card is a GPU" 30 gpu_is "$GPU_HOTPLUG" host-bound
    wait_until "the host drives it" 10 driver_is "$GPU_HOTPLUG" bochs-drm
    wait_until "and its companion" 10 driver_is "$companion" e1000e
}
# nothing_happened DRIVER...: of the slot's functions, as they were before a Start.
nothing_happened() {
    local function=0 driver device ledger=(/run/feos-vmd/*.card)
    for driver; do
        device=${GPU_HOTPLUG%.0}.$((function++))
        driver_is "$device" "$driver" || return 1
        [[ $(< "/sys/bus/pci/devices/$device/driver_override") == '(null)' ]] || return 1
    done
    [[ ! -e ${ledger[0]} ]] && machine_is twin stopped
}

# --- The card that it is made with ---

plug_card "$mac" 1
equal "the GPU has its companion" "1 \"$companion\"" "$(gpu_get "$GPU_HOTPLUG" Companions)\""
check "Create" create twin "$GPU_HOTPLUG"
check "libvirt has the GPU's ids" bash -c \
    "virsh dumpxml twin | grep 'function address=.$GPU_HOTPLUG. vendor=.0x1234. device=.0x1111.'"
check "and its companion's serial number" bash -c \
    "virsh dumpxml twin | grep 'function address=.$companion. .*serial=.$serial.'"
guest_says twin 'GUEST ready' 120
check "Shutdown" machine twin Shutdown
wait_until "it is stopped" 60 machine_is twin stopped
wait_until "its card is home" 30 gpu_is "$GPU_HOTPLUG" host-bound
wait_until "and the host drives it" 10 nothing_happened bochs-drm e1000e

# --- Another one, and none ---

pull gpu_1
refused NoSuchGPU "Start with an empty slot" machine twin Start
check "a network card is put in its place" plug_nic 0.0 nic_2 "$mac"
wait_until "the host drives it" 30 driver_is "$GPU_HOTPLUG" e1000e
refused_saying IdentityMismatch "1234:1111 .* $GPU_HOTPLUG.* 8086:10d3" \
    "Start with another card" machine twin Start
check "nothing has happened" nothing_happened e1000e
pull nic_2

# --- The same model, another one of it ---

plug_card "$other_mac" 3
refused_saying IdentityMismatch "$serial.* $companion.* 52-54-00-ff-ff-00-00-0b" \
    "Start with a card that has another serial number" machine twin Start
check "nothing has happened" nothing_happened bochs-drm e1000e
systemctl restart feos-vmd
wait_until "a restarted daemon has libvirt" 60 machine_is twin stopped
refused IdentityMismatch "Start, asked of a restarted daemon" machine twin Start
pull gpu_3

# --- Put back ---

plug_card "$mac" 4
check "Start with the card put back" machine twin Start
guest_says twin "GUEST drives .* ok" 120
guest_says twin 'GUEST ready' 60
check "the GPU is attached" gpu_is "$GPU_HOTPLUG" attached
check "PowerOff" machine twin PowerOff
wait_until "it is stopped" 30 machine_is twin stopped
wait_until "its card is home" 30 gpu_is "$GPU_HOTPLUG" host-bound
check "Delete" machine twin Delete
pull gpu_4
check "every card is home" cards_are_home
check "no override is left" overrides_are_clean
