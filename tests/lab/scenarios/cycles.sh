# Start and stop, again and again: every card comes home every time, and the daemon
# neither grows nor keeps a descriptor. CYCLES of them: tests/lab/run --set CYCLES=200.
# timeout: 900
# shellcheck shell=bash disable=SC2153

cycles=${CYCLES:-20}
settled=3 # after so many it has what it keeps

wait_until "the service is there" 120 service_is_up
daemon=$(systemctl show -P MainPID feos-vmd)
daemon_fds() { find "/proc/$daemon/fd" -mindepth 1 | wc -l; }
daemon_rss() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$daemon/status"; }
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
# bounded SECONDS COMMAND...: true within that time; says nothing.
bounded() {
    local end=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

check "a machine with two cards" create cycle "$GPU_AUDIO $GPU_VIRTIO" start b false
good=0
times=()
for ((i = 1; i <= cycles; i++)); do
    began=$(now_ms)
    if ! output=$(machine cycle Start 2>&1); then
        not_ok "cycle $i: Start: $output"
        break
    fi
    started=$(now_ms)
    if ! gpu_is "$GPU_AUDIO" attached || ! gpu_is "$GPU_VIRTIO" attached; then
        not_ok "cycle $i: cards attached: $(gpu_view "$GPU_AUDIO"), $(gpu_view "$GPU_VIRTIO")"
        break
    fi
    # Each kind of end in its turn.
    case $((i % 3)) in
        0) virsh destroy cycle > /dev/null ;;
        1) machine cycle PowerOff > /dev/null ;;
        2) kill -9 "$(machine_get cycle LeaderPID)" ;;
    esac
    if ! bounded 60 cards_are_home || ! overrides_are_clean; then
        not_ok "cycle $i: cards home: $(gpu_view "$GPU_AUDIO"), $(gpu_view "$GPU_VIRTIO")"
        break
    fi
    ended=$(now_ms)
    times+=($((ended - began)))
    ((++good))
    rss=$(daemon_rss)
    fds=$(daemon_fds)
    echo "# cycle $i: start $((started - began)) ms, end $((ended - started)) ms, RSS $rss KiB, $fds descriptors"
    if ((i == settled)); then
        settled_rss=$rss
        settled_fds=$fds
    fi
done
equal "every card was back after each of $cycles cycles" "$cycles" "$good"
# shellcheck disable=SC2183 # one number per argument
read -r least most mean < <(printf '%s\n' "${times[@]}" | sort -n |
    awk 'NR == 1 { least = $1 } { sum += $1; most = $1 } END { print least, most, int(sum / NR) }')
echo "# a cycle took $mean ms, $least to $most"
equal "it was one daemon all the time" "$daemon" "$(systemctl show -P MainPID feos-vmd)"
# What an end leaves under way is over within moments.
fds_are_back() { (($(daemon_fds) <= settled_fds)); }
wait_until "the daemon has no more descriptors than after $settled ($settled_fds)" 10 fds_are_back || true
check "its memory has grown by less than 1 MiB since ($settled_rss KiB, now $(daemon_rss))" \
    test "$(daemon_rss)" -lt $((settled_rss + 1024))
check "no helper is left behind" bash -c "! pgrep -P $daemon"
check "Delete" machine cycle Delete
