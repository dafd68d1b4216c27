# The callers of examples/, each doing the main job as a stranger would run it: a machine with two GPUs,
# which its guest drives, and back. And what they say when it cannot be.
# timeout: 900
# shellcheck shell=bash disable=SC2153 # addresses are the topology's

wait_until "the service is there" 120 service_is_up
check "every card is the host's" cards_are_home

# Two processors, as a caller gets who does not say otherwise; the emulator is better off with one.
guest=(firmware=bios kernel=vmlinuz initrd=guest.img "cmdline=$GUEST_CMDLINE maxcpus=1")
mkfifo /run/examples.in

# has_ended PID
has_ended() { ! kill -0 "$1" 2> /dev/null; }

# example PROGRAM NAME
example() {
    local program=$1 name=$2 pid status=0
    check "$program lists the GPUs" grep -qE "^$GPU_AUDIO +host-bound +bochs-drm" <<< "$("$program")"
    "$program" "$name" "${guest[@]}" "$GPU_AUDIO" "$GPU_VIRTIO" \
        <> /run/examples.in > /run/examples.out 2> /run/examples.err &
    pid=$!
    wait_until "$program boots a machine" 200 grep -q "/machine/$name runs" /run/examples.err
    check "it runs" machine_is "$name" running
    check "the first card is attached" gpu_is "$GPU_AUDIO" attached
    check "the second card is attached" gpu_is "$GPU_VIRTIO" attached
    guest_says "$name" 'GUEST ready' 120
    equal "the guest drives both cards" 2 "$(grep -c '^GUEST drives .* ok' "$(guest_console "$name")")"
    echo > /run/examples.in
    wait_until "$program has ended" 120 has_ended $pid
    wait $pid || status=$?
    equal "and well" 0 $status
    equal "it says that the GPUs are home" "Its GPUs are home, and it is deleted." "$(tail -n 1 /run/examples.out)"
    check "so they are" cards_are_home
    check "the machine is gone" machine_is_gone "$name"
    check "also from libvirt" domain_is_gone "$name"
}

# example_refused PROGRAM: with the error's name, what is wrong, and what to do.
example_refused() {
    local output
    if output=$("$1" box "$GPU_BAD_GROUP" 2>&1 < /dev/null); then
        not_ok "$1 is refused a card whose group is not viable"
    fi
    check "$1 says the error's name, what is wrong and what to do" \
        grep -qE 'org\.feos\.VM1\.Error\.GroupNotViable: .*\. .' <<< "$output"
    echo "#   ${output##*$'\n'}"
}

example gpu-machine c
example gpu-machine.py python
example gpu-machine.sh shell
example_refused gpu-machine
example_refused gpu-machine.py
example_refused gpu-machine.sh
check "every card is home" cards_are_home
check "no override is left" overrides_are_clean
