/* A tree of files beneath a temporary folder R, and which of it images may be:
 *
 *   R/images/          an image directory      R/second/   another
 *     disk.img                                   disk.img  only.img
 *     deep/below.img                           R/linked -> images
 *     in.img -> disk.img                       R/outside/secret.img
 *     out.img -> ../outside/secret.img         R/images-not/near.img
 *     gone.img -> nowhere    loop.img -> loop.img
 *     folder/    fifo
 */
#pragma once

#include "host/survey-images.h"

typedef struct ImageScene {
        char *root;
        char *directories[3]; /* R/linked and R/second */
        char *devices[3];     /* no device, and R/images/planted* */
        ImageRules rules;
        int loop; /* the loop device that image_scene_loop() has made; -1 = none */
} ImageScene;

/* For cmocka. */
int image_scene_setup(void **state);
int image_scene_teardown(void **state);

/* The absolute path of @name in the tree; new. */
char *image_scene_path(const ImageScene *scene, const char *name);
/* Makes the folders on the way, too. */
void image_scene_file(const ImageScene *scene, const char *name, const void *data, size_t size);
void image_scene_link(const ImageScene *scene, const char *name, const char *target);
void image_scene_own(const ImageScene *scene, const char *name, uid_t uid, gid_t gid);
void image_scene_mode(const ImageScene *scene, const char *name, mode_t mode);

/* Has R/images/disk.img behind a loop device: its node, new; NULL where that cannot be. */
char *image_scene_loop(ImageScene *scene);

/* What becomes of @path; "R/" at its beginning stands for the tree. */
ImageAnswer *image_scene_ask(const ImageScene *scene, const char *path, ImageUse use);

/* Fails unless the answer is that. @words: a part of its reason, or of its remedy; NULL = any. */
void image_scene_expect(const ImageScene *scene, const char *path, ImageVerdict verdict,
                        const char *words);
/* The same of what is to be opened as qcow2. */
void image_scene_expect_qcow2(const ImageScene *scene, const char *path, ImageVerdict verdict,
                              const char *words);
