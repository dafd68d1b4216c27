# The whole life of a machine with a GPU, over D-Bus only. After every step the
# properties, the signals and the journal have to say the same.
# timeout: 1800
# shellcheck shell=bash disable=SC2153

signals=/run/feos-life-signals
gdbus monitor --system --dest org.feos.VM1 > $signals &
wait_until "the service is there" 60 vm1 ListGPUs
wait_until "the monitor hears the service" 20 grep -q 'The name org.feos.VM1 is owned' $signals
check "every card is home" cards_are_home

machine_path=$VM1/machine/life
card=$(gpu_path "$GPU_AUDIO")
so_far_machine=''
so_far_card=''
card_before=$(journalled "$GPU_STATE_ID" FEOS_GPU="$GPU_AUDIO")
# rights STEPS: only what each has led to.
rights() {
    local step
    for step in $1; do printf '%s ' "${step#*>}"; done
}
all_told() {
    [[ $(told "$machine_path" org.feos.VM1.Machine) == "$so_far_machine" &&
        $(told "$card" org.feos.VM1.GPU) == "$so_far_card" ]]
}

# step DESCRIPTION STATE CARD MACHINE-STEPS CARD-STEPS: where the step has led to, and
# what it has added to all that was told so far.
step() {
    local description=$1 state=$2 card_state=$3
    so_far_machine+=${4:+$4 }
    so_far_card+=${5:+$5 }
    wait_until "$description: the machine is $state" 60 machine_is life "$state"
    wait_until "$description: its card is $card_state" 60 gpu_is "$GPU_AUDIO" "$card_state"
    # A signal takes its way through the bus and the monitor.
    wait_until "$description: the signals are there" 10 all_told || true
    equal "$description: StateChanged of the machine" \
        "$so_far_machine" "$(told "$machine_path" org.feos.VM1.Machine)"
    equal "$description: PropertiesChanged of the machine" \
        "$(rights "$so_far_machine")" "$(told_property "$machine_path" State)"
    equal "$description: StateChanged of the card" "$so_far_card" "$(told "$card" org.feos.VM1.GPU)"
    equal "$description: the machine in the journal" \
        "$so_far_machine" "$(journalled "$MACHINE_STATE_ID" FEOS_MACHINE=life)"
    equal "$description: the card in the journal" \
        "$card_before$so_far_card" "$(journalled "$GPU_STATE_ID" FEOS_GPU="$GPU_AUDIO")"
}

# --- Networks and disks ---

ip link add labbridge type bridge
ip link set labbridge up
ip address add 10.76.0.1/24 dev labbridge
cat > /run/labnet.xml << END
<network><name>labnet</name><forward mode='bridge'/><bridge name='labbridge'/></network>
END
virsh net-define /run/labnet.xml > /dev/null
virsh net-start labnet > /dev/null
"$LAB"/host/pattern 4096 > "$IMAGES/first.img"
"$LAB"/host/pattern 8192 > "$IMAGES/second.img"
first=$(sha256sum < "$IMAGES/first.img")
second=$(sha256sum < "$IMAGES/second.img")

# --- Ignition: all that a shell, a comma of QEMU's or a sloppy copy could spoil ---

secret=topsecretpassphrase
{
    printf '{"ignition":{"version":"3.3.0"},\n\t"passwd":"%s",' $secret
    # shellcheck disable=SC2016 # no expansion
    printf '"odd":"a,b=c;d $(e) `f` \\"g\\" \\\\ %%s %s é 漢 😀","long":"' "'h' <i>&amp;"
    seq -s ' ' 3000
    printf '"}\n'
} | tr -d '\n' > /run/life.ign

# --- Born, and started ---

