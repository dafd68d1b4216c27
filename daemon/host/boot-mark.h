/* Whether the host was booted since somebody last asked. A mark in the state folder, which is on
 * /run, says so across restarts of the daemon. A "systemctl soft-reboot" keeps /run, so the mark
 * also has the time at which systemd last brought the userspace up. */
#pragma once

#include <glib.h>
#include <systemd/sd-event.h>

typedef struct BootMark BootMark;

/* @state_dir is copied. @told is called from the loop when it is worth asking again. 0 or a
 * negative errno. */
int boot_mark_new(sd_event *event, const char *state_dir, void (*told)(void *userdata),
                  void *userdata, BootMark **ret);
void boot_mark_free(BootMark *mark);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BootMark, boot_mark_free)

/* 1 for the first who asks since the host was booted, and 0 for everybody after that; a negative
 * errno when it is not known yet: then @told follows. */
int boot_mark_first(BootMark *mark);
