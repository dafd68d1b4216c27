# Who may do what, asked of the real polkitd, with an agent that really types a
# password into PAM, or does not.
# timeout: 300
# shellcheck shell=bash disable=SC2153

wait_until "the service is there" 120 service_is_up
useradd --system --no-create-home caller
echo root:the-password | chpasswd
rules=/etc/polkit-1/rules.d/10-lab.rules
mkdir -p /etc/polkit-1/rules.d

as_caller() {
    setpriv --reuid=caller --regid="$(id -g caller)" --clear-groups env "PATH=$PATH" \
        SYSTEMD_LOG_LEVEL=debug "$@"
}
# caller_with ANSWER PASSWORD GPU VERB: the call, with an agent for it.
caller_with() {
    local answer=$1 password=$2 timeout=60
    [[ $answer != never ]] || timeout=3
    as_caller vm1-agent "$answer" "$password" busctl --timeout=$timeout call org.feos.VM1 \
        "$(gpu_path "$3")" org.feos.VM1.GPU "$4" 2>&1
}
# caller_alone GPU VERB: the call, which may not ask.
caller_alone() {
    as_caller busctl --timeout=60 --allow-interactive-authorization=no call org.feos.VM1 \
        "$(gpu_path "$1")" org.feos.VM1.GPU "$2" 2>&1
}
# denied NAME DESCRIPTION COMMAND...: leaves what was said in $said.
denied() {
    local name=$1 description=$2
    shift 2
    said=$("$@" 2>&1) && not_ok "$description: is refused" && return
    check "$description: $name" grep -q "error-name=org.freedesktop.DBus.Error.$name" <<< "$said"
}
asked="asked org.feos.vm1.gpu: Authentication is required to take the GPU $GPU_THIRD from the host"

# --- Without a rule ---

denied InteractiveAuthorizationRequired "who may not be asked is refused" caller_alone "$GPU_THIRD" Bind
check "nothing happened" gpu_is "$GPU_THIRD" host-bound
denied AccessDenied "who types a wrong password is refused" caller_with yes wrong "$GPU_THIRD" Bind
check "they were asked for that card" grep -qF "$asked" <<< "$said"
denied AccessDenied "who dismisses the question is refused" caller_with no - "$GPU_THIRD" Bind
check "they were asked too" grep -qF "$asked" <<< "$said"
denied AccessDenied "whose agent goes away is refused" caller_with leave - "$GPU_THIRD" Bind
said=$(caller_with never - "$GPU_THIRD" Bind) || true
check "a question whose caller has gone is withdrawn" grep -qx withdrawn <<< "$said"
check "nothing happened of all that" cards_are_home
equal "nor does the journal know of it" "" "$(journalled $GPU_STATE_ID FEOS_GPU="$GPU_THIRD")"
check "who types the password is let" caller_with yes the-password "$GPU_THIRD" Bind
check "it is bound" gpu_is "$GPU_THIRD" vfio-bound
denied AccessDenied "but only that once" caller_with no - "$GPU_THIRD" Release
check "root is not asked" gpu "$GPU_THIRD" Release

# --- A rule for one GPU and one verb, which says what it was given ---

cat > $rules << END
polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.feos.vm1.") != 0)
        return polkit.Result.NOT_HANDLED;
    // polkitd says nothing of its rules' own log when it runs as a service.
    polkit.spawn(["logger", "-t", "lab-rule", action.id + " " + subject.user +
        " verb=" + action.lookup("verb") + " gpus=" + action.lookup("gpus") +
        " machine=" + action.lookup("machine")]);
    if (action.id == "org.feos.vm1.gpu" && subject.user == "caller" &&
        action.lookup("gpus") == "$GPU_THIRD" && action.lookup("verb") == "Bind")
        return polkit.Result.YES;
    return polkit.Result.NOT_HANDLED;
});
END
wait_until "a rule lets them bind one GPU" 20 caller_alone "$GPU_THIRD" Bind
denied InteractiveAuthorizationRequired "no other GPU" caller_alone "$GPU_AUDIO" Bind
denied InteractiveAuthorizationRequired "and nothing but that" caller_alone "$GPU_THIRD" Release
denied InteractiveAuthorizationRequired "nor a machine" as_caller busctl --timeout=60 \
    --allow-interactive-authorization=no call org.feos.VM1 /org/feos/VM1 org.feos.VM1 Create \
    'sasa{sv}' box 2 "$GPU_VIRTIO" "$GPU_AUDIO" 0
wait_until "the rule has seen the details" 10 journalctl -q -b -t lab-rule --grep \
    "org.feos.vm1.gpu caller verb=Release gpus=$GPU_THIRD machine=(undefined)?$"
check "those of a machine sorted" journalctl -q -b -t lab-rule --grep \
    "org.feos.vm1.create caller verb=Create gpus=$GPU_AUDIO,$GPU_VIRTIO machine=box"
check "the machine was not made" machine_is_gone box

# --- Without polkit ---

systemctl mask --runtime --now polkit > /dev/null 2>&1
check "without polkit root is let" gpu "$GPU_THIRD" Release
denied AccessDenied "others are not" caller_alone "$GPU_THIRD" Bind
# busctl says "Access denied", whatever the message is.
said=$(as_caller gdbus call --system --dest org.feos.VM1 --object-path "$(gpu_path "$GPU_THIRD")" \
    --method org.feos.VM1.GPU.Bind 2>&1) || true
check "and hear why" grep -q 'polkit cannot be reached' <<< "$said"
systemctl unmask --runtime polkit > /dev/null 2>&1
check "with it the rule holds again" caller_alone "$GPU_THIRD" Bind
check "root gives it back" gpu "$GPU_THIRD" Release

# --- The examples ---

examples=/usr/share/doc/feos-vmd/examples
for rule in "$examples"/*.rules; do
    cp "$rule" "$rules"
    # polkitd says what it could not compile.
    since=$(date '+%F %T')
    systemctl restart polkit
    denied InteractiveAuthorizationRequired "with ${rule##*/} who is in no group is refused" \
        caller_alone "$GPU_AUDIO" Bind
    equal "polkitd has read ${rule##*/}" "" \
        "$(journalctl -q -u polkit --since "$since" | grep -iE 'error' || true)"
done
rm $rules
userdel caller
check "every card is the host's" cards_are_home
