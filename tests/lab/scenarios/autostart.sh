# Machines that start with the host, once, by this service: after what a reboot of the
# host is to it, not after a mere restart of the daemon.
# timeout: 500
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
check "every card is home" cards_are_home

libvirt=(libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service)
connected() { [[ $(property "$VM1" org.feos.VM1 HypervisorState) == connected ]]; }
domains_off() { ! virsh list --name | grep -q .; }

# What a reboot leaves: what is on disk. Everything below /run is gone.
host_goes_down() {
    local guest
    systemctl stop feos-vmd
    for guest in $(virsh list --name); do virsh destroy "$guest" > /dev/null; done
    wait_until "the guests are gone" 20 domains_off
    systemctl stop "${libvirt[@]}"
    rm -rf /run/feos-vmd /run/libvirt/qemu/*.xml
    for card in "$GPU_AUDIO" "$GPU_AUDIO_COMPANION" "$GPU_VIRTIO" "$GPU_THIRD"; do
        bind_to "" "$card"
    done
}
starts() { journalled "$MACHINE_STATE_ID" FEOS_MACHINE="$1" | { grep -o '>starting' || true; } | wc -l; }

check "a machine that starts with the host" create early "$GPU_AUDIO" start b false autostart b true
equal "shows so" true "$(machine_get early Autostart)"
check "one that does not" create late "$GPU_VIRTIO" start b false
check "and one whose card another has first" create loser "$GPU_AUDIO" start b false

# --- A restart of the daemon starts nothing ---

systemctl restart feos-vmd
wait_until "a restarted daemon has libvirt" 60 connected
check "the machine is created still" machine_is early created
equal "and was never started" 0 "$(starts early)"

# --- The host boots, and libvirt is there first ---

host_goes_down
systemctl start "${libvirt[@]}"
systemctl start feos-vmd
wait_until "the machine starts with the host" 90 machine_is early running
check "with its card" gpu_is "$GPU_AUDIO" attached
equal "once" 1 "$(starts early)"
check "the other one does not" machine_is late created
refused_saying GPUInUse early "the third one's Start" machine loser Start
guest_says early 'GUEST ready' 120
check "PowerOff" machine early PowerOff
wait_until "it is stopped" 30 machine_is early stopped
wait_until "its card is home" 30 gpu_is "$GPU_AUDIO" host-bound
systemctl restart feos-vmd
wait_until "a restarted daemon has libvirt" 60 connected
kill -9 "$(systemctl show -P MainPID feos-vmd)"
wait_until "and so has one that was killed" 60 connected
check "what was stopped stays stopped" machine_is early stopped
equal "it was started once" 1 "$(starts early)"

# --- The host boots, and libvirt comes late ---

host_goes_down
systemctl start feos-vmd
wait_until "the service waits for libvirt" 30 \
    bash -c "busctl get-property org.feos.VM1 /org/feos/VM1 org.feos.VM1 HypervisorState | grep -q connecting"
systemctl start "${libvirt[@]}"
wait_until "the machine starts when libvirt is there" 120 machine_is early running
check "with its card" gpu_is "$GPU_AUDIO" attached
equal "once" 2 "$(starts early)"
systemctl restart libvirtd
wait_until "libvirt is restarted" 60 connected
wait_until "the machine runs on" 30 machine_is early running
equal "and was not started again" 2 "$(starts early)"

# --- The host boots, and something stands in the way ---

check "Delete of the first" machine early Delete
check "the loser becomes one that starts with the host" machine loser Delete
check "a machine that starts with the host" create early "$GPU_AUDIO" start b false autostart b true
mv "$IMAGES/guest.img" "$IMAGES/away.img"
host_goes_down
systemctl start "${libvirt[@]}"
systemctl start feos-vmd
wait_until "the journal says that a machine did not start with the host" 60 \
    bash -c 'journalctl -q -b FEOS_MACHINE=early MESSAGE_ID=138804e4cde946b88bfb23720161760d | grep .'
mv "$IMAGES/away.img" "$IMAGES/guest.img"
wait_until "its card is home" 30 gpu_is "$GPU_AUDIO" host-bound
check "Delete" machine early Delete
check "Delete" machine late Delete
check "every card is home" cards_are_home
check "no override is left" overrides_are_clean
