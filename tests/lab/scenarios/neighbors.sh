# A card that our machines and other people's managed domains use in turns goes home after each: in both
# orders, with libvirtd and the service restarted in between, several functions of one card.
# timeout: 900
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up

# hostdev ADDRESS: as virt-manager writes it.
hostdev() {
    local domain bus slot function
    IFS=:. read -r domain bus slot function <<< "$1"
    echo "<hostdev mode='subsystem' type='pci' managed='yes'><source>
        <address domain='0x$domain' bus='0x$bus' slot='0x$slot' function='0x$function'/>
        </source></hostdev>"
}
cat > /run/theirs.xml << END
<domain type='kvm'><name>theirs</name><memory unit='MiB'>256</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices>$(hostdev "$GPU_AUDIO") $(hostdev "$GPU_AUDIO_COMPANION")</devices></domain>
END

card_is_home() {
    driver_is "$GPU_AUDIO" bochs-drm && driver_is "$GPU_AUDIO_COMPANION" snd_hda_intel &&
        overrides_are_clean
}
all_is_home() { card_is_home && gpu_is "$GPU_AUDIO" host-bound; }
card_is_out() { driver_is "$GPU_AUDIO" vfio-pci && driver_is "$GPU_AUDIO_COMPANION" vfio-pci; }

# their_turn WHEN [COMMAND...]: the other domain has the card; the command runs meanwhile.
their_turn() {
    local when=$1
    shift
    check "their domain takes the card, $when" virsh create /run/theirs.xml
    check "it has both functions" card_is_out
    ((!$#)) || "$@"
    check "their domain ends" virsh destroy theirs
    wait_until "the card is back on its host drivers, $when" 20 card_is_home
}

# our_turn WHEN [COMMAND...]: likewise for our machine, which is there.
our_turn() {
    local when=$1
    shift
    check "our machine takes the card, $when" machine box Start
    check "its card is attached" gpu_is "$GPU_AUDIO" attached
    ((!$#)) || "$@"
    check "our machine ends" machine box PowerOff
    wait_until "the card is home, $when" 60 all_is_home
}

restart_libvirtd() {
    systemctl restart libvirtd
    wait_until "the service has libvirt again" 60 service_is_up
}
restart_service() {
    systemctl restart feos-vmd
    wait_until "the service is there again" 60 service_is_up
}
stop_service() { systemctl stop feos-vmd; }

# definition_is_unmanaged: nobody who starts it with virsh makes libvirt unbind a host driver.
definition_is_unmanaged() {
    local xml
    xml=$(virsh dumpxml --inactive box) && [[ $xml == *"managed='no'"* && $xml != *"managed='yes'"* ]]
}

their_turn "first of all"
check "Create" create box "$GPU_AUDIO" start b false
our_turn "after theirs"
check "the definition is unmanaged" definition_is_unmanaged
their_turn "after ours"
our_turn "libvirtd restarted meanwhile" restart_libvirtd
their_turn "after that"
our_turn "the service restarted meanwhile" restart_service
their_turn "after that one"
their_turn "the service restarted meanwhile" restart_service
our_turn "before the service is stopped" \
    check "the definition is unmanaged also while it runs" definition_is_unmanaged
stop_service
their_turn "without the service"
wait_until "the service is there again" 60 service_is_up

# --- a start that the service does not live to end ---

definition_is_lent() { virsh dumpxml --inactive box | grep -q "managed='yes'"; }
machine box Start > /run/start.txt 2>&1 &
caller=$!
wait_until "while libvirt starts the machine its definition is managed" 30 definition_is_lent
check "the service is killed in that moment" systemctl kill -s KILL feos-vmd
wait "$caller" || true
wait_until "the service is there again" 60 service_is_up
wait_until "the machine runs all the same" 60 machine_is box running
wait_until "its definition is unmanaged again" 20 definition_is_unmanaged
check "our machine ends" machine box PowerOff
wait_until "the card is home" 60 all_is_home
their_turn "after that start"

# --- by hand ---

by_hand=$(virsh start box 2>&1) || true
check "virsh start of our machine is refused: nobody has handed its card over" \
    grep -q 'must be manually detached' <<< "$by_hand"
check "the card was not touched" all_is_home

check "Delete" machine box Delete

# --- Machines that others clone and rename ---

# As virt-clone does: whatever it does not know stays as it was.
clone() {
    virsh dumpxml --inactive "$1" | sed "/<uuid>/d; s|<name>$1</name>|<name>$2</name>|" > /run/clone.xml
    virsh define /run/clone.xml
}
ignition_of() { virsh dumpxml --inactive "$1" | sed -n "s|.*file='\(/var/lib/feos/ignition/[^']*\)'.*|\1|p"; }

check "Create with Ignition" create parent "" start b false ignition s '{"ignition":{"version":"3.3.0"}}'
text=$(ignition_of parent)
uuid=$(machine_get parent UUID)
check "its clone" clone parent copy
wait_until "the clone is a machine" 20 machine_is copy created
check "Start of the original" machine parent Start
check "Start of the clone beside it" machine copy Start
check "each has its console's log" test -e "$(guest_console parent)" -a -e "$(guest_console copy)"
check "Delete of the original" machine parent Delete
check "the clone still has its Ignition text" test -s "$text"
refused_saying MachineExists "copy.*clone" "the original's UUID, while the clone has that text" \
    create parent "" start b false uuid s "$uuid" ignition s '{"ignition":{"version":"3.3.0"}}'
check "PowerOff of the clone" machine copy PowerOff
check "and it starts again" machine copy Start
check "Delete of the clone" machine copy Delete
wait_until "the text is gone with the last who had it" 20 test ! -e "$text"

check "Create" create before "" start b false
check "virsh renames it before its first start" virsh domrename before after
wait_until "it has the other name" 20 machine_is after created
check "Start" machine after Start
check "its console's log has its name" test -e "$(guest_console after)"
check "Delete" machine after Delete

check "every card is the host's" cards_are_home
check "no override is left" overrides_are_clean
