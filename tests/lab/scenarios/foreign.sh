# Somebody else rebinds a card: that is seen, journalled and shown, and never fought.
# timeout: 900
# shellcheck shell=bash disable=SC2153,SC2154,SC2034

# shellcheck source=tests/lab/host/trials.sh disable=SC1091
. "$LAB/host/trials.sh"

# told_of DRIVER: the journal says that somebody else has bound it so, since the trial began; sets
# $told, in ms.
told_of() {
    told=$(journalctl -q -b --since "@$since" -o export MESSAGE_ID=087c226db6ec19fd5e16179e7d689223 \
        "FEOS_FUNCTION=$GPU_THIRD" "FEOS_DRIVER=$1" |
        sed -n 's/^_SOURCE_REALTIME_TIMESTAMP=\(.*\)...$/\1/p' | tail -n 1)
    [[ $told ]]
}
# seen STATE DRIVER: within two seconds, and nobody moves it back. The service's own time is taken: one
# processor runs it and who asks, and busctl and journalctl may need as long.
seen() {
    local began told=0
    began=$(now_ms)
    must_soon "it is shown $1" 6 gpu_is "$GPU_THIRD" "$1"
    home[$GPU_THIRD]=$2
    must_soon "it is journalled" 10 told_of "$2"
    took=$((told > began ? told - began : 0))
    timed "until it was told" $took
    ((took <= 2000)) || wrong "it was told after $took ms"
    settled 5
    driver_is "$GPU_THIRD" "$2" || wrong "it was fought: now on $(driver_of "$GPU_THIRD")"
}

rebound() {
    since=${EPOCHREALTIME%.*}
    if ((trial % 2)); then
        note="taken to vfio-pci, and back"
        bind_to vfio-pci "$GPU_THIRD"
        seen vfio-bound vfio-pci
    else
        note="bound by us, taken to the host"
        must Bind gpu "$GPU_THIRD" Bind
    fi
    bind_to '' "$GPU_THIRD"
    seen host-bound bochs-drm
}
trials "card rebound by somebody else" 5 50 rebound
check "every card is home" cards_are_home
