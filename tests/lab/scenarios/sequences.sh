# What the kernel answers to each write by which a card changes hands, against the recording that the
# fake kernel is held to as well (tests/chaos/sequences.txt): first the very writes that the helper
# makes on a Create and on the way back, then the same and some wrong ones by hand, one by one, each
# with the driver, the override and the uevents that it leaves behind.
# timeout: 500
# shellcheck shell=bash disable=SC2153

recording=/usr/lib/feos-lab/sequences.txt
live=/run/feos-sequences.txt

# --- The helper's writes ---

# Seen where they arrive in the kernel: what follows the daemon itself slows down its surveys.
# There is more than one driver_override_store(), all of one signature.
tracing=/sys/kernel/tracing
mountpoint -q $tracing || mount -t tracefs nodev $tracing
awk '$3 == "driver_override_store" && NF == 3 {
        print "p:feos/override" n++ " 0x" $1 " device=+0(+0(%di)):string value=+0(%dx):string"
    }' /proc/kallsyms > $tracing/kprobe_events
echo 'p:feos/unbind unbind_store driver=+0(+0(%di)):string device=+0(%si):string
p:feos/probe drivers_probe_store device=+0(%si):string' >> $tracing/kprobe_events
echo 1 > $tracing/events/feos/enable

# writes: those since the last time, as the recording words them.
writes() {
    sed -nE \
        -e 's/.*: override[0-9]*: .* device="([^"]*)" value="([^"]*)"?$/override \1 \2/p' \
        -e 's/.*: unbind: .* driver="([^"]*)" device="([^"]*)"?$/unbind \2 \1/p' \
        -e 's/.*: probe: .* device="([^"]*)"?$/probe \1/p' $tracing/trace |
        sed -E 's/^(override [^ ]+) $/\1 -/'
    echo > $tracing/trace
}

# recorded SECTION: its lines.
recorded() { sed -n "/^\[$1\]$/,/^\[/{/^\[/d;/^$/d;p}" "$recording"; }

wait_until "the service is there" 120 service_is_up
check "every card is home" cards_are_home
writes > /dev/null
check "Create" create box "$GPU_AUDIO"
equal "the helper's writes on a Create" "$(recorded create | sed 's/ = .*//')" "$(writes)"

# --- One write at a time ---

stdbuf -oL udevadm monitor --kernel --udev --property --subsystem-match=pci > /run/uevents &
monitor=$!

# uevents SOURCE: "ACTION ADDRESS DRIVER" of each so far, of the KERNEL's or of UDEV's.
uevents() {
    awk -v source="$1" '
        $0 ~ "^" source " *\\[" {
            sub(/^[A-Z]+ *\[[^]]*\] */, "")
            on = 1; action = $1; n = split($2, path, "/"); driver = "-"; next
        }
        on && /^DRIVER=/ { driver = substr($0, 8) }
        on && $0 == "" { print action, path[n], driver; on = 0 }' /run/uevents
}

# events_await: until all that has happened so far is in the file. A change of
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
    not_ok "the monitor has stopped" >&2
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
    kernel=$(uevents KERNEL | grep -v "$NIC" | tail -n "+$((events_before + 1))" | tr '\n' ',' || true)
    udev=$(uevents UDEV | grep -v "$NIC" | tail -n "+$((events_before + 1))" | tr '\n' ',' || true)
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
check "Delete" machine box Delete
equal "the helper's writes on the way back" "$(recorded return | sed 's/ = .*//')" "$(writes)"
echo 0 > $tracing/events/feos/enable
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
