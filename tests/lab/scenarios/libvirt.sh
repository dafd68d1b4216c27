# libvirtd is killed while it starts a machine, and away while a QEMU dies.
# timeout: 2400
# shellcheck shell=bash disable=SC2153,SC2154,SC2034

# shellcheck source=tests/lab/host/trials.sh disable=SC1091
. "$LAB/host/trials.sh"
cards="$GPU_AUDIO $GPU_VIRTIO"

began=$(now_ms)
check "a machine, to see how long that takes" create box "$cards"
start_ms=$(($(now_ms) - began))
check "PowerOff" machine box PowerOff
wait_until "the cards come home" 60 cards_are_home
echo "# undisturbed: $start_ms ms"

libvirtd_pid() { systemctl show -P MainPID libvirtd; }

killed_in_start() {
    local began libvirtd caller answered='' state
    have_machine box "$cards"
    libvirtd=$(libvirtd_pid)
    instant "$start_ms"
    began=$(now_ms)
    machine box Start > /run/answer 2>&1 &
    caller=$!
    kill_at "$began" "$instant" "$libvirtd"
    ! wait $caller || answered=yes
    [[ ! $(< /run/answer) =~ [0-9a-f]{8}-[0-9a-f]{4}- ]] ||
        wrong "the refusal has a UUID and no name: $(< /run/answer)"
    settled 90
    timed "until all was settled" $(($(now_ms) - killed))
    state=$(machine_get box State)
    note+="; then $state"
    case $state in
        running) must "PowerOff" machine box PowerOff ;;
        stopped | crashed | created)
            [[ ! $answered ]] || wrong "Start has told of a machine that does not run"
            ;;
        *) wrong "the machine is $state" ;;
    esac
    must_soon "the cards come home" 60 cards_are_home
}
trials "libvirtd killed during Start" 5 30 killed_in_start

# QEMU dies while nobody is there to say so. The cards wait for libvirt, which resets them when it is
# back, whatever driver they are on; but for vfio-pci.
cards_wait() { gpu_is "$GPU_AUDIO" vfio-bound && gpu_is "$GPU_VIRTIO" vfio-bound; }
away_while_qemu_dies() {
    have_machine box "$cards"
    must "Start" machine box Start
    stop_libvirt
    kill -9 "$(machine_get box LeaderPID)"
    killed=$(now_ms)
    must_soon "the machine has crashed" 60 machine_is box crashed
    must_soon "the cards are nobody's" 10 cards_wait
    timed "known, libvirtd away" $(($(now_ms) - killed))
    start_libvirt
    killed=$(now_ms)
    settled 90
    timed "cards home, libvirtd back" $(($(now_ms) - killed))
    must "the machine has crashed" machine_is box crashed
}
trials "QEMU killed while libvirtd is stopped" 3 30 away_while_qemu_dies
check "Delete" machine box Delete
