/* The handover helper itself: how it takes a card to vfio-pci and home again, and what it says when
 * that fails. Runs under umockdev-wrapper. */
#include "autoptr.h"
#include "helper-kernel.h"
#include "testing.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

static void test_bind(void **state) {
        put("nvidia", "", "(null)");
        override_set(&kernel.cards[1], "some\tthing");
        helper_run("bind", GPU "=nvidia,override=", AUDIO "=,override=", NULL);
        assert_non_null(strstr(kernel.said->str,
                               "origin " GPU "\tnvidia\t\t\t\n"
                               "step The kernel has not told where " AUDIO " stands\n"
                               "origin " AUDIO "\t\tsome\\tthing\t\t\n"
                               "ready\n"));
        assert_string_equal(kernel.did->str, "override 0 vfio-pci; unbind 0 nvidia; probe 0; "
                                             "override 1 vfio-pci; probe 1; ");
        assert_stands(0, VFIO_PCI, VFIO_PCI);
        assert_stands(1, VFIO_PCI, VFIO_PCI);
        assert_int_equal(kernel.waits, 0);
}

static void test_bind_is_there(void **state) {
        put(VFIO_PCI, VFIO_PCI, "mine");
        helper_run("bind", GPU, AUDIO, NULL);
        assert_string_equal(kernel.did->str, "");
}

/* Without permission nothing is touched, whichever way. */
static void test_no_permission(void **state) {
        static const char *const answers[] = { "", "g", "no\n" };

        put("nvidia", VFIO_PCI, "mine");
        for (size_t i = 0; i < G_N_ELEMENTS(answers) * 2; i++) {
                char *argv[] = { (char *)"feos-vm-handover", (char *)(i % 2 ? "bind" : "release"),
                                 kernel.state_dir, (char *)GPU "=,override=", NULL };
                g_autofree char *lock = g_strconcat(kernel.state_dir, "/" GPU ".lock", NULL);

                kernel.answer = answers[i / 2];
                assert_int_equal(handover_main(4, argv), EXIT_FAILURE);
                helper_locks_forget();
                g_remove(lock); /* still ours: the next takes another */
        }
        assert_string_equal(kernel.did->str, "");
        assert_null(strstr(kernel.said->str, "failed"));
        assert_stands(0, "nvidia", "mine");
        assert_stands(1, VFIO_PCI, "mine");
}

static void test_bind_dead(void **state) {
        put("nvidia", "snd_hda_intel", "");
        card_die(&kernel.cards[0]);
        helper_run("bind", GPU, AUDIO, "lost The device " GPU " does not answer any more.");
        assert_string_equal(kernel.did->str, "");
}

static void test_bind_refused(void **state) {
        put("nvidia", "snd_hda_intel", "");
        kernel.cards[0].keeps = true;
        helper_run("bind", GPU, AUDIO, "failed The driver nvidia refused to let go of " GPU ".");
        assert_string_equal(kernel.did->str, "override 0 vfio-pci; unbind 0 nvidia; ");
}

/* A file where a link belongs: reading it fails, and says nothing of what the link would. */
static void link_break(const Card *card, const char *link) {
        g_autofree char *path = card_path(card, link);

        g_remove(path);
        assert_true(g_file_set_contents(path, "", -1, NULL));
}

/* What cannot be read is not taken for an answer: a driver that is unknown is not none, and would
 * be recorded as where the card comes from. */
static void test_unreadable(void **state) {
        put("nvidia", "snd_hda_intel", "");
        link_break(&kernel.cards[1], "driver");
        helper_run("bind", GPU, AUDIO, "failed Which driver has " AUDIO " could not be found out.");
        assert_null(strstr(kernel.said->str, "ready"));
        assert_string_equal(kernel.did->str, "");

        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        link_break(&kernel.cards[1], "iommu_group");
        g_string_truncate(kernel.said, 0);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "failed Which IOMMU group " AUDIO " is in could not be found out.");
        assert_string_equal(kernel.did->str, "");
}

/* A configuration space that cannot be read does not tell that the device is gone. */
static void test_config_unreadable(void **state) {
        g_autofree char *config = card_path(&kernel.cards[0], "config");

        put("nvidia", "snd_hda_intel", "");
        assert_true(g_file_set_contents(config, "", -1, NULL));
        helper_run("bind", GPU, AUDIO, "failed Whether " GPU " answers could not be found out.");
        assert_string_equal(kernel.did->str, "");
}

/* A probe that is accepted, and no driver appears. */
static void test_bind_nobody_comes(void **state) {
        put("nvidia", "snd_hda_intel", "");
        kernel.cards[0].shunned = true;
        helper_run("bind", GPU, AUDIO, "failed The driver vfio-pci did not take " GPU ".");
        assert_int_equal(kernel.waits, helper_probe_tries - 1);
        assert_stands(0, "", VFIO_PCI);
        assert_stands(1, "snd_hda_intel", "");
}

