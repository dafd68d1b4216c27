# A flood from a guest's console: two who read it get it byte for byte, one who does not costs the guest
# nothing.
# timeout: 2400
# shellcheck shell=bash disable=SC2153,SC2154

# 1 MiB in blocks of 256 bytes, at some 1.3 KiB a second; less for who cannot wait: --set BURST=64.
blocks=${BURST:-4096}
sum=$("$LAB"/host/pattern "$blocks" | sha256sum)

# burst FILE: what came after the guest's line about it.
burst() {
    local at
    at=$(grep -abo 'GUEST sends' "$1" | tail -n 1)
    tail -c +$((${at%%:*} + 14)) "$1" | head -c $((blocks * 256)) | sha256sum
}
burst_is_in() { [[ $(burst "$1") == "$sum" ]]; }

wait_until "the service is there" 120 service_is_up
check "Create" create burst "$GPU_AUDIO"
guest_says burst 'GUEST ready' 120
mkfifo /run/left.in /run/slow.in
vm1-console burst <> /run/left.in > /run/left.out &
left=$!
vm1-console --hold burst < /run/slow.in > /run/slow.out &
slow=$!
exec {slow_in}> /run/slow.in
ask burst 'echo both hear this' > /dev/null
wait_until "the other console hears too" 20 grep -q 'both hear this' /run/left.out

started=$SECONDS
vm1-console --until 'GUEST done ' --timeout 2000 burst <<< "send $blocks" > /run/right.out
echo "# a burst of $((blocks / 4)) KiB took $((SECONDS - started)) s"
wait_until "one console has the burst, byte for byte" 30 burst_is_in /run/right.out
wait_until "the other console too" 30 burst_is_in /run/left.out
equal "and who did not read costs the guest nothing" hello "$(ask burst 'echo hello' | tr -d '\r\n')"

check "PowerOff" machine burst PowerOff
wait_until "a console ends when the machine stops" 20 bash -c "! kill -0 $left"
exec {slow_in}>&-
wait_until "the slow one too, once it reads" 20 bash -c "! kill -0 $slow"
check "it gets what it has missed" burst_is_in /run/slow.out
check "Delete" machine burst Delete
wait_until "the card comes home" 60 cards_are_home
