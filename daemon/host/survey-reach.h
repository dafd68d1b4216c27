/* Whether QEMU will get to a file and can make use of it. Part of the survey helper: all of this
 * can block. */
#pragma once

#include "core/host.h"
#include "survey-walk.h"

/* Adds to @answer what is foreseen to keep QEMU from the file or device that @walk has come to: a
 * reason, what would help, and that its verdict is IMAGE_NOT_ALLOWED; and who uses it already.
 * @apparmor: see SurveyQuestion. */
void reach_survey(const Walk *walk, bool apparmor, ImageUse use, ImageAnswer *answer);

/* Makes @answer a refusal. Copies @why, a clause that continues "The image … ", and @remedy, NULL =
 * nothing in particular. */
void image_answer_refuse(ImageAnswer *answer, const char *why, const char *remedy);
