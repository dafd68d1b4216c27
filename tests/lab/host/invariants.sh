# What must hold of the lab host at any time, whatever was done to it. Sourced by trials.sh.
# shellcheck shell=bash

# Where each card belongs while no machine has it; a scenario that moves one on purpose says so
# here.
declare -A home
# libvirt is not to be asked, for that would start it.
libvirt_is_down=

# --- One look at everything ---

declare -A driver group held_before holder qemu_pid domain_state_of
declare -A gpu_state gpu_fault gpu_message gpu_told_driver gpu_owner gpu_under_way
declare -A machine_state machine_leader
# The daemon's process, its descriptors and its memory in KiB.
declare -a daemon_process seen
helpers=

coproc LOOKER { exec vm1-look; }

# look REQUEST: leaves in $seen what vm1-look answers. Not for a subshell, which has no coprocess.
look() {
    local line
    seen=()
    echo "$1" >&"${LOOKER[1]}"
    while IFS= read -r line && [[ $line != . ]]; do seen+=("$line"); done <&"${LOOKER[0]}"
}

look_around() {
    local line words
    driver=() group=() held_before=() holder=() qemu_pid=() domain_state_of=() daemon_process=() helpers=
    gpu_state=() gpu_fault=() gpu_message=() gpu_told_driver=() gpu_owner=() gpu_under_way=()
    machine_state=() machine_leader=()
    look "look${libvirt_is_down:+-unlibvirt}"
    for line in "${seen[@]}"; do
        IFS=$'\t' read -r -a words <<< "$line"
        set -- "${words[@]}"
        case $1 in
            had) held_before[$2]+="$3 " ;;
            function)
                [[ $3 == - ]] || driver[$2]=$3
                [[ $4 == - ]] || group[$2]=$4
                ;;
            holds) holder[$2]+="$3 " ;;
            qemu) qemu_pid[$3]=$2 ;;
            helper) helpers+="$2 " ;;
            daemon) daemon_process=("$2" "$3" "$4") ;;
            domain) domain_state_of[$2]=$3 ;;
            gpu)
                gpu_state[$2]=$3
                gpu_under_way[$2]=$4
                gpu_fault[$2]=$5
                gpu_told_driver[$2]=$6
                gpu_owner[$2]=$7
                gpu_message[$2]=$8
                ;;
            machine)
                machine_state[$2]=$3
                machine_leader[$2]=$4
                ;;
        esac
    done
}

# --- What is wrong, a line each ---

# No GPU is on a host driver while a QEMU has its group open, none has two of them.
never() {
    local address node
    for address in "${!group[@]}"; do
        node=${group[$address]}
        # One that has it before and after our look at the drivers has it meanwhile.
        [[ ${holder[$node]-} && ${holder[$node]} == "${held_before[$node]-}" ]] || continue
        [[ ${driver[$address]-} == @(vfio-pci|pcieport|) ]] ||
            echo "$address is on ${driver[$address]} while QEMU ${holder[$node]}has group $node"
    done
    for node in "${!holder[@]}"; do
        [[ ${holder[$node]} == +([0-9])' ' ]] || echo "group $node has two owners: ${holder[$node]}"
    done
}

name_of_qemu() { # PID
    local name
    for name in "${!qemu_pid[@]}"; do
        [[ ${qemu_pid[$name]} != "$1" ]] || echo "$name"
    done
}

