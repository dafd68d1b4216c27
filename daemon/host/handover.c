/* Starts, watches and gives up on the handover helpers: one at a time for each card, all cards at
 * once. It speaks the helper's protocol and refuses to know sysfs, and what a handover is for.
 *
 * The protocol, a line each, words parted by tabs and escaped as g_strescape() does:
 *
 *   helper                                daemon
 *   held BEGAN SINCE TEXT                 an earlier daemon's helper is at the card: counts the
 *                                         deadline from its beginning (CLOCK_BOOTTIME, usec), and
 *                                         keeps what it is at, since when (seconds since 1970)
 *   step TEXT                             keeps it: how the overdue message begins
 *   origin ADDRESS DRIVER OVERRIDE        collects; "" for what is not there
 *          D3COLD CONTROL
 *   ready                                 records the origins, then sends "go"; or closes
 *   stays ADDRESS                         tells the journal: vfio-pci has claimed the function,
 *                                         for which any host driver was right
 *   failed TEXT | lost TEXT               keeps it: why the exit status is not 0, told once and
 * last
 *
 * A helper that has passed its deadline stays what it is, a fence: nobody else is let at the card
 * before its process is gone. On the way to vfio-pci nobody wants its work any more, so it is
 * killed once it has been let loose. On the way back it is left alone, for its work stays wanted:
 * when a QEMU or a driver lets go at last, the card goes home without anybody's help.
 *
 * A helper outlives us, too. One that was let loose then ends its way unheard, and its locks keep
 * our successor's helpers waiting until it has; one that was not reads the end of its input. */
#include "handover.h"

#include "helper.h"

#include "autoptr-bus.h"

#include <errno.h>
#include <string.h>
#include <systemd/sd-journal.h>
#include <time.h>

struct Handovers {
        sd_event *event;
        char *program;
        char *state_dir;
        unsigned timeout_sec;
        const HostEvents *events; /* weak */
        void *userdata;
        GPtrArray *running; /* Handover *, owned */
};

typedef struct Handover {
        Handovers *all; /* weak */
        HandoverDirection direction;
        CardRecord *record;
        Helper *helper;
        GArray *origins; /* FunctionOrigin, as the helper has read them */
        char *step;      /* what it is at, the beginning of a sentence */
        int64_t since;   /* when that began, seconds since 1970 */
        char *message;   /* why it failed, in its own words; NULL = has not said */
        bool lost;
        bool stays;
        bool let_loose; /* "go" was sent */
        bool overdue;
        bool held;            /* an earlier helper's clock is running, not its own */
        unsigned timeout_sec; /* as it was when this one began */
} Handover;

static void handover_free(Handover *handover) {
        if (!handover)
                return;

        card_record_free(handover->record);
        helper_free(handover->helper);
        g_array_unref(handover->origins);
        g_free(handover->step);
        g_free(handover->message);
        g_free(handover);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Handover, handover_free)

Handovers *handovers_new(sd_event *event, const char *program, const char *state_dir,
                         unsigned timeout_sec) {
        Handovers *handovers = g_new0(Handovers, 1);

        handovers->event = sd_event_ref(event);
        handovers->program = g_strdup(program);
        handovers->state_dir = g_strdup(state_dir);
        handovers->running = g_ptr_array_new_with_free_func((GDestroyNotify)handover_free);
        handovers_set_timeout(handovers, timeout_sec);
        return handovers;
}

void handovers_set_timeout(Handovers *handovers, unsigned timeout_sec) {
        handovers->timeout_sec = MAX(timeout_sec, 1u);
}

void handovers_free(Handovers *handovers) {
        if (!handovers)
                return;

        g_ptr_array_unref(handovers->running);
        sd_event_unref(handovers->event);
        g_free(handovers->program);
        g_free(handovers->state_dir);
        g_free(handovers);
}

void handovers_set_events(Handovers *handovers, const HostEvents *events, void *userdata) {
        handovers->events = events;
        handovers->userdata = userdata;
}

bool handovers_running(const Handovers *handovers, PciAddress card) {
        for (guint i = 0; i < handovers->running->len; i++) {
                const Handover *handover = g_ptr_array_index(handovers->running, i);

                if (pci_address_equal(handover->record->card, card))
                        return true;
        }
        return false;
}

/* An empty word is none; anything longer than @size cannot be kept. */
static bool word_take(const char *word, char *ret, size_t size) {
        g_autofree char *text = g_strcompress(word);

        return g_strlcpy(ret, text, size) < size;
}

static void origin_take(Handover *handover, const char *text) {
        g_auto(GStrv) words = g_strsplit(text, "\t", -1);
        FunctionOrigin origin = { .known = true };

        FunctionPower *power = &origin.power;

        if (g_strv_length(words) == 5 && pci_address_parse(words[0], &origin.address) &&
            word_take(words[1], origin.driver, sizeof origin.driver) &&
            word_take(words[2], origin.driver_override, sizeof origin.driver_override) &&
            word_take(words[3], power->d3cold_allowed, sizeof power->d3cold_allowed) &&
            word_take(words[4], power->control, sizeof power->control))
                g_array_append_val(handover->origins, origin);
        else
                sd_journal_print(LOG_ERR,
                                 "a handover helper told an origin that cannot be kept: %s", text);
}

