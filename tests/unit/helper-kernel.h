/* The least of a kernel for the handover helper, on umockdev's sysfs: it unbinds, probes and lets
 * one process into a VFIO group. The helper itself is in here too, and what it opens, writes, reads
 * and waits for is this kernel's, at once. The program runs under umockdev-wrapper. */
#pragma once

#include "host/handover-function.h"

#include <sys/stat.h>
#include <umockdev.h>

#define GPU   "0000:01:00.0"
#define AUDIO "0000:01:00.1"
#define GROUP "987654"

/* One function of the kernel's. */
typedef struct Card {
        const char *address;
        const char *native; /* who takes it without an override, "" = nobody */
        bool keeps;         /* its driver does not let go */
        bool shunned;       /* nobody takes it */
        bool refuses;       /* its power settings cannot be written */
        unsigned late;      /* its driver lets it sleep only after so many waits */
} Card;

extern struct Kernel {
        UMockdevTestbed *testbed;
        char *state_dir;
        Card cards[2];
        GString *did; /* what was written to whom, parted by "; " */
        GString *said;
        const char *answer;  /* what the daemon sends */
        unsigned group_busy; /* so many more tries find it open elsewhere */
        unsigned waits;
        struct stat group;
} kernel;

/* A test's setup and teardown: a card of two functions, which no driver has. */
int setup(void **state);
int teardown(void **state);

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* --- what stands in sysfs --- */

/* Both functions on @driver, with @override. */
void put(const char *gpu, const char *audio, const char *override);

/* The path of a function's attribute. */
char *card_path(const Card *card, const char *attribute);

/* Sets a function's driver_override. */
void override_set(const Card *card, const char *text);

/* Without it a function has no such attributes. */
void power_set(size_t index, const char *d3cold_allowed, const char *control);

/* Its first word is all ones. */
void card_die(const Card *card);

/* Whether this process has the VFIO group open. */
bool group_is_held(void);

/* A function has this driver and this driver_override. */
void assert_stands(size_t index, const char *driver, const char *override);

/* A function has these power settings. */
void assert_power(size_t index, const char *d3cold_allowed, const char *control);

/* A function is kept awake, where it has power settings. */
void assert_awake(size_t index);

/* --- the helper --- */

/* Runs the helper; @verdict is its last line when that is failed or lost, NULL for success. */
void helper_run(const char *direction, const char *gpu, const char *audio, const char *verdict);

/* Its main() alone, after which the locks are to be forgotten. */
int handover_main(int argc, char *argv[]);

/* Lets another run begin without the locks of the last one. */
void helper_locks_forget(void);

/* How often it looks for a driver that does not appear. */
extern const unsigned helper_probe_tries;
