# What AppArmor, as Debian has it, does to QEMU: each is confined by a profile that libvirt writes
# out of the definition, with the names of files in it. For the topology apparmor.
# timeout: 500
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
check "every card is home" cards_are_home

# confinement PROCESS: the profile's name and mode.
confinement() { tr -d '\0' < "/proc/$1/attr/current"; }
denials() { journalctl -q -b -k -o cat --grep 'apparmor="DENIED".*profile="libvirt-' || true; }
equal "libvirt is confined" "libvirtd (enforce)" "$(confinement "$(pidof libvirtd)")"

# --- Names that are nothing but names ---

# asked MACHINE GPU COUNT OPTION...: create, for options of which some are longer than three words.
asked() {
    local name=$1 gpu=$2 count=$3
    shift 3
    vm1 Create 'sasa{sv}' "$name" 1 "$gpu" $((${#GUEST_OPTIONS[@]} / 3 + count)) "${GUEST_OPTIONS[@]}" "$@"
}

names=('blank in it.img' 'a,b=c;d.img' "it's (one) & #2!.img" 'a+b@c%d~e$f.img' 'größe 漢.img'
    '<i>&amp;.img' 'no suffix' '-dash.raw' 'a:b.img')
disks=()
for name in "${names[@]}"; do
    printf 'This is %s.' "$name" > "$IMAGES/$name"
    truncate -s 64K "$IMAGES/$name"
    disks+=(1 path s "$name")
done
mkdir -p "$IMAGES/a folder"
qemu-img create -q -f qcow2 "$IMAGES/a folder/grows.qcow2" 4M
ln -s "a folder/grows.qcow2" "$IMAGES/link.qcow2"

check "a machine with a GPU, odd names, a qcow2 by a link, and Ignition" asked confined "$GPU_AUDIO" 2 \
    disks 'aa{sv}' $((${#names[@]} + 1)) "${disks[@]}" 2 id s grows path s link.qcow2 \
    ignition s '{"ignition":{"version":"3.3.0"}}'
uuid=$(machine_get confined UUID)
equal "its QEMU is confined" "libvirt-$uuid (enforce)" "$(confinement "$(machine_get confined LeaderPID)")"
guest_says confined 'GUEST ready' 120
check "the guest drives its card" grep -q '^GUEST drives .* ok' "$(guest_console confined)"
equal "the guest has its Ignition text" '{"ignition":{"version":"3.3.0"}}' \
    "$(ask confined ignition | base64 -d)"
disk=a
for name in "${names[@]}"; do
    equal "the guest reads $name" "This is $name." \
        "$(ask confined "head -c $(printf %s "This is $name." | wc -c) /dev/vd$disk; echo")"
    disk=$(tr 'a-y' 'b-z' <<< $disk)
done
check "it writes to the qcow2" ask confined \
    "echo written by the guest | dd of=/dev/vd$disk conv=notrunc,fsync 2> /dev/null"
printf 'This came later.' > "$IMAGES/it's, late.img"
truncate -s 64K "$IMAGES/it's, late.img"
check "AttachDisk" machine confined AttachDisk 'a{sv}' 2 id s late path s "it's, late.img"
wait_until "the guest has it" 30 guest_has confined "'late'"
late=$(ask confined devices | sed -n "s/^GUEST disk \(vd[a-z]*\) 'late'.*/\1/p")
equal "and reads it" "This came later." "$(ask confined "head -c 16 /dev/$late; echo")"
check "DetachDisk" machine confined DetachDisk s late

# --- Names that AppArmor takes for patterns ---

patterns=('disk[1].img' 'all*.img' 'one?.img' '{a,b}.img' 'up^.img' 'say "it".img' 'back\slash.img' $'line\nbreak.img')
printf secret > "$IMAGES/allowed.img"
for name in "${patterns[@]}"; do
    truncate -s 64K "$IMAGES/$name"
    refused ImageNotAllowed "a name that is a pattern, $name" asked pattern "$GPU_THIRD" 1 \
        disks 'aa{sv}' 1 1 path s "$name"
    refused ImageNotAllowed "also to attach, $name" machine confined AttachDisk 'a{sv}' 1 path s "$name"
done
mkdir -p "$IMAGES/sub[dir]"
truncate -s 64K "$IMAGES/sub[dir]/plain.img"
ln -s "sub[dir]/plain.img" "$IMAGES/plain.img"
refused ImageNotAllowed "a plain link into a folder with such a name" asked pattern "$GPU_THIRD" 1 \
    disks 'aa{sv}' 1 1 path s plain.img
check "nobody's card has moved" gpu_is "$GPU_THIRD" host-bound

# --- Directories that libvirt's profile lets no guest have ---

mkdir -p /etc/feos /usr/share/feos-images
printf '[Images]\nDirectories=/var/lib/feos/images /usr/share/feos-images\n' > /etc/feos/vmd.conf
truncate -s 64K /usr/share/feos-images/shared.img
check "systemctl reload" systemctl reload feos-vmd
refused ImageNotAllowed "an image where libvirt's profile lets nobody write" asked pattern "$GPU_THIRD" 1 \
    disks 'aa{sv}' 1 1 path s shared.img
check "its card has not moved" gpu_is "$GPU_THIRD" host-bound
rm /etc/feos/vmd.conf
check "systemctl reload" systemctl reload feos-vmd

# --- The end ---

check "PowerOff" machine confined PowerOff
wait_until "it is stopped" 30 machine_is confined stopped
wait_until "the card is home" 30 cards_are_home
check "Start" machine confined Start
guest_says confined 'GUEST ready' 120
check "Delete" machine confined Delete
equal "nothing was denied to a guest" "" "$(denials)"
rm -rf "$IMAGES/a folder" "$IMAGES/sub[dir]" "$IMAGES/link.qcow2" "$IMAGES/plain.img" "$IMAGES/allowed.img" \
    "$IMAGES/it's, late.img" /usr/share/feos-images
for name in "${names[@]}" "${patterns[@]}"; do
    rm "$IMAGES/$name"
done
wait_until "every card is home" 30 cards_are_home
check "no override is left" overrides_are_clean
equal "no machine is left" "a(sssaso) 0" "$(vm1 ListMachines)"
