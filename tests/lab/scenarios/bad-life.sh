# What bad input gets in a machine's life: each its own error, with nothing touched;
# every method in every wrong state; and the options that take something of the host:
# huge pages, processors, a secret.
# timeout: 900
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
check "every card is home" cards_are_home
asked() { # OPTIONS...: Create without start, each option as busctl wants it
    local n=$1
    shift
    vm1 Create 'sasa{sv}' odd 0 $((n + 1)) start b false "$@"
}
asked_with_gpu() { vm1 Create 'sasa{sv}' odd 1 "$GPU_AUDIO" 1 "$@"; }

ip link add labbridge type bridge
truncate -s 4M "$IMAGES/one.img" "$IMAGES/two.img"
echo secret > /etc/feos-elsewhere

# --- Options that cannot be met ---

refused_saying InvalidOption max-vcpus "more vcpus than max-vcpus" asked 2 vcpus u 2 max-vcpus u 1
refused_saying InvalidOption max-vcpus "max-vcpus of which the host has not so many" asked 1 max-vcpus u 500
refused_saying InvalidOption '128 .*0 .*nr_hugepages' "huge pages that nobody reserved" \
    asked 2 hugepages s 2M memory-mib t 256
refused InvalidOption "huge pages of a size that there is not" asked 1 hugepages s 4K
refused InvalidOption "memory that is no whole number of pages" asked 2 hugepages s 2M memory-mib t 257
refused_saying InvalidOption disks "a disk elsewhere, in Create" asked 1 disks 'aa{sv}' 1 1 path u 5
refused ImageNotAllowed "a disk outside the image directories, in Create" \
    asked 1 disks 'aa{sv}' 1 1 path s /etc/feos-elsewhere
refused InvalidOption "one file as two disks" \
    asked 1 disks 'aa{sv}' 2 1 path s one.img 1 path s one.img
refused InvalidOption "one id for two disks" \
    asked 1 disks 'aa{sv}' 2 2 id s a path s one.img 2 id s a path s two.img
refused_saying InvalidOption nowhere "a NIC on a network that there is not, in Create" \
    asked 1 nics 'aa{sv}' 1 2 type s network source s nowhere
refused InvalidOption "Ignition that is no JSON" asked 1 ignition s 'passwd: hunter2'
refused InvalidOption "Ignition that is no JSON, and a GPU" asked_with_gpu ignition s '{"a":'
check "that GPU was not touched" gpu_is "$GPU_AUDIO" host-bound

