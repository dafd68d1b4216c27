# What others do is seen and followed: udev's hot plug, virsh's domains, users whom
# polkit does not let, and the service's own face on the system.
# timeout: 300
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
nobody_calls() { # PATH INTERFACE METHOD ...
    as_nobody busctl --timeout=30 call org.feos.VM1 "$@"
}
denied() { # NAME DESCRIPTION COMMAND...
    local name=$1 description=$2 output
    shift 2
    output=$(SYSTEMD_LOG_LEVEL=debug "$@" 2>&1) || true
    check "$description" grep -q "error-name=org.freedesktop.DBus.Error.$name" <<< "$output"
}

# --- Users ---

check "anybody may list the GPUs" nobody_calls $VM1 org.feos.VM1 ListGPUs
check "anybody may check a request" nobody_calls $VM1 org.feos.VM1 Check 'sasa{sv}' box 1 "$GPU_AUDIO" 0
denied InteractiveAuthorizationRequired "nobody may not create, but could be asked" nobody_calls \
    --allow-interactive-authorization=no $VM1 org.feos.VM1 Create 'sasa{sv}' box 1 "$GPU_AUDIO" 0
denied AccessDenied "nobody may not create where no agent can ask" nobody_calls \
    $VM1 org.feos.VM1 Create 'sasa{sv}' box 1 "$GPU_AUDIO" 0
denied InteractiveAuthorizationRequired "nobody may not bind" nobody_calls \
    --allow-interactive-authorization=no "$(gpu_path "$GPU_AUDIO")" org.feos.VM1.GPU Bind
check "and nothing happened" cards_are_home
mkdir -p /etc/polkit-1/rules.d
cat > /etc/polkit-1/rules.d/10-lab.rules << END
polkit.addRule(function(action, subject) {
    if (action.id == "org.feos.vm1.gpu" && subject.user == "nobody" &&
        action.lookup("gpus") == "$GPU_THIRD" && action.lookup("verb") == "Bind")
        return polkit.Result.YES;
});
END
wait_until "a rule lets nobody bind one GPU" 20 \
    setpriv --reuid=65534 --regid=65534 --clear-groups busctl --timeout=30 call org.feos.VM1 \
    "$(gpu_path "$GPU_THIRD")" org.feos.VM1.GPU Bind
check "it is bound" gpu_is "$GPU_THIRD" vfio-bound
denied InteractiveAuthorizationRequired "the rule is for that GPU only" nobody_calls \
    --allow-interactive-authorization=no "$(gpu_path "$GPU_AUDIO")" org.feos.VM1.GPU Bind
denied InteractiveAuthorizationRequired "and for that verb only" nobody_calls \
    --allow-interactive-authorization=no "$(gpu_path "$GPU_THIRD")" org.feos.VM1.GPU Release
systemctl mask --runtime --now polkit > /dev/null 2>&1
check "root is let also without polkitd" gpu "$GPU_THIRD" Release
denied AccessDenied "others are not" nobody_calls --allow-interactive-authorization=no \
    "$(gpu_path "$GPU_THIRD")" org.feos.VM1.GPU Bind
systemctl unmask --runtime polkit > /dev/null 2>&1
rm /etc/polkit-1/rules.d/10-lab.rules
check "every card is the host's" cards_are_home

# --- Domains made by others ---

bind_to vfio-pci "$GPU_VIRTIO"
IFS=:. read -r _ bus slot function <<< "$GPU_VIRTIO"
cat > /tmp/theirs.xml << END
<domain type='kvm'><name>theirs</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><hostdev mode='subsystem' type='pci' managed='no'><source>
<address domain='0' bus='0x$bus' slot='0x$slot' function='0x$function'/>
</source></hostdev></devices></domain>
END
check "virsh starts a domain of its own with a GPU" virsh create /tmp/theirs.xml
wait_until "the GPU is attached" 10 gpu_is "$GPU_VIRTIO" attached
equal "with the name of their domain" theirs "$(gpu_get "$GPU_VIRTIO" MachineName)"
equal "which is no Machine" / "$(gpu_get "$GPU_VIRTIO" Machine)"
refused GPUInUse "a GPU of somebody else's domain" create box "$GPU_VIRTIO"
refused MachineExists "the name of somebody else's domain" create theirs ""
virsh destroy theirs > /dev/null
wait_until "when it ends the GPU is free" 20 gpu_is "$GPU_VIRTIO" vfio-bound
bind_to "" "$GPU_VIRTIO"
wait_until "and follows its owner home" 10 gpu_is "$GPU_VIRTIO" host-bound

# --- Cards that come and go ---

check "a card is plugged in" qmp device_add \
    '{"driver":"bochs-display","id":"gpu_hotplug","bus":"rp_hotplug"}'
wait_until "it is a GPU on the bus" 30 gpu_is "$GPU_HOTPLUG" host-bound
wait_until "udev has tagged it" 10 \
    bash -c "udevadm info -q property -p /sys/bus/pci/devices/$GPU_HOTPLUG | grep -q 'TAGS=.*:feos-gpu:'"
equal "udev has not tagged the network card" "" \
    "$(udevadm info -q property -p "/sys/bus/pci/devices/$NIC" | grep feos-gpu || true)"
gpu_is_gone() { ! gpu_get "$1" State; }
check "a card is pulled" qmp device_del '{"id":"gpu_third"}'
wait_until "its GPU leaves the bus" 30 gpu_is_gone "$GPU_THIRD"
refused NoSuchGPU "a GPU that was pulled" create box "$GPU_THIRD"

# --- The service itself ---

check "the unit is what systemd started" systemctl is-active feos-vmd
check "every change of state is in the journal" bash -c \
    "journalctl -q FEOS_GPU=$GPU_VIRTIO FEOS_STATE=attached FEOS_OLD_STATE=vfio-bound | grep -q ."
started=${EPOCHREALTIME/./}
check "systemctl stop" systemctl stop feos-vmd
check "takes less than two seconds" test $((${EPOCHREALTIME/./} - started)) -lt 2000000
wait_until "and the bus starts it again" 60 vm1 ListGPUs
