# Block devices that have other numbers when a machine starts than they had when it was made, as
# after a reboot: the guest gets what the name that was asked for means now, proven by what is in
# it, and no disk has two writers, whatever it is called.
# timeout: 700
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
check "every card is home" cards_are_home

# --- Disks that have names of their own, whichever number they get ---

disks=/srv/feos-disks
mkdir -p $disks /etc/feos
for disk in red blue green grey; do
    printf 'This is %s.\n' $disk > $disks/$disk
    truncate -s 8M $disks/$disk
done
cat > /etc/udev/rules.d/65-lab-disks.rules << END
SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", ATTR{loop/backing_file}=="$disks/*", PROGRAM="/usr/bin/basename \$attr{loop/backing_file}", SYMLINK+="disk/by-id/lab-%c"
END
udevadm control --reload
cat > /etc/feos/vmd.conf << END
[Images]
Directories=/var/lib/feos/images /srv/feos-links
BlockDevices=/dev/disk/by-id/lab-*
BlockDevices=/dev/mapper/lab-*
END
mkdir -p /srv/feos-links
check "systemctl reload" systemctl reload feos-vmd
modprobe loop
modprobe dm_mod

by_id=/dev/disk/by-id/lab
# is_named NAME NODE: udev has made the link.
is_named() { [[ $(readlink -f "$by_id-$1") == "$2" ]]; }
# plug NUMBER DISK: the disk gets that number.
plug() {
    losetup "/dev/loop$1" "$disks/$2"
    wait_until "$2 is /dev/loop$1" 20 is_named "$2" "/dev/loop$1"
}
unplug_all() {
    local disk
    for disk in /dev/mapper/lab-*; do
        [[ ! -e $disk ]] || dmsetup remove --retry "$disk"
    done
    losetup --detach-all
    bounded 20 test ! -e "$by_id-red" -a ! -e "$by_id-blue"
}
# volume NAME DISK: a volume on it, all of the disk.
volume() {
    dmsetup create "lab-$1" --table "0 16384 linear $by_id-$2 0"
    bounded 20 test -e "/dev/mapper/lab-$1"
}

# asked MACHINE GPU COUNT OPTION...: create, for options of which some are longer than three words.
asked() {
    local name=$1 count=$3 gpus
    read -ra gpus <<< "$2"
    shift 3
    vm1 Create 'sasa{sv}' "$name" ${#gpus[@]} "${gpus[@]}" $((${#GUEST_OPTIONS[@]} / 3 + count)) \
        "${GUEST_OPTIONS[@]}" "$@"
}
written() { # DISK: what the file behind it begins with, as far as the first line
    head -n 1 "$disks/$1"
}
card_rests() { gpu_is "$GPU_THIRD" host-bound && driver_is "$GPU_THIRD" bochs-drm; }

# --- A machine that is made, then a reboot, then its start ---

plug 1 red
plug 2 blue
plug 3 green
volume top green
plug 4 grey
volume under grey
before=$(readlink -f /dev/mapper/lab-top)
check "Create without start" asked kept "$GPU_THIRD" 2 start b false disks 'aa{sv}' 2 \
    2 id s plain path s $by_id-red 2 id s volume path s /dev/mapper/lab-top
# shellcheck disable=SC2016
check "the definition has the names that were asked for" bash -c \
    'xml=$(virsh dumpxml kept); [[ $xml == *"'$by_id'-red"* && $xml == */dev/mapper/lab-top* && $xml != */dev/loop* && $xml != */dev/dm-* ]]'
unplug_all
plug 1 blue
plug 2 red
plug 3 grey
volume under grey
plug 4 green
volume top green
check "the volume has another number" test "$before" != "$(readlink -f /dev/mapper/lab-top)"
check "Start" machine kept Start
guest_says kept 'GUEST ready' 120
equal "the guest reads the disk that was asked for" "This is red." "$(ask kept 'head -n 1 /dev/vda')"
equal "and the volume" "This is green." "$(ask kept 'head -n 1 /dev/vdb')"
check "it writes to both" ask kept \
    'for disk in vda vdb; do echo Written by the guest. | dd of=/dev/$disk conv=notrunc,fsync 2> /dev/null; done'
check "PowerOff" machine kept PowerOff
wait_until "the card is home" 30 card_rests
equal "what was asked for was written to" "Written by the guest." "$(written red)"
equal "also the volume" "Written by the guest." "$(written green)"
equal "the disk that has its number was not" "This is blue." "$(written blue)"
equal "nor the volume that has its number" "This is grey." "$(written grey)"

# --- A name that leads nowhere, or to something else ---

unplug_all
plug 1 blue
refused_saying ImageNotFound "$by_id-red" "Start while the disk is not there" machine kept Start
check "the card has not moved" card_rests
plug 2 red
plug 3 green
volume top green
rm $by_id-red
ln -s /dev/loop0 $by_id-red
refused_saying ImageNotAllowed "$by_id-red" "Start while the name leads to what cannot be read" machine kept Start
rm $by_id-red
ln -s $disks/red $by_id-red
refused_saying ImageNotAllowed "$by_id-red" "Start while the name leads to a file elsewhere" machine kept Start
rm $by_id-red
ln -s ../../loop2 $by_id-red
check "the card has not moved" card_rests

# --- Two writers, by two names ---