/* Whether the helper has told an origin for every function that it was given, in their order. */
static bool origins_complete(const Handover *handover) {
        const GArray *asked = handover->record->origins;

        if (handover->origins->len != asked->len)
                return false;
        for (guint i = 0; i < asked->len; i++)
                if (!pci_address_equal(g_array_index(handover->origins, FunctionOrigin, i).address,
                                       g_array_index(asked, FunctionOrigin, i).address))
                        return false;
        return true;
}

static void ended_tell(Handovers *all, PciAddress card, HandoverOutcome outcome,
                       const char *message) {
        all->events->handover_ended(all->userdata, card, outcome, message);
}

/* A time of the clock stays true, however long it lasts. */
static void overdue_tell(const Handover *handover) {
        g_autoptr(GDateTime) since = g_date_time_new_from_unix_utc(handover->since);
        g_autofree char *time = since ? g_date_time_format(since, "%Y-%m-%d %H:%M:%S UTC") : NULL;
        g_autofree char *message =
                g_strdup_printf("%s since %s.", handover->step, time ?: "long ago");

        ended_tell(handover->all, handover->record->card, HANDOVER_OVERDUE, message);
}

static void step_take(Handover *handover, const char *step, int64_t since) {
        bool changed = !g_str_equal(handover->step, step);

        handover->since = since;
        if (!changed)
                return;
        g_free(handover->step);
        handover->step = g_strdup(step);
        /* What it waits for is another thing now. */
        if (handover->overdue)
                overdue_tell(handover);
}

static void held_take(Handover *handover, const char *text) {
        struct timespec now;
        int64_t began, since, left;
        char *rest;

        began = g_ascii_strtoll(text, &rest, 10);
        since = g_ascii_strtoll(rest, &rest, 10);
        if (*rest++ != ' ' || clock_gettime(CLOCK_BOOTTIME, &now) < 0)
                return;
        handover->held = true;
        step_take(handover, rest, since);
        left = began + handover->timeout_sec * (int64_t)G_USEC_PER_SEC -
               (now.tv_sec * (int64_t)G_USEC_PER_SEC + now.tv_nsec / 1000);
        helper_set_deadline(handover->helper, (uint64_t)MAX(left, 0));
}

static void stays_take(Handover *handover, const char *function) {
        char card[PCI_ADDRESS_BUFFER];

        handover->stays = true;
        pci_address_print(handover->record->card, card);
        (void)sd_journal_send("MESSAGE=GPU %s: vfio-pci has claimed %s by itself (vfio-pci.ids= or "
                              "new_id); it stays there",
                              card, function, "PRIORITY=%i", LOG_NOTICE, "FEOS_GPU=%s", card, NULL);
}

static void message_set(Handover *handover, const char *message) {
        g_free(handover->message);
        handover->message = g_strdup(message);
}

/* The helper stands at the start and waits. Without permission it ends by itself, nothing touched.
 */
static void permission_decide(Handover *handover) {
        Handovers *all = handover->all;

        if (handover->let_loose)
                return;
        /* The earlier helper is gone; its successor has all the time that there is. */
        if (handover->held)
                helper_set_deadline(handover->helper,
                                    handover->timeout_sec * (uint64_t)G_USEC_PER_SEC);

        if (handover->direction == HANDOVER_TO_VFIO) {
                if (handover->overdue)
                        message_set(handover,
                                    "An earlier handover has ended only after the deadline; "
                                    "nothing was touched.");
                else if (!origins_complete(handover))
                        message_set(handover,
                                    "Where the card comes from could not be read; nothing "
                                    "was touched.");
                else if (all->events->handover_origins(all->userdata, handover->record->card,
                                                       handover->origins) < 0)
                        message_set(handover, "Where the card comes from could not be recorded; "
                                              "nothing was touched.");
                else
                        handover->let_loose = true;
        } else
                handover->let_loose = true;

        if (handover->let_loose)
                (void)helper_send(handover->helper, "go\n");
        else
                helper_close_input(handover->helper);
}

static void on_line(void *userdata, char *line) {
        Handover *handover = userdata;
        char *rest = strchr(line, ' ');

        if (rest)
                *rest++ = '\0';

        if (rest && strcmp(line, "step") == 0)
                step_take(handover, rest, g_get_real_time() / G_USEC_PER_SEC);
        else if (rest && strcmp(line, "held") == 0)
                held_take(handover, rest);
        else if (rest && strcmp(line, "origin") == 0)
                origin_take(handover, rest);
        else if (!rest && strcmp(line, "ready") == 0)
                permission_decide(handover);
        else if (rest && strcmp(line, "stays") == 0)
                stays_take(handover, rest);
        else if (rest && strcmp(line, "failed") == 0)
                message_set(handover, rest);
        else if (rest && strcmp(line, "lost") == 0) {
                handover->lost = true;
                message_set(handover, rest);
        } else
                sd_journal_print(LOG_ERR, "a handover helper said what is not understood: %s",
                                 line);
}

