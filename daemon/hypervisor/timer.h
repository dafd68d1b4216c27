/* Timers that go off once, so many seconds from when they are armed. Main thread. */
#pragma once

#include <systemd/sd-event.h>

/* Makes one that is not armed; it is the caller's to unref. @description is copied. Returns 0 or a
 * negative errno. */
int timer_new(sd_event *event, sd_event_time_handler_t handler, void *userdata,
              const char *description, sd_event_source **ret);

/* Arms it, also when it is armed already, to go off @seconds from now, 0 at the loop's next turn.
 * That it cannot be armed is told to the journal. */
void timer_arm(sd_event_source *timer, unsigned seconds);
void timer_disarm(sd_event_source *timer);
