# All that can stand in the way of a handover, staged for real: Check tells it,
# Create refuses it, and neither changes anything. For the topology usb.
# timeout: 400
# shellcheck shell=bash disable=SC2153 # addresses are the topology's

# drivers: of every function of the card, and where they may go.
drivers() {
    local function
    for function in "$GPU_USB" "$GPU_USB_AUDIO" "$GPU_USB_CONTROLLER"; do
        echo "$(driver_of "$function") $(< "/sys/bus/pci/devices/$function/driver_override")"
    done
}

# check_of GPU [OPTION TYPE VALUE]...
check_of() {
    local gpu=$1
    shift
    vm1 Check 'sasa{sv}' box 1 "$gpu" $(($# / 3)) "$@"
}

# stands CODE REGEX DESCRIPTION GPU [OPTION TYPE VALUE]...: an error that Check tells
# and Create is refused with.
stands() {
    local code=$1 regex=$2 description=$3
    shift 3
    local said
    said=$(check_of "$@")
    check "Check tells $description" grep -qE "\"error\" \"$code\" \"[^\"]*\" \"$regex" <<< "$said"
    echo "#   $said"
    refused_saying "$code" "$regex" "$description" create box "$@"
}

# warns CODE REGEX DESCRIPTION GPU [OPTION TYPE VALUE]...
warns() {
    check "Check warns of $3" \
        grep -qE "\"warning\" \"$1\" \"[^\"]*\" \"$2" <<< "$(check_of "${@:4}")"
}

# in_background COMMAND...: starts what holds something until it is let go, and waits
# until it does: it prints a line then.
in_background() {
    exec {holder_says}< <(exec "$@") # or a shell stays in between, with what we have open
    holder=$!
    read -r -t 30 -u "$holder_says" _
}
let_go() {
    kill "$holder"
    exec {holder_says}<&-
    wait_until "$1 has let go" 20 test ! -e "/proc/$holder"
}

wait_until "the service is there" 120 service_is_up

# --- Interrupts ---

stands NoIOMMU 'The host.+s IOMMU does not remap interrupts' "an IOMMU that VFIO refuses" "$GPU_USB"
echo Y > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts
check "whoever takes the risk is not refused" \
    bash -c '! grep -q "remap interrupts" <<< "$1"' _ "$(check_of "$GPU_USB")"

# --- The boot display ---

equal "the firmware's framebuffer is there" vesafb "$(sed -n 's/.* : \(vesafb\)$/\1/p' /proc/iomem)"
equal "its GPU shows the console" true "$(gpu_get "$GPU_BOOT" BootDisplay)"
stands BootDisplay 'GPU 0000:00:01.0 shows .* the framebuffer vesafb lies' "the boot display" "$GPU_BOOT"
check "and the way to be without" grep -q 'initcall_blacklist=sysfb_init' <<< "$(check_of "$GPU_BOOT")"
equal "another GPU does not" false "$(gpu_get "$GPU_USB" BootDisplay)"

# --- A bridge in the group ---

vfio_node() { echo "/dev/vfio/$(basename "$(realpath "/sys/bus/pci/devices/$1/iommu_group")")"; }
group_is_viable() { # NODE: as VFIO says: VFIO_GROUP_GET_STATUS, include/uapi/linux/vfio.h
    python3 -c "
import fcntl, os, struct
status = fcntl.ioctl(os.open('$1', os.O_RDWR), 0x3b67, struct.pack('II', 8, 0))
raise SystemExit(struct.unpack('II', status)[1] & 1 == 0)"
}
group_is_not_viable() { ! group_is_viable "$1"; }
equal "the bridge is on a driver that does DMA by the kernel's tables" shpchp "$(driver_of "$BRIDGE")"
stands GroupNotViable "GPU $GPU_BRIDGED .* bridges .*$BRIDGE \(shpchp\)" "a bridge on a driver of its own" \
    "$GPU_BRIDGED"
bind_to vfio-pci "$GPU_BRIDGED"
node=$(vfio_node "$GPU_BRIDGED")
check "VFIO says so, too" group_is_not_viable "$node"
echo "$BRIDGE" > /sys/bus/pci/drivers/shpchp/unbind
check "and not when the driver is taken off" group_is_viable "$node"
check "nor does Check" bash -c '! grep -q GroupNotViable <<< "$1"' _ "$(check_of "$GPU_BRIDGED")"
bind_to "" "$GPU_BRIDGED"
echo "$BRIDGE" > /sys/bus/pci/drivers/shpchp/bind

# --- Nothing ---

modprobe bochs
wait_until "bochs-drm drives the card" 30 driver_is "$GPU_USB" bochs-drm
wait_until "snd_hda_intel drives its sound" 30 driver_is "$GPU_USB_AUDIO" snd_hda_intel
wait_until "xhci_hcd drives its USB" 30 driver_is "$GPU_USB_CONTROLLER" xhci_hcd
equal "they are one card" "2 \"$GPU_USB_AUDIO\" \"$GPU_USB_CONTROLLER" "$(gpu_get "$GPU_USB" Companions)"
usb=/sys/bus/pci/devices/$GPU_USB_CONTROLLER
wait_until "its disk is there" 60 bash -c "compgen -G '$usb/usb*/*/*/host*/target*/*/block/sd*'"
wait_until "its keyboard is there" 60 bash -c "compgen -G '$usb/usb*/*/*/*/input/input*/event*'"
wait_until "its sound card is there" 60 \
    bash -c "compgen -G '/sys/bus/pci/devices/$GPU_USB_AUDIO/sound/card*/controlC*'"
udevadm settle
before=$(drivers)
equal "nothing is in the way, and nothing warned of" "a(sssss) 0" "$(check_of "$GPU_USB")"

# --- Processes ---

node=/dev/dri/$(basename /sys/bus/pci/devices/"$GPU_USB"/drm/card*)
exec {held}<> "$node"
stands GPUBusy "Process $$ \\(bash, unit feos-lab-check.service, user root\\) has $node open" \
    "a DRM node that is open" "$GPU_USB"
exec {held}>&-

# Opened as another user, whose name is told.
in_background setpriv --reuid nobody --regid nogroup --clear-groups bash -c 'echo; exec sleep 1000' < "$node"
stands GPUBusy 'Process [0-9]+ \(.*user nobody\) has /dev/dri' "another user's process" "$GPU_USB"
let_go "it"

framebuffer=/dev/$(basename /sys/bus/pci/devices/"$GPU_USB"/graphics/fb*)
in_background python3 -c "
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
fd = os.open('$framebuffer', os.O_RDWR)
assert libc.mmap(None, 4096, 3, 1, fd, 0) != ctypes.c_void_p(-1).value
os.close(fd)
print(flush=True)
time.sleep(1000)"
check "nothing is open" test -z "$(find "/proc/$holder/fd" -lname '/dev/fb*')"
stands GPUBusy "Process $holder \\(python3, .* has $framebuffer open" \
    "a framebuffer that is mapped and closed" "$GPU_USB"
let_go "it"

numbers=$(stat -c '0x%t 0x%T' "$node")
in_background unshare --mount bash -c "
    mount -t tmpfs none /mnt && mknod /mnt/elsewhere c $numbers && exec 3<> /mnt/elsewhere &&
    echo && exec sleep 1000"
stands GPUBusy "Process $holder \\(sleep, .* has $node open" \
    "the node by another name in a mount namespace of its own" "$GPU_USB"
let_go "it"

sound=$(basename /sys/bus/pci/devices/"$GPU_USB_AUDIO"/sound/card*/controlC*)
exec {held}< "/dev/snd/$sound"
stands GPUBusy "Process $$ .* has /dev/snd/$sound open" "the companion's sound node" "$GPU_USB"
exec {held}<&-

input=$(basename "$usb"/usb*/*/*/*/input/input*/event*)
exec {held}< "/dev/input/$input"
stands GPUBusy "Process $$ .* has /dev/input/$input open" "a keyboard on the card" "$GPU_USB"
exec {held}<&-

# --- A network interface ---

interface=$(basename "$usb"/usb*/*/*/net/*)
equal "nothing is in the way of one that is down" "a(sssss) 0" "$(check_of "$GPU_USB")"
ip link set "$interface" up
stands GPUBusy "The host.+s network interface $interface is up" "a network interface that is up" "$GPU_USB"
check "and the way to be rid of it" grep -q "ip link set .*$interface.* down" <<< "$(check_of "$GPU_USB")"
check "ListHolders names it" \
    grep -q "0 \"network interface that is up\" \"\" \"$interface\"" <<< "$(gpu "$GPU_USB" ListHolders)"
ip link set "$interface" down
in_background unshare --net bash -c 'echo && exec sleep 1000'
ip link set "$interface" netns "$holder"
stands GPUBusy "A network interface .* is in another network namespace" \
    "a network interface that a container has" "$GPU_USB"
let_go "it"
wait_until "the interface is back" 20 test -e "/sys/class/net/$interface"

# --- Disks ---

disk=/dev/$(basename "$usb"/usb*/*/*/host*/target*/*/block/sd*)
mkfs.ext4 -q -F "$disk"
mkdir -p "/run/a disk"
mount "$disk" "/run/a disk"
stands GPUBusy "$disk is mounted at /run/a disk" "a mounted disk" "$GPU_USB"
check "and the way to be rid of it" grep -qE "umount .?'/run/a disk" <<< "$(check_of "$GPU_USB")"
check "ListHolders names it" \
    grep -q "0 \"mounted at /run/a disk\" \"\" \"$disk\"" <<< "$(gpu "$GPU_USB" ListHolders)"
umount "/run/a disk"

in_background unshare --mount bash -c "mount $disk /mnt && echo && exec sleep 1000"
stands GPUBusy "$disk is mounted at /mnt where it is seen by process $holder \\(sleep," \
    "a disk mounted in another namespace" "$GPU_USB"
let_go "it"

mkswap "$disk" > /dev/null
swapon "$disk"
stands GPUBusy "The host swaps to $disk" "swap" "$GPU_USB"
swapoff "$disk"

dmsetup create lab-volume --table "0 2048 linear $disk 0"
stands GPUBusy "$disk is part of the block device /dev/mapper/lab-volume" "a volume on the disk" "$GPU_USB"
dmsetup remove lab-volume

# --- Memory ---

# The first of them is memory-mib.
GUEST_OPTIONS=("${GUEST_OPTIONS[@]:3}")
available=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
warns InvalidOption 'The machine takes .* all of it at once for its GPUs, but the host has' \
    "memory that is not free" "$GPU_USB" memory-mib t $((available + 50))
check "and without GPUs" grep -q '"warning" "InvalidOption" "memory-mib"' <<< "$(
    vm1 Check 'sasa{sv}' box 0 1 memory-mib t $((available + 50)))"
systemctl start machine.slice
systemctl set-property --runtime machine.slice MemoryMax=600M
stands InvalidOption 'The machine takes .* all may have 600 MiB \(MemoryMax= of machine.slice\)' \
    "the limit of all machines" "$GPU_USB" memory-mib t 512
systemctl set-property --runtime machine.slice MemoryMax=infinity

# --- Warnings ---

warns NoReset 'The kernel knows no way to reset GPU' "a card that cannot be reset" "$GPU_LONELY"

# --- Nothing was touched ---

equal "nothing is in the way any more" "a(sssss) 0" "$(check_of "$GPU_USB")"
equal "every function is where it was" "$before" "$(drivers)"
equal "no machine is left" "a(sssaso) 0" "$(vm1 ListMachines)"
check "the ledger is empty" test -z "$(find /run/feos-vmd -name '*.card' 2> /dev/null)"
