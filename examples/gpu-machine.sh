#!/bin/bash
# Boots a machine with GPUs of this host, shuts it down after Enter, and waits until they are home.
#
#   ./gpu-machine.sh                                   lists the GPUs
#   ./gpu-machine.sh NAME [OPTION=TEXT]... ADDRESS...  such as box image=ubuntu.qcow2 01:00.0
set -euo pipefail

vm1=(/org/feos/VM1 org.feos.VM1)

# call PATH INTERFACE METHOD [SIGNATURE ARGUMENT...]: the answer as busctl writes it. Drivers take their
# time. An error's name is for programs, and busctl tells it in its debugging output only; its message
# says what is wrong and, at its end, what to do.
call() {
    local said
    { said=$(SYSTEMD_LOG_LEVEL=debug busctl --timeout=600 call org.feos.VM1 "$@" 2>&1 >&3) && return; } 3>&1
    printf '%s: %s\n' "$(sed -n 's/.*error-name=\([^ ]*\).*/\1/p' <<< "$said" | tail -n 1)" \
        "$(sed -n 's/^Call failed: //p' <<< "$said")" >&2
    exit 1
}

# get PATH INTERFACE PROPERTY: a string.
get() {
    local value
    value=$(busctl get-property org.feos.VM1 "$@") || return
    value=${value#s \"}
    echo "${value%\"}"
}

# object METHOD [SIGNATURE ARGUMENT...]: the path that the service answers.
object() {
    local answer
    answer=$(call "${vm1[@]}" "$@") || return
    answer=${answer#o \"}
    echo "${answer%\"}"
}

# is_home GPU: it is the host's, and nothing is under way with it. One that does not come says why.
is_home() {
    [[ $(get "$1" org.feos.VM1.GPU State) == host-bound && ! $(get "$1" org.feos.VM1.GPU Pending) ]] && return
    [[ ! $(get "$1" org.feos.VM1.GPU Fault) ]] || call "$1" org.feos.VM1.GPU Recover
    false
}

# Strings in quotes, six for each GPU, of which the last one is its path.
call "${vm1[@]}" ListGPUs | cut -d ' ' -f 3- | xargs -r -n 6 printf '%s  %-10s  %-10s  %s  %s%.0s\n'
(($# > 1)) || exit 0

name=$1
shift
gpus=()
options=(memory-mib t 1024)
for argument; do
    case $argument in
        *=*) options+=("${argument%%=*}" s "${argument#*=}") ;;
        *) gpus+=("$argument") ;;
    esac
done
# The answer comes when it runs, or when nothing is left of it.
machine=$(object Create 'sasa{sv}' "$name" ${#gpus[@]} "${gpus[@]}" $((${#options[@]} / 3)) "${options[@]}")
echo "$machine runs. Enter shuts it down." >&2
read -r || true
call "$machine" org.feos.VM1.Machine Shutdown
for gpu in "${gpus[@]}"; do
    path=$(object GetGPU s "$gpu")
    until is_home "$path"; do
        sleep 0.2
    done
done
call "$machine" org.feos.VM1.Machine Delete
echo "Its GPUs are home, and it is deleted."
