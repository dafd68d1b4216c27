# What every scenario has at hand. Sourced before the scenario, in one bash.
# shellcheck shell=bash
set -Eeuo pipefail
trap 'echo "# ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND: exit $?"' ERR
export LC_ALL=C HOME=/root
# A guest's terminal that we open becomes ours, and hangs up on us when the guest ends.
trap '' HUP

# shellcheck source=tests/lab/topologies/default disable=SC1091
. /run/feos-lab/job/topologies/current
# What tests/lab/run was told with --set.
# shellcheck disable=SC1091
. /run/feos-lab/job/settings

# shellcheck disable=SC2034 # for scenarios
IMAGES=/var/lib/feos/images # holds vmlinuz and guest.img
# shellcheck disable=SC2034
LAB=/run/feos-lab/job # holds host/ and topologies/
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

# bounded SECONDS COMMAND...: true within that time; says nothing.
bounded() {
    local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@" > /dev/null 2>&1; do
        ((${EPOCHREALTIME/./} < end)) || return 1
        sleep 0.1
    done
}

# wait_until DESCRIPTION SECONDS COMMAND...: a check that may take a while.
# Returns 1 when the time is over.
wait_until() {
    local description=$1 seconds=$2 started=${EPOCHREALTIME/./} waited
    shift 2
    if ! bounded "$seconds" "$@"; then
        not_ok "$description (not within $seconds s)"
        return 1
    fi
    waited=$((${EPOCHREALTIME/./} - started))
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

# driver_is ADDRESS DRIVER: "" for none.
driver_is() {
    local link=/sys/bus/pci/devices/$1/driver
    [[ $link -ef /sys/bus/pci/drivers/$2 || (! $2 && ! -e $link) ]]
}

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
    while IFS= read -r -t 20 -u "$guest_fd" line 2> /dev/null; do
        line=${line%$'\r'}
        [[ $line != 'GUEST done '* ]] || break
        printf '%s\n' "$line"
    done
    exec {guest_fd}>&-
    [[ $line == 'GUEST done 0' ]]
}

domain_state() { virsh domstate "$1" 2> /dev/null | head -n 1; }
domain_is_gone() { ! virsh domid "$1"; }

# --- The service ---

VM1=/org/feos/VM1

# vm1 METHOD [SIGNATURE ARGUMENT...]: a method of the service itself. Starting a
# machine takes a while here.
vm1() {
    local method=$1
    shift
    busctl --timeout=200 -- call org.feos.VM1 $VM1 org.feos.VM1 "$method" "$@"
}

# service_is_up: it answers, and knows libvirt's domains. A lab host that is slow may have it answer
# before that, and then refuse.
service_is_up() {
    local findings
    findings=$(vm1 Check 'sasa{sv}' lab-service-is-up 0 0) && [[ $findings != *HypervisorUnavailable* ]]
}

