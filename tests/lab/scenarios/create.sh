# The main job, over D-Bus only: one call boots a machine with two of the host's
# GPUs, the guest drives both, every step is told once and in order, and in the
# end every function is back where it was.
# timeout: 400
# shellcheck shell=bash disable=SC2153 # addresses are the topology's

signals=/run/feos-signals
gdbus monitor --system --dest org.feos.VM1 > $signals &

wait_until "the bus starts the service" 60 vm1 ListGPUs
wait_until "it knows libvirt's domains" 120 service_is_up
equal "the hypervisor is connected" connected \
    "$(property $VM1 org.feos.VM1 HypervisorState)"
equal "the IOMMU is on" true "$(property $VM1 org.feos.VM1 IOMMUEnabled)"
check "all GPUs are listed, and nothing else" \
    grep -q '^a(ssssso) 5 ' <<< "$(vm1 ListGPUs)"
wait_until "the monitor hears the service" 20 grep -q 'The name org.feos.VM1 is owned' $signals
check "every card is the host's" cards_are_home
equal "the audio function travels with its card" "1 \"$GPU_AUDIO_COMPANION" \
    "$(gpu_get "$GPU_AUDIO" Companions)"
equal "the boot display is known" true "$(gpu_get "$GPU_BOOT" BootDisplay)"
equal "Check finds nothing in the way of the same request" 'a(sssss) 0' \
    "$(vm1 Check 'sasa{sv}' box 2 "$GPU_AUDIO" "$GPU_VIRTIO" 1 memory-mib t 512)"

# --- There ---

check "Create boots a machine with two GPUs" create box "$GPU_AUDIO $GPU_VIRTIO"
check "it runs" machine_is box running
check "the first card is attached" gpu_is "$GPU_AUDIO" attached
check "the second card is attached" gpu_is "$GPU_VIRTIO" attached
equal "the audio function is on vfio-pci too" vfio-pci "$(driver_of "$GPU_AUDIO_COMPANION")"
equal "the card names its machine" box "$(gpu_get "$GPU_AUDIO" MachineName)"
equal "the card remembers its host driver" bochs-drm "$(gpu_get "$GPU_AUDIO" HostDriver)"
check "the third GPU is untouched" gpu_is "$GPU_THIRD" host-bound
equal "the third GPU has its driver" bochs-drm "$(driver_of "$GPU_THIRD")"
check "QEMU is the leader" grep -q qemu "/proc/$(machine_get box LeaderPID)/comm"
check "virsh sees an ordinary domain" test "$(domain_state box)" = running

guest_says box 'GUEST ready' 120
for line in \
    'pci [0-9a-f:]*00.0 1234:1111 class 038000 driver bochs-drm' \
    'pci [0-9a-f:]*00.1 8086:293e class 040300 driver snd_hda_intel' \
    'pci [0-9a-f:]*00.0 1af4:1050 class 038000 driver virtio-pci' \
    'node /dev/dri/renderD128'; do
    check "guest says '$line'" grep -q "^GUEST $line" "$(guest_console box)"
done
equal "the guest drives both cards" 2 "$(grep -c '^GUEST drives .* ok' "$(guest_console box)")"

# --- And back ---

guest_do box 'poweroff -f' > /dev/null || true
wait_until "the machine stops when the guest powers off" 60 machine_is box stopped
wait_until "every function is back with its host driver" 60 cards_are_home
check "no override is left behind" overrides_are_clean
check "the ledger is empty" test -z "$(find /run/feos-vmd -name '*.card' 2> /dev/null)"

# --- What was told ---

for card in "$GPU_AUDIO" "$GPU_VIRTIO"; do
    path=$(gpu_path "$card")
    equal "StateChanged told every step of $card, in order, once" \
        "host-bound>vfio-bound vfio-bound>attached attached>vfio-bound vfio-bound>host-bound " \
        "$(told "$path" org.feos.VM1.GPU)"
    equal "PropertiesChanged told every State of $card" \
        "vfio-bound attached vfio-bound host-bound " "$(told_property "$path" State)"
    equal "PropertiesChanged told every Pending of $card" \
        "binding starting  releasing  " "$(told_property "$path" Pending)"
done
equal "StateChanged told every step of the machine" \
    "created>starting starting>running " \
    "$(told $VM1/machine/box org.feos.VM1.Machine | grep -o 'created>starting starting>running ')"
equal "the machine's end was told" stopped \
    "$(told $VM1/machine/box org.feos.VM1.Machine | grep -o '[a-z]* $' | tr -d ' ')"
check "the third GPU was not spoken of" test -z "$(told "$(gpu_path "$GPU_THIRD")" org.feos.VM1.GPU)"

check "the machine can be deleted" machine box Delete
check "and is gone" machine_is_gone box
check "also from libvirt" domain_is_gone box
