/* kill -9 of the daemon at every single system call of a Create, and of a card's way back after its
 * machine's end. Each time the next daemon has to finish or to undo, within its bound.
 *
 * FEOS_CHAOS_KILL_STEP=K makes every K-th trial, 1 is all; FEOS_CHAOS_OFFSET says at which to begin
 * (else the day decides, so that all come round). FEOS_CHAOS_KILL_AT=N makes that one. */
#include "rig.h"
#include "testing.h"
#include "tracer.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define SETTLE_SEC \
        15 /* a helper that was left behind, and the next daemon's, each with its clock */

#define UNHARMED_MAX 3

/* What follows an answer, until the daemon sleeps. */
#define QUIET_MSEC 60

typedef enum Deed {
        DEED_CREATE,
        DEED_RETURN,
} Deed;

typedef struct Trial {
        Rig *rig;
        Deed deed;
        unsigned kill_at; /* 0 = not at all */
        unsigned calls;   /* that were made */
        bool ended;       /* the daemon is gone */
        char *answer;     /* "" = success, else the error; NULL = none */
        char *wrong;
} Trial;

static int on_ended(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        ((Trial *)userdata)->ended = true;
        return sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

static bool is_home(Rig *rig) {
        return strcmp(fake_kernel_driver(rig->kernel, GPU), "vfio-pci") != 0 &&
               strcmp(fake_kernel_driver(rig->kernel, AUDIO), "vfio-pci") != 0;
}

/* Until the deed is done, or the daemon gone. */
static void deed_do(Trial *trial) {
        Rig *rig = trial->rig;
        g_auto(Answer) answer = { 0 };
        gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

        if (trial->deed == DEED_CREATE)
                rig_create(rig, rig->caller, "vm", &answer);
        else
                rig_end_machines(rig);
        while (!trial->ended && (trial->deed == DEED_CREATE ? !answer.there : !is_home(rig))) {
                assert_true(g_get_monotonic_time() < end);
                assert_true(sd_event_run(rig->event, 10000) >= 0);
        }
        if (!trial->ended)
                rig_run(rig, QUIET_MSEC);
        if (trial->deed == DEED_CREATE) {
                if (!answer.there)
                        rig_wait(rig, &answer);
                trial->answer = g_strdup(answer.error ?: "");
        }
}

static void traced(Trial *trial) {
        Rig *rig = trial->rig;
        g_autoptr(sd_event_source) source = NULL;
        int fd = eventfd(0, EFD_CLOEXEC);
        Tracer *tracer;

        assert_true(sd_event_add_io(rig->event, &source, fd, EPOLLIN, on_ended, trial) >= 0);
        sd_event_source_set_io_fd_own(source, true);
        tracer = tracer_new(rig->daemon, trial->kill_at, fd);
        deed_do(trial);
        if (!trial->ended)
                kill(rig->daemon, SIGKILL);
        trial->calls = tracer_free(tracer);
        rig_buried(rig);
}

/* What may be expected of the next daemon. A caller that was told of success has its machine. */
static RigExpectation expectation(const Trial *trial) {
        if (trial->deed == DEED_RETURN)
                return RIG_STOPPED;
        if (!trial->kill_at)
                return RIG_RUNNING;
        return trial->answer && !*trial->answer ? RIG_RUNNING : RIG_HOME_OR_RUNNING;
}

static void machine_delete(Rig *rig) {
        g_auto(Answer) answer = { 0 };

        rig_call(rig, VM1 "/machine/vm", "org.feos.VM1.Machine", "Delete", &answer);
        rig_wait(rig, &answer);
        if (answer.error && !strstr(answer.error, "UnknownObject"))
                fail_msg("Delete: %s", answer.text);
}

/* Begins and ends with a daemon that runs, every card at home and no machine. */
static void trial_make(Trial *trial) {
        Rig *rig = trial->rig;

        if (trial->deed == DEED_RETURN) {
                g_auto(Answer) answer = { 0 };

                rig_create(rig, rig->caller, "vm", &answer);
                rig_wait(rig, &answer);
                if (answer.error)
                        trial->wrong = g_strdup(answer.text);
                else
                        trial->wrong = rig_settle(rig, RIG_RUNNING, SETTLE_SEC);
        }
        if (!trial->wrong)
                traced(trial);
        if (!trial->wrong) {
                rig_boot(rig);
                trial->wrong = rig_settle(rig, expectation(trial), SETTLE_SEC);
        }
        if (!trial->wrong) {
                machine_delete(rig);
                trial->wrong = rig_settle(rig, RIG_HOME, SETTLE_SEC);
        }
        if (trial->wrong) {
                g_autofree char *words = rig_last_words(rig);

                fail_msg("killed at call %u: %s%s", trial->kill_at, trial->wrong, words);
        }
}

/* The number of calls of the whole deed, or those until @kill_at. */
static unsigned trial_run(Rig *rig, Deed deed, unsigned kill_at) {
        Trial trial = { .rig = rig, .deed = deed, .kill_at = kill_at };

        trial_make(&trial);
        g_free(trial.answer);
        return trial.calls;
}

static void kill_everywhere(Rig *rig, Deed deed, const char *name) {
        unsigned step = MAX(rig_number("FEOS_CHAOS_KILL_STEP", 80), 1);
        unsigned today = (unsigned)(g_get_real_time() / G_TIME_SPAN_DAY);
        unsigned offset = rig_number("FEOS_CHAOS_OFFSET", today);
        unsigned only = rig_number("FEOS_CHAOS_KILL_AT", 0);
        unsigned all = trial_run(rig, deed, 0), killed = 0, unharmed = 0;

        /* How many there are differs from time to time, for so does what is told in one go: after a
         * few trials in a row that got through unharmed there is no more to come. */
        for (unsigned n = only ?: 1 + offset % step; unharmed < UNHARMED_MAX; n += step) {
                if (trial_run(rig, deed, n) < n) {
                        unharmed++;
                } else {
                        unharmed = 0;
                        killed++;
                }
                if (only)
                        break;
        }
        print_message("# %s: %u system calls; killed at %u of them, step %u, offset %u\n", name,
                      all, killed, step, offset % step);
        assert_true(only || killed > 0);
}

static void test_create(void **state) {
        kill_everywhere(*state, DEED_CREATE, "Create");
}

static void test_return(void **state) {
        kill_everywhere(*state, DEED_RETURN, "the way back");
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_create),
                cmocka_unit_test(test_return),
        };

        return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
