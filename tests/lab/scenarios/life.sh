# The whole life of a machine with a GPU, over D-Bus only. After every step the
# properties, the signals and the journal have to say the same.
# timeout: 900
# shellcheck shell=bash disable=SC2153

signals=/run/feos-life-signals
gdbus monitor --system --dest org.feos.VM1 > $signals &
wait_until "the service is there" 120 service_is_up
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

check "the guest has its first disk, read-only" guest_has life "'first' 2048 ro 1"
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

# --- Pause and resume ---

check "Pause" machine life Pause
step "Pause" paused attached "running>paused" ""
check "Resume" machine life Resume
step "Resume" running attached "paused>running" ""
equal "the guest goes on" hello "$(ask life 'echo hello')"
virsh suspend life > /dev/null
step "virsh suspend" paused attached "running>paused" ""
virsh resume life > /dev/null
step "virsh resume" running attached "paused>running" ""

# --- Reboots: same QEMU, same card ---

ready() { [[ $(grep -c '^GUEST ready' "$(guest_console life)") == "$1" ]]; }
driven() { grep -c '^GUEST drives .* ok' "$(guest_console life)"; }
check "a console goes through a reboot inside" \
    vm1-console --until 'GUEST ready' --timeout 90 life <<< 'reboot -f'
wait_until "the guest is up again after its reboot" 90 ready 2
equal "it drives its card again" 2 "$(driven)"
equal "in the same QEMU" "$qemu" "$(machine_get life LeaderPID)"
step "a reboot inside" running attached "" ""
check "Reboot" machine life Reboot
wait_until "the guest is up again after Reboot" 90 ready 3
equal "it drives its card again" 3 "$(driven)"
equal "in the same QEMU" "$qemu" "$(machine_get life LeaderPID)"
step "Reboot" running attached "" ""

# --- Two consoles; what they do with a flood is burst.sh ---

mkfifo /run/left.in
vm1-console life <> /run/left.in > /run/left.out &
left=$!
ask life 'echo both hear this' > /run/right.out
wait_until "what was typed at one console is answered at both" 20 grep -q 'both hear this' /run/left.out
echo 'echo and that' > /run/left.in
wait_until "also the other way round" 20 grep -q 'and that' /run/left.out

# --- Shutdown, and a guest that ignores it ---

check "Shutdown" machine life Shutdown
step "Shutdown" stopped host-bound "running>stopping stopping>stopped" "$home"
wait_until "a console ends when the machine stops" 20 bash -c "! kill -0 $left"
status=0
wait $left || status=$?
equal "and its end is an end of file" 0 $status
equal "no QEMU runs" 0 "$(machine_get life LeaderPID)"

check "Start again" machine life Start
step "Start again" running attached "stopped>starting starting>running" "$taken"
wait_until "the guest is up" 120 ready 4
check "the disk is there" guest_has life " 2048 ro 1"
check "so is what was attached" guest_has life "52:54:00:aa:00:02"
check "what was detached is not" guest_lacks life "4096 ro 0|52:54:00:aa:00:01"
check "a guest stops to listen to its power button" ask life 'killall acpid'
check "Shutdown" machine life Shutdown
step "Shutdown of a guest that ignores it" stopping attached "running>stopping" ""
check "its reason says so" test -n "$(machine_get life StateReason)"
equal "it runs on" hello "$(ask life 'echo hello')"
check "and is still stopping" machine_is life stopping
check "PowerOff" machine life PowerOff
step "PowerOff" stopped host-bound "stopping>stopped" "$home"

# --- A crash inside ---

check "Start once more" machine life Start
step "Start once more" running attached "stopped>starting starting>running" "$taken"
wait_until "the guest is up" 120 ready 5
vm1-console --timeout 60 life <<< 'echo c > /proc/sysrq-trigger' > /dev/null || true
wait_until "a crash of the guest: the machine is crashed" 60 machine_is life crashed
# QEMU stands still before libvirt ends it; a look may come between the two.
crash="running>crashed"
[[ $(journalled "$MACHINE_STATE_ID" FEOS_MACHINE=life) != *'paused>crashed ' ]] ||
    crash="running>paused paused>crashed"
step "a crash of the guest" crashed host-bound "$crash" "$home"
check "its reason says so" test -n "$(machine_get life StateReason)"

# --- The end ---

check "DetachNIC of a machine that is off" machine life DetachNIC s "$id"
check "Delete" machine life Delete
check "it is gone" machine_is_gone life
check "also from libvirt" domain_is_gone life
check "its disks are not" test -s "$IMAGES/first.img" -a -s "$IMAGES/second.img"
check "every card is home" cards_are_home
check "no override is left" overrides_are_clean
check "the Ignition text left no file behind" \
    bash -c "! grep -rlF $secret /run/feos-vmd /var/lib/feos /var/lib/libvirt /etc/libvirt 2> /dev/null"
virsh net-destroy labnet > /dev/null
virsh net-undefine labnet > /dev/null
ip link del labbridge