static void on_overdue(void *userdata) {
        Handover *handover = userdata;

        handover->overdue = true;
        if (handover->direction == HANDOVER_TO_VFIO && handover->let_loose)
                helper_kill(handover->helper);
        overdue_tell(handover);
}

static char *failure_print(const Handover *handover, int status) {
        if (handover->message)
                return g_strdup(handover->message);
        if (handover->overdue)
                return g_strdup_printf("%s within %u seconds; the handover was given up.",
                                       handover->step, handover->timeout_sec);
        if (status < 0)
                return g_strdup_printf("The handover was ended by signal %d. %s until then.",
                                       -status, handover->step);
        return g_strdup("The handover helper has failed without a word.");
}

/* The entry goes first, so that whoever is told can start the next handover from within. */
static void on_ended(void *userdata, int status) {
        g_autoptr(Handover) handover = userdata;
        Handovers *all = handover->all;
        PciAddress card = handover->record->card;
        guint index;

        if (g_ptr_array_find(all->running, handover, &index))
                g_ptr_array_steal_index_fast(all->running, index);

        if (status == 0 && handover->let_loose) {
                ended_tell(all, card, handover->stays ? HANDOVER_STAYS : HANDOVER_DONE, NULL);
        } else {
                g_autofree char *message = failure_print(handover, status);

                ended_tell(all, card, handover->lost ? HANDOVER_LOST : HANDOVER_FAILED, message);
        }
}

static const HelperEvents helper_events = {
        .line = on_line,
        .overdue = on_overdue,
        .ended = on_ended,
};

static bool origin_is_vfio(const FunctionOrigin *origin) {
        return strcmp(origin->driver, "vfio-pci") == 0;
}

/* Whether any host driver is right for the function. Else it goes to its own origin, which may be
 * vfio-pci. */
static bool origin_is_open(const FunctionOrigin *origin, const CardRecord *record) {
        return record->any_host_driver &&
               (origin_is_vfio(origin) || (!origin->known && !origin->driver[0]));
}

/* ",1,auto", or nothing where neither is known. What power/control was on vfio-pci says nothing of
 * a host driver, which sets its own. */
static char *power_print(const FunctionOrigin *origin, const CardRecord *record) {
        const FunctionPower *power = &origin->power;
        const char *control = origin_is_open(origin, record) ? "" : power->control;

        if (!power->d3cold_allowed[0] && !control[0])
                return g_strdup("");
        return g_strdup_printf(",%s,%s", power->d3cold_allowed, control);
}

/* "0000:01:00.0,1,auto" where any host driver is right, else
 * "0000:01:00.0,1,auto=DRIVER,override=NAME", without the override where no helper has read it. */
static char *function_print(const FunctionOrigin *origin, const CardRecord *record) {
        g_autofree char *power = power_print(origin, record);
        char address[PCI_ADDRESS_BUFFER];

        pci_address_print(origin->address, address);
        if (origin_is_open(origin, record))
                return g_strconcat(address, power, NULL);
        if (!origin->known)
                return g_strdup_printf("%s%s=%s", address, power, origin->driver);
        return g_strdup_printf("%s%s=%s,override=%s", address, power, origin->driver,
                               origin->driver_override);
}

static char **arguments_make(const Handovers *handovers, HandoverDirection direction,
                             const CardRecord *record) {
        g_autoptr(GStrvBuilder) arguments = g_strv_builder_new();

        g_strv_builder_add_many(arguments, handovers->program,
                                direction == HANDOVER_TO_VFIO ? "bind" : "release",
                                handovers->state_dir, NULL);
        for (guint i = 0; i < record->origins->len; i++) {
                g_autofree char *text =
                        function_print(&g_array_index(record->origins, FunctionOrigin, i), record);

                g_strv_builder_add(arguments, text);
        }
        return g_strv_builder_end(arguments);
}

int handovers_start(Handovers *handovers, HandoverDirection direction, const CardRecord *record) {
        g_autoptr(Handover) handover = NULL;
        g_auto(GStrv) arguments = NULL;
        char card[PCI_ADDRESS_BUFFER];
        int r;

        if (record->origins->len == 0)
                return -EINVAL;
        if (handovers_running(handovers, record->card))
                return -EBUSY;

        handover = g_new0(Handover, 1);
        handover->all = handovers;
        handover->direction = direction;
        handover->timeout_sec = handovers->timeout_sec;
        handover->record = card_record_copy(record);
        handover->origins = g_array_new(FALSE, TRUE, sizeof(FunctionOrigin));
        handover->step = g_strdup_printf("An earlier handover of %s has not ended",
                                         pci_address_print(record->card, card));
        handover->since = g_get_real_time() / G_USEC_PER_SEC;

        arguments = arguments_make(handovers, direction, record);
        r = helper_start(handovers->event, arguments, handover->timeout_sec, &helper_events,
                         handover, &handover->helper);
        if (r < 0)
                return r;

        g_ptr_array_add(handovers->running, g_steal_pointer(&handover));
        return 0;
}
