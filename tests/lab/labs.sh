# Several lab hosts, as many at a time as the machine bears. Sourced by tests/run and tests/soak, which
# have $here and $build with its stage, and count in $passed and $failed.
# shellcheck shell=bash disable=SC2154

# Its host has one processor in one thread, so two run side by side where there are two processors. A
# lab host may take 6 GiB.
side_by_side=$(($(nproc) >= 2 && $(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo) > 14 << 20))
declare -a labs=()

# lab NAME TOPOLOGY [OPTION...] SCENARIO...: one boot of the lab host, in the background.
lab() {
    local name=$1 topology=$2
    shift 2
    while (($(jobs -rp | wc -l) >= 1 + side_by_side)); do wait -n; done
    printf '\n=== lab %s, topology %s: %s\n' "$name" "$topology" "$*"
    labs+=("$name")
    "$here/lab/run-again" --out "$build/lab-$name" --topology "$topology" \
        --stage "$build/stage" "$@" 2>&1 | tee "$build/lab-$name.log" | sed -u "s/^/$name: /" &
}

# lab_failures NAME: what has failed in it, once more, with what was said of it.
lab_failures() {
    awk -v lab="$1" '/^not ok/ { told = 1 } !/^(not ok|#)/ { told = 0 } told { print lab ": " $0 }' \
        "$build/lab-$1.log"
}

# count_labs: waits for all of them, adds up what they have said, tells again at the end, where it is
# looked for, what failed, and makes a table of their figures.
count_labs() {
    local name last
    wait
    ((${#labs[@]})) || return 0
    for name in "${labs[@]}"; do
        last=$(tail -n 1 "$build/lab-$name.log")
        if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
            passed=$((passed + BASH_REMATCH[1]))
            failed=$((failed + BASH_REMATCH[2]))
        else
            failed=$((failed + 1))
        fi
        echo "lab $name: $last"
    done
    for name in "${labs[@]}"; do lab_failures "$name"; done
    local said=("${labs[@]/#/$build/lab-}")
    "$here/lab/figures" "${said[@]/%/.log}" > "$build/figures.md"
}
