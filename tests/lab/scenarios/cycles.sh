# Start and end, again and again: every card comes home every time.
# timeout: 3600
# shellcheck shell=bash disable=SC2153,SC2154,SC2034

# shellcheck source=tests/lab/host/trials.sh disable=SC1091
. "$LAB/host/trials.sh"
daemon=$(daemon_pid)

start_and_end() {
    local began started
    have_machine cycle "$GPU_AUDIO $GPU_VIRTIO"
    began=$(now_ms)
    must "Start" machine cycle Start
    started=$(now_ms)
    must "the first card is attached" gpu_is "$GPU_AUDIO" attached
    must "the second card is attached" gpu_is "$GPU_VIRTIO" attached
    # Each kind of end in its turn.
    case $((trial % 3)) in
        0) must "virsh destroy" virsh destroy cycle ;;
        1) must "PowerOff" machine cycle PowerOff ;;
        2) kill -9 "$(machine_get cycle LeaderPID)" ;;
    esac
    must_soon "the cards come home" 60 cards_are_home
    timed "Start" $((started - began))
    timed "end, until the cards were home" $(($(now_ms) - started))
    must "no override is left" overrides_are_clean
    [[ $(daemon_pid) == "$daemon" ]] || wrong "it is another daemon"
}
trials "machine started and ended" 20 200 start_and_end
check "Delete" machine cycle Delete
