/* Handovers, with shell scripts in the helper's place: the protocol, and every way in which one
 * ends. A script that is to hang reads from a FIFO, into which the test writes when it has seen
 * enough. */
#include "host/handover.h"

#include "autoptr-bus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ORIGINS                                                                  \
        "printf 'origin 0000:01:00.0\\tnvidia\\tsome\\\\tthing\\t1\\tauto\\n'\n" \
        "printf 'origin 0000:01:00.1\\t\\t\\t\\t\\n'\n"
#define GO   "read answer && [ \"$answer\" = go ] || exit 3\n"
#define HANG "read nothing < \"$0.fifo\"\n"

typedef struct Fixture {
        sd_event *event;
        char *folder;
        char *program;
        char *fifo;
        int fifo_fd; /* both ends, so that opening it never waits */
        Handovers *handovers;
        CardRecord *record;

        int origins_result; /* what handover_origins returns */
        unsigned origins_asked;
        unsigned ended; /* outcomes told */
        HandoverOutcome outcomes[4];
        char *messages[4];
        bool start_again; /* from within the outcome */
} Fixture;

static int on_origins(void *userdata, PciAddress card, const GArray *origins) {
        Fixture *fixture = userdata;

        fixture->origins_asked++;
        assert_true(pci_address_equal(card, fixture->record->card));
        assert_int_equal(origins->len, 2);
        assert_string_equal(g_array_index(origins, FunctionOrigin, 0).driver, "nvidia");
        assert_string_equal(g_array_index(origins, FunctionOrigin, 0).driver_override,
                            "some\tthing");
        assert_true(g_array_index(origins, FunctionOrigin, 0).known);
        assert_string_equal(g_array_index(origins, FunctionOrigin, 0).power.d3cold_allowed, "1");
        assert_string_equal(g_array_index(origins, FunctionOrigin, 0).power.control, "auto");
        assert_string_equal(g_array_index(origins, FunctionOrigin, 1).power.d3cold_allowed, "");
        assert_string_equal(g_array_index(origins, FunctionOrigin, 1).power.control, "");
        assert_string_equal(g_array_index(origins, FunctionOrigin, 1).driver, "");
        return fixture->origins_result;
}

static void on_ended(void *userdata, PciAddress card, HandoverOutcome outcome,
                     const char *message) {
        Fixture *fixture = userdata;

        assert_true(fixture->ended < G_N_ELEMENTS(fixture->outcomes));
        assert_int_equal(handovers_running(fixture->handovers, card), outcome == HANDOVER_OVERDUE);
        fixture->messages[fixture->ended] = g_strdup(message);
        fixture->outcomes[fixture->ended++] = outcome;
        if (fixture->start_again) {
                fixture->start_again = false;
                assert_int_equal(
                        handovers_start(fixture->handovers, HANDOVER_TO_VFIO, fixture->record), 0);
        }
}

static const HostEvents events = {
        .handover_origins = on_origins,
        .handover_ended = on_ended,
};

static int setup(void **state) {
        Fixture *fixture = g_new0(Fixture, 1);
        FunctionOrigin origin = { .driver = "nvidia", .driver_override = "", .known = true };

        assert_true(pci_address_parse("0000:01:00.0", &origin.address));
        fixture->record = card_record_new(origin.address);
        g_array_append_val(fixture->record->origins, origin);
        origin = (FunctionOrigin){ .address = origin.address };
        origin.address.function = 1;
        g_array_append_val(fixture->record->origins, origin);

        fixture->folder = g_dir_make_tmp("test-handover-XXXXXX", NULL);
        fixture->program = g_build_filename(fixture->folder, "helper", NULL);
        fixture->fifo = g_strconcat(fixture->program, ".fifo", NULL);
        assert_return_code(mkfifo(fixture->fifo, 0600), errno);
        fixture->fifo_fd = open(fixture->fifo, O_RDWR | O_CLOEXEC);
        assert_return_code(fixture->fifo_fd, errno);
        assert_true(sd_event_new(&fixture->event) >= 0);
        fixture->handovers = handovers_new(fixture->event, fixture->program, fixture->folder, 60);
        handovers_set_events(fixture->handovers, &events, fixture);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        g_autofree char *arguments = g_strconcat(fixture->program, ".arguments", NULL);

        handovers_free(fixture->handovers);
        sd_event_unref(fixture->event);
        card_record_free(fixture->record);
        for (size_t i = 0; i < G_N_ELEMENTS(fixture->messages); i++)
                g_free(fixture->messages[i]);
        close(fixture->fifo_fd);
        g_remove(arguments);
        g_remove(fixture->program);
        g_remove(fixture->fifo);
        g_rmdir(fixture->folder);
        g_free(fixture->program);
        g_free(fixture->fifo);
        g_free(fixture->folder);
        g_free(fixture);
        return 0;
}

