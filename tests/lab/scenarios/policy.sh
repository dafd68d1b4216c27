# Cards that are kept for machines, by a udev rule and by vmd.conf; the configuration,
# read again while machines run; the unit among the others; what the bus lets through.
# timeout: 500
# shellcheck shell=bash disable=SC2153

udev_properties() { udevadm info -q property -p "/sys/bus/pci/devices/$1"; }
conf=/etc/feos/vmd.conf
mkdir -p /etc/feos

gpu_is_driverless() { [[ ! $(driver_of "$1") ]]; }

# --- udev has tagged them and started the service ---

wait_until "udev has started the service, without a call" 60 systemctl is-active feos-vmd
check "udev has tagged a GPU" grep -q '^TAGS=.*:feos-gpu:' <(udev_properties "$GPU_THIRD")
check "and marked it" grep -qx FEOS_GPU=1 <(udev_properties "$GPU_THIRD")
equal "no network card" "" "$(udev_properties "$NIC" | grep -i feos || true)"

# --- A rule: the card is never the host driver's ---

cat > /etc/udev/rules.d/60-lab.rules << END
SUBSYSTEM=="pci", KERNEL=="${GPU_HOTPLUG%.0}.*", ENV{FEOS_GPU_POLICY}="vfio"
END
udevadm control --reload
# Its host driver is not there yet, as in a host that boots.
for console in /sys/class/vtconsole/*/bind; do
    echo 0 > "$console" || true
done
check "the cards' driver can be unloaded" modprobe -r bochs
wait_until "every card of it is without one" 10 gpu_is_driverless "$GPU_THIRD"
stdbuf -oL udevadm monitor --kernel --property --subsystem-match=pci > /run/monitor.txt &
monitor=$!
wait_until "the kernel's events are listened to" 10 grep -q KERNEL /run/monitor.txt
check "a card that is kept is plugged in" qmp device_add \
    '{"driver":"bochs-display","id":"gpu_hotplug","bus":"rp_hotplug"}'
wait_until "it is on vfio-pci" 30 gpu_is "$GPU_HOTPLUG" vfio-bound
modprobe bochs
wait_until "the others have their driver again" 20 driver_is "$GPU_THIRD" bochs-drm
udevadm settle
kill $monitor
wait $monitor || true
drivers_seen() { # in the kernel's bind events of the card
    awk -v card="$GPU_HOTPLUG" 'BEGIN { RS = "" }
        $0 ~ "ACTION=bind" && $0 ~ "PCI_SLOT_NAME=" card && match($0, /DRIVER=[^\n]*/) {
            print substr($0, RSTART + 7, RLENGTH - 7) }' /run/monitor.txt
}
equal "no driver but vfio-pci has had it" vfio-pci "$(drivers_seen)"
check "a machine with it" create kept "$GPU_HOTPLUG"
check "Delete of the machine" machine kept Delete
wait_until "it is on vfio-pci still" 20 gpu_is "$GPU_HOTPLUG" vfio-bound
rm /etc/udev/rules.d/60-lab.rules
udevadm control --reload

# --- vmd.conf: taken from the host driver, with its companion ---

printf '[GPUs]\nKeepForMachines=%s\n' "$GPU_AUDIO" > $conf
exec {node}< "/dev/dri/by-path/pci-$GPU_AUDIO-card"
check "systemctl reload" systemctl reload feos-vmd
keeps_failed() { journalctl -q -b -o cat FEOS_GPU="$GPU_AUDIO" FEOS_ERROR=GPUBusy; }
is_told_in_use() { [[ $(keeps_failed) ]]; }
wait_until "a card that vmd.conf names is not taken from who has it open" 30 is_told_in_use
check "it is the host's" gpu_is "$GPU_AUDIO" host-bound
exec {node}<&-
wait_until "it goes to vfio-pci when they have closed it" 60 gpu_is "$GPU_AUDIO" vfio-bound
equal "that was told once" 1 "$(keeps_failed | wc -l)"
wait_until "and its companion" 10 driver_is "$GPU_AUDIO_COMPANION" vfio-pci
check "a machine with it" create box "$GPU_AUDIO"
check "the machine is in no control group of the service's" \
    bash -c "! grep -q feos-vmd /proc/$(machine_get box LeaderPID)/cgroup"
scope=$(systemctl list-units --plain --no-legend 'machine-qemu*box.scope' | awk '{ print $1 }')
echo "# $scope: $(systemctl show "$scope" -p After -p Before | tr '\n' ' ')"
check "libvirt is stopped after the machine" grep -qE 'libvirtd.service|virtqemud.service' \
    <(systemctl show "$scope" -p After)
leader=$(machine_get box LeaderPID)
check "systemctl restart" systemctl restart feos-vmd
wait_until "the machine runs on" 30 machine_is box running
equal "with the same QEMU" "$leader" "$(machine_get box LeaderPID)"

# --- A reload, while it runs ---

mkdir -p /srv/more-images
truncate -s 1M /srv/more-images/more.raw
refused ImageNotAllowed "an image outside the directories" create other "" image s /srv/more-images/more.raw
printf '[Images]\nDirectories=/var/lib/feos/images\nDirectories=/srv/more-images\n' > $conf
check "systemctl reload with another directory" systemctl reload feos-vmd
wait_until "it is told" 5 test "$(property $VM1 org.feos.VM1 ImageDirectories)" = \
    '2 "/var/lib/feos/images" "/srv/more-images'
check "and counts at once" create other "" image s /srv/more-images/more.raw start b false
check "Delete" machine other Delete
check "the machine has not noticed" machine_is box running
printf '[Limits]\nPendingPerUser=no\n' > $conf
reload_fails() { ! systemctl reload feos-vmd; }
check "a reload of a wrong file fails" reload_fails
check "with file, line and key in the journal" journalctl -q -b -u feos-vmd \
    --grep "$conf:2: .Limits. PendingPerUser=no"
check "the service runs on" systemctl is-active feos-vmd
equal "with what it had" '2 "/var/lib/feos/images" "/srv/more-images' \
    "$(property $VM1 org.feos.VM1 ImageDirectories)"
check "Delete of the machine" machine box Delete
wait_until "its card stays on vfio-pci" 20 gpu_is "$GPU_AUDIO" vfio-bound
check "Release gives it back" gpu "$GPU_AUDIO" Release
restart_fails() { ! systemctl restart feos-vmd; }
check "with the wrong file the service does not start" restart_fails
rm $conf
systemctl reset-failed feos-vmd
check "without it, it does" systemctl start feos-vmd
check "every card is home" cards_are_home
check "no override is left" overrides_are_clean

# --- The bus ---

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
denied() { grep -q "AccessDenied" <<< "$("$@" 2>&1 || true)"; }
check "nobody may not have the name" denied as_nobody gdbus call --system \
    --dest org.freedesktop.DBus --object-path /org/freedesktop/DBus \
    --method org.freedesktop.DBus.RequestName org.feos.VM1 4
check "nothing is sent by an interface that is not listed" denied as_nobody gdbus call --system \
    --dest org.feos.VM1 --object-path /org/feos/VM1 --method org.feos.VM1.Private.Call
check "not even by root" denied gdbus call --system \
    --dest org.feos.VM1 --object-path /org/feos/VM1 --method org.feos.VM1.Private.Call
