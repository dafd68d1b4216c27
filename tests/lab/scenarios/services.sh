# polkitd dies in the middle of a question; the bus dies under everybody.
# timeout: 900
# shellcheck shell=bash disable=SC2153,SC2154,SC2034

# shellcheck source=tests/lab/host/trials.sh disable=SC1091
. "$LAB/host/trials.sh"

# --- polkit: a rule that takes its time, so that the question is open ---

mkdir -p /etc/polkit-1/rules.d
cat > /etc/polkit-1/rules.d/10-lab.rules << 'END'
polkit.addRule(function(action, subject) {
    if (action.id == "org.feos.vm1.gpu" && subject.user == "nobody") {
        polkit.spawn(["sleep", "8.5"]);
        return polkit.Result.YES;
    }
});
END
systemctl restart polkit

polkitd_killed() {
    local caller answered=''
    setpriv --reuid=65534 --regid=65534 --clear-groups busctl --timeout=60 call org.feos.VM1 \
        "$(gpu_path "$GPU_THIRD")" org.feos.VM1.GPU Bind > /run/answer 2>&1 &
    caller=$!
    must_soon "polkit is asked" 30 pgrep -f '^sleep 8.5'
    kill -9 "$(systemctl show -P MainPID polkit)"
    killed=$(now_ms)
    ! wait $caller || answered=yes
    timed "until the caller was answered" $(($(now_ms) - killed))
    note=$(tail -n 1 /run/answer)
    [[ ! $answered ]] || wrong "was let without an answer of polkit"
    must "nothing has happened" cards_are_home
    must "root is let" gpu "$GPU_THIRD" Bind
    must "and back" gpu "$GPU_THIRD" Release
}
trials "polkitd killed in a question" 1 20 polkitd_killed
rm /etc/polkit-1/rules.d/10-lab.rules

# --- The bus ---

check "a machine" create box "$GPU_AUDIO $GPU_VIRTIO"
qemu=$(machine_get box LeaderPID)

bus_killed() {
    kill -9 "$(systemctl show -P MainPID dbus)"
    killed=$(now_ms)
    must_soon "the service is back" 150 machine_is box running
    timed "until the service answered" $(($(now_ms) - killed))
    [[ $(machine_get box LeaderPID) == "$qemu" ]] || wrong "the machine has another QEMU"
    must "its cards are attached" gpu_is "$GPU_AUDIO" attached
    settled 30
}
trials "dbus-daemon killed" 1 20 bus_killed
check "Delete" machine box Delete