static void start(Fixture *fixture, HandoverDirection direction, const char *script) {
        g_autofree char *text = g_strconcat("#!/bin/sh\n", script, NULL);

        assert_true(g_file_set_contents(fixture->program, text, -1, NULL));
        assert_return_code(chmod(fixture->program, 0700), errno);
        assert_int_equal(handovers_start(fixture->handovers, direction, fixture->record), 0);
        assert_int_equal(fixture->ended, 0);
        assert_true(handovers_running(fixture->handovers, fixture->record->card));
}

/* From here on the deadline passes after a second. */
static void shorten_deadline(Fixture *fixture) {
        handovers_free(fixture->handovers);
        fixture->handovers = handovers_new(fixture->event, fixture->program, fixture->folder, 1);
        handovers_set_events(fixture->handovers, &events, fixture);
}

/* Runs the loop until @count outcomes were told. */
static void run_until(Fixture *fixture, unsigned count) {
        gint64 deadline = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

        while (fixture->ended < count) {
                assert_true(sd_event_run(fixture->event, 1000000) >= 0);
                assert_true(g_get_monotonic_time() < deadline);
        }
}

static void assert_outcome(const Fixture *fixture, unsigned index, HandoverOutcome outcome,
                           const char *message) {
        assert_true(index < fixture->ended);
        assert_int_equal(fixture->outcomes[index], outcome);
        if (message)
                assert_string_equal(fixture->messages[index], message);
        else
                assert_null(fixture->messages[index]);
}

/* The message of an overdue handover is @what and the time since when. */
static void assert_overdue(const Fixture *fixture, unsigned index, const char *what) {
        g_autofree char *begin = g_strconcat(what, " since ", NULL);

        assert_true(index < fixture->ended);
        assert_int_equal(fixture->outcomes[index], HANDOVER_OVERDUE);
        if (!g_str_has_prefix(fixture->messages[index], begin) ||
            !g_str_has_suffix(fixture->messages[index], " UTC."))
                fail_msg("%s", fixture->messages[index]);
}

/* Lets a script that hangs, or will, go on. */
static void fifo_feed(const Fixture *fixture) {
        assert_int_equal(write(fixture->fifo_fd, "\n", 1), 1);
}

static void test_bind(void **state) {
        Fixture *fixture = *state;
        g_autofree char *path = g_strconcat(fixture->program, ".arguments", NULL);
        g_autofree char *arguments = NULL;
        g_autofree char *expected = g_strdup_printf(
                "bind %s 0000:01:00.0=nvidia,override= 0000:01:00.1=\n", fixture->folder);

        start(fixture, HANDOVER_TO_VFIO,
              ORIGINS "echo \"$@\" > \"$0.arguments\"\necho ready\n" GO "exit 0\n");
        assert_int_equal(handovers_start(fixture->handovers, HANDOVER_TO_HOST, fixture->record),
                         -EBUSY);
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_DONE, NULL);
        assert_int_equal(fixture->origins_asked, 1);
        assert_true(g_file_get_contents(path, &arguments, NULL, NULL));
        assert_string_equal(arguments, expected);
}