/* Nobody is let into the group before the unbind, and nobody is kept out of it at the probe: the
 * kernel above looks. */
static void test_release(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        kernel.group_busy = 3;
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=mine", NULL);
        assert_int_equal(kernel.waits, 3);
        assert_string_equal(kernel.did->str, "override 1 snd_hda_intel; unbind 1 vfio-pci; "
                                             "override 0 nvidia; unbind 0 vfio-pci; "
                                             "probe 1; override 1 mine; probe 0; override 0 ; ");
        assert_stands(0, "nvidia", "");
        assert_stands(1, "snd_hda_intel", "mine");
        assert_false(group_is_held());
}

/* An address alone goes to any host driver; what was on vfio-pci, or on nothing, goes there. */
static void test_release_where_to(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        helper_run("release", GPU, AUDIO "=vfio-pci,override=mine", NULL);
        assert_string_equal(kernel.did->str, "override 1 mine; override 0 ; unbind 0 vfio-pci; "
                                             "probe 0; override 0 ; ");
        assert_stands(0, "nouveau", "");
        assert_stands(1, VFIO_PCI, "mine");

        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        kernel.answer = "go\n";
        g_string_truncate(kernel.said, 0);
        helper_run("release", GPU "=,override=x", AUDIO "=vfio-pci", NULL);
        assert_stands(0, "", "x");
        assert_stands(1, VFIO_PCI, VFIO_PCI); /* its override nobody knows */
}

/* Where vfio-pci was told the device's id it is the driver that the kernel has for it. */
static void test_release_stays(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        kernel.cards[0].native = VFIO_PCI;
        helper_run("release", GPU, AUDIO "=snd_hda_intel,override=", NULL);
        assert_non_null(strstr(kernel.said->str, "\nstays " GPU "\n"));
        assert_stands(0, VFIO_PCI, "");
        assert_stands(1, "snd_hda_intel", "");
        assert_false(group_is_held());

        /* One that belongs to another driver does not stay. */
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        kernel.cards[1].native = VFIO_PCI;
        kernel.answer = "go\n";
        g_string_truncate(kernel.said, 0);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=", NULL);
        assert_null(strstr(kernel.said->str, "stays"));
        assert_stands(0, "nvidia", "");
        assert_stands(1, "snd_hda_intel", "");
}

/* At home already: the override is put back, and no driver disturbed. */
static void test_release_at_home(void **state) {
        put("nouveau", "snd_hda_intel", VFIO_PCI);
        helper_run("release", GPU "=nvidia,override=mine", AUDIO "=snd_hda_intel", NULL);
        assert_string_equal(kernel.did->str, "override 0 mine; ");
}

static void test_release_dead_at_home(void **state) {
        put("nvidia", "snd_hda_intel", VFIO_PCI);
        card_die(&kernel.cards[0]);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "lost The device " GPU " does not answer any more.");
        assert_string_equal(kernel.did->str, "override 1 ; override 0 ; ");
}

/* One that does not answer is not moved; the other goes home. */
static void test_release_dead(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        card_die(&kernel.cards[1]);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "lost The device " AUDIO " does not answer any more.");
        assert_stands(0, "nvidia", "");
        assert_stands(1, VFIO_PCI, VFIO_PCI);
}

/* The first failure is told, and the rest goes home all the same. */
static void test_release_goes_on(void **state) {
        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        kernel.cards[1].keeps = true;
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "failed The driver vfio-pci refused to let go of " AUDIO ".");
        assert_stands(0, "nvidia", "");

        put(VFIO_PCI, VFIO_PCI, VFIO_PCI);
        kernel.cards[1] = (Card){ .address = AUDIO, .shunned = true };
        kernel.answer = "go\n";
        g_string_truncate(kernel.said, 0);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "failed The driver snd_hda_intel has not taken " AUDIO " back.");
        assert_stands(0, "nvidia", "");
        assert_stands(1, "", "");
}

/* A device that has gone silent is worse than whatever failed before. */
static void test_lost_before_failed(void **state) {
        put(VFIO_PCI, "snd_hda_intel", VFIO_PCI);
        kernel.cards[0].keeps = true;
        card_die(&kernel.cards[1]);
        helper_run("release", GPU "=nvidia,override=", AUDIO "=snd_hda_intel,override=",
                   "lost The device " AUDIO " does not answer any more.");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(test_bind),
                TEST(test_bind_is_there),
                TEST(test_no_permission),
                TEST(test_bind_dead),
                TEST(test_bind_refused),
                TEST(test_unreadable),
                TEST(test_config_unreadable),
                TEST(test_bind_nobody_comes),
                TEST(test_release),
                TEST(test_release_where_to),
                TEST(test_release_stays),
                TEST(test_release_at_home),
                TEST(test_release_dead_at_home),
                TEST(test_release_dead),
                TEST(test_release_goes_on),
                TEST(test_lost_before_failed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
