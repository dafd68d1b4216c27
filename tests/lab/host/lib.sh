# What every scenario has at hand. Sourced before the scenario, in one bash.
# shellcheck shell=bash
set -Eeuo pipefail
trap 'echo "# ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND: exit $?"' ERR
export LC_ALL=C HOME=/root

# shellcheck source=tests/lab/topologies/default disable=SC1091
. /run/feos-lab/job/topologies/current

# shellcheck disable=SC2034 # for scenarios
IMAGES=/var/lib/feos/images # holds vmlinuz and guest.img
# iomem=relaxed lets the guest look into its cards' memory.
# shellcheck disable=SC2034
GUEST_CMDLINE='console=ttyS0 quiet mitigations=off iomem=relaxed'

# --- Saying what was found ---

ok() { echo "ok - $*"; }
not_ok() { echo "not ok - $*"; }

# check DESCRIPTION COMMAND...: the command's output is shown when it fails.
check() {
    local description=$1 output
    shift
    if output=$("$@" 2>&1); then
        ok "$description"
    else
        not_ok "$description"
        echo "#   failed: $*"
        printf '#   %s\n' "${output//$'\n'/$'\n'#   }"
    fi
}

# equal DESCRIPTION EXPECTED ACTUAL
equal() {
    if [[ $2 == "$3" ]]; then
        ok "$1"
    else
        not_ok "$1"
        echo "#   expected: $2"
        echo "#   actual:   $3"
    fi
}

# wait_until DESCRIPTION SECONDS COMMAND...: a check that may take a while.
# Returns 1 when the time is over.
wait_until() {
    local description=$1 seconds=$2 started=${EPOCHREALTIME/./} waited=0
    shift 2
    until "$@" > /dev/null 2>&1; do
        waited=$((${EPOCHREALTIME/./} - started))
        if ((waited > seconds * 1000000)); then
            not_ok "$description (not within $seconds s)"
            return 1
        fi
        sleep 0.1
    done
    ((waited < 500000)) ||
        description+=" ($((waited / 1000000)).$((waited / 100000 % 10)) s)"
    ok "$description"
}

# --- Host devices ---

# driver_of ADDRESS: the driver's name, nothing where none is bound.
driver_of() {
    local link=/sys/bus/pci/devices/$1/driver
    [[ ! -e $link ]] || basename "$(readlink "$link")"
}

driver_is() { [[ $(driver_of "$1") == "$2" ]]; }

# group_of ADDRESS: its IOMMU group's devices, sorted, in one line.
group_of() {
    local group=(/sys/bus/pci/devices/"$1"/iommu_group/devices/*)
    [[ -e ${group[0]} ]] || return 0
    echo "${group[@]##*/}"
}

# bind_to DRIVER ADDRESS: by hand, as a test's own step; DRIVER "" gives the
# device back to its host driver.
bind_to() {
    local device=/sys/bus/pci/devices/$2
    [[ ! -e $device/driver ]] || echo "$2" > "$device/driver/unbind"
    echo "$1" > "$device/driver_override"
    echo "$2" > /sys/bus/pci/drivers_probe
}

# qmp COMMAND [ARGUMENTS]: asks the QEMU around the lab host, for hot plug and
# surprise removal: qmp device_del '{"id":"gpu_third"}'. Prints its answer.
# The byte 0xff makes QEMU forget what the terminal echoed before it was raw.
qmp() {
    local answer
    exec {qmp_fd}<> /dev/ttyS2
    printf '%s\n' $'\xff' '{"execute":"qmp_capabilities"}' \
        "{\"execute\":\"$1\",\"arguments\":${2:-{\}},\"id\":\"lab\"}" >&$qmp_fd
    while read -r -t 10 -u "$qmp_fd" answer; do
        [[ $answer != *'"id": "lab"'* ]] || break
    done
    exec {qmp_fd}>&-
    echo "$answer"
    [[ $answer == *'"return"'* ]]
}

# --- Guests ---

# guest_console NAME: where its serial console is kept.
guest_console() { echo "/var/log/feos/$1/console.log"; }

# guest_says NAME REGEX SECONDS: has said, or will within that time.
guest_says() {
    wait_until "guest $1 says '$2'" "$3" grep -qE -- "$2" "$(guest_console "$1")"
}

# guest_do NAME LINE: has the guest's shell run it, prints what that says and
# returns its status. The terminal stays open meanwhile, and is read: QEMU looks
# at one that was just opened once a second only, and a full one stops the guest.
guest_do() {
    local terminal line
    terminal=$(virsh ttyconsole "$1")
    exec {guest_fd}<> "${terminal//$'\n'/}"
    printf '%s\n' "$2" >&"$guest_fd"
    while IFS= read -r -t 20 -u "$guest_fd" line; do
        line=${line%$'\r'}
        [[ $line != 'GUEST done '* ]] || break
        printf '%s\n' "$line"
    done
    exec {guest_fd}>&-
    [[ $line == 'GUEST done 0' ]]
}

domain_state() { virsh domstate "$1" 2> /dev/null | head -n 1; }
domain_is_gone() { ! virsh domid "$1"; }
