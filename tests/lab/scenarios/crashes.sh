# QEMU is killed at random instants, from when it appears until the guest boots.
# timeout: 2400
# shellcheck shell=bash disable=SC2153,SC2154,SC2034

# shellcheck source=tests/lab/host/trials.sh disable=SC1091
. "$LAB/host/trials.sh"
cards="$GPU_AUDIO $GPU_VIRTIO"

qemu_killed() {
    local began caller answered='' state
    have_machine box "$cards"
    instant 4000
    machine box Start > /run/answer 2>&1 &
    caller=$!
    bounded 60 test -s /run/libvirt/qemu/box.pid || {
        wrong "no QEMU appears"
        return
    }
    began=$(now_ms)
    kill_at "$began" "$instant" "$(< /run/libvirt/qemu/box.pid)"
    must_soon "the cards come home" 60 cards_are_home
    timed "cards home" $(($(now_ms) - killed))
    ! wait $caller || answered=yes
    note+="; Start was ${answered:+well }answered${answered:- with an error}"
    settled 30
    state=$(machine_get box State)
    if [[ $answered ]]; then
        [[ $state == crashed ]] || wrong "a machine whose QEMU was killed is $state"
    else
        [[ $state == @(created|stopped|crashed) ]] || wrong "a machine that did not start is $state"
    fi
    must "no override is left" overrides_are_clean
}
trials "QEMU killed" 5 100 qemu_killed
check "Delete" machine box Delete
