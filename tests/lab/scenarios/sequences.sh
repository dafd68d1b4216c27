# What the kernel answers to each write by which a card changes hands, against the recording that the
# fake kernel is held to as well (tests/chaos/sequences.txt): first the very writes that the helper
# makes on a Create and on the way back, then the same and some wrong ones by hand, one by one, each
# with the driver, the override and the uevents that it leaves behind.
# timeout: 400
# shellcheck shell=bash disable=SC2153

recording=/usr/lib/feos-lab/sequences.txt
live=/run/feos-sequences.txt
card=("$GPU_AUDIO" "$GPU_AUDIO_COMPANION")

# --- The helper's writes ---

# writes FILE...: those to drivers' files in the traces, as the recording words them.
writes() {
    sed -nE \
        -e 's|.*write\([0-9]+</sys/devices/[^>]*/([^/>]+)/driver_override>, "([^"\\]*)(\\n)?", [0-9]+\) *= ([0-9]+)$|override \1 \2 = ok|p' \
        -e 's|.*write\([0-9]+</sys/bus/pci/drivers/([^/>]+)/unbind>, "([^"]*)", [0-9]+\) *= ([0-9]+)$|unbind \2 \1 = ok|p' \
        -e 's|.*write\([0-9]+</sys/bus/pci/drivers_probe>, "([^"]*)", [0-9]+\) *= ([0-9]+)$|probe \1 = ok|p' \
        "$@" | sed -E 's/^(override [^ ]+)  = /\1 - = /'
}

# trace NAME: follows the daemon and its helpers into /run/NAME.PID, a file each.
trace() {
    strace -ff -y -s 200 -e trace=write -o "/run/$1" -p "$(systemctl show -P MainPID feos-vmd)" \
        2> "/run/$1.log" &
    tracer=$!
    wait_until "strace has the daemon" 20 grep -q attached "/run/$1.log"
}

trace_end() {
    kill -INT $tracer
    wait $tracer || true
}

# recorded SECTION: its lines.
recorded() { sed -n "/^\[$1\]$/,/^\[/{/^\[/d;/^$/d;p}" "$recording"; }

wait_until "the service is there" 120 service_is_up
check "every card is home" cards_are_home
trace create
check "Create" create box "$GPU_AUDIO"
trace_end
equal "the helper's writes on a Create" "$(recorded create | sed 's/ -> .*//')" "$(writes /run/create.*)"

# --- One write at a time ---

stdbuf -oL udevadm monitor --kernel --udev --property --subsystem-match=pci > /run/uevents &
monitor=$!

# uevents SOURCE: "ACTION ADDRESS DRIVER" of each so far.
uevents() {
    awk -v source="$1" '
        $0 ~ "^" source "\\[" { on = 1; action = $2; n = split($3, path, "/"); driver = "-"; next }
        on && /^DRIVER=/ { driver = substr($0, 8) }
        on && $0 == "" { print action, path[n], driver; on = 0 }' /run/uevents
}

# events_reset: all that has happened so far is in the file and does not count any more. A change of
# the network card's says when the monitor has come so far.
marks=0
events_await() {
    udevadm settle
    marks=$((marks + 1))
    echo change > "/sys/bus/pci/devices/$NIC/uevent"
    local i
    for ((i = 0; i < 200; i++)); do
        (($(uevents UDEV | awk -v mark="change $NIC" 'index($0, mark) == 1 { n++ } END { print n + 0 }') < marks)) ||
            return 0
        sleep 0.05
    done
    not_ok "the monitor has stopped"
    return 1
}

# step VERB ADDRESS [WORD]: does it, and prints a line as the recording has them. What the kernel
# sends and what udev sends on is told once when it is the same.
step() {
    local verb=$1 address=$2 word=${3:--} file data=$2 said override events_before kernel udev
    local device=/sys/bus/pci/devices/$address
    case $verb in
        override) file=$device/driver_override data=${word#-}$'\n' ;;
        probe) file=/sys/bus/pci/drivers_probe ;;
        group) file=/dev/vfio/$(basename "$(readlink "$device/iommu_group")") ;;
        *) file=/sys/bus/pci/drivers/$word/$verb ;;
    esac
    events_before=$(uevents UDEV | grep -vc "$NIC" || true)
    if [[ $verb == group ]]; then
        # For reading: to open a node that is not there for both would make a file of its name, and
        # the next QEMU would take that for the group.
        said=$( (exec 8< "$file") 2>&1 && echo ok) || true
    else
        said=$( (printf '%s' "$data" > "$file") 2>&1 && echo ok) || true
    fi
    said=${said##*: }
    events_await
    kernel=$(uevents KERNEL | grep -v "$NIC" | tail -n "+$((events_before + 1))" | tr '\n' ',')
    udev=$(uevents UDEV | grep -v "$NIC" | tail -n "+$((events_before + 1))" | tr '\n' ',')
    [[ $kernel == "$udev" ]] || kernel="$kernel but udev $udev"
    kernel=${kernel%,}
    override=$(cat "$device/driver_override" 2> /dev/null) || override=
    override=${override/(null)/}
    local driver
    driver=$(driver_of "$address")
    case $verb in
        probe | group) printf '%s %s' "$verb" "$address" ;;
        *) printf '%s %s %s' "$verb" "$address" "$word" ;;
    esac
    printf ' = %s -> %s %s | %s\n' "$said" "${driver:--}" "${override:--}" "${kernel:--}"
}

# again SECTION: its steps once more.
again() {
    local verb address word
    echo "[$1]"
    while read -r verb address word; do
        word=${word%%= *}
        step "$verb" "$address" "${word% }"
    done < <(recorded "$1")
    echo
}

{ again held; } > $live
trace return
check "Delete" machine box Delete
trace_end
equal "the helper's writes on the way back" "$(recorded return | sed 's/ -> .*//')" \
    "$(writes /run/return.*)"
wait_until "every card is home again" 30 cards_are_home
events_await

# The service only looks on.
{
    again create
    again return
    again kernel
} >> $live
kill $monitor
wait $monitor || true
sed -n '/^\[/,$p' "$recording" > /run/recorded
check "the kernel answers as recorded" diff /run/recorded $live
sed 's/^/#= /' $live
check "every card is where it was" cards_are_home
check "no override is left" overrides_are_clean
unset card