static void test_release(void **state) {
        Fixture *fixture = *state;

        start(fixture, HANDOVER_TO_HOST, "[ $1 = release ] || exit 1\necho ready\n" GO);
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_DONE, NULL);
        assert_int_equal(fixture->origins_asked, 0);
}

/* What the helper is told of where each function goes. */
static void test_where_to(void **state) {
        static const struct {
                FunctionOrigin gpu, audio;
                bool any;
                const char *told; /* on the way to the host */
        } cases[] = {
                { { .driver = "nvidia", .driver_override = "x", .known = true },
                  { .driver = "vfio-pci", .driver_override = "y", .known = true },
                  false,
                  "0000:01:00.0=nvidia,override=x 0000:01:00.1=vfio-pci,override=y\n" },
                { { .driver = "vfio-pci", .driver_override = "vfio-pci", .known = true },
                  { .driver = "snd_hda_intel", .known = true },
                  false,
                  "0000:01:00.0=vfio-pci,override=vfio-pci "
                  "0000:01:00.1=snd_hda_intel,override=\n" },
                { { .driver = "", .known = true },
                  { .driver = "", .known = false },
                  false,
                  "0000:01:00.0=,override= 0000:01:00.1=\n" },
                { { .driver = "vfio-pci", .known = false },
                  { .driver = "nvidia", .known = false },
                  false,
                  "0000:01:00.0=vfio-pci 0000:01:00.1=nvidia\n" },
                { { .driver = "vfio-pci", .driver_override = "vfio-pci", .known = true },
                  { .driver = "snd_hda_intel", .known = true },
                  true,
                  "0000:01:00.0 0000:01:00.1=snd_hda_intel,override=\n" },
                { { .driver = "vfio-pci", .known = false },
                  { .driver = "vfio-pci", .known = false },
                  true,
                  "0000:01:00.0 0000:01:00.1\n" },
                { { .driver = "", .known = false },
                  { .driver = "", .known = true },
                  true,
                  "0000:01:00.0 0000:01:00.1=,override=\n" },
                { { .driver = "nvidia", .power = { "1", "auto" }, .known = true },
                  { .driver = "vfio-pci", .power = { "0", "on" }, .known = false },
                  false,
                  "0000:01:00.0,1,auto=nvidia,override= 0000:01:00.1,0,on=vfio-pci\n" },
                { { .driver = "nvidia", .power = { "", "on" }, .known = true },
                  { .driver = "vfio-pci", .power = { "1", "" }, .known = true },
                  false,
                  "0000:01:00.0,,on=nvidia,override= 0000:01:00.1,1,=vfio-pci,override=\n" },
                /* What vfio-pci has set is not for a host driver. */
                { { .driver = "vfio-pci", .power = { "1", "auto" }, .known = true },
                  { .driver = "vfio-pci", .power = { "", "auto" }, .known = true },
                  true,
                  "0000:01:00.0,1, 0000:01:00.1\n" },
        };
        Fixture *fixture = *state;
        g_autofree char *path = g_strconcat(fixture->program, ".arguments", NULL);

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                FunctionOrigin *origins = (FunctionOrigin *)fixture->record->origins->data;
                PciAddress gpu = origins[0].address, audio = origins[1].address;
                g_autofree char *told = NULL;

                origins[0] = cases[i].gpu;
                origins[0].address = gpu;
                origins[1] = cases[i].audio;
                origins[1].address = audio;
                fixture->record->any_host_driver = cases[i].any;
                fixture->ended = 0;
                start(fixture, HANDOVER_TO_HOST,
                      "shift 2; echo \"$@\" > \"$0.arguments\"\necho ready\n" GO);
                run_until(fixture, 1);
                assert_outcome(fixture, 0, HANDOVER_DONE, NULL);
                assert_true(g_file_get_contents(path, &told, NULL, NULL));
                assert_string_equal(told, cases[i].told);
        }
}

static void test_failed(void **state) {
        Fixture *fixture = *state;

        start(fixture, HANDOVER_TO_VFIO,
              ORIGINS "echo ready\n" GO "echo 'failed The kernel said no.'\nexit 1\n");
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_FAILED, "The kernel said no.");
}

