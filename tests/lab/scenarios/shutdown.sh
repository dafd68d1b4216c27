# The host is switched off under two machines: the one that obeys its power button shuts down, the
# other is ended, libvirt is there until both are gone, and nobody holds the host up.
# timeout: 400
# shellcheck shell=bash disable=SC2153,SC2034

wait_until "the service is there" 120 service_is_up
patience=15
echo "SHUTDOWN_TIMEOUT=$patience" >> /etc/default/libvirt-guests
systemctl --quiet start libvirt-guests
check "libvirt-guests is there" systemctl is-active libvirt-guests
check "a machine with two cards" create box "$GPU_AUDIO $GPU_VIRTIO"
check "a machine with one" create deaf "$GPU_THIRD"
guest_says box 'GUEST ready' 120
guest_says deaf 'GUEST ready' 120
check "which does not listen to its power button" ask deaf 'killall acpid'

pids=("$(machine_get box LeaderPID)" "$(machine_get deaf LeaderPID)"
    "$(systemctl show -P MainPID feos-vmd)" "$(systemctl show -P MainPID libvirtd)")
names=(box deaf feos-vmd libvirtd)
began=${EPOCHREALTIME/./}
declare -A ended=() # after so many ms

# look: notes which of them have ended, and saves the obedient one's last words: /var/log goes, too.
look() {
    local i
    for i in "${!pids[@]}"; do
        [[ ${ended[${names[i]}]-} || -d /proc/${pids[i]} ]] ||
            ended[${names[i]}]=$(((${EPOCHREALTIME/./} - began) / 1000))
    done
    [[ ! ${ended[box]-} || -e /run/box.log ]] || cp /var/log/libvirt/qemu/box.log "$(guest_console box)" /run
    ((${#ended[@]} == ${#pids[@]}))
}

# ended_before ONE OTHER
ended_before() { ((${ended[$1]:-999999} <= ${ended[$2]:-0})); }

watch() {
    local name
    wait_until "machines, service and libvirt end" 240 look
    for name in "${names[@]}"; do echo "# $name ended after ${ended[$name]-no} ms"; done
    check "the service ends within 10 s" test "${ended[feos-vmd]-99999}" -lt 10000
    check "without a failure" grep -q 'feos-vmd.service: Deactivated successfully' /run/feos-lab/out/journal.log
    check "the guest's button was pressed" grep -q 'GUEST power button' /run/console.log
    check "it shut down by itself" grep -q 'shutting down, reason=shutdown' /run/box.log
    check "the other was given its $patience s" test "${ended[deaf]-0}" -ge $((patience * 1000))
    check "libvirt was there until the one had ended" ended_before box libvirtd
    check "and the other" ended_before deaf libvirtd
    check "no unit was in the way" bash -c "! grep -E 'State .* timed out|Stopping timed out' /run/feos-lab/out/journal.log"
}
switch_off shutdown watch
