/* Asks the survey helper what could block the daemon: who has a card open, where images lie, how
 * fast a link runs. */
#pragma once

#include "core/host.h"

#include <systemd/sd-event.h>

typedef struct Surveys Surveys;

/* @program is the helper's path; @directories and @block_devices are where images may lie (NULL for
 * none). All are copied. */
Surveys *surveys_new(sd_event *event, const char *program, char *const *directories,
                     char *const *block_devices);

/* Where images may lie from now on; copied. */
void surveys_allow(Surveys *surveys, char *const *directories, char *const *block_devices);

/* Ends the surveys under way without telling anybody. */
void surveys_free(Surveys *surveys);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Surveys, surveys_free)

/* See HostOps.survey. The cards' companions are surveyed with them. An answer with an error may
 * hold less than was asked; without one there is an answer for each image. */
void surveys_ask(Surveys *surveys, const SurveyQuestion *question, SurveyDone done, void *userdata);

/* Asks for the link of the device at @address; events->link_read follows, unless the device does
 * not answer. While the same was asked already nothing more is done. */
void surveys_read_link(Surveys *surveys, PciAddress address, const HostEvents *events,
                       void *userdata);
