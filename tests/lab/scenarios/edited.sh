# Definitions of our machines, edited by others in every way that virsh has: what the bus shows is
# what libvirt has, and nothing is moved or destroyed that is not ours, or not what was meant.
# timeout: 900
# shellcheck shell=bash disable=SC2153

signals=/run/feos-edited-signals
gdbus monitor --system --dest org.feos.VM1 > $signals &
wait_until "the service is there" 120 service_is_up
wait_until "the monitor hears the service" 20 grep -q 'The name org.feos.VM1 is owned' $signals
check "every card is home" cards_are_home

# --- What the bus shows ---

# last_told NAME: whether the object was added or removed last.
last_told() {
    grep -E "InterfacesAdded|InterfacesRemoved" $signals | grep -F "$VM1/machine/$1'" |
        grep -oE 'Interfaces(Added|Removed)' | tail -n 1
}
# shown NAME: in how many of the bus's ways it is there: the tree, the object itself, the listing,
# the managed objects, the last signal.
shown() {
    local path=$VM1/machine/$1 n=0
    ! grep -qxF "$path" <<< "$(busctl --list tree org.feos.VM1)" || ((++n))
    ! busctl introspect org.feos.VM1 "$path" org.feos.VM1.Machine > /dev/null 2>&1 || ((++n))
    ! vm1 ListMachines | grep -qF "\"$path\"" || ((++n))
    ! gdbus call --system --dest org.feos.VM1 --object-path $VM1 \
        --method org.freedesktop.DBus.ObjectManager.GetManagedObjects | grep -qF "'$path'" || ((++n))
    [[ $(last_told "$1") != InterfacesAdded ]] || ((++n))
    echo $n
}
is_shown() { [[ $(shown "$1") == 5 ]]; }
is_hidden() { [[ $(shown "$1") == 0 ]]; }
has_uuid() { [[ $(machine_get "$1" UUID) == "$2" ]]; }
vcpus_are() { [[ $(machine_get "$1" VCPUs) == "$2" ]]; }
memory_is() { [[ $(machine_get "$1" MemoryMiB) == "$2" ]]; }
told_change() { grep -qE "^$VM1/machine/$1: .*PropertiesChanged .*'$2': <.*\\b$3>" $signals; }
uuid_of() { virsh domuuid "$1" | head -n 1; }

# --- What nobody may touch ---

rests() { # CARD: it is at the host, with nothing of ours on it
    gpu_is "$1" host-bound && [[ $(driver_of "$1") != vfio-pci &&
        $(< "/sys/bus/pci/devices/$1/driver_override") == '(null)' ]]
}
everything_rests() { rests "$GPU_AUDIO" && rests "$GPU_VIRTIO" && rests "$GPU_THIRD"; }
no_object() { # METHOD MACHINE: there is nobody to ask
    local output
    ! output=$(machine "$2" "$1" 2>&1) && [[ $output == *"Unknown object"* ]]
}

# edit MACHINE SED-SCRIPT: its definition, by hand.
edit() {
    virsh dumpxml --inactive --security-info "$1" | sed "$2" > /run/edited.xml
    virsh define /run/edited.xml > /dev/null
}

check "a machine that does not run" create quiet "$GPU_THIRD" start b false max-vcpus u 2
check "and one that does" create busy "$GPU_AUDIO"
wait_until "both are shown" 20 is_shown quiet
wait_until "both are shown" 20 is_shown busy
uri=$(virsh dumpxml quiet | sed -n "s/.*<feos:machine xmlns:feos='\([^']*\)'.*/\1/p; s/.*<feos:machine xmlns:feos=\"\([^\"]*\)\".*/\1/p")
check "our element has its namespace" test -n "$uri"
busy=$(machine_get busy LeaderPID)

# --- Our element removed ---

element=$(virsh metadata quiet "$uri" --config)
check "the element is removed from one that does not run" virsh metadata quiet "$uri" --config --remove
wait_until "it leaves the bus" 20 is_hidden quiet
check "its Delete reaches nobody" no_object Delete quiet
check "its Start reaches nobody" no_object Start quiet
equal "libvirt has it still" "shut off" "$(domain_state quiet)"
check "its card rests" rests "$GPU_THIRD"
check "the name is taken" grep -q MachineExists <<< "$(vm1 Check 'sasa{sv}' quiet 0 0)"
check "the element comes back" virsh metadata quiet "$uri" --config --key feos --set "$element"
wait_until "and the machine with it" 20 is_shown quiet
check "its definition is as it was" grep -q "$GPU_THIRD" <<< "$(busctl get-property org.feos.VM1 $VM1/machine/quiet org.feos.VM1.Machine GPUAddresses)"

check "the element is removed from one that runs" virsh metadata busy "$uri" --live --config --remove
wait_until "it leaves the bus" 20 is_hidden busy
check "its Delete reaches nobody" no_object Delete busy
equal "it runs on" running "$(domain_state busy)"
check "in the same QEMU" test -e "/proc/$busy"
check "its card is in it" gpu_is "$GPU_AUDIO" attached
equal "by its name" busy "$(gpu_get "$GPU_AUDIO" MachineName)"
equal "which is no machine of ours" / "$(gpu_get "$GPU_AUDIO" Machine)"
refused GPUInUse "its card for another machine" create other "$GPU_AUDIO"
virsh destroy busy > /dev/null
wait_until "its card goes home when it ends" 40 rests "$GPU_AUDIO"
check "libvirt has it still" virsh dominfo busy
virsh undefine busy > /dev/null

# --- Other names ---