check "Start" machine kept Start
truncate -s 1M "$IMAGES/file.img"
mkdir "$IMAGES/folder"
ln -s "$IMAGES/file.img" /srv/feos-links/link.img
ln -s "$IMAGES" /srv/feos-links/there
ln -s red $by_id-again
ln -sf ../../loop2 $by_id-again
# taken ERROR REGEX DESCRIPTION PATH: the second writer is refused, and its card has not moved.
taken() {
    refused_saying "$1" "$2" "$3" asked other "$GPU_VIRTIO" 1 disks 'aa{sv}' 1 1 path s "$4"
    check "its card has not moved" driver_is "$GPU_VIRTIO" virtio-pci
}
taken InvalidOption kept "the same disk by the same name" $by_id-red
taken InvalidOption kept "the same disk by another name" $by_id-again
taken InvalidOption kept "the same disk with two slashes" /dev/disk//by-id/lab-red
dmsetup create lab-over --table "0 4096 linear /dev/loop2 4096" || true
if [[ -e /dev/mapper/lab-over ]]; then
    taken InvalidOption kept "a volume on the same disk" /dev/mapper/lab-over
    dmsetup remove --retry lab-over
fi
taken ImageNotAllowed lab-top "the disk beneath its volume" $by_id-green
addpart /dev/loop2 1 2048 4096
bounded 20 test -b /dev/loop2p1
ln -sf ../../loop2p1 $by_id-red-part1
taken InvalidOption kept "a partition of the same disk" $by_id-red-part1
delpart /dev/loop2 1

# twice DESCRIPTION PATH PATH [ERROR]: as two disks of one machine.
twice() {
    refused "${4-InvalidOption}" "$1 as two disks of one machine" \
        asked other "$GPU_VIRTIO" 1 disks 'aa{sv}' 2 1 path s "$2" 1 path s "$3"
    check "its card has not moved" driver_is "$GPU_VIRTIO" virtio-pci
}
twice "a name and its path" file.img "$IMAGES/file.img"
twice "a path with two slashes" file.img "$IMAGES//file.img"
twice "a link" file.img /srv/feos-links/link.img
twice "a linked folder" file.img /srv/feos-links/there/file.img
plug 5 grey
ln -sf ../../loop5 $by_id-grey2
twice "a disk by two names" $by_id-grey $by_id-grey2
volume under grey
refused ImageNotAllowed "a disk and its volume as two disks of one machine" \
    asked other "$GPU_VIRTIO" 1 disks 'aa{sv}' 2 1 path s $by_id-grey 1 path s /dev/mapper/lab-under

# Somebody else's machine, which need not run.
cat > /run/theirs.xml << END
<domain type='kvm'><name>theirs</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<disk type='file'><source file='$IMAGES/file.img'/><target dev='vda' bus='virtio'/></disk>
<disk type='block'><driver name='qemu' type='raw'/><source dev='/dev/loop5'/><target dev='vdb' bus='virtio'/></disk>
</devices></domain>
END
virsh define /run/theirs.xml > /dev/null
check "somebody else's machine starts" virsh start theirs
taken InvalidOption theirs "its file by a link" /srv/feos-links/link.img
taken ImageNotAllowed lab-under "its disk, which is a volume's too" $by_id-grey
taken InvalidOption theirs "a volume on its disk" /dev/mapper/lab-under
virsh destroy theirs > /dev/null
virsh undefine theirs > /dev/null

# --- A definition with the kernel's own name, as earlier versions wrote it ---

check "PowerOff" machine kept PowerOff
wait_until "the card is home" 30 card_rests
virsh dumpxml --inactive kept | sed "s|$by_id-red|/dev/loop2|" > /run/kept.xml
virsh define /run/kept.xml > /dev/null
refused_saying ImageNotAllowed "$by_id-[a-z]* leads to that device now" "Start with the kernel's own name of a disk" machine kept Start
check "the card has not moved" card_rests
equal "nothing was written to it meanwhile" "Written by the guest." "$(written red)"

# --- What is not a machine's alone, or what QEMU would not get to ---

dmsetup remove --retry lab-under
mkswap /dev/loop5 > /dev/null 2>&1
swapon /dev/loop5
taken ImageNotAllowed "swaps to /dev/loop5" "a disk that the host swaps to" $by_id-grey
swapoff /dev/loop5
losetup /dev/loop6 "$IMAGES/file.img"
taken ImageNotAllowed /dev/loop6 "a file that the host has behind a loop device" file.img
losetup --detach /dev/loop6
mkdir -m 0700 "$IMAGES/shut"
truncate -s 64K "$IMAGES/shut/disk.img"
taken ImageNotAllowed "QEMU's user libvirt-qemu" "a folder that QEMU may not enter" "$IMAGES/shut/disk.img"
chmod 0777 "$IMAGES/shut"
taken ImageNotAllowed "everybody may write" "a folder that everybody may change" "$IMAGES/shut/disk.img"
rm -r "$IMAGES/shut"

# --- The end ---

check "Delete" machine kept Delete
unplug_all
rm /etc/feos/vmd.conf /etc/udev/rules.d/65-lab-disks.rules $by_id-*
udevadm control --reload
check "systemctl reload" systemctl reload feos-vmd
rm -rf "$IMAGES/file.img" "$IMAGES/folder" /srv/feos-links /srv/feos-disks
check "every card is home" cards_are_home
check "no override is left" overrides_are_clean
equal "no machine is left" "a(sssaso) 0" "$(vm1 ListMachines)"
