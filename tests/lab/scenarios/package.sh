# The packages: installed, upgraded and removed under a running machine, installed again, purged. Wants
# the stage of tests/lab/stage-packages, and a boot for itself: it leaves nothing of the product.
# timeout: 1800
# shellcheck shell=bash disable=SC2153 # addresses are the topology's

packages=/usr/lib/feos-lab/packages
program=/usr/libexec/feos/feos-vmd
cards=("$GPU_AUDIO" "$GPU_VIRTIO")
export DEBIAN_FRONTEND=noninteractive

# The emulated host's root is the root of a machine that may not start services at an installation, and an
# index of all manuals would take minutes.
rm -f /usr/sbin/policy-rc.d /var/lib/man-db/auto-update

# package_do ACTION NAME...: what dpkg says is kept, for some of it is for the administrator.
said=/run/feos-dpkg
package_do() { dpkg --force-unsafe-io "$@" > $said 2>&1 || { cat $said && return 1; }; }
install_first() { package_do --install "$packages"/first/*.deb; }
install_second() { package_do --install "$packages"/second/*.deb; }
version() { dpkg-query -W -f '${db:Status-Status} ${Version}' "$1"; }

daemon_pid() { systemctl show -P MainPID feos-vmd; }
nobody_answers() { ! vm1 ListGPUs; }
qemu_runs() { [[ $(< "/proc/$1/comm") == qemu-system-x86 ]]; }
attached() { gpu_is "${cards[0]}" attached && gpu_is "${cards[1]}" attached; }

# udev's tags stay with a device for as long as it is there; current are those that a rule still gives.
is_tagged() {
    local is
    is=$(udevadm info -q property -p "/sys/bus/pci/devices/$1")
    [[ $is =~ CURRENT_TAGS=[^[:space:]]*:feos-gpu: && $is == *FEOS_GPU=1* ]]
}
is_untagged() {
    local is
    is=$(udevadm info -q property -p "/sys/bus/pci/devices/$1")
    [[ ! $is =~ CURRENT_TAGS=[^[:space:]]*:feos-gpu: && $is != *FEOS_GPU* && $is != *feos-vmd* ]]
}

# ours: what may be left behind, but for the images that the lab brings. Not all of /usr is looked
# through: that takes minutes.
ours() {
    {
        find /etc /lib/udev /lib/systemd /usr/libexec /usr/bin /usr/share/dbus-1 /usr/share/polkit-1 \
            /usr/share/bash-completion /usr/share/zsh /usr/share/man/man? /var/lib/dpkg/info \
            /var/lib/systemd -name '*feos*' || true
        find /usr/lib /usr/share /usr/share/doc /var/lib /var/log /var/cache -maxdepth 1 \
            -name '*feos*' || true
        find /etc/libvirt/qemu -maxdepth 1 -name '*.xml' || true
    } 2> /dev/null | { grep -vE '/feos-lab|^/var/l(ib|og)/feos$' || true; } | sort
}
accounts() { cat /etc/passwd /etc/group; }
failed_units() { systemctl list-units --state=failed --plain --no-legend | awk '{ print $1 }' | sort; }

before=$(ours)
accounts_before=$(accounts)
failed_before=$(failed_units)

# --- Installed ---

check "the service is not there yet" nobody_answers
check "the packages can be installed" install_first
check "the service is started" systemctl is-active feos-vmd
check "and will be at boot" systemctl is-enabled feos-vmd
wait_until "it answers, and knows libvirt's domains" 120 service_is_up
check "all GPUs are listed" grep -q '^a(ssssso) 5 ' <<< "$(vm1 ListGPUs)"
check "every card is the host's" cards_are_home
for card in "${cards[@]}"; do
    wait_until "udev has tagged $card, which was there before" 30 is_tagged "$card"
done
check "a device that is no GPU is not tagged" is_untagged "$NIC"
wait_until "polkit knows the actions" 30 pkaction --action-id org.feos.vm1.create
check "the journal has the catalogue" journalctl --dump-catalog "$MACHINE_STATE_ID"
check "feosctl shows the host" grep -q "$GPU_VIRTIO" <<< "$(feosctl gpus)"
systemctl stop feos-vmd
wait_until "the bus starts the service" 60 vm1 ListGPUs
wait_until "it knows libvirt's domains" 120 service_is_up

# --- Upgraded while a machine runs ---

mkdir -p /etc/feos
printf '[Limits]\nPendingPerUser=17\n' > /etc/feos/vmd.conf
check "a machine with two cards" create box "${cards[*]}"
guest_says box 'GUEST ready' 240
qemu=$(machine_get box LeaderPID)
old=$(daemon_pid)
files=$(dpkg -L feos-vmd)
check "the packages can be upgraded" install_second
equal "to the next version" "installed $(dpkg-deb -f "$packages"/second/feos-vmd_*.deb Version)" \
    "$(version feos-vmd)"
equal "which has the same files" "$files" "$(dpkg -L feos-vmd)"
check "the daemon is another" test "$(daemon_pid)" != "$old"
equal "of the new package" $program "$(readlink "/proc/$(daemon_pid)/exe")"
check "the old one is gone" test ! -e "/proc/$old"
wait_until "it knows libvirt's domains" 120 service_is_up
check "the machine runs" machine_is box running
equal "in the same QEMU" "$qemu" "$(machine_get box LeaderPID)"
check "its cards are attached" attached
equal "the host driver is remembered" bochs-drm "$(gpu_get "$GPU_AUDIO" HostDriver)"
equal "the guest goes on" hello "$(guest_do box 'echo hello' | grep -x hello)"
check "Shutdown answers" machine box Shutdown
wait_until "the machine stops" 90 machine_is box stopped
wait_until "every card comes home" 60 cards_are_home
check "no override is left behind" overrides_are_clean

# --- Removed while a machine runs ---

check "Start answers" machine box Start
qemu=$(machine_get box LeaderPID)
check "its cards are attached" attached
check "the service can be removed" package_do --remove feos-vmd
check "which says where the cards are" grep -qE "GPUs.* $GPU_AUDIO $GPU_VIRTIO\." $said
equal "the configuration stays" config-files "$(version feos-vmd | cut -d ' ' -f 1)"
check "also the administrator's" test -s /etc/feos/vmd.conf
check "the daemon is gone" test ! -e $program
check "its unit too" bash -c '! systemctl cat feos-vmd'
wait_until "nobody answers" 30 nobody_answers
check "the machine goes on" qemu_runs "$qemu"
check "under libvirt" test "$(domain_state box)" = running
for card in "${cards[@]}" "$GPU_AUDIO_COMPANION"; do
    equal "$card is on vfio-pci" vfio-pci "$(driver_of "$card")"
done
for card in "${cards[@]}" "$GPU_THIRD"; do
    wait_until "udev does not tag $card" 30 is_untagged "$card"
done

check "the service can be installed again" install_second
wait_until "it knows libvirt's domains" 120 service_is_up
check "the machine is followed again" machine_is box running
equal "in the same QEMU" "$qemu" "$(machine_get box LeaderPID)"
check "its cards are attached" attached
for card in "${cards[@]}" "$GPU_THIRD"; do
    wait_until "udev tags $card again" 30 is_tagged "$card"
done

# Nobody is there when it ends.
check "the service is removed once more" package_do --remove feos-vmd
check "virsh ends the machine" virsh destroy box
equal "nobody moved its card" vfio-pci "$(driver_of "$GPU_AUDIO")"
check "the service is installed again" install_second
wait_until "its cards come home" 120 cards_are_home
check "no override is left behind" overrides_are_clean
wait_until "it knows libvirt's domains" 120 service_is_up
check "the machine is stopped" machine_is box stopped

# --- Purged while a machine is defined and a card is taken ---

check "a third card is taken" gpu "$GPU_THIRD" Bind
check "the service can be purged" package_do --purge feos-vmd
check "which says what it keeps, and for which machine" grep -q 'kept /etc/feos.* box\.' $said
check "the configuration" test -s /etc/feos/vmd.conf
check "the console's log" test -s "$(guest_console box)"
check "the images" test -s "$IMAGES/guest.img"
check "and where the card came from" test -s "/run/feos-vmd/$GPU_THIRD.card"
equal "the card is where it was" vfio-pci "$(driver_of "$GPU_THIRD")"
check "the service can be installed anew" install_second
wait_until "it knows libvirt's domains" 120 service_is_up
check "the machine is still there" machine_is box stopped
check "and the card" gpu_is "$GPU_THIRD" vfio-bound
check "which goes back" gpu "$GPU_THIRD" Release
wait_until "every card is home" 60 cards_are_home
check "the machine can be deleted" machine box Delete
check "and is gone" domain_is_gone box

# --- Purged ---

# The lab's own, so that logs outlive the lab host.
wait_until "no log is open" 30 umount /var/log/feos
check "the service can be purged with images left" package_do --purge feos-vmd
check "which says so" grep -q 'kept /var/lib/feos,' $said
equal "they are all that it keeps" "$IMAGES $IMAGES/guest.img $IMAGES/vmlinuz" \
    "$(find /var/lib/feos -mindepth 1 | sort | paste -sd ' ')"
rm "$IMAGES"/{guest.img,vmlinuz}

check "the service can be installed anew" install_second
wait_until "it knows libvirt's domains" 120 service_is_up
check "every card is home" cards_are_home
check "both packages can be purged" package_do --purge feos-vmd feosctl
check "of which nobody has to be told anything" bash -c "! grep '^feos-vmd: ' $said"
for package in feos-vmd feosctl; do
    check "$package is unknown" bash -c "! dpkg-query -W $package"
done
wait_until "nobody answers" 30 nobody_answers
check "no process of ours is left" bash -c '! pgrep -f ^/usr/libexec/feos/'
for folder in /etc/feos /run/feos-vmd /usr/libexec/feos /var/lib/feos /var/log/feos; do
    check "$folder is gone" test ! -e $folder
done
while read -r file; do
    [[ -d $file ]] || ! [[ -e $file ]] || not_ok "$file is left"
done <<< "$files"
equal "nothing else is left" "$before" "$(ours)"
equal "users and groups are as before" "$accounts_before" "$(accounts)"
for card in "${cards[@]}" "$GPU_THIRD"; do
    wait_until "udev does not tag $card" 30 is_untagged "$card"
    equal "$card is the host's" "$([[ $card == "$GPU_VIRTIO" ]] && echo virtio-pci || echo bochs-drm)" \
        "$(driver_of "$card")"
done
check "no override is left behind" overrides_are_clean
wait_until "polkit knows the actions no more" 30 bash -c '! pkaction --action-id org.feos.vm1.create'
equal "no unit has failed" "$failed_before" "$(failed_units)"