# The bus says of each GPU what sysfs and QEMU's descriptors say.
gpus_differ() {
    local address owner state
    ((${#gpu_state[@]})) || return 0 # the service has not answered, see is_unfinished
    for address in "${!home[@]}"; do
        [[ ! -e /sys/bus/pci/devices/$address || ${gpu_state[$address]-} ]] ||
            echo "$address is on the PCI bus and not on D-Bus"
    done
    for address in "${!gpu_state[@]}"; do
        owner=-
        state=host-bound
        [[ ${driver[$address]-} != vfio-pci ]] || state=vfio-bound
        if [[ ${holder[${group[$address]-none}]-} ]]; then
            state=attached
            owner=$(name_of_qemu "${holder[${group[$address]}]% }")
        fi
        [[ -e /sys/bus/pci/devices/$address ]] || echo "$address is on D-Bus and not on the PCI bus"
        [[ ${gpu_told_driver[$address]} == "${driver[$address]:--}" ]] ||
            echo "$address is on '${driver[$address]-}', D-Bus says ${gpu_told_driver[$address]}"
        [[ ${gpu_fault[$address]} == - || ${gpu_message[$address]} != - ]] ||
            echo "$address has fault ${gpu_fault[$address]} without a reason"
        # It is the domain's before its QEMU has opened the group; see is_unfinished.
        [[ ${domain_state_of[${gpu_owner[$address]}]-} != "being started" ]] || continue
        [[ ${gpu_state[$address]} == "$state" ]] ||
            echo "$address is $state, D-Bus says ${gpu_state[$address]}"
        [[ ${gpu_owner[$address]} == "$owner" ]] ||
            echo "$address is in the hands of '$owner', D-Bus says ${gpu_owner[$address]}"
    done
}

# And of each machine what libvirt says.
machines_differ() {
    local name state
    ((${#gpu_state[@]})) || return 0
    for name in "${!domain_state_of[@]}"; do
        [[ ${domain_state_of[$name]} != "being started" ]] || continue # see is_unfinished
        case ${machine_state[$name]-none} in
            running | paused) state=${machine_state[$name]} ;;
            stopping) state="@(running|in shutdown)" ;;
            none) state="no machine on D-Bus" ;;
            *) state="@(shut off|crashed)" ;;
        esac
        # shellcheck disable=SC2053 # a pattern
        [[ ${domain_state_of[$name]} == $state ]] ||
            echo "domain $name is ${domain_state_of[$name]}, D-Bus says ${machine_state[$name]-none}"
    done
    for name in "${!machine_state[@]}"; do
        [[ $libvirt_is_down || ${domain_state_of[$name]-} ]] ||
            echo "machine $name is no domain of libvirt"
        [[ ${domain_state_of[$name]-} != "being started" ]] || continue
        [[ ${machine_leader[$name]} == "${qemu_pid[$name]:-0}" ]] ||
            echo "machine $name has QEMU ${qemu_pid[$name]:-0}, D-Bus says ${machine_leader[$name]}"
    done
}

# What is still to come: cards on the way, faults, helpers at work.
is_unfinished() {
    local address name
    ((${#gpu_state[@]})) || echo "the service does not answer"
    for address in "${!gpu_state[@]}"; do
        [[ ${gpu_fault[$address]} == - ]] ||
            echo "$address has the fault ${gpu_fault[$address]}: ${gpu_message[$address]}"
        [[ ${gpu_fault[$address]} == - ]] || continue
        [[ ${gpu_under_way[$address]} == - ]] || echo "$address is ${gpu_under_way[$address]}"
        [[ ${gpu_state[$address]} == attached || ! ${home[$address]-} ||
            ${driver[$address]-} == "${home[$address]}" ]] ||
            echo "$address is on '${driver[$address]-}' and belongs to ${home[$address]}"
    done
    for name in "${!domain_state_of[@]}"; do
        [[ ${domain_state_of[$name]} != "being started" ]] || echo "domain $name is being started"
    done
    [[ ! $helpers ]] || echo "helpers are there: $helpers"
}

# --- The daemon itself: for each number of running machines it has what it keeps ---

# Up to four idle connections to libvirt, of two descriptors each, and two for whatever is under way.
fds_may_vary=8
declare -A most_fds looks_at rss_then

daemon_has_grown() {
    local pid fds rss key=${#qemu_pid[@]}
    ((${#daemon_process[@]})) || return 0
    read -r pid fds rss <<< "${daemon_process[*]}"
    if ((${looks_at[$key]:-0} < 3)); then
        ((fds <= ${most_fds[$key]:-0})) || most_fds[$key]=$fds
        looks_at[$key]=$((${looks_at[$key]:-0} + 1))
    elif ((fds > most_fds[$key] + fds_may_vary)); then
        echo "the daemon has $fds descriptors with $key machines, ${most_fds[$key]} at first"
    fi
    looks_at[$pid]=$((${looks_at[$pid]:-0} + 1))
    ((looks_at[$pid] != 3)) || rss_then[$pid]=$rss
    # What the first error or the first thread needs comes once; a leak comes with every trial.
    ((rss <= ${rss_then[$pid]:-$rss} + 4096)) ||
        echo "the daemon has grown from ${rss_then[$pid]} to $rss KiB"
}

# Each function still decodes the memory that the kernel has given it. A card that was reset behind its
# driver's back stays on it, and its registers are zeros.
memory_is_lost() {
    local address function line bar is should
    for address in "${!home[@]}"; do
        [[ ! ${holder[${group[$address]-none}]-} ]] || continue
        for function in "${!group[@]}"; do
            [[ ${function%.*} == "${address%.*}" ]] || continue
            look "memory $function"
            for line in "${seen[@]}"; do
                IFS=$'\t' read -r _ bar is should <<< "$line"
                echo "$function has $is in BAR $bar, its memory is at $should"
            done
        done
    done
}

# --- All of it ---

# invariants SECONDS: waits so long for everything to be where it belongs, and says what is not. A
# card with two masters is wrong at once; the bus may be behind the world for two seconds.
invariants() {
    local seconds=$1 began=${EPOCHREALTIME/./} since now truth='' now_true broken behind unfinished
    since=$began
    while :; do
        look_around
        broken=$(never)
        behind=$(gpus_differ ; machines_differ)
        unfinished=$(is_unfinished)
        now=${EPOCHREALTIME/./}
        if [[ $broken ]]; then
            echo "$broken"
            return
        fi
        [[ $behind$unfinished ]] || break
        now_true="${driver[*]} ${holder[*]} ${domain_state_of[*]}"
        [[ $now_true == "$truth" ]] || since=$now
        truth=$now_true
        if [[ $behind ]] && ((now - since > 2000000)); then
            echo "$behind"
            return
        elif ((now - began > seconds * 1000000)); then
            printf '%s\n' ${behind:+"$behind"} ${unfinished:+"$unfinished"}
            return
        fi
        sleep 0.25
    done
    memory_is_lost
    daemon_has_grown
}
