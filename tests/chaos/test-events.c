/* udev's events lost, doubled, late and in the wrong order, while machines, callers and strangers
 * move the cards. What the daemon moves itself it must know without any event; of what strangers
 * move an event may only be lost in the kernel's way, which says that some were (ENOBUFS). Two
 * seconds after all is quiet D-Bus must tell the truth.
 *
 * Each run has a seed. FEOS_CHAOS_SEEDS=N makes so many runs, FEOS_CHAOS_SEED=S begins at that one
 * (else at one that the clock gives), so that S and N=1 replay one. */
#include "rig.h"
#include "testing.h"

#include <string.h>

#define AGREE_SEC  2
#define SETTLE_SEC 5

#define LATE_MSEC 25

typedef struct Run {
        Rig *rig;
        GRand *chance;
        bool strangers;  /* are at work: what is lost now is told as lost */
        bool overflowed; /* an event of theirs was lost */
        bool honest;     /* events arrive as they should */
        GPtrArray *late; /* Late */
        GString *story;  /* what was done, for a failure's message */
        unsigned lost, doubled, delayed;
} Run;

typedef struct Late {
        Run *run; /* weak */
        sd_event_source *source;
        char *address, *action;
} Late;

static void late_free(void *data) {
        Late *late = data;

        sd_event_source_disable_unref(late->source);
        g_free(late->address);
        g_free(late->action);
        g_free(late);
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata) {
        Late *late = userdata;

        fake_kernel_send(late->run->rig->kernel, late->address, late->action);
        g_ptr_array_remove(late->run->late, late);
        return 0;
}

static void send_late(Run *run, const char *address, const char *action) {
        Late *late = g_new0(Late, 1);

        *late = (Late){ .run = run, .address = g_strdup(address), .action = g_strdup(action) };
        assert_true(sd_event_add_time_relative(
                            run->rig->event, &late->source, CLOCK_MONOTONIC,
                            (uint64_t)g_rand_int_range(run->chance, 0, LATE_MSEC * 1000), 1,
                            on_late, late) >= 0);
        g_ptr_array_add(run->late, late);
        run->delayed++;
}

static void on_uevent(void *userdata, const char *address, const char *action) {
        Run *run = userdata;
        FakeKernel *kernel = run->rig->kernel;
        int fate = run->honest ? 3 : g_rand_int_range(run->chance, 0, 4);

        switch (fate) {
        case 0:
                run->lost++;
                run->overflowed = run->overflowed || run->strangers;
                break;
        case 1:
                run->doubled++;
                fake_kernel_send(kernel, address, action);
                send_late(run, address, action);
                break;
        case 2:
                send_late(run, address, action);
                break;
        default:
                fake_kernel_send(kernel, address, action);
        }
}

/* --- what is done --- */

static void hand_write(Run *run, const char *path, const char *data) {
        /* Refusals are the kernel's good right. */
        (void)fake_kernel_write(run->rig->kernel, path, data);
}

/* Somebody who is root takes the function to @driver; "" = where it belongs. */
static void by_hand(Run *run, const char *address, const char *driver) {
        const char *now = fake_kernel_driver(run->rig->kernel, address);
        g_autofree char *unbind = g_strdup_printf("/sys/bus/pci/drivers/%s/unbind", now);
        g_autofree char *override =
                g_strdup_printf("/sys/bus/pci/devices/%s/driver_override", address);

        g_string_append_printf(run->story, " %s->%s", address, *driver ? driver : "home");
        run->strangers = true;
        hand_write(run, override, *driver ? driver : "\n");
        if (*now)
                hand_write(run, unbind, address);
        hand_write(run, "/sys/bus/pci/drivers_probe", address);
        run->strangers = false;
}

/* Takes a card out, or puts it in again. */
static void plug(Run *run) {
        FakeKernel *kernel = run->rig->kernel;

        run->strangers = true;
        g_string_append(run->story, fake_kernel_is_there(kernel, OTHER) ? " pull" : " plug");
        if (fake_kernel_is_there(kernel, OTHER))
                fake_kernel_remove(kernel, OTHER);
        else
                fake_kernel_plug(kernel, OTHER);
        run->strangers = false;
}

static void stranger(Run *run) {
        bool vfio = g_rand_boolean(run->chance);

        switch (g_rand_int_range(run->chance, 0, 3)) {
        case 0:
                plug(run);
                break;
        case 1:
                if (fake_kernel_is_there(run->rig->kernel, OTHER))
                        by_hand(run, OTHER, vfio ? "vfio-pci" : "");
                break;
        default:
                /* An unbind would wait for the QEMU, of which the rig may not know yet. */
                if (fake_kernel_is_held(run->rig->kernel, GROUP) || rig_machine_runs(run->rig))
                        break;
                by_hand(run, GPU, vfio ? "vfio-pci" : "");
                if (g_rand_boolean(run->chance))
                        by_hand(run, AUDIO, vfio ? "vfio-pci" : "");
        }
}