check "Create without start" vm1 Create 'sasa{sv}' life 1 "$GPU_AUDIO" $((${#GUEST_OPTIONS[@]} / 3 + 3)) \
    "${GUEST_OPTIONS[@]}" start b false ignition s "$(< /run/life.ign)" \
    disks 'aa{sv}' 1 3 id s first path s first.img read-only b true
step "Create without start" created host-bound "" ""
equal "no QEMU runs" 0 "$(machine_get life LeaderPID)"
equal "it does not start with the host" false "$(machine_get life Autostart)"
equal "it shows its one card" "as 1 \"$GPU_AUDIO\"" \
    "$(busctl get-property org.feos.VM1 "$machine_path" org.feos.VM1.Machine GPUAddresses)"

check "Start" machine life Start
taken="host-bound>vfio-bound vfio-bound>attached"
home="attached>vfio-bound vfio-bound>host-bound"
step "Start" running attached "created>starting starting>running" "$taken"
guest_says life 'GUEST ready' 120
check "the guest drives its card" grep -q '^GUEST drives .* ok' "$(guest_console life)"
qemu=$(machine_get life LeaderPID)
check "QEMU is the leader" grep -q qemu "/proc/$qemu/comm"

equal "the guest reads its Ignition text, byte for byte" "$(sha256sum < /run/life.ign)" \
    "$(ask life ignition | base64 -d | sha256sum)"

# --- A disk and a NIC come and go ---

check "the guest has its first disk, read-only" guest_has life " 2048 ro 1"
equal "and reads it" "$first" "$(ask life 'sha256sum < /dev/vda')"
check "AttachDisk" machine life AttachDisk 'a{sv}' 2 id s second path s second.img
wait_until "the guest has it" 30 guest_has life " 4096 ro 0"
equal "and reads it" "$second" "$(ask life 'sha256sum < /dev/vdb')"
check "the guest writes to it" ask life 'echo written by the guest | dd of=/dev/vdb conv=notrunc,fsync 2> /dev/null'
check "and the file has it" grep -q '^written by the guest$' "$IMAGES/second.img"
check "DetachDisk" machine life DetachDisk s second
wait_until "it leaves the guest" 30 guest_lacks life " 4096 ro 0"
check "the first one stays" guest_has life " 2048 ro 1"

check "AttachNIC to a bridge" machine life AttachNIC 'a{sv}' 4 \
    id s wire type s bridge source s labbridge mac s 52:54:00:AA:00:01
wait_until "the guest has it" 30 guest_has life "52:54:00:aa:00:01"
# shellcheck disable=SC2016 # for the guest's shell
check "and reaches the host through it" ask life \
    'nic=$(nic 52:54:00:aa:00:01); ip link set $nic up; ip address add 10.76.0.2/24 dev $nic; ping -c 1 -W 10 10.76.0.1'
check "DetachNIC" machine life DetachNIC s wire
wait_until "it leaves the guest" 30 guest_lacks life "52:54:00:aa:00:01"
id=$(machine life AttachNIC 'a{sv}' 3 type s network source s labnet mac s 52:54:00:aa:00:02)
id=${id#s \"}
id=${id%\"}
check "AttachNIC to a libvirt network makes an id" test -n "$id"
wait_until "the guest has it" 30 guest_has life "52:54:00:aa:00:02"
check "virsh sees it" grep -q "labnet.*52:54:00:aa:00:02" <<< "$(virsh domiflist life)"
check "GetXML has it too" grep -q "52:54:00:aa:00:02.*$id" <<< "$(machine life GetXML)"
step "devices that came and went" running attached "" ""

# --- Two consoles ---

# 1 MiB in blocks of 256 bytes; less for who cannot wait: --set BURST=64.
blocks=${BURST:-4096}

mkfifo /run/left.in /run/slow.in
vm1-console life <> /run/left.in > /run/left.out &
left=$!
vm1-console --hold life < /run/slow.in > /run/slow.out &
slow=$!
exec {slow_in}> /run/slow.in
ask life 'echo both hear this' > /run/right.out
wait_until "what was typed at one console is answered at both" 20 grep -q 'both hear this' /run/left.out
echo 'echo and that' > /run/left.in
wait_until "also the other way round" 20 grep -q 'and that' /run/left.out
started=$SECONDS
dumps() {
echo "# dump $1: right $(stat -c %s /run/right.out) left $(stat -c %s /run/left.out) log $(stat -c %s "$(guest_console life)")"
q=$(machine_get life LeaderPID)
for t in /proc/$q/task/*; do echo "# $(cat $t/comm) $(cat $t/wchan) $(awk '{print $3,$14,$15}' $t/stat)"; done
d=$(systemctl show -P MainPID feos-vmd); echo "# daemon $(cat /proc/$d/wchan) $(awk '{print $3,$14,$15}' /proc/$d/stat)"; ls -l /proc/$d/fd | grep -E 'pts|socket' | wc -l
}
vm1-console --until 'GUEST done ' --timeout 60 life <<< "send $blocks" > /run/right.out || true
dumps 1
hmp() { timeout 20 virsh qemu-monitor-command life --hmp "$@" | tr -d '\n\r'; echo; }
for r in 0x3f9 0x3fa 0x3fd 0x3fd; do hmp "i /b $r"; done
dumps 2
sleep 5
dumps 3
kill -9 $slow
sleep 5
dumps 4
sleep 5
dumps 5
ask life 'echo hello' || true
dumps 6
echo "# a burst of $((blocks / 4)) KiB took $((SECONDS - started)) s"
