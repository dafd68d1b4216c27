# A person at feosctl, for the README: tests/record-session puts there what stands between the two
# markers, and sees to it that the README has these commands. They are here and nowhere else; what they
# say is their own, on a terminal that is 110 columns wide.
# timeout: 500
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
check "every card is home" cards_are_home
equal "the cards are where the commands look for them" "0000:01:00.0 0000:02:00.0 0000:07:01.0" \
    "$GPU_AUDIO $GPU_VIRTIO $GPU_BAD_GROUP"

# UTF-8, as a person has it, and no colours.
export LC_ALL=C.UTF-8 TERM=xterm NO_COLOR=1 COLUMNS=110
told=()

on_terminal() { script -qefc "$1" /dev/null; }

# show STATUS COMMAND: what is typed, and what comes of it; it has to end with that status.
show() {
    local status=0
    printf '$ %s\n' "$2"
    on_terminal "$2" || status=$?
    echo
    told+=("$1 $status $2")
}

# beside COMMAND: the same in the background, until end_beside.
beside() {
    printf '$ %s &\n' "$1"
    on_terminal "echo \$\$ > /run/session.pid; exec $1" || true &
    beside=$!
    bounded 10 test -s /run/session.pid
    sleep 3
    echo
}

end_beside() {
    kill -INT "$(< /run/session.pid)"
    wait "$beside" || true
    echo
}

# typed TEXT...: one after the other, slowly enough for who reads and answers.
typed() {
    local text
    for text; do
        sleep 3
        printf '%b' "$text"
    done
    sleep 3
}

echo "SESSION begin"
show 0 'feosctl'
show 0 'feosctl gpu 01:00.0'
show 3 'feosctl check box --gpu 01:00.0 --gpu 07:01.0'
show 0 'feosctl create box --gpu 01:00.0 --gpu 02:00.0 --vcpus 1 --memory 512M --firmware bios --kernel vmlinuz --initrd guest.img --cmdline "console=ttyS0 quiet mitigations=off"'
show 0 'feosctl machines'
show 1 'feosctl create other --gpu 01:00.0'
bounded 120 grep -q '^GUEST ready' "$(guest_console box)"
# The lab's guest shows what is typed only when it is told to.
guest_do box 'stty echo' > /dev/null
show 0 'feosctl console box' < <(typed 'uname -sr\r' '\035')
beside 'feosctl monitor'
show 0 'feosctl shutdown box'
bounded 60 machine_is box stopped
bounded 60 cards_are_home
end_beside
show 0 'feosctl gpus'
show 0 'feosctl log box -n 6'
show 0 'feosctl delete box'
echo "SESSION end"

for line in "${told[@]}"; do
    read -r wanted got command <<< "$line"
    equal "the exit status of: $command" "$wanted" "$got"
done
check "every card is home" cards_are_home
check "the machine is gone" machine_is_gone box
