# Bind and Release ahead of any machine; a machine between them leaves the card
# where it found it; a card that vfio-pci claims by itself. Machines without GPUs,
# without start, without waiting; two at once; many callers for one GPU.
# timeout: 500
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up

# --- Bind, a machine, Release ---

check "Bind" gpu "$GPU_AUDIO" Bind
check "the card is on vfio-pci" gpu_is "$GPU_AUDIO" vfio-bound
equal "and its companion" vfio-pci "$(driver_of "$GPU_AUDIO_COMPANION")"
check "Bind again changes nothing" gpu "$GPU_AUDIO" Bind
check "a machine with it and another card" create box "$GPU_AUDIO $GPU_VIRTIO"
check "PowerOff" machine box PowerOff
wait_until "the card that was bound ahead stays on vfio-pci" 30 gpu_is "$GPU_AUDIO" vfio-bound
wait_until "the other one goes home" 30 gpu_is "$GPU_VIRTIO" host-bound
check "Delete of the machine" machine box Delete
systemctl restart feos-vmd
wait_until "a restarted service remembers where it came from" 30 \
    test "$(gpu_get "$GPU_AUDIO" HostDriver)" = bochs-drm
check "Release" gpu "$GPU_AUDIO" Release
check "every card is the host's" cards_are_home
check "Release again changes nothing" gpu "$GPU_AUDIO" Release
check "no override is left" overrides_are_clean
check "Recover of a sound card changes nothing" gpu "$GPU_AUDIO" Recover

# --- A card that the administrator keeps on vfio-pci, with an override of theirs ---

bind_to vfio-pci "$GPU_THIRD"
wait_until "the service follows what others do" 10 gpu_is "$GPU_THIRD" vfio-bound
check "a machine with it" create kept "$GPU_THIRD"
check "Delete" machine kept Delete
check "it is left where it was" gpu_is "$GPU_THIRD" vfio-bound
equal "with their override" vfio-pci "$(< "/sys/bus/pci/devices/$GPU_THIRD/driver_override")"
check "Release of a card that somebody else had bound" gpu "$GPU_THIRD" Release
check "it is the host's" gpu_is "$GPU_THIRD" host-bound
equal "with the driver that the kernel has for it" bochs-drm "$(driver_of "$GPU_THIRD")"

# --- A card that vfio-pci claims by itself, as with vfio-pci.ids= ---

bochs_id="1234 1111"
bind_to vfio-pci "$GPU_THIRD"
echo > "/sys/bus/pci/devices/$GPU_THIRD/driver_override"
# Of two drivers that fit the kernel takes the one that came first.
for card in /sys/bus/pci/drivers/bochs-drm/0000:*; do
    basename "$card" > /sys/bus/pci/drivers/bochs-drm/unbind
done
rmmod bochs
modprobe bochs
echo "$bochs_id" > /sys/bus/pci/drivers/vfio-pci/new_id
wait_until "it is on vfio-pci" 10 gpu_is "$GPU_THIRD" vfio-bound
check "Release of a card that vfio-pci claims" gpu "$GPU_THIRD" Release
check "it stays there, without a fault" gpu_is "$GPU_THIRD" vfio-bound
check "the journal says why" bash -c "journalctl -q -b FEOS_GPU=$GPU_THIRD | grep -q 'claimed .* by itself'"
check "Recover changes nothing" gpu "$GPU_THIRD" Recover
check "a machine with it" create claimed "$GPU_THIRD"
check "Delete of it" machine claimed Delete
check "it is where it was" gpu_is "$GPU_THIRD" vfio-bound
echo "$bochs_id" > /sys/bus/pci/drivers/vfio-pci/remove_id
check "Release when vfio-pci claims it no more" gpu "$GPU_THIRD" Release
check "it is home" cards_are_home

# --- A machine's life in steps ---

check "Create without start" create box "$GPU_AUDIO" start b false
check "it is created" machine_is box created
check "its card is still the host's" gpu_is "$GPU_AUDIO" host-bound
check "Start" machine box Start
check "it runs" machine_is box running
check "its card is attached" gpu_is "$GPU_AUDIO" attached
check "PowerOff of the started machine" machine box PowerOff
wait_until "it is stopped" 30 machine_is box stopped
check "Start again when the card is home" \
    bash -c ". /run/feos-lab/job/host/lib.sh; wait_until home 30 gpu_is $GPU_AUDIO host-bound; machine box Start"
check "Delete of it while it runs" machine box Delete
check "every card is home" cards_are_home

check "Create without waiting" create box "$GPU_AUDIO" wait b false
check "the card is its already" test "$(gpu_get "$GPU_AUDIO" MachineName)" = box
wait_until "it runs after a while" 60 machine_is box running
check "a machine without GPUs" create plain ""
check "runs too" machine_is plain running
check "Delete of the one" machine plain Delete
check "Delete of the other" machine box Delete

# --- Two at once, and many for one ---

create left "$GPU_AUDIO" > /run/left.txt 2>&1 &
one=$!
create right "$GPU_VIRTIO" > /run/right.txt 2>&1 &
two=$!
wait $one && ok "the first of two Creates at once" || not_ok "$(< /run/left.txt)"
wait $two && ok "the second of two Creates at once" || not_ok "$(< /run/right.txt)"
check "both run" test "$(machine_get left State) $(machine_get right State)" = "running running"
check "Delete" machine left Delete
check "Delete" machine right Delete

callers=()
for i in 1 2 3 4 5 6; do
    create "racer$i" "$GPU_THIRD" > "/run/racer$i.txt" 2>&1 &
    callers+=($!)
done
won=0
winner=
for i in 1 2 3 4 5 6; do
    if wait "${callers[i - 1]}"; then
        ((++won))
        winner=racer$i
    else
        check "the loser $i is told that it is in use" grep -q "$GPU_THIRD" "/run/racer$i.txt"
    fi
done
equal "exactly one of six callers wins the GPU" 1 $won
check "Delete of the winner" machine "$winner" Delete
check "every card is home in the end" cards_are_home
check "no override is left in the end" overrides_are_clean
