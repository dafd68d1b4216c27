#include "hypervisor/timer.h"

#include <glib.h>
#include <systemd/sd-journal.h>

int timer_new(sd_event *event, sd_event_time_handler_t handler, void *userdata,
              const char *description, sd_event_source **ret) {
        int r = sd_event_add_time(event, ret, CLOCK_MONOTONIC, 0, 0, handler, userdata);

        if (r < 0)
                return r;
        (void)sd_event_source_set_description(*ret, description);
        return sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

void timer_arm(sd_event_source *timer, unsigned seconds) {
        int r = sd_event_source_set_time_relative(timer, (uint64_t)seconds * G_USEC_PER_SEC);

        if (r >= 0)
                r = sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
        if (r < 0)
                sd_journal_print(LOG_ERR, "Could not set a timer: %s", g_strerror(-r));
}

void timer_disarm(sd_event_source *timer) {
        (void)sd_event_source_set_enabled(timer, SD_EVENT_OFF);
}
