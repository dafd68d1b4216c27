# However a machine ends, its cards come home: PowerOff, virsh destroy, QEMU
# killed, Shutdown, Delete; and with the daemon killed meanwhile.
# timeout: 900
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
leader() { machine_get box LeaderPID; }
daemon_pid() { systemctl show -P MainPID feos-vmd; }

# A guest need not be up for its plug to be pulled: no waiting for it here.
begin() {
    check "$1: a machine with two cards" create box "$GPU_AUDIO $GPU_VIRTIO"
    check "$1: the cards are attached" gpu_is "$GPU_AUDIO" attached
}

end() {
    wait_until "$1: the machine is $2" 60 machine_is box "$2"
    wait_until "$1: the cards come home" 60 cards_are_home
    check "$1: no override is left" overrides_are_clean
    check "$1: Delete" machine box Delete
}

begin PowerOff
check "PowerOff answers" machine box PowerOff
end PowerOff stopped

begin "virsh destroy"
check "virsh destroy" virsh destroy box
end "virsh destroy" stopped

begin "QEMU killed"
kill -9 "$(leader)"
end "QEMU killed" crashed

begin Shutdown
guest_says box 'GUEST ready' 120
check "Shutdown answers" machine box Shutdown
end Shutdown stopped

begin "Delete of a running machine"
check "Delete answers" machine box Delete
check "the cards are home when it does" cards_are_home
check "the machine is gone" domain_is_gone box

# --- The daemon is killed while the machine runs ---

begin "kill -9 of the daemon"
before=$(daemon_pid)
qemu=$(leader)
kill -9 "$before"
wait_until "a new daemon comes" 30 bash -c "[[ \$(systemctl show -P MainPID feos-vmd) != @(0|$before) ]]"
wait_until "it shows the same truth" 30 gpu_is "$GPU_AUDIO" attached
check "the second card too" gpu_is "$GPU_VIRTIO" attached
check "the machine runs" machine_is box running
equal "in the same QEMU" "$qemu" "$(leader)"
equal "with the same cards" "$GPU_AUDIO" "$(machine_get box GPUAddresses | grep -o "$GPU_AUDIO")"
equal "the host driver is remembered" bochs-drm "$(gpu_get "$GPU_AUDIO" HostDriver)"
check "PowerOff answers" machine box PowerOff
end "kill -9 of the daemon" stopped

# --- The daemon is away while the machine ends ---

begin "the daemon is away"
systemctl stop feos-vmd
check "the machine lives on" test "$(domain_state box)" = running
virsh destroy box > /dev/null
equal "nobody moved the card" vfio-pci "$(driver_of "$GPU_AUDIO")"
systemctl start feos-vmd
end "the daemon is away" stopped
