/* The power settings of a card on its way: that the handover helper keeps it awake, and puts back
 * what was set before. Runs under umockdev-wrapper. */
#include "autoptr.h"
#include "helper-kernel.h"
#include "testing.h"

#include <string.h>

/* Every function is awake before its driver lets go (the kernel above looks), and again when
 * vfio-pci has let it sleep. */
static void test_bind_keeps_awake(void **state) {
        put("nvidia", "snd_hda_intel", "");
        power_set(0, "1", "auto");
        power_set(1, "0", "on");
        helper_run("bind", GPU, AUDIO, NULL);
        assert_non_null(strstr(kernel.said->str, "origin " GPU "\tnvidia\t\t1\tauto\n"));
        assert_non_null(strstr(kernel.said->str, "origin " AUDIO "\tsnd_hda_intel\t\t0\ton\n"));
        assert_string_equal(kernel.did->str,
                            "d3cold_allowed 0 0; control 0 on; "
                            "override 0 vfio-pci; unbind 0 nvidia; probe 0; "
                            "d3cold_allowed 0 0; control 0 on; "
                            "d3cold_allowed 1 0; control 1 on; "
                            "override 1 vfio-pci; unbind 1 snd_hda_intel; probe 1; "
                            "d3cold_allowed 1 0; control 1 on; ");
        assert_awake(0);
        assert_awake(1);
}

/* So is a card that was on vfio-pci before. */
static void test_bind_is_there_keeps_awake(void **state) {
        put(VFIO_PCI, VFIO_PCI, "mine");
        power_set(0, "1", "auto");
        power_set(1, "1", "auto");
        helper_run("bind", GPU, AUDIO, NULL);
        assert_string_equal(kernel.did->str, "d3cold_allowed 0 0; control 0 on; "
                                             "d3cold_allowed 1 0; control 1 on; ");
        assert_awake(0);
        assert_awake(1);
}

static void test_bind_cannot_keep_awake(void **state) {
        put("nvidia", "snd_hda_intel", "");
        power_set(0, "1", "auto");
        kernel.cards[0].refuses = true;
        helper_run("bind", GPU, AUDIO, "failed The kernel refused to keep " GPU " awake.");
        assert_stands(0, "nvidia", "");
        assert_stands(1, "snd_hda_intel", "");
}

/* What could not be read could not be put back. */
static void test_bind_does_not_know_what_was_set(void **state) {
        put("nvidia", "snd_hda_intel", "");
        power_set(0, "1", "");
        helper_run("bind", GPU, AUDIO, "failed The kernel refused to keep " GPU " awake.");
        assert_stands(0, "nvidia", "");
        assert_stands(1, "snd_hda_intel", "");
}

/* What was set before is put back, after every probe, and what is not known is left alone. */
static void test_release_restores_power(void **state) {
        static const struct {
                const char *gpu, *audio;
                const char *gpu_power[2], *audio_power[2]; /* afterwards */
        } cases[] = {
                { GPU ",1,on=nvidia,override=",
                  AUDIO ",0,auto=snd_hda_intel,override=",
                  { "1", "on" },
                  { "0", "auto" } },
                { GPU ",1,auto=nvidia",
                  AUDIO ",1,on=snd_hda_intel",
                  { "1", "auto" },
                  { "1", "on" } },
                /* Any host driver, which sets its own. */
                { GPU ",1,", AUDIO ",1,", { "1", "auto" }, { "1", "auto" } },
                { GPU, AUDIO, { "0", "auto" }, { "0", "auto" } },
                /* Home on vfio-pci; and with no driver at all, which sets nothing. */
                { GPU ",1,auto=vfio-pci,override=mine",
                  AUDIO ",1,auto=,override=",
                  { "1", "auto" },
                  { "1", "auto" } },
                { GPU "=vfio-pci", AUDIO "=", { "0", "on" }, { "0", "on" } },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
                power_set(0, "0", "on");
                power_set(1, "0", "on");
                kernel.answer = "go\n";
                g_string_truncate(kernel.said, 0);
                g_string_truncate(kernel.did, 0);
                helper_run("release", cases[i].gpu, cases[i].audio, NULL);
                assert_power(0, cases[i].gpu_power[0], cases[i].gpu_power[1]);
                assert_power(1, cases[i].audio_power[0], cases[i].audio_power[1]);
        }
}

