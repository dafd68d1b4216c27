# What must hold of the lab host at any time, whatever was done to it. Sourced by trials.sh.
# shellcheck shell=bash

# Where each card belongs while no machine has it; a scenario that moves one on purpose says so
# here.
declare -A home
# libvirt is not to be asked, for that would start it.
libvirt_is_down=

# --- One look at everything ---

declare -A driver group holder qemu_pid domain_state_of
declare -A gpu_state gpu_fault gpu_message gpu_told_driver gpu_owner gpu_under_way
declare -A machine_state machine_leader

# running COMMAND: the processes of that name. pgrep reads far more of each than its name.
running() {
    local file name
    for file in /proc/[0-9]*/comm; do
        read -r name 2> /dev/null < "$file" || continue
        [[ $name != "$1" ]] || echo "${file//[!0-9]/}"
    done
}

# The groups that QEMUs have open, and those QEMUs' names: holder[26]="PID ", qemu_pid[box]=PID.
look_at_qemus() {
    local pid node argument
    holder=() qemu_pid=()
    for pid in $(running qemu-system-x86); do
        while IFS= read -r -d '' argument; do
            [[ $argument == guest=* ]] || continue
            argument=${argument#guest=}
            qemu_pid[${argument%%,*}]=$pid
        done 2> /dev/null < "/proc/$pid/cmdline" || true
        while read -r node; do
            holder[${node##*/}]+="$pid "
        done < <(find "/proc/$pid/fd" -lname '/dev/vfio/[0-9]*' -printf '%l\n' 2> /dev/null | sort -u)
    done
}

look_at_devices() {
    local address what target
    driver=() group=()
    while read -r address what target; do
        case $what in
            driver) driver[${address##*/}]=${target##*/} ;;
            iommu_group) group[${address##*/}]=${target##*/} ;;
        esac
    done < <(find /sys/bus/pci/devices/*/ -maxdepth 1 \( -name driver -o -name iommu_group \) \
        -printf '%h %f %l\n' 2> /dev/null | sed 's|/ | |')
}

look_at_libvirt() {
    local id name state
    domain_state_of=()
    [[ ! $libvirt_is_down ]] || return 0
    while read -r id name state; do
        [[ ! $state || $id == Id ]] || domain_state_of[$name]=$state
    done < <(virsh list --all 2> /dev/null)
}

# shellcheck disable=SC2016 # jq's
objects_to_words='.data[0][] | to_entries[] | .key as $kind | .value | map_values(.data) |
    map_values(if . == "" then "-" else . end) |
    if $kind == "org.feos.VM1.GPU" then
        ["gpu", .Address, .State, .Pending, .Fault, .Driver, .MachineName, .FaultMessage]
    elif $kind == "org.feos.VM1.Machine" then
        ["machine", .Name, .State, .LeaderPID]
    else empty end | @tsv'

look_at_service() {
    local kind name words
    gpu_state=() gpu_fault=() gpu_message=() gpu_told_driver=() gpu_owner=() gpu_under_way=()
    machine_state=() machine_leader=()
    while IFS=$'\t' read -r -a words; do
        kind=${words[0]} name=${words[1]}
        if [[ $kind == gpu ]]; then
            gpu_state[$name]=${words[2]}
            gpu_under_way[$name]=${words[3]}
            gpu_fault[$name]=${words[4]}
            gpu_told_driver[$name]=${words[5]}
            gpu_owner[$name]=${words[6]}
            gpu_message[$name]=${words[7]}
        else
            machine_state[$name]=${words[2]}
            machine_leader[$name]=${words[3]}
        fi
    done < <(busctl --json=short --timeout=60 call org.feos.VM1 "$VM1" \
        org.freedesktop.DBus.ObjectManager GetManagedObjects 2> /dev/null | jq -r "$objects_to_words")
}

# --- What is wrong, a line each ---

# No GPU is on a host driver while a QEMU has its group open, none has two of them.
never() {
    local address node
    local -A before
    for node in "${!holder[@]}"; do before[$node]=${holder[$node]}; done
    look_at_devices
    look_at_qemus
    for address in "${!group[@]}"; do
        node=${group[$address]}
        # One that has it before and after our look has it meanwhile.
        [[ ${holder[$node]-} && ${holder[$node]} == "${before[$node]-}" ]] || continue
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
        [[ ${gpu_state[$address]} == "$state" ]] ||
            echo "$address is $state, D-Bus says ${gpu_state[$address]}"
        [[ ${gpu_owner[$address]} == "$owner" ]] ||
            echo "$address is in the hands of '$owner', D-Bus says ${gpu_owner[$address]}"
        [[ ${gpu_fault[$address]} == - || ${gpu_message[$address]} != - ]] ||
            echo "$address has fault ${gpu_fault[$address]} without a reason"
    done
}

# And of each machine what libvirt says.
machines_differ() {
    local name state
    ((${#gpu_state[@]})) || return 0
    for name in "${!domain_state_of[@]}"; do
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
        [[ ${machine_leader[$name]} == "${qemu_pid[$name]:-0}" ]] ||
            echo "machine $name has QEMU ${qemu_pid[$name]:-0}, D-Bus says ${machine_leader[$name]}"
    done
}

# What is still to come: cards on the way, faults, helpers at work.
is_unfinished() {
    local address helpers
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
    helpers=$(running feos-vm-handove; running feos-vm-survey)
    [[ ! $helpers ]] || echo "helpers are there: ${helpers//$'\n'/ }"
}

# --- The daemon itself: for each number of running machines it has what it keeps ---

declare -A most_fds looks_at rss_then

daemon_has_grown() {
    local pid fds rss key=${#qemu_pid[@]}
    pid=$(systemctl show -P MainPID feos-vmd)
    [[ $pid != 0 ]] || return 0
    fds=$(find "/proc/$pid/fd" -mindepth 1 2> /dev/null | wc -l)
    rss=$(awk '$1 == "VmRSS:" { print $2 }' "/proc/$pid/status")
    if ((${looks_at[$key]:-0} < 3)); then
        ((fds <= ${most_fds[$key]:-0})) || most_fds[$key]=$fds
        looks_at[$key]=$((${looks_at[$key]:-0} + 1))
    elif ((fds > most_fds[$key] + 2)); then
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
    local address function ranges range bars i
    for address in "${!home[@]}"; do
        [[ ! ${holder[${group[$address]-none}]-} ]] || continue
        for function in /sys/bus/pci/devices/"${address%.*}".*; do
            mapfile -t ranges 2> /dev/null < "$function/resource" || continue
            read -ra bars < <(od -An -v -t u4 -w24 -j 16 -N 24 "$function/config")
            for i in "${!bars[@]}"; do
                read -ra range <<< "${ranges[i]}"
                # 0x200: IORESOURCE_MEM (include/linux/ioport.h).
                ((!(range[2] & 0x200) || (range[0] & 0xfffffff0) == (bars[i] & 0xfffffff0))) ||
                    printf '%s has %#x in BAR %d, its memory is at %#x\n' "${function##*/}" \
                        "${bars[i]}" "$i" "${range[0]}"
            done
        done
    done
}

# --- All of it ---

# invariants SECONDS: waits so long for everything to be where it belongs, and says what is not. A
# card with two masters is wrong at once; the bus may be behind the world for two seconds.
invariants() {
    local seconds=$1 began=${EPOCHREALTIME/./} since now truth='' seen broken behind unfinished
    since=$began
    while :; do
        look_at_qemus
        broken=$(never)
        look_at_devices
        look_at_qemus
        look_at_libvirt
        look_at_service
        behind=$(gpus_differ ; machines_differ)
        unfinished=$(is_unfinished)
        now=${EPOCHREALTIME/./}
        if [[ $broken ]]; then
            echo "$broken"
            return
        fi
        [[ $behind$unfinished ]] || break
        seen="${driver[*]} ${holder[*]} ${domain_state_of[*]}"
        [[ $seen == "$truth" ]] || since=$now
        truth=$seen
        if [[ $behind ]] && ((now - since > 2000000)); then
            echo "$behind"
            return
        elif ((now - began > seconds * 1000000)); then
            printf '%s\n' ${behind:+"$behind"} ${unfinished:+"$unfinished"}
            return
        fi
        sleep 0.1
    done
    memory_is_lost
    daemon_has_grown
}