static void test_lost(void **state) {
        Fixture *fixture = *state;

        start(fixture, HANDOVER_TO_HOST, "echo ready\n" GO "echo 'lost It is gone.'\nexit 1\n");
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_LOST, "It is gone.");
}

/* vfio-pci has claimed it by itself. */
static void test_stays(void **state) {
        Fixture *fixture = *state;

        start(fixture, HANDOVER_TO_HOST, "echo ready\n" GO "echo 'stays 0000:01:00.0'\n");
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_STAYS, NULL);
}

static void test_not_recorded(void **state) {
        Fixture *fixture = *state;

        fixture->origins_result = -ENOSPC;
        start(fixture, HANDOVER_TO_VFIO, ORIGINS "echo ready\n" GO "echo 'failed I went on.'\n");
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_FAILED,
                       "Where the card comes from could not be recorded; nothing was touched.");
}

/* A helper that does not tell all the origins is not let loose. */
static void test_origins_missing(void **state) {
        Fixture *fixture = *state;

        start(fixture, HANDOVER_TO_VFIO,
              "printf 'origin 0000:01:00.0\\tnvidia\\t\\t\\t\\n'\n"
              "echo ready\n" GO "echo 'failed I went on.'\n");
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_FAILED,
                       "Where the card comes from could not be read; nothing was touched.");
        assert_int_equal(fixture->origins_asked, 0);
}

/* A success that nobody has allowed is none, and neither is silence. */
static void test_nonsense(void **state) {
        Fixture *fixture = *state;

        start(fixture, HANDOVER_TO_VFIO, "echo what\necho origin\nprintf 'origin x\\n'\nexit 0\n");
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_FAILED,
                       "The handover helper has failed without a word.");
}

static void test_killed(void **state) {
        Fixture *fixture = *state;

        start(fixture, HANDOVER_TO_HOST,
              "echo ready\n" GO "echo 'step The driver x has not let go of y'\nkill -9 $$\n");
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_FAILED,
                       "The handover was ended by signal 9. The driver x has not let go of y until "
                       "then.");
}

/* On the way to vfio-pci an overdue helper that was let loose is killed. */
static void test_bind_overdue(void **state) {
        Fixture *fixture = *state;

        shorten_deadline(fixture);
        start(fixture, HANDOVER_TO_VFIO,
              ORIGINS "echo ready\n" GO
                      "echo 'step The driver nvidia has not let go of 0000:01:00.0'\n" HANG
                      "exit 0\n");
        run_until(fixture, 2);
        assert_overdue(fixture, 0, "The driver nvidia has not let go of 0000:01:00.0");
        assert_outcome(fixture, 1, HANDOVER_FAILED,
                       "The driver nvidia has not let go of 0000:01:00.0 within 1 seconds; the "
                       "handover was given up.");
}

/* One that waits for an earlier one stays as the fence, and is not let loose any more. */
static void test_bind_overdue_before_start(void **state) {
        Fixture *fixture = *state;

        shorten_deadline(fixture);
        start(fixture, HANDOVER_TO_VFIO, HANG ORIGINS "echo ready\n" GO "exit 0\n");
        run_until(fixture, 1);
        assert_overdue(fixture, 0, "An earlier handover of 0000:01:00.0 has not ended");
        assert_int_equal(handovers_start(fixture->handovers, HANDOVER_TO_VFIO, fixture->record),
                         -EBUSY);
        fifo_feed(fixture);
        run_until(fixture, 2);
        assert_outcome(fixture, 1, HANDOVER_FAILED,
                       "An earlier handover has ended only after the deadline; nothing was "
                       "touched.");
        assert_int_equal(fixture->origins_asked, 0);
}

