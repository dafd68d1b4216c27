# Bind and Release, again and again.
# timeout: 7200
# shellcheck shell=bash disable=SC2153,SC2154,SC2034

# shellcheck source=tests/lab/host/trials.sh disable=SC1091
. "$LAB/host/trials.sh"

bind_and_release() {
    local began bound released
    began=$(now_ms)
    must Bind gpu "$GPU_AUDIO" Bind
    bound=$(now_ms)
    driver_is "$GPU_AUDIO" vfio-pci || wrong "Bind has told what is not so"
    driver_is "$GPU_AUDIO_COMPANION" vfio-pci || wrong "Bind has told what is not so of the companion"
    began=$((began + $(now_ms) - bound))
    must Release gpu "$GPU_AUDIO" Release
    released=$(now_ms)
    timed "Bind and Release" $((released - began))
    driver_is "$GPU_AUDIO" bochs-drm || wrong "Release has told what is not so"
    driver_is "$GPU_AUDIO_COMPANION" snd_hda_intel || wrong "Release has told what is not so of the companion"
}
trials "Bind and Release" 30 5000 bind_and_release
check "no override is left" overrides_are_clean
