/* Other domains' files, which may lie on servers that are dead. Part of the survey helper. */
#pragma once

#include "core/host.h"

/* What is asked of one file, see file_survey(). */
typedef struct FileQuestion {
        const char *path; /* lent for as long as the process lives */
        bool qcow2;
} FileQuestion;

/* A survey of files under way, some at once: one that hangs costs itself. */
typedef struct Files Files;

/* Takes @questions (FileQuestion). */
Files *files_begin(GArray *questions);

/* Waits until all are known, @usec at most, and returns the answers (FileAnswer, NULL where nothing
 * is known) in the order of the questions: a new array that owns them. What is still asked by then
 * ends with the process. */
GPtrArray *files_end(Files *files, gint64 usec);