/* On the way back the work is still wanted: late is done all the same. */
static void test_release_overdue(void **state) {
        Fixture *fixture = *state;

        shorten_deadline(fixture);
        start(fixture, HANDOVER_TO_HOST,
              "echo ready\n" GO "echo 'step The process has not let go of it'\n" HANG
              "echo 'step The driver vfio-pci has not let go of 0000:01:00.0'\n" HANG "exit 0\n");
        run_until(fixture, 1);
        assert_overdue(fixture, 0, "The process has not let go of it");
        assert_true(handovers_running(fixture->handovers, fixture->record->card));
        /* What it waits for now is told too. */
        fifo_feed(fixture);
        run_until(fixture, 2);
        assert_overdue(fixture, 1, "The driver vfio-pci has not let go of 0000:01:00.0");
        fifo_feed(fixture);
        run_until(fixture, 3);
        assert_outcome(fixture, 2, HANDOVER_DONE, NULL);
}

/* An earlier daemon's helper is at the card, and was overdue long before this one was started: that
 * is told at once, in its words, and not after a deadline of our own (60 s). When it has ended the
 * work is done. */
static void test_held_by_an_earlier_one(void **state) {
        Fixture *fixture = *state;

        start(fixture, HANDOVER_TO_HOST,
              "echo 'held 1 1795528800 The driver nvidia has not let go of 0000:01:00.0'\n" HANG
              "echo ready\n" GO "exit 0\n");
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_OVERDUE,
                       "The driver nvidia has not let go of 0000:01:00.0 since 2026-11-24 14:00:00 "
                       "UTC.");
        assert_true(handovers_running(fixture->handovers, fixture->record->card));
        fifo_feed(fixture);
        run_until(fixture, 2);
        assert_outcome(fixture, 1, HANDOVER_DONE, NULL);
}

/* Told of an end, the next may be started at once. */
static void test_again(void **state) {
        Fixture *fixture = *state;

        fixture->start_again = true;
        start(fixture, HANDOVER_TO_VFIO, ORIGINS "echo ready\n" GO);
        run_until(fixture, 2);
        assert_outcome(fixture, 0, HANDOVER_DONE, NULL);
        assert_outcome(fixture, 1, HANDOVER_DONE, NULL);
}

/* A card that is stuck does not hold up another. */
static void test_parallel(void **state) {
        Fixture *fixture = *state;
        g_autoptr(CardRecord) mine = fixture->record;
        CardRecord *other = card_record_copy(mine);

        start(fixture, HANDOVER_TO_HOST,
              "echo ready\n" GO "case $3 in 0000:01:*) " HANG ";; esac\nexit 0\n");
        for (guint i = 0; i < other->origins->len; i++)
                g_array_index(other->origins, FunctionOrigin, i).address.bus = 2;
        other->card.bus = 2;
        fixture->record = other;
        assert_int_equal(handovers_start(fixture->handovers, HANDOVER_TO_HOST, other), 0);
        run_until(fixture, 1);
        assert_outcome(fixture, 0, HANDOVER_DONE, NULL);
        assert_true(handovers_running(fixture->handovers, mine->card));
        fifo_feed(fixture);
        run_until(fixture, 2);
        assert_outcome(fixture, 1, HANDOVER_DONE, NULL);
}

static void test_cannot_start(void **state) {
        Fixture *fixture = *state;
        g_autoptr(CardRecord) empty = card_record_new(fixture->record->card);

        assert_int_equal(handovers_start(fixture->handovers, HANDOVER_TO_VFIO, empty), -EINVAL);
        assert_int_equal(handovers_start(fixture->handovers, HANDOVER_TO_VFIO, fixture->record),
                         -ENOENT);
        assert_false(handovers_running(fixture->handovers, fixture->record->card));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        static const struct CMUnitTest tests[] = {
                TEST(test_bind),
                TEST(test_release),
                TEST(test_where_to),
                TEST(test_failed),
                TEST(test_lost),
                TEST(test_stays),
                TEST(test_not_recorded),
                TEST(test_origins_missing),
                TEST(test_nonsense),
                TEST(test_killed),
                TEST(test_bind_overdue),
                TEST(test_bind_overdue_before_start),
                TEST(test_again),
                TEST(test_release_overdue),
                TEST(test_held_by_an_earlier_one),
                TEST(test_parallel),
                TEST(test_cannot_start),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