/* A bind that failed half-way: a function that it has not reached, and one whose driver kept it. */
static void test_release_at_home_restores_power(void **state) {
        put("nvidia", "snd_hda_intel", VFIO_PCI);
        power_set(0, "0", "on");
        power_set(1, "1", "auto");
        helper_run("release", GPU ",1,auto=nvidia,override=", AUDIO ",1,auto=snd_hda_intel", NULL);
        assert_power(0, "1", "auto");
        assert_power(1, "1", "auto");
        assert_string_equal(kernel.did->str, "override 0 ; d3cold_allowed 0 1; control 0 auto; "
                                             "d3cold_allowed 1 1; control 1 auto; ");
}

/* One that answers gets its settings back whatever the other does; one that does not is not written
 * to, the kernel above looks; one that has not come home stays awake. */
static void test_release_restores_what_it_can(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        power_set(0, "0", "on");
        power_set(1, "0", "on");
        kernel.cards[0].shunned = true;
        helper_run("release", GPU ",1,auto=nvidia,override=", AUDIO ",1,auto=snd_hda_intel",
                   "failed The driver nvidia has not taken " GPU " back.");
        assert_power(0, "0", "on");
        assert_power(1, "1", "auto");

        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        power_set(0, "0", "on");
        power_set(1, "0", "on");
        kernel.cards[0].shunned = false;
        card_die(&kernel.cards[1]);
        kernel.answer = "go\n";
        g_string_truncate(kernel.said, 0);
        helper_run("release", GPU ",1,auto=nvidia,override=", AUDIO ",1,auto=snd_hda_intel",
                   "lost The device " AUDIO " does not answer any more.");
        assert_power(0, "1", "auto");
        assert_power(1, "0", "on");
}

/* A sound card's driver goes on after its probe, and must not have the last word. */
static void test_release_awaits_a_late_driver(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        power_set(0, "0", "on");
        power_set(1, "0", "on");
        kernel.cards[1].late = 4;
        helper_run("release", GPU ",1,on=nvidia,override=", AUDIO ",1,on=snd_hda_intel", NULL);
        assert_int_equal(kernel.cards[1].late, 0);
        assert_power(0, "1", "on");
        assert_power(1, "1", "on");
}

static void test_release_cannot_restore(void **state) {
        put("nvidia", "snd_hda_intel", "");
        power_set(0, "0", "on");
        power_set(1, "0", "on");
        kernel.cards[0].refuses = true;
        helper_run("release", GPU ",1,auto=nvidia", AUDIO ",1,auto=snd_hda_intel",
                   "failed The kernel refused to put the power settings of " GPU " back.");
        assert_power(1, "1", "auto");
}

/* A setting that was there and is not any more has not been put back. */
static void test_release_of_a_setting_that_has_gone(void **state) {
        put("nvidia", "snd_hda_intel", "");
        power_set(1, "0", "on");
        helper_run("release", GPU ",1,auto=nvidia", AUDIO ",1,auto=snd_hda_intel",
                   "failed The kernel refused to put the power settings of " GPU " back.");
        assert_power(1, "1", "auto");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(test_bind_keeps_awake),
                TEST(test_bind_is_there_keeps_awake),
                TEST(test_bind_cannot_keep_awake),
                TEST(test_bind_does_not_know_what_was_set),
                TEST(test_release_restores_power),
                TEST(test_release_at_home_restores_power),
                TEST(test_release_restores_what_it_can),
                TEST(test_release_awaits_a_late_driver),
                TEST(test_release_cannot_restore),
                TEST(test_release_of_a_setting_that_has_gone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
