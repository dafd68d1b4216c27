# Cards are pulled out of a running machine, and come back: the object goes, the machine says so, what
# is left lives on, and what comes back is a new card.
# timeout: 3000
# shellcheck shell=bash disable=SC2153,SC2154,SC2034

# shellcheck source=tests/lab/host/trials.sh disable=SC1091
. "$LAB/host/trials.sh"
GUEST_OPTIONS[2]=256 # it is to come up

plug_in() { # SLOT: as soon as QEMU has forgotten the last one there
    bounded 10 qmp device_add "{\"driver\":\"secondary-vga\",\"id\":\"gpu_swap$1\",\"bus\":\"rp_swap$1\"}" &&
        bounded 20 gpu_is "${GPUS_SWAP[$1]}" host-bound
}
gpu_is_gone() { ! gpu_get "$1" State; }
machine_says_so() {
    [[ $(machine_get box GPUs) != *"$(gpu_path "$1")"* && $(machine_get box StateReason) == *"$1"* ]]
}

# A machine with a card in every slot, and one that stays.
machine_with_all() {
    local slot
    for slot in "${!GPUS_SWAP[@]}"; do
        gpu_is "${GPUS_SWAP[$slot]}" host-bound || wrong "card $slot is not there"
    done
    must "a machine with all cards" create box "$GPU_VIRTIO ${GPUS_SWAP[*]}"
    qemu=$(machine_get box LeaderPID)
    must_soon "its guest is up" 180 grep -q '^GUEST ready' "$(guest_console box)"
}

for slot in "${!GPUS_SWAP[@]}"; do
    check "a card is plugged into slot $slot" plug_in "$slot"
done

pulled() {
    local slot=$(((trial - 1) % ${#GPUS_SWAP[@]})) began card
    card=${GPUS_SWAP[slot]}
    ((slot)) || machine_with_all
    began=$(now_ms)
    must "it is pulled" qmp device_del "{\"id\":\"gpu_swap$slot\"}"
    must_soon "its object goes" 60 gpu_is_gone "$card"
    took=$(($(now_ms) - began))
    timed "until the GPU had gone" $took
    note="slot $slot, gone after $took ms"
    must_soon "the machine says so" 5 machine_says_so "$card"
    must "the machine runs" machine_is box running
    [[ $(machine_get box LeaderPID) == "$qemu" ]] || wrong "it has another QEMU"
    must "what is left is attached" gpu_is "$GPU_VIRTIO" attached
    must "it comes back, the host's" plug_in "$slot"
    [[ $(gpu_get "$card" MachineName) == "" ]] || wrong "the new card has the old one's machine"
    if ((slot == ${#GPUS_SWAP[@]} - 1 || trial == count)); then
        must "the guest goes on" ask box true
        must "Delete" machine box Delete
    fi
}
trials "attached card pulled and put back" 5 50 pulled
for slot in "${!GPUS_SWAP[@]}"; do
    check "the card in slot $slot is pulled" qmp device_del "{\"id\":\"gpu_swap$slot\"}"
    wait_until "and leaves the bus" 30 gpu_is_gone "${GPUS_SWAP[$slot]}"
done
