# What scenarios of many trials share. Sourced by them, after lib.sh.
#
# Each says how many trials tests/run makes and how many tests/soak; --set SOAK=PERCENT chooses that
# share of the second number, --set TRIALS=N any number. --set SEED=N repeats random instants.
# shellcheck shell=bash
shopt -s extglob

# shellcheck source=tests/lab/host/invariants.sh disable=SC1091
. "$LAB/host/invariants.sh"

# The trials end most guests before they are up: these are started as fast as can be.
# shellcheck disable=SC2034 # for create
GUEST_OPTIONS=(memory-mib t 128 vcpus u 1 firmware s bios kernel s vmlinuz
    initrd s guest.img cmdline s "$GUEST_CMDLINE")

seed=${SEED:-$((${EPOCHREALTIME/./} % 32768))}
RANDOM=$seed
wait_until "the service is there" 120 service_is_up
for card in "$GPU_BOOT" "$GPU_AUDIO" "$GPU_VIRTIO" "$GPU_THIRD" "$GPU_BAD_GROUP"; do
    [[ ! -e /sys/bus/pci/devices/$card ]] || home[$card]=$(driver_of "$card")
done

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }

sleep_ms() { sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"; }

# --- A trial ---

wrong() { wrongs+=("$*"); }

# must DESCRIPTION COMMAND...: a part of the trial.
must() {
    local description=$1 output
    shift
    output=$("$@" 2>&1) || wrong "$description: $output"
}

# must_soon DESCRIPTION SECONDS COMMAND...
must_soon() {
    local description=$1 seconds=$2
    shift 2
    bounded "$seconds" "$@" || wrong "$description: not within $seconds s"
}

# timed WHAT MS: one more value for the table.
timed() {
    [[ ${times[$1]-} ]] || timed_things+=("$1")
    times[$1]+="$2 "
}

# settled SECONDS: the invariants, as a part of the trial; settles $took, in ms.
settled() {
    local began what
    began=$(now_ms)
    invariants "$1" > /run/feos-invariants || true
    took=$(($(now_ms) - began))
    while IFS= read -r what; do wrong "$what"; done < /run/feos-invariants
}

# instant SPAN [DENSE]: a random one of so many ms, in $instant. The trials are spread evenly, one in
# each part of the span; with DENSE every other one over the first DENSE ms.
instant() {
    local span=$1 n=$((trial - 1)) of=$count
    if [[ ${2-} ]]; then
        ((n % 2)) || span=$2
        n=$((n / 2)) of=$(((count + 1) / 2))
    fi
    instant=$((span * (n * 32768 + RANDOM) / (of * 32768)))
}

# trials NAME RUN SOAK STEP: so many trials; STEP is a function that makes one, with $trial its
# number, tells in $note what it met and calls wrong() for what it should not have.
trials() {
    local name=$1 step=$4 failures=0 line
    local -A times=() met=()
    local timed_things=()
    count=${TRIALS:-$2}
    [[ ${TRIALS-} || ! ${SOAK-} ]] || count=$((($3 * SOAK + 99) / 100))
    echo "# $name: $count trials, SEED=$seed"
    for ((trial = 1; trial <= count; trial++)); do
        wrongs=() note=
        "$step" || wrong "it ended half-way"
        ((${#wrongs[@]})) || settled 10
        if ((!${#wrongs[@]})); then
            ok "$name, trial $trial of $count${note:+: $note}"
            continue
        fi
        not_ok "$name, trial $trial of $count${note:+: $note}"
        printf '#   %s\n' "${wrongs[@]}"
        if ((++failures == 5)); then
            not_ok "$name: five trials have failed, $((count - trial)) are not made"
            break
        fi
        clean_slate
    done
    for line in "${!met[@]}"; do echo "# ${met[$line]} met: $line"; done
    figures
}

# A trial that failed is not to fail the next. A card with a fault is taken from the bus and found
# anew, as an administrator would who has no other way.
clean_slate() {
    local name address
    systemctl reset-failed
    for name in $(virsh list --name); do virsh destroy "$name" > /dev/null || true; done
    for name in $(virsh list --all --name); do bounded 10 machine "$name" Delete || true; done
    for address in "${!home[@]}"; do
        [[ $(gpu_get "$address" Fault) ]] || continue
        echo "#   $address is taken from the bus and found anew"
        for name in /sys/bus/pci/devices/"${address%.*}".*; do echo 1 > "$name/remove"; done
        echo 1 > /sys/bus/pci/rescan
    done
    bounded 60 cards_are_home || true
}

# have_machine NAME "ADDRESS...": defines it, where a trial that failed has taken it away.
have_machine() {
    [[ -e /etc/libvirt/qemu/$1.xml ]] || must "a machine without start" create "$1" "$2" start b false
}

# The table's lines: what was tried, how often, how many failed; what was timed, and how long.
figures() {
    local what
    ((${#timed_things[@]})) || echo "# | $name | $((trial > count ? count : trial)) | $failures | | | | |"
    for what in "${timed_things[@]}"; do
        # shellcheck disable=SC2086 # one number a line
        printf '%s\n' ${times[$what]} | sort -n |
            awk -v head="# | $name | $((trial > count ? count : trial)) | $failures | $what" '{ ms[NR] = $1 }
                END { print head " | " ms[1] " | " ms[int((NR + 1) / 2)] " | " ms[NR] " |" }'
    done
}

# --- What is done to the host ---

daemon_pid() { systemctl show -P MainPID feos-vmd; }

# How far the machine "box" has come with its $cards, without asking anybody.
phase() {
    local card away='' on_vfio=yes recorded=''
    for card in $cards; do
        if [[ /sys/bus/pci/devices/$card/driver -ef /sys/bus/pci/drivers/vfio-pci ]]; then
            away=yes
        else
            on_vfio=
            [[ -e /sys/bus/pci/devices/$card/driver ]] || away=yes
        fi
        [[ ! -e /run/feos-vmd/$card.card ]] || recorded=yes
    done
    if [[ -e /run/libvirt/qemu/box.pid ]]; then
        phase="QEMU is there"
    elif [[ $on_vfio ]]; then
        phase="all cards on vfio-pci"
    elif [[ $away ]]; then
        phase="cards half-way"
    elif [[ $recorded ]]; then
        phase="cards at home, recorded"
    elif [[ -e /etc/libvirt/qemu/box.xml ]]; then
        phase="cards at home, defined"
    else
        phase="nothing to be seen"
    fi
}

# kill_at BEGAN INSTANT PID: kills it so long after, and notes when and where that was.
kill_at() {
    local left=$(($1 + $2 - $(now_ms)))
    ((left <= 0)) || sleep_ms "$left"
    phase
    kill -9 "$3" || true
    killed=$(now_ms)
    note="after $((killed - $1)) ms: $phase"
    met[$phase]=$((${met[$phase]:-0} + 1))
}

stop_libvirt() {
    systemctl stop libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirtd.service
    libvirt_is_down=yes
}
start_libvirt() {
    systemctl start libvirtd.socket libvirtd.service
    libvirt_is_down=
}