static void call(Run *run, const char *member) {
        g_autofree char *path = rig_gpu_path(GPU);
        g_auto(Answer) answer = { 0 };

        g_string_append_printf(run->story, " %s", member);
        rig_call(run->rig, path, "org.feos.VM1.GPU", member, &answer);
        rig_wait(run->rig, &answer);
        if (answer.error)
                g_string_append_printf(run->story, "(%s)", answer.error);
}

static void machine_begin_or_end(Run *run) {
        Rig *rig = run->rig;
        g_auto(Answer) answer = { 0 };

        if (rig_machine_runs(rig)) {
                g_string_append(run->story, " end");
                rig_end_machines(rig);
                return;
        }
        g_string_append(run->story, " create");
        rig_create(rig, rig->caller, "vm", &answer);
        if (fake_kernel_is_there(rig->kernel, OTHER) && g_rand_boolean(run->chance))
                by_hand(run, OTHER, g_rand_boolean(run->chance) ? "vfio-pci" : "");
        rig_wait(rig, &answer);
        if (!answer.error)
                assert_true(rig_machine_runs(rig));
        else
                g_string_append_printf(run->story, "(%s)", answer.error);
}

static void deed(Run *run) {
        switch (g_rand_int_range(run->chance, 0, 5)) {
        case 0:
                call(run, "Bind");
                break;
        case 1:
                call(run, "Release");
                break;
        case 2:
                machine_begin_or_end(run);
                break;
        default:
                stranger(run);
        }
}

/* --- runs --- */

/* All that is late has arrived, and what the kernel lost it has told of. */
static void quiet(Run *run) {
        while (run->late->len > 0)
                assert_true(sd_event_run(run->rig->event, UINT64_MAX) >= 0);
        if (run->overflowed) {
                fake_kernel_overflow(run->rig->kernel);
                fake_kernel_send(run->rig->kernel, AUDIO, "change");
        }
        run->overflowed = false;
}

/* Everything to where it was before the run. */
static char *put_back(Run *run) {
        Rig *rig = run->rig;
        g_auto(Answer) answer = { 0 };

        run->honest = true;
        if (!fake_kernel_is_there(rig->kernel, OTHER))
                plug(run);
        by_hand(run, OTHER, "");
        rig_call(rig, VM1 "/machine/vm", "org.feos.VM1.Machine", "Delete", &answer);
        rig_wait(rig, &answer);
        call(run, "Release");
        by_hand(run, GPU, "");
        by_hand(run, AUDIO, "");
        return rig_settle(rig, RIG_HOME, SETTLE_SEC);
}

static void run_one(Rig *rig, guint32 seed, Run *totals) {
        Run run = {
                .rig = rig,
                .chance = g_rand_new_with_seed(seed),
                .late = g_ptr_array_new_with_free_func(late_free),
                .story = g_string_new(NULL),
        };
        int deeds = g_rand_int_range(run.chance, 1, 6);
        g_autofree char *wrong = NULL;

        rig->uevent = on_uevent;
        rig->userdata = &run;
        while (deeds-- > 0)
                deed(&run);
        quiet(&run);
        wrong = rig_settle(rig, RIG_AGREES, AGREE_SEC);
        if (!wrong)
                wrong = put_back(&run);
        rig->uevent = NULL;
        if (wrong) {
                g_autofree char *words = rig_last_words(rig);

                fail_msg("seed %u:%s: %s%s", seed, run.story->str, wrong, words);
        }
        totals->lost += run.lost;
        totals->doubled += run.doubled;
        totals->delayed += run.delayed;
        g_ptr_array_unref(run.late);
        g_string_free(run.story, TRUE);
        g_rand_free(run.chance);
}

static void test_runs(void **state) {
        Rig *rig = *state;
        unsigned first = rig_number("FEOS_CHAOS_SEED", (unsigned)g_get_real_time());
        unsigned runs = rig_number("FEOS_CHAOS_SEEDS", 50);
        RigUsage before = { 0 }, after;
        Run totals = { 0 };

        print_message("# seeds %u to %u\n", first, first + runs - 1);
        for (unsigned i = 0; i < runs; i++) {
                run_one(rig, first + i, &totals);
                /* By then it has the connections that it keeps. */
                if (i == runs / 4)
                        before = rig_usage(rig);
        }
        after = rig_usage(rig);
        print_message("# %u runs; events lost %u, doubled %u, late %u; descriptors %u -> %u, "
                      "memory %u -> %u KiB\n",
                      runs, totals.lost, totals.doubled, totals.delayed, before.descriptors,
                      after.descriptors, before.memory, after.memory);
        assert_true(after.descriptors <= before.descriptors + 4);
        assert_int_equal(after.children, 0);
        assert_true(after.memory <= before.memory + 4096);
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_runs),
        };

        return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