gpu_path() {
    local name=${1//[:.]/_}
    echo "$VM1/gpu/$name"
}

# gpu ADDRESS METHOD
gpu() { busctl --timeout=200 -- call org.feos.VM1 "$(gpu_path "$1")" org.feos.VM1.GPU "$2"; }

# machine NAME METHOD [SIGNATURE ARGUMENT...]: names in scenarios are letters only,
# which paths keep.
machine() {
    local name=$1 method=$2
    shift 2
    busctl --timeout=200 -- call org.feos.VM1 "$VM1/machine/$name" org.feos.VM1.Machine "$method" "$@"
}

# gpu_is ADDRESS STATE, and nothing under way with it.
gpu_is() { [[ $(gpu_view "$1") == "$2 - -" ]]; }

# gpu_view ADDRESS: state, pending and fault in one line; "-" where empty.
gpu_view() {
    local words
    words=$(busctl get-property org.feos.VM1 "$(gpu_path "$1")" org.feos.VM1.GPU State Pending Fault) ||
        return
    words=${words//\"\"/\"-\"}
    words=${words//s \"/}
    words=${words//\"/}
    echo "${words//$'\n'/ }"
}

gpu_get() { property "$(gpu_path "$1")" org.feos.VM1.GPU "$2"; }
machine_get() { property "$VM1/machine/$1" org.feos.VM1.Machine "$2"; }
machine_is() { [[ $(machine_get "$1" State) == "$2" ]]; }
machine_is_gone() { ! machine_get "$1" State; }

# property PATH INTERFACE NAME: without its type, strings without quotes.
property() {
    local value
    value=$(busctl get-property org.feos.VM1 "$1" "$2" "$3") || return
    value=${value#* }
    value=${value#\"}
    echo "${value%\"}"
}

# A guest that boots the lab's kernel: options for create.
GUEST_OPTIONS=(memory-mib t 512 vcpus u 1 firmware s bios kernel s vmlinuz
    initrd s guest.img cmdline s "$GUEST_CMDLINE")

# create NAME "ADDRESS..." [OPTION TYPE VALUE]...: Create with the lab's guest.
create() {
    local name=$1 gpus
    read -ra gpus <<< "$2"
    shift 2
    local options=("${GUEST_OPTIONS[@]}" "$@")
    # What an earlier machine of that name said is not this one's.
    [[ ! -e $(guest_console "$name") ]] || : > "$(guest_console "$name")"
    vm1 Create 'sasa{sv}' "$name" ${#gpus[@]} "${gpus[@]}" \
        $((${#options[@]} / 3)) "${options[@]}"
}

# refused ERROR DESCRIPTION COMMAND...: the command, one of those above, fails with
# that error of ours and a remedy. busctl tells an error's name only in its
# debugging output.
refused() { refused_saying "$1" '' "${@:2}"; }

# refused_saying ERROR REGEX DESCRIPTION COMMAND...: and the sentence says that.
refused_saying() {
    local error=$1 regex=$2 description=$3 output name message
    shift 3
    if output=$(SYSTEMD_LOG_LEVEL=debug "$@" 2>&1); then
        not_ok "$description: is refused"
        echo "#   was not refused: $*"
        return
    fi
    name=$(sed -n 's/.*error-name=\([^ ]*\).*/\1/p' <<< "$output" | tail -n 1)
    message=$(sed -n 's/^Call failed: //p' <<< "$output")
    # What is wrong, and then the remedy, which may end with a command.
    if [[ $name == "org.feos.VM1.Error.$error" && $message == *.\ ?* && $message =~ $regex ]]; then
        ok "$description: $error"
    else
        not_ok "$description: $error"
        echo "#   got: $name: $message${regex:+ (wanted: $regex)}"
    fi
    echo "#   $message"
}

# --- Consoles ---

# What tests/lab/stage puts there; each says what it does when called without arguments.
PATH+=:/usr/lib/feos-lab

# ask NAME LINE: as guest_do, but over OpenConsole, so that it can be used while
# consoles are open.
ask() {
    local output status
    output=$(vm1-console --until 'GUEST done ' --timeout 60 "$1" <<< "$2") || return
    output=${output//$'\r'/}
    status=${output##*GUEST done }
    output=${output%GUEST done *}
    printf '%s' "$output"
    ((status == 0))
}

# guest_has NAME REGEX: what "devices" in the guest says; guest_lacks, what it does not.
guest_has() { ask "$1" devices | grep -E -- "$2"; }
guest_lacks() {
    local devices
    devices=$(ask "$1" devices) && ! grep -E -- "$2" <<< "$devices"
}

# --- What was told ---

# told PATH INTERFACE: the StateChanged signals of an object in the file $signals,
# in order: "created>starting starting>running ".
# shellcheck disable=SC2154 # the scenario's
told() { sed -n "s|^$1: $2.StateChanged ('\([a-z-]*\)', '\([a-z-]*\)', .*|\1>\2|p" "$signals" | tr '\n' ' '; }

# told_property PATH PROPERTY: the values of a string in its PropertiesChanged.
# shellcheck disable=SC2154
told_property() { sed -n "s|^$1: .*PropertiesChanged .*'$2': <'\([^']*\)'>.*|\1|p" "$signals" | tr '\n' ' '; }

# The journal's kinds of entries; the catalog has the same.
# shellcheck disable=SC2034
GPU_STATE_ID=d89a2011d6caacd2f6eb80e2ad238d55
# shellcheck disable=SC2034
MACHINE_STATE_ID=45e6f7f904d3a640224aa088a384d8f8

# journalled ID FIELD=VALUE: as told, out of the journal.
journalled() {
    journalctl -q -b -o export --output-fields=FEOS_OLD_STATE,FEOS_STATE MESSAGE_ID="$1" "$2" |
        awk -F = '$1 == "FEOS_OLD_STATE" { old = $2 } $1 == "FEOS_STATE" { new = $2 }
            $0 == "" && new { printf "%s>%s ", old, new; old = new = "" }
            END { if (new) printf "%s>%s ", old, new }'
}

# switch_off SCENARIO WATCH: has the host go down and WATCH look on; it returns when it has seen enough.
# The end of the scenario is told here, for nobody else is left to do so, and into a file: a serial port
# may lose what was written to it just before the end.
switch_off() {
    trap '' TERM
    touch /run/feos-lab-goes-off
    echo "LAB off"
    exec > /run/feos-lab/out/last-words 2>&1
    systemctl --no-block poweroff
    "$2"
    printf '%s\n' "LAB through" "LAB end $1 0" "LAB done"
}

# The host as it should be when nobody has taken anything.
cards_are_home() {
    driver_is "$GPU_AUDIO" bochs-drm && driver_is "$GPU_AUDIO_COMPANION" snd_hda_intel &&
        driver_is "$GPU_VIRTIO" virtio-pci && driver_is "$GPU_THIRD" bochs-drm &&
        gpu_is "$GPU_AUDIO" host-bound && gpu_is "$GPU_VIRTIO" host-bound &&
        gpu_is "$GPU_THIRD" host-bound
}

# overrides_are_clean: no driver_override of ours is left behind.
overrides_are_clean() {
    local card
    for card in "$GPU_AUDIO" "$GPU_AUDIO_COMPANION" "$GPU_VIRTIO" "$GPU_THIRD"; do
        [[ $(< "/sys/bus/pci/devices/$card/driver_override") == '(null)' ]] || return 1
    done
}
