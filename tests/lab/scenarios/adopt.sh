# The daemon is restarted, and killed, under running machines: it adopts them and harms none.
# timeout: 1500
# shellcheck shell=bash disable=SC2153,SC2154,SC2034

# shellcheck source=tests/lab/host/trials.sh disable=SC1091
. "$LAB/host/trials.sh"
GUEST_OPTIONS[2]=256 # they are to come up
check "a machine" create left "$GPU_AUDIO"
check "another machine" create right "$GPU_VIRTIO"
left=$(machine_get left LeaderPID)
right=$(machine_get right LeaderPID)
guest_says left 'GUEST ready' 180
guest_says right 'GUEST ready' 180

restarted() {
    local began daemon
    daemon=$(daemon_pid)
    # Neither is a loop that systemd is to stop.
    systemctl reset-failed feos-vmd
    began=$(now_ms)
    if ((trial % 2)); then
        note=restarted
        must "systemctl restart" systemctl restart feos-vmd
    else
        note=killed
        kill -9 "$daemon"
        must_soon "a new daemon comes" 10 another_daemon_than "$daemon"
    fi
    must "the first card is attached" gpu_is "$GPU_AUDIO" attached
    must "the second card is attached" gpu_is "$GPU_VIRTIO" attached
    took=$(($(now_ms) - began))
    timed "until both were adopted" "$took"
    note+=", adopted after $took ms"
    ((took <= adopted_within)) || wrong "not adopted within $adopted_within ms"
    [[ $(machine_get left LeaderPID) == "$left" ]] || wrong "the first machine has another QEMU"
    [[ $(machine_get right LeaderPID) == "$right" ]] || wrong "the second machine has another QEMU"
    must "the first machine runs" machine_is left running
    must "the second machine runs" machine_is right running
}
another_daemon_than() {
    local now
    now=$(daemon_pid)
    [[ $now != 0 && $now != "$1" ]]
}
# Two seconds on a real host; here one emulated processor runs both guests and starts the daemon, and
# libvirt answers it late. Of a killed daemon a second is systemd's RestartSec=.
adopted_within=20000
trials "daemon restarted under machines" 10 200 restarted
equal "the guest goes on" hello "$(ask left 'echo hello')"
equal "the other one too" hello "$(ask right 'echo hello')"
check "Delete of the one" machine left Delete
check "Delete of the other" machine right Delete
