#include "look-again.h"

#include "autoptr-bus.h"

#include <errno.h>
#include <systemd/sd-journal.h>
#include <time.h>

#define FIRST_USEC (1 * UINT64_C(1000000))
#define LAST_USEC  (30 * UINT64_C(1000000))
#define RETRY_USEC (60 * UINT64_C(1000000)) /* the last, while nothing else is to be read */

typedef struct Unread {
        PciAddress address;
        bool failing[_LOOK_AT_MAX]; /* the last time */
        uint64_t wait;              /* usec, until the next time */
        uint64_t due;               /* monotonic; 0 = it is being looked at */
} Unread;

struct LookAgain {
        sd_event_source *timer;
        void (*look)(void *userdata, PciAddress address);
        void *userdata;
        GArray *unread; /* Unread */
};

static uint64_t now_usec(void) {
        return (uint64_t)g_get_monotonic_time();
}

static bool find(const LookAgain *again, PciAddress address, guint *ret) {
        for (guint i = 0; i < again->unread->len; i++)
                if (pci_address_equal(g_array_index(again->unread, Unread, i).address, address)) {
                        *ret = i;
                        return true;
                }
        return false;
}

/* The timer was made at the start: what it is for is that nothing can be made. */
static void timer_set(LookAgain *again) {
        uint64_t next = UINT64_MAX;
        int r;

        for (guint i = 0; i < again->unread->len; i++) {
                const Unread *unread = &g_array_index(again->unread, Unread, i);

                if (unread->due != 0)
                        next = MIN(next, unread->due);
        }
        r = sd_event_source_set_time(again->timer, next);
        if (r >= 0)
                r = sd_event_source_set_enabled(
                        again->timer, next == UINT64_MAX ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
        if (r < 0)
                sd_journal_print(LOG_ERR, "cannot set the timer for another look: %s",
                                 g_strerror(-r));
}

static void failure_tell(PciAddress address, LookAt what, int r) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(address, shown);
        if (what == LOOK_AT_DEVICE)
                sd_journal_print(LOG_WARNING, "cannot read PCI device %s, trying again: %s", shown,
                                 g_strerror(-r));
        else if (r == -EPROTONOSUPPORT)
                sd_journal_print(LOG_WARNING,
                                 "a newer version of this service wrote the ledger's record of %s; "
                                 "the card is left alone until that record is gone",
                                 shown);
        else
                sd_journal_print(LOG_WARNING,
                                 "cannot read or write the ledger's record of %s, trying again: %s",
                                 shown, g_strerror(-r));
}

static void end_tell(PciAddress address, LookAt what) {
        char shown[PCI_ADDRESS_BUFFER];

        pci_address_print(address, shown);
        sd_journal_print(LOG_NOTICE,
                         what == LOOK_AT_DEVICE ? "PCI device %s could be read again"
                                                : "the ledger's record of %s is in order again",
                         shown);
}

static void note_failure(LookAgain *again, PciAddress address, LookAt what, int r) {
        Unread fresh = { .address = address };
        Unread *unread;
        uint64_t last;
        guint i;

        if (!find(again, address, &i)) {
                i = again->unread->len;
                g_array_append_val(again->unread, fresh);
        }
        unread = &g_array_index(again->unread, Unread, i);
        if (!unread->failing[what] && what != LOOK_TO_RETRY)
                failure_tell(address, what, r);
        unread->failing[what] = true;
        if (unread->due != 0)
                return;
        last = what == LOOK_TO_RETRY ? RETRY_USEC : LAST_USEC;
        unread->wait = unread->wait == 0 ? FIRST_USEC : MIN(unread->wait * 2, last);
        unread->due = now_usec() + unread->wait;
        timer_set(again);
}

/* A look that was promised comes all the same: who has the answer now need not be who wants it. */
static void note_answer(LookAgain *again, PciAddress address, LookAt what) {
        Unread *unread;
        bool failing = false;
        guint i;

        if (!find(again, address, &i))
                return;
        unread = &g_array_index(again->unread, Unread, i);
        if (unread->failing[what] && what != LOOK_TO_RETRY)
                end_tell(address, what);
        unread->failing[what] = false;
        for (LookAt other = 0; other < _LOOK_AT_MAX; other++)
                failing |= unread->failing[other];
        if (unread->due == 0 && !failing)
                g_array_remove_index_fast(again->unread, i);
}

void look_again_note(LookAgain *again, PciAddress address, LookAt what, int r) {
        if (r < 0)
                note_failure(again, address, what, r);
        else
                note_answer(again, address, what);
}

/* Those that are due, a new array of PciAddress; they are being looked at from now on. */
static GArray *take_due(LookAgain *again) {
        GArray *due = g_array_new(FALSE, FALSE, sizeof(PciAddress));
        uint64_t now = now_usec();

        for (guint i = 0; i < again->unread->len; i++) {
                Unread *unread = &g_array_index(again->unread, Unread, i);

                if (unread->due == 0 || unread->due > now)
                        continue;
                unread->due = 0;
                g_array_append_val(due, unread->address);
        }
        return due;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        LookAgain *again = userdata;
        g_autoptr(GArray) due = take_due(again);

        for (guint i = 0; i < due->len; i++) {
                PciAddress address = g_array_index(due, PciAddress, i);
                const Unread *unread;
                guint index;

                again->look(again->userdata, address);
                if (!find(again, address, &index))
                        continue;
                /* Nobody is interested any more. */
                unread = &g_array_index(again->unread, Unread, index);
                if (unread->due == 0 && !unread->failing[LOOK_TO_RETRY])
                        g_array_remove_index_fast(again->unread, index);
        }
        timer_set(again);
        return 0;
}

int look_again_new(sd_event *event, void (*look)(void *userdata, PciAddress address),
                   void *userdata, LookAgain **ret) {
        g_autoptr(LookAgain) again = g_new0(LookAgain, 1);
        int r;

        again->look = look;
        again->userdata = userdata;
        again->unread = g_array_new(FALSE, TRUE, sizeof(Unread));
        r = sd_event_add_time(event, &again->timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_timer,
                              again);
        if (r >= 0)
                r = sd_event_source_set_enabled(again->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = g_steal_pointer(&again);
        return 0;
}

void look_again_free(LookAgain *again) {
        if (!again)
                return;

        g_clear_pointer(&again->timer, sd_event_source_disable_unref);
        g_array_unref(again->unread);
        g_free(again);
}
