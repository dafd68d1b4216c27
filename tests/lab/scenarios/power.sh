# While a card is ours every function of it is awake and kept out of D3cold, and
# afterwards it is as it was before, to the letter: with a machine, with Bind, with a
# card that was on vfio-pci before, and when the service is restarted meanwhile.
# timeout: 400
# shellcheck shell=bash disable=SC2153

# power_of ADDRESS: d3cold_allowed and power/control; power_is ADDRESS "D3COLD CONTROL".
power_of() {
    local device=/sys/bus/pci/devices/$1
    echo "$(< "$device/d3cold_allowed") $(< "$device/power/control")"
}
power_is() { [[ $(power_of "$1") == "$2" ]]; }

# power_set ADDRESS D3COLD CONTROL
power_set() {
    echo "$2" > "/sys/bus/pci/devices/$1/d3cold_allowed"
    echo "$3" > "/sys/bus/pci/devices/$1/power/control"
}

card=("$GPU_AUDIO" "$GPU_AUDIO_COMPANION")

awake() {
    local function
    for function in "${card[@]}"; do
        equal "$1, $function is kept awake" "0 on" "$(power_of "$function")"
        equal "$1, $function is in D0" D0 "$(< "/sys/bus/pci/devices/$function/power_state")"
    done
}
as_before() {
    equal "$1, the card is as before" "$2" "$(power_of "$GPU_AUDIO")"
    equal "$1, its companion is as before" "$3" "$(power_of "$GPU_AUDIO_COMPANION")"
}

wait_until "the service is there" 120 service_is_up
declare -A found
for function in "${card[@]}" "$GPU_VIRTIO" "$GPU_THIRD"; do
    found[$function]=$(power_of "$function")
    echo "# $function was found with ${found[$function]}"
done

# --- A machine: what its drivers would set, and what they would not ---

power_set "$GPU_AUDIO" 1 auto
power_set "$GPU_AUDIO_COMPANION" 0 auto
power_set "$GPU_VIRTIO" 0 on
check "a machine with two cards" create box "$GPU_AUDIO $GPU_VIRTIO"
awake "with the machine"
equal "the other card is kept awake too" "0 on" "$(power_of "$GPU_VIRTIO")"
equal "a card that is not ours is left alone" "${found[$GPU_THIRD]}" "$(power_of "$GPU_THIRD")"
check "Delete" machine box Delete
check "every card is home" cards_are_home
as_before "after the machine" "1 auto" "0 auto"
equal "after the machine, the other card is as before" "0 on" "$(power_of "$GPU_VIRTIO")"

# --- Bind, a machine, a restart, Release ---

power_set "$GPU_AUDIO" 0 auto
power_set "$GPU_AUDIO_COMPANION" 1 on
check "Bind" gpu "$GPU_AUDIO" Bind
awake "after Bind"
check "a machine with the card" create box "$GPU_AUDIO"
check "Delete" machine box Delete
check "the card stays on vfio-pci" gpu_is "$GPU_AUDIO" vfio-bound
awake "after the machine between"
systemctl restart feos-vmd
wait_until "the service is there again" 30 gpu_is "$GPU_AUDIO" vfio-bound
check "Release" gpu "$GPU_AUDIO" Release
check "every card is home again" cards_are_home
equal "after Release, the card is as before" "0 auto" "$(power_of "$GPU_AUDIO")"
wait_until "after Release, its companion is as before" 10 power_is "$GPU_AUDIO_COMPANION" "1 on"
sleep 3
as_before "and a while later" "0 auto" "1 on"

# --- Taken back by hand ---

check "Bind" gpu "$GPU_THIRD" Bind
equal "it is kept awake" "0 on" "$(power_of "$GPU_THIRD")"
bind_to "" "$GPU_THIRD"
wait_until "taken back by hand, a card is as before" 20 power_is "$GPU_THIRD" "${found[$GPU_THIRD]}"
wait_until "and nobody's" 20 gpu_is "$GPU_THIRD" host-bound

# --- A card that the administrator keeps on vfio-pci ---

bind_to vfio-pci "$GPU_THIRD"
wait_until "the service follows what others do" 10 gpu_is "$GPU_THIRD" vfio-bound
kept=$(power_of "$GPU_THIRD")
equal "vfio-pci lets an idle card sleep" auto "${kept#* }"
check "a machine with it" create kept "$GPU_THIRD"
equal "with the machine, it is kept awake" "0 on" "$(power_of "$GPU_THIRD")"
check "Delete" machine kept Delete
check "it is left where it was" gpu_is "$GPU_THIRD" vfio-bound
equal "and as it was" "$kept" "$(power_of "$GPU_THIRD")"
bind_to "" "$GPU_THIRD"

for function in "${!found[@]}"; do
    # shellcheck disable=SC2086 # two words
    power_set "$function" ${found[$function]}
done
check "every card is home in the end" cards_are_home
check "no override is left" overrides_are_clean
check "the ledger is empty" test -z "$(find /run/feos-vmd -name '*.card')"