# ignition SIZE: so many bytes of good JSON with our mark in it.
secret=anothersecretword
ignition() {
    local begin='{"ignition":{"version":"3.3.0"},"passwd":"'$secret'","long":"' end='"}'
    printf %s "$begin"
    head -c $(($1 - ${#begin} - ${#end})) /dev/zero | tr '\0' x
    printf %s "$end"
}
ignition 1048576 > /run/full.ign
ignition 1048577 > /run/over.ign
refused_saying InvalidOption 'MiB' "Ignition of one byte more than 1 MiB" \
    vm1-create odd /run/over.ign start b false
check "Ignition of exactly 1 MiB" vm1-create odd /run/full.ign start b false
check "Delete of that" machine odd Delete

# --- Devices ---

check "a machine" create bad "$GPU_THIRD" start b false
on="" # how the machine is, for what is said
attach_disk() { machine bad AttachDisk 'a{sv}' "$@"; }
attach_nic() { machine bad AttachNIC 'a{sv}' "$@"; }
bad_devices() {
    refused InvalidOption "$on: DetachDisk of what is not there" machine bad DetachDisk s nothing
    refused InvalidOption "$on: DetachNIC of what is not there" machine bad DetachNIC s nothing
    refused InvalidOption "$on: DetachDisk of an id that is none" machine bad DetachDisk s "../x'\"<"
    refused ImageNotFound "$on: AttachDisk of a file that is not there" attach_disk 1 path s missing.img
    refused ImageNotAllowed "$on: AttachDisk from elsewhere" attach_disk 1 path s /etc/feos-elsewhere
    refused ImageNotAllowed "$on: AttachDisk of a device" attach_disk 1 path s /dev/mem
    refused InvalidOption "$on: AttachDisk of nothing" attach_disk 0
    refused InvalidOption "$on: AttachDisk with an id that is none" attach_disk 2 id s 'a b' path s one.img
    refused InvalidOption "$on: AttachDisk with a key that there is not" attach_disk 2 path s one.img cache s unsafe
    refused InvalidOption "$on: AttachDisk with a wrong type" attach_disk 1 path u 1
    refused InvalidOption "$on: AttachDisk with a format that there is not" attach_disk 2 path s one.img format s vmdk
    refused InvalidOption "$on: AttachNIC with a MAC that is none" \
        attach_nic 3 type s bridge source s labbridge mac s 52:54:00:zz:00:01
    refused InvalidOption "$on: AttachNIC with a group's MAC" \
        attach_nic 3 type s bridge source s labbridge mac s 01:00:5e:00:00:01
    refused InvalidOption "$on: AttachNIC to a network that there is not" \
        attach_nic 2 type s network source s nowhere
    refused InvalidOption "$on: AttachNIC to a bridge that there is not" \
        attach_nic 2 type s bridge source s nowhere
    refused InvalidOption "$on: AttachNIC to a bridge that is none" attach_nic 2 type s bridge source s lo
    refused InvalidOption "$on: AttachNIC to a tap that there is not" attach_nic 2 type s tap source s nowhere
    refused InvalidOption "$on: AttachNIC of a type that there is not" attach_nic 2 type s wifi source s labbridge
}
on=created
bad_devices
check "AttachDisk" attach_disk 2 id s data path s one.img
check "AttachNIC" attach_nic 3 id s wire type s bridge source s labbridge
refused_saying InvalidOption data "AttachDisk of an id in use" attach_disk 2 id s data path s two.img
refused_saying InvalidOption wire "AttachNIC of an id in use" attach_nic 3 id s wire type s bridge source s labbridge
refused_saying InvalidOption one.img "AttachDisk of a file that it has already" attach_disk 2 id s more path s one.img

# --- Every method in every wrong state ---

wrong() { # STATE METHOD...: each is refused, and the message names the state
    local state=$1 method arguments
    shift
    check "it is $state" machine_is bad "$state"
    for method; do
        arguments=()
        case $method in
            Attach*) arguments=('a{sv}' 1 path s two.img) ;;
            Detach*) arguments=(s data) ;;
        esac
        [[ $method != AttachNIC ]] || arguments=('a{sv}' 1 source s labbridge)
        refused_saying InvalidState "$state" "$method of a machine that is $state" \
            machine bad "$method" "${arguments[@]}"
    done
    check "it is still $state" machine_is bad "$state"
}
wrong created Shutdown PowerOff Reboot Pause Resume OpenConsole

# Its card's driver does not let go until all have been asked.
insmod /usr/lib/feos-lab/feos_slow_gpu.ko remove_hangs=1
bind_to feos_slow_gpu "$GPU_THIRD"
machine bad Start > /run/start.txt 2>&1 &
start=$!
wait_until "it is starting" 20 machine_is bad starting
wrong starting Start Shutdown Reboot Pause Resume OpenConsole AttachDisk DetachDisk AttachNIC DetachNIC
check "PowerOff ends the start, whatever its card's driver does" machine bad PowerOff
status=0
wait $start || status=$?
check "who waited for it is told" \
    bash -c "((status = $status)) && grep -q 'bad was powered off while it was starting' /run/start.txt"
check "it has never run" machine_is bad created
equal "its card's driver has not let go yet" binding "$(gpu_get "$GPU_THIRD" Pending)"
echo 0 > /sys/module/feos_slow_gpu/parameters/remove_hangs
card_is_back() {
    [[ $(driver_of "$GPU_THIRD") == feos_slow_gpu && ! $(gpu_get "$GPU_THIRD" Pending)$(gpu_get "$GPU_THIRD" Fault) ]]
}
wait_until "it goes back when that has let go" 30 card_is_back
check "Create without waiting" create brief "$GPU_THIRD" wait b false
check "Delete at once" machine brief Delete
gone() { ! machine_get "$1" State; }
check "it is gone" gone brief
check "its card is back" card_is_back
check "Start" machine bad Start
wrong running Start Resume
on=running
bad_devices
refused_saying InvalidOption one.img "AttachDisk of a file that it has already" attach_disk 1 path s one.img

# Two machines, one file: the second would destroy what the first one writes.
refused_saying InvalidOption 'one\.img.*bad' "Create with a file that a running machine has" \
    vm1 Create 'sasa{sv}' odd 0 1 disks 'aa{sv}' 1 1 path s one.img
refused_saying GPUInUse bad "Start with a GPU that a running machine has" create odd "$GPU_THIRD"
check "another machine, for later" create odd "$GPU_THIRD" start b false
refused_saying GPUInUse bad "its Start" machine odd Start
check "its Delete" machine odd Delete

check "Pause" machine bad Pause
wrong paused Start Shutdown Reboot Pause
check "Resume" machine bad Resume
guest_says bad 'GUEST ready' 120
guest_do bad 'killall acpid' > /dev/null
check "Shutdown" machine bad Shutdown
wrong stopping Start Reboot Pause Resume AttachDisk DetachDisk AttachNIC DetachNIC
check "PowerOff" machine bad PowerOff
wait_until "it is stopped" 30 machine_is bad stopped
wrong stopped Shutdown PowerOff Reboot Pause Resume OpenConsole
check "Start" machine bad Start
kill -9 "$(machine_get bad LeaderPID)"
wait_until "it has crashed" 30 machine_is bad crashed
wrong crashed Shutdown PowerOff Reboot Pause Resume OpenConsole
wait_until "its card is home" 30 gpu_is "$GPU_THIRD" host-bound
check "DetachDisk while it is off" machine bad DetachDisk s data
check "DetachNIC while it is off" machine bad DetachNIC s wire
check "Delete" machine bad Delete
rmmod feos_slow_gpu
bind_to "" "$GPU_THIRD"

# --- What can be met ---

echo 160 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
pages() { awk -v key="HugePages_$1:" '$1 == key { print $2 }' /proc/meminfo; }
equal "the host reserves huge pages" 160 "$(pages Total)"
check "a machine with huge pages, more processors and a secret" vm1 Create 'sasa{sv}' good 0 10 \
    vcpus u 1 max-vcpus u 2 memory-mib t 256 hugepages s 2M firmware s bios kernel s vmlinuz \
    initrd s guest.img cmdline s "$GUEST_CMDLINE" ignition s "{\"passwd\":\"$secret\"}" \
    autostart b true
check "it runs on them" test "$(pages Free)" -le 32
refused_saying InvalidOption '128 .*160 .*32' "more of them than are left" \
    vm1 Create 'sasa{sv}' odd 0 2 hugepages s 2M memory-mib t 256
xml=$(virsh dumpxml good)
check "its XML has the most processors" grep -q "<vcpu [^>]*current='1'[^>]*>2</vcpu>" <<< "$xml"
check "and the huge pages" grep -q "<page size='2048'" <<< "$xml"
equal "libvirt is not told to start it with the host" disable \
    "$(virsh dominfo good | awk '$1 == "Autostart:" { print $2 }')"
equal "that is what the service does" true "$(machine_get good Autostart)"
guest_says good 'GUEST ready' 120
equal "the guest has its Ignition text" "{\"passwd\":\"$secret\"}" "$(ask good ignition | base64 -d)"
# In a file: on a command line of ours it would be found there.
echo $secret > /run/secret
for place in "ps -ef" "cat /proc/[0-9]*/cmdline" "cat /proc/[0-9]*/environ" \
    "journalctl -q -b -o export" "virsh dumpxml good" "cat -r /var/log"; do
    # shellcheck disable=SC2086 # a command line
    case $place in
        *cmdline | *environ) found=$(bash -c "$place" 2> /dev/null | tr '\0' '\n' | grep -cf /run/secret || true) ;;
        *log) found=$(grep -rlaFf /run/secret /var/log /run/log 2> /dev/null || true) ;;
        *) found=$($place | grep -aFf /run/secret || true) ;;
    esac
    equal "its secret is not in: $place" "" "${found#0}"
done
while read -r file; do
    equal "only root and QEMU may read $file" "" "$(find "$file" -perm /o=r)"
done < <(grep -rlaF "$secret" /etc/libvirt /run/feos-vmd /run/libvirt /var/lib/feos /var/lib/libvirt 2> /dev/null)
check "nobody else may" bash -c "! setpriv --reuid=65534 --regid=65534 --clear-groups \
    grep -rlaF $secret /etc/libvirt /run /var/lib/feos /var/lib/libvirt 2> /dev/null"
check "Delete" machine good Delete
wait_until "its huge pages are free again" 20 test "$(pages Free)" = 160
equal "and its secret nowhere" "" \
    "$(grep -rlaF "$secret" /etc/libvirt /run/feos-vmd /run/libvirt /var/lib/feos /var/lib/libvirt 2> /dev/null || true)"
echo 0 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages

# --- Nothing was touched ---

ip link del labbridge
check "every card is home" cards_are_home
check "no override is left" overrides_are_clean
equal "no machine is left" "a(sssaso) 0" "$(vm1 ListMachines)"
