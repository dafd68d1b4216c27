/* This relies on the following. A soft reboot (since systemd 254) stops every unit and begins a
 * boot of its own, which reaches sysinit.target again; "daemon-reexec" and "daemon-reload" keep the
 * time at which it was reached. UserspaceTimestampMonotonic would say it more directly, but systemd
 * keeps it over a soft reboot before 256 (src/core/manager-serialize.c,
 * manager_timestamp_shall_serialize()), and SoftRebootsCount does not exist before 256. */
#include "boot-mark.h"

#include "reading.h"

#include "autoptr-bus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <systemd/sd-journal.h>
#include <time.h>

#define FIRST_USEC (1 * UINT64_C(1000000))
#define LAST_USEC  (30 * UINT64_C(1000000))

#define SYSTEMD      "org.freedesktop.systemd1"
#define SYSINIT_PATH "/org/freedesktop/systemd1/unit/sysinit_2etarget"

struct BootMark {
        sd_event *event;
        char *path;
        void (*told)(void *userdata);
        void *userdata;

        sd_event_source *timer; /* on until it is worth asking again */
        bool waiting;           /* it is on */
        uint64_t wait;          /* after the next failure, usec */
        sd_bus *bus;            /* NULL = systemd is not being asked */
        bool known;             /* the next is: */
        uint64_t reached;       /* when sysinit.target was, usec; 0 = there is no systemd */
};

static void wait_for(BootMark *mark, uint64_t usec) {
        int r = sd_event_source_set_time_relative(mark->timer, usec);

        if (r >= 0)
                r = sd_event_source_set_enabled(mark->timer, SD_EVENT_ONESHOT);
        if (r < 0)
                sd_journal_print(LOG_ERR, "cannot set the timer for another look at the boot: %s",
                                 g_strerror(-r));
        mark->waiting = r >= 0;
}

/* The journal hears of the first failure in a row. */
static int try_later(BootMark *mark, const char *what, const char *why, int r) {
        if (mark->wait == 0)
                sd_journal_print(LOG_WARNING,
                                 "%s, so whether the host was booted since is unknown; machines "
                                 "that start with the host wait, and the service tries again: %s",
                                 what, why);
        mark->wait = mark->wait == 0 ? FIRST_USEC : MIN(mark->wait * 2, LAST_USEC);
        wait_for(mark, mark->wait);
        return r;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        BootMark *mark = userdata;

        mark->waiting = false;
        g_clear_pointer(&mark->bus, sd_bus_close_unref);
        mark->told(mark->userdata);
        return 0;
}

/* Where there is no systemd nothing is booted softly. */
static bool is_without_systemd(const sd_bus_error *error) {
        return sd_bus_error_has_names(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                                      SD_BUS_ERROR_SERVICE_UNKNOWN) > 0;
}

/* The bus is closed from the loop, and not under the feet of what has called this. */
static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        BootMark *mark = userdata;
        int r = error ? 0 : sd_bus_message_read(reply, "v", "t", &mark->reached);

        mark->known = is_without_systemd(error) || (!error && r > 0);
        if (mark->known)
                wait_for(mark, 0);
        else
                (void)try_later(mark, "systemd does not say when the userspace came up",
                                error ? error->message ?: error->name : "an unexpected answer",
                                -EAGAIN);
        return 1;
}

/* 0 when an answer follows, or a negative errno. */
static int systemd_ask(BootMark *mark) {
        g_autoptr(sd_bus_message) m = NULL;
        int r = sd_bus_open_system(&mark->bus);

        if (r >= 0)
                r = sd_bus_attach_event(mark->bus, mark->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_message_new_method_call(mark->bus, &m, SYSTEMD, SYSINIT_PATH,
                                                   "org.freedesktop.DBus.Properties", "Get");
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", SYSTEMD ".Unit",
                                          "ActiveEnterTimestampMonotonic");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(m, false);
        if (r >= 0)
                r = sd_bus_call_async(mark->bus, NULL, m, on_answer, mark, 0);
        return MIN(r, 0);
}

/* 1, 0 or a negative errno. A mark that is empty is an earlier version's, which knew of no soft
 * reboot. */
static int mark_take(BootMark *mark) {
        g_autofree char *now = g_strdup_printf("%" G_GUINT64_FORMAT, mark->reached);
        g_autofree char *then = NULL;
        g_autoptr(GError) error = NULL;
        int r = reading_text(AT_FDCWD, mark->path, &then);
        bool first = r == 0 || (r > 0 && then[0] && !g_str_equal(then, now));

        if (r < 0)
                return try_later(mark, "the mark of the last boot cannot be read", g_strerror(-r),
                                 r);
        if (g_strcmp0(then, now) == 0)
                return 0;
        if (g_file_set_contents_full(mark->path, now, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600,
                                     &error) ||
            !first)
                return first;
        return try_later(mark, "the mark of this boot cannot be made", error->message, -EIO);
}

int boot_mark_first(BootMark *mark) {
        int r;

        if (mark->waiting || (mark->bus && !mark->known))
                return -EAGAIN;
        if (mark->known)
                return mark_take(mark);
        r = systemd_ask(mark);
        if (r < 0)
                return try_later(mark, "systemd cannot be asked when the userspace came up",
                                 g_strerror(-r), r);
        return -EAGAIN;
}

int boot_mark_new(sd_event *event, const char *state_dir, void (*told)(void *userdata),
                  void *userdata, BootMark **ret) {
        g_autoptr(BootMark) mark = g_new0(BootMark, 1);
        int r;

        mark->event = sd_event_ref(event);
        mark->path = g_build_filename(state_dir, "booted", NULL);
        mark->told = told;
        mark->userdata = userdata;
        r = sd_event_add_time(event, &mark->timer, CLOCK_MONOTONIC, UINT64_MAX, 0, on_timer, mark);
        if (r >= 0)
                r = sd_event_source_set_enabled(mark->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = g_steal_pointer(&mark);
        return 0;
}

void boot_mark_free(BootMark *mark) {
        if (!mark)
                return;

        g_clear_pointer(&mark->bus, sd_bus_close_unref);
        g_clear_pointer(&mark->timer, sd_event_source_disable_unref);
        sd_event_unref(mark->event);
        g_free(mark->path);
        g_free(mark);
}