check "a name that is none of ours" virsh domrename quiet 'not ours!'
wait_until "it leaves the bus" 20 is_hidden quiet
check "its Delete reaches nobody" no_object Delete quiet
check "libvirt has it still" virsh dominfo 'not ours!'
check "a name that is" virsh domrename 'not ours!' loud
wait_until "it is shown by that" 20 is_shown loud
check "and not by the old one" is_hidden quiet
# Its console is kept in a folder of its name.
check "Start" machine loud Start
check "the card is in it" gpu_is "$GPU_THIRD" attached
guest_says loud 'GUEST' 120
check "PowerOff" machine loud PowerOff
wait_until "the card is home" 40 rests "$GPU_THIRD"

check "another machine" create left "$GPU_VIRTIO" start b false
loud=$(uuid_of loud)
left=$(uuid_of left)
virsh domrename left between > /dev/null
virsh domrename loud left > /dev/null
virsh domrename between loud > /dev/null
wait_until "names are swapped" 20 has_uuid left "$loud"
wait_until "both ways" 20 has_uuid loud "$left"
wait_until "both are shown" 20 is_shown left
wait_until "both are shown" 20 is_shown loud
check "the name in between is not" is_hidden between
check "the GPUs are theirs" grep -q "$GPU_VIRTIO" <<< "$(busctl get-property org.feos.VM1 $VM1/machine/loud org.feos.VM1.Machine GPUAddresses)"
check "Delete" machine loud Delete
check "deletes the one that has the name" domain_is_gone "$left"
check "and not the other" virsh dominfo "$loud"

# --- Another UUID ---

virsh dumpxml --inactive left | sed "s/$loud/11111111-2222-4333-8444-555555555555/" > /run/edited.xml
virsh undefine left > /dev/null
virsh define /run/edited.xml > /dev/null
wait_until "a machine defined with another UUID is that one" 20 has_uuid left 11111111-2222-4333-8444-555555555555
wait_until "and is shown" 20 is_shown left

# --- Its size ---

# libvirt tells nobody of these: the next listing finds them.
virsh setvcpus left 2 --config > /dev/null
virsh setmem left 300M --config > /dev/null
virsh setmaxmem left 400M --config > /dev/null
wait_until "virsh setvcpus is followed" 90 vcpus_are left 2
wait_until "and told" 10 told_change left VCPUs 2
wait_until "virsh setmaxmem is followed" 90 memory_is left 400
wait_until "and told" 10 told_change left MemoryMiB 400
virsh setvcpus left 1 --config > /dev/null
virsh setmaxmem left 512M --config > /dev/null
virsh setmem left 512M --config > /dev/null
check "Start" machine left Start
equal "the processors are those of the start" 1 "$(machine_get left VCPUs)"
virsh setvcpus left 2 --live > /dev/null
wait_until "virsh setvcpus is followed while it runs" 90 vcpus_are left 2
check "PowerOff" machine left PowerOff
wait_until "the card is home" 40 rests "$GPU_THIRD"

# --- Its GPUs ---

hostdev() { # ADDRESS MANAGED: as a person adds it
    local bus slot function
    IFS=:. read -r _ bus slot function <<< "$1"
    echo "<hostdev mode='subsystem' type='pci' managed='$2'><source><address domain='0' bus='0x$bus' slot='0x$slot' function='0x$function'/></source></hostdev>"
}
virsh dumpxml --inactive left > /run/left.xml
mended() {
    virsh define /run/left.xml > /dev/null
    check "$1: everything rests" everything_rests
}
# starts_not REGEX DESCRIPTION
starts_not() {
    refused_saying InvalidState "$1" "Start with $2" machine left Start
    check "$2: nothing has moved" everything_rests
    equal "$2: the machine is off" "shut off" "$(domain_state left)"
}

edit left "/feos:gpu/ s/$GPU_THIRD/$GPU_AUDIO/; /feos:function/d; s|\\(<feos:gpu [^/>]*\\)>|\\1/>|; \\|</feos:gpu>|d"
starts_not "$GPU_THIRD|$GPU_AUDIO" "another GPU in our element"
mended "another GPU in our element"

edit left "/<hostdev/,/<\\/hostdev>/d"
starts_not "$GPU_THIRD" "its host device removed"
mended "its host device removed"

edit left "s|</devices>|$(hostdev "$GPU_VIRTIO" yes)</devices>|"
starts_not "$GPU_VIRTIO" "the host device of another GPU added"
mended "the host device of another GPU added"

edit left "s|</devices>|$(hostdev "$GPU_AUDIO_COMPANION" no)</devices>|"
starts_not "$GPU_AUDIO_COMPANION" "the host device of a part of another card added"
mended "the host device of a part of another card added"

# The same GPU twice is the same GPU.
edit left "s|\\(<feos:gpu address=[^ />]*\\)\\(.*\\)|<feos:gpu address='$GPU_THIRD'/>\\n\\1\\2|"
equal "a GPU twice in our element is one" "as 1 \"$GPU_THIRD\"" \
    "$(busctl get-property org.feos.VM1 $VM1/machine/left org.feos.VM1.Machine GPUAddresses)"
check "Start" machine left Start
check "the card is in it" gpu_is "$GPU_THIRD" attached

# Edited while it runs: the next start is judged by it, this one goes on.
edit left "/<hostdev/,/<\\/hostdev>/d"
check "edited while it runs, it runs on" machine_is left running
check "the card is in it" gpu_is "$GPU_THIRD" attached
check "PowerOff" machine left PowerOff
wait_until "the card is home" 40 rests "$GPU_THIRD"
starts_not "$GPU_THIRD" "its host device removed while it ran"
check "Delete of a machine that has been edited" machine left Delete
wait_until "it is gone from the bus" 20 is_hidden left
check "also from libvirt" domain_is_gone left

check "every card is home" cards_are_home
check "no override is left" overrides_are_clean
equal "no machine is left" "a(sssaso) 0" "$(vm1 ListMachines)"
