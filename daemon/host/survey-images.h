/* Where an image lies and whether it may be used. Part of the survey helper: all of this can block.
 */
#pragma once

#include "core/host.h"

typedef struct ImageRules {
        char *const *directories;   /* absolute; NULL-terminated, as the next */
        char *const *block_devices; /* absolute paths or globs */
        uid_t qemu_uid;             /* see SurveyQuestion, as the next */
        bool apparmor;
} ImageRules;

/* What becomes of @path; a new answer (image_answer_free()). */
ImageAnswer *image_survey(const ImageRules *rules, const char *path, ImageUse use);
