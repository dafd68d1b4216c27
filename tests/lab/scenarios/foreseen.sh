# What QEMU, libvirt or the kernel would refuse at a start is refused before a card has moved, with
# all that the machine needs taken away from the host in turn, and put back.
# timeout: 600
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
check "every card is home" cards_are_home

# untouched: the card is at the host, and has been all the time.
steps() { journalled "$GPU_STATE_ID" FEOS_GPU="$GPU_THIRD"; }
before=$(steps)
untouched() {
    gpu_is "$GPU_THIRD" host-bound && driver_is "$GPU_THIRD" bochs-drm && [[ $(steps) == "$before" ]]
}
# starts_not ERROR REGEX DESCRIPTION
starts_not() {
    refused_saying "$1" "$2" "$3: Start" machine ready Start
    check "$3: the card was not touched" untouched
    check "$3: the machine is as it was" machine_is ready created
}
# asked_not ERROR REGEX DESCRIPTION COUNT OPTION...: a Create; COUNT with two options of its own.
asked_not() {
    local error=$1 regex=$2 description=$3 count=$4
    shift 4
    refused_saying "$error" "$regex" "$description: Create" vm1 Create 'sasa{sv}' other 1 "$GPU_THIRD" \
        "$count" firmware s bios memory-mib t 1024 "$@"
    check "$description: the card was not touched" untouched
    check "$description: no machine is left" domain_is_gone other
}
edit() { # SED-SCRIPT
    virsh dumpxml --inactive --security-info ready | sed "$1" > /run/edited.xml
    virsh define /run/edited.xml > /dev/null
}

check "a machine that can be started" create ready "$GPU_THIRD" start b false \
    ignition s '{"ignition":{"version":"3.3.0"}}'
virsh dumpxml --inactive --security-info ready > /run/ready.xml

# --- What runs it ---

mv /dev/kvm /dev/kvm.away
starts_not HypervisorFailed '[Kk][Vv][Mm]' "KVM gone"
mv /dev/kvm.away /dev/kvm

mount --bind /bin/false /usr/bin/qemu-system-x86_64
starts_not HypervisorFailed 'qemu-system-x86_64' "QEMU gone"
umount /usr/bin/qemu-system-x86_64

# Where the host has it the guest would start, and take the emulator with it.
if ! virsh domcapabilities | grep -q '<value>efi</value>'; then
    edit "s|<os>|<os firmware='efi'>|"
    starts_not InvalidOption 'UEFI' "a firmware that the host does not have"
    virsh define /run/ready.xml > /dev/null
fi

# --- Huge pages ---

asked_not InvalidOption '1G are not mounted' "huge pages that are mounted nowhere" 3 hugepages s 1G
mkdir -p /dev/hugepages1G
mount -t hugetlbfs -o pagesize=1G,mode=0700 hugetlbfs /dev/hugepages1G
asked_not InvalidOption 'may not enter the mount' "huge pages that are root's alone" 3 hugepages s 1G
umount /dev/hugepages1G
echo 2 > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages
if (($(< /sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages) > 0)); then
    mount -t hugetlbfs -o pagesize=1G hugetlbfs /dev/hugepages1G
    asked_not HypervisorFailed 'hugetlbfs' "huge pages of which libvirt has not heard" 3 hugepages s 1G
    umount /dev/hugepages1G
fi
echo 0 > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages

# --- Files beside its disks ---

rm -rf /var/log/feos/ready
touch /var/log/feos/ready
starts_not HypervisorFailed '/var/log/feos/ready' "a file where its console's folder is to be"
rm /var/log/feos/ready
mkdir -p /var/log/feos/ready/console.log
starts_not HypervisorFailed '/var/log/feos/ready/console.log' "a folder where its console's log is to be"
rm -r /var/log/feos/ready

text=/var/lib/feos/ignition/$(machine_get ready UUID).ign
mv "$text" /run/away.ign
starts_not InvalidState '\.ign' "its Ignition text gone"
mv /run/away.ign "$text"

# --- Its disks, and its kernel ---

truncate -s 4M "$IMAGES/plain.img"
asked_not ImageNotAllowed 'not a kernel that QEMU can boot' "a kernel that is none" 3 kernel s plain.img
is_locked() { [[ $(vm1 Check 'sasa{sv}' other 0 1 image s plain.img) == *"libvirt does not know"* ]]; }
qemu-system-x86_64 -M q35,accel=tcg -S -nodefaults -display none -m 64 \
    -drive "file=$IMAGES/plain.img,format=raw,if=virtio" > /dev/null 2>&1 &
stranger=$!
wait_until "a QEMU that libvirt does not know has a file" 30 is_locked
asked_not InvalidOption 'plain.img.*libvirt does not know' "a file that it has" 3 image s plain.img
kill $stranger
wait $stranger || true

# --- Networks ---

in_use() { [[ $(< /sys/class/net/labtap/carrier) == 1 ]]; }
ip tuntap add labtap mode tap
ip link set labtap up
edit "s|</devices>|<interface type='ethernet'><target dev='labtap' managed='no'/><model type='virtio'/></interface></devices>|"
exec {holder_says}< <(exec python3 -c '
import fcntl, os, struct, time
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", b"labtap", 0x1002))
time.sleep(1000)')
holder=$!
wait_until "somebody has the tap" 20 in_use
asked_not InvalidOption 'labtap is in use' "a tap that somebody has" 3 nics 'aa{sv}' 1 2 type s tap source s labtap
starts_not InvalidOption 'labtap is in use' "a tap that somebody has"
kill "$holder"
exec {holder_says}<&-
ip link del labtap
ip tuntap add labtap mode tap multi_queue
asked_not InvalidOption 'several queues' "a tap with several queues" 3 nics 'aa{sv}' 1 2 type s tap source s labtap
ip link del labtap
ip tuntap add labtap mode tun
asked_not InvalidOption 'no tap device labtap' "a tunnel" 3 nics 'aa{sv}' 1 2 type s tap source s labtap
ip link del labtap
starts_not InvalidOption 'labtap' "a tap that has gone"
virsh define /run/ready.xml > /dev/null

# --- Everything put back ---

check "Start, with everything put back" machine ready Start
check "the card is attached" gpu_is "$GPU_THIRD" attached
guest_says ready 'GUEST' 120
check "Delete" machine ready Delete
rm -rf "$IMAGES/plain.img"
wait_until "every card is home" 40 cards_are_home
check "no override is left" overrides_are_clean
equal "no machine is left" "a(sssaso) 0" "$(vm1 ListMachines)"
