/* One request, and an otherwise perfect host for it, as the check sees them. */
#pragma once

#include "core/check.h"

typedef struct Scene {
        CheckFacts facts;
        Request *request;
        DeviceFacts *gpu;
        SurveyAnswer *survey;
        GPtrArray *findings;
        CheckDefinition definition; /* see scene_define() */
        GArray *made_with;
} Scene;

/* A machine "box" with the GPU 0000:01:00.0, which has a companion. */
Scene *scene_new(void);
void scene_free(Scene *scene);

CheckCard *scene_card(Scene *scene);

/* The machine is to be started and not made: its definition has the card's two functions. */
void scene_define(Scene *scene);

/* Its definition has one more PCI function, of this device (lent; NULL = nobody knows). */
CheckHostdev *scene_add_hostdev(Scene *scene, const char *address, const DeviceFacts *facts);

/* Adds a PCI function to @array. */
void add_function(GArray *array, const char *address, uint32_t class, const char *driver);

/* Judges and expects exactly one finding, of this code and severity, with words in it and in its
 * remedy. Frees the scene. */
void expect_finding(Scene *scene, RefusalSeverity severity, RefusalCode code, const char *subject,
                    const char *says, const char *remedy);

/* The same of an error, with the remedy and without; of a warning; and of nothing at all. */
void expect_remedy(Scene *scene, RefusalCode code, const char *subject, const char *says,
                   const char *remedy);
void expect(Scene *scene, RefusalCode code, const char *subject, const char *says);
void expect_warning(Scene *scene, RefusalCode code, const char *subject, const char *says);
void expect_nothing(Scene *scene);
