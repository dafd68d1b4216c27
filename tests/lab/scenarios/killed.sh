# The daemon is killed at random instants: of a Create, and of the way back of a machine's cards. The
# next one finishes or undoes what it finds, and no answer was a lie.
# timeout: 3000
# shellcheck shell=bash disable=SC2153,SC2154,SC2034

# shellcheck source=tests/lab/host/trials.sh disable=SC1091
. "$LAB/host/trials.sh"
cards="$GPU_AUDIO $GPU_VIRTIO"

began=$(now_ms)
check "a machine, to see how long that takes" create box "$cards"
create_ms=$(($(now_ms) - began))
began=$(now_ms)
check "PowerOff" machine box PowerOff
wait_until "the cards come home" 60 cards_are_home
return_ms=$(($(now_ms) - began))
check "Delete" machine box Delete
echo "# undisturbed: Create $create_ms ms, the way back $return_ms ms"

# Either the machine runs with its cards, or there is none; and it runs where the caller was told so.
killed_in_create() {
    local began daemon caller answered='' state
    daemon=$(daemon_pid)
    instant $((create_ms + 500)) 1000
    began=$(now_ms)
    create box "$cards" > /run/answer 2>&1 &
    caller=$!
    kill_at "$began" "$instant" "$daemon"
    ! wait $caller || answered=yes
    settled 60
    timed "until all was settled" $(($(now_ms) - killed))
    state=$(machine_get box State 2> /dev/null) || state=none
    note+="; then $state"
    case $state in
        running)
            for card in $cards; do
                gpu_is "$card" attached || wrong "the machine runs without $card"
            done
            must "Delete" machine box Delete
            ;;
        none)
            [[ ! $answered ]] || wrong "Create has told of a machine that is not there"
            must "the cards are home" cards_are_home
            must "libvirt has no such domain" domain_is_gone box
            ;;
        *) wrong "a machine is left behind that never ran: $state" ;;
    esac
}
trials "daemon killed during Create" 15 100 killed_in_create

# The machine may run on, if it was not yet asked to end; a PowerOff that was answered has ended it.
killed_in_return() {
    local began daemon caller answered='' state
    have_machine box "$cards"
    must "Start" machine box Start
    daemon=$(daemon_pid)
    instant $((return_ms + 300))
    began=$(now_ms)
    case $((trial % 3)) in
        0) virsh destroy box ;;
        1) machine box PowerOff ;;
        2) kill -9 "$(< /run/libvirt/qemu/box.pid)" ;;
    esac > /run/answer 2>&1 &
    caller=$!
    kill_at "$began" "$instant" "$daemon"
    ! wait $caller || answered=yes
    settled 60
    timed "until all was settled" $(($(now_ms) - killed))
    state=$(machine_get box State)
    note+="; then $state"
    if [[ $state == running && ! $answered ]]; then
        must "PowerOff" machine box PowerOff
    elif [[ $state != @(stopped|crashed) ]]; then
        wrong "the machine is $state, and its end was answered"
    fi
    must_soon "the cards come home" 60 cards_are_home
    must "no override is left" overrides_are_clean
}
trials "daemon killed during the way back" 15 100 killed_in_return
check "Delete" machine box Delete
