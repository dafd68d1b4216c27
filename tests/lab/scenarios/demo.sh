# The main job for a person to read along; tests/demo runs it. It stops at the
# first thing that is not as it should be.
# timeout: 200
# shellcheck shell=bash disable=SC2153

say() { printf '\n\e[1m%s\e[0m\n' "$*"; }

# run COMMAND: shows it, runs it, shows what it says.
run() {
    printf '  \e[36m$ %s\e[0m\n' "$1"
    bash -o pipefail -c "$1" 2>&1 | sed 's/^/    /'
}

# until_true WHAT SECONDS COMMAND...: a sign of life every two seconds.
until_true() {
    local what=$1 left=$(($2 * 10)) n=0
    shift 2
    until "$@" > /dev/null 2>&1; do
        ((left-- > 0)) || {
            not_ok "$what: not in time"
            exit 1
        }
        ((++n % 20)) || echo "    ... waiting for $what: $((n / 10)) s"
        sleep 0.1
    done
}

drivers="for card in $GPU_AUDIO $GPU_AUDIO_COMPANION $GPU_VIRTIO $GPU_THIRD; do echo \$card \$(basename \$(readlink /sys/bus/pci/devices/\$card/driver)); done"

say "1. The host's GPUs: address, state, driver, model, machine, object"
until_true "the service, which the bus starts" 60 vm1 ListGPUs
until_true "the service to hear from libvirt" 120 service_is_up
run "busctl --json=short call org.feos.VM1 $VM1 org.feos.VM1 ListGPUs | sed 's/\],\[/\n /g; s/.*\[\[//; s/\]\].*//'"
say "   and who drives their functions"
run "$drivers"

say "2. One call: a machine with two of them"
run "time busctl --timeout=120 call org.feos.VM1 $VM1 org.feos.VM1 Create 'sasa{sv}' \\
        box 2 $GPU_AUDIO $GPU_VIRTIO 5 \\
        vcpus u 1 memory-mib t 512 kernel s vmlinuz initrd s guest.img cmdline s '$GUEST_CMDLINE'"
run "busctl get-property org.feos.VM1 $VM1/machine/box org.feos.VM1.Machine State LeaderPID GPUAddresses"
for card in "$GPU_AUDIO" "$GPU_VIRTIO"; do
    run "busctl get-property org.feos.VM1 $(gpu_path "$card") org.feos.VM1.GPU State Driver MachineName Companions"
done

say "3. What the guest sees on its own PCI bus, and drives"
until_true "the guest to boot" 90 grep -q '^GUEST ready' "$(guest_console box)"
run "grep -aE '^GUEST (pci .*(03|04)[0-9]{4} driver|drives|node)' $(guest_console box)"
[[ $(grep -c '^GUEST drives .* ok' "$(guest_console box)") == 2 ]]

say "4. The power button"
run "busctl call org.feos.VM1 $VM1/machine/box org.feos.VM1.Machine Shutdown"
until_true "the guest to power off" 60 machine_is box stopped
until_true "the cards to come home" 60 cards_are_home
run "busctl get-property org.feos.VM1 $VM1/machine/box org.feos.VM1.Machine State StateReason"

say "5. The GPUs are back, with their host drivers"
run "busctl --json=short call org.feos.VM1 $VM1 org.feos.VM1 ListGPUs | sed 's/\],\[/\n /g; s/.*\[\[//; s/\]\].*//'"
run "$drivers"

say "6. What the journal keeps of one of them"
run "journalctl -q -o cat FEOS_GPU=$GPU_AUDIO"
echo
ok "two GPUs went to a guest, which drove them, and came back"
