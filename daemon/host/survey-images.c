/* Resolves the paths that a request names, as root on behalf of somebody who is not: what may be
 * used lies in one of the administrator's directories, links followed, or is one of the block
 * devices that were listed, and nobody but root can put another thing there before QEMU opens it. A
 * path that cannot be allowed is refused by its text alone, before the file system is asked, and
 * what leads out gets one answer whatever is there: so the answers tell nobody what lies elsewhere.
 * Knows neither machines nor libvirt. */
#include "survey-images.h"

#include "core/refusal.h"
#include "survey-block-use.h"
#include "survey-identity.h"
#include "survey-reach.h"
#include "survey-walk.h"

#include <errno.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

/* One path and what is known of it so far. */
typedef struct Search {
        const ImageRules *rules;
        const char *path; /* as asked */
        ImageUse use;
        char *name; /* absolute, as a definition is to have it */
        char *base; /* the image directory that it is in by its name, without links; NULL = a
                     * device */
} Search;

static void search_clear(Search *search) {
        g_clear_pointer(&search->name, g_free);
        g_clear_pointer(&search->base, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Search, search_clear)

static ImageAnswer *answer_new(const char *path, ImageVerdict verdict, const char *why,
                               const char *remedy) {
        ImageAnswer *answer = g_new0(ImageAnswer, 1);

        answer->verdict = verdict;
        answer->path = g_strdup(path);
        answer->identities = g_array_new(FALSE, TRUE, sizeof(FileIdentity));
        answer->why = g_strdup(why);
        answer->remedy = g_strdup(remedy);
        return answer;
}

static ImageAnswer *answer_refuse(const char *path, const char *why) {
        return answer_new(path, IMAGE_NOT_ALLOWED, why, NULL);
}

/* libvirt writes such a character as it is into an attribute of its XML, and reads it again as a
 * blank: another name. */
static bool path_has_controls(const char *path) {
        for (; *path; path++)
                if (g_ascii_iscntrl(*path))
                        return true;
        return false;
}

static bool path_climbs(const char *path) {
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);

        return g_strv_contains((const char *const *)parts, "..");
}

/* The absolute @path without what means nothing in it: doubled slashes and "." */
static char *path_plain(const char *path) {
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        g_autoptr(GString) plain = g_string_new(NULL);

        for (char **part = parts; *part; part++)
                if (**part && strcmp(*part, ".") != 0)
                        g_string_append_printf(plain, "/%s", *part);
        return g_string_free(g_steal_pointer(&plain), FALSE);
}

/* What is left of @path beneath @directory, by their texts; NULL where it is not in there. */
static const char *path_beneath(const char *path, const char *directory) {
        size_t length = strlen(directory);

        if (length == 1)
                length = 0; /* the root folder */
        return strncmp(path, directory, length) == 0 && path[length] == '/' ? path + length + 1
                                                                            : NULL;
}

static bool path_is_listed_device(const ImageRules *rules, const char *path) {
        for (char *const *glob = rules->block_devices; *glob; glob++)
                if (fnmatch(*glob, path, FNM_PATHNAME | FNM_PERIOD) == 0)
                        return true;
        return false;
}

/* --- what stands in the way --- */

static ImageAnswer *outside_refuse(const Search *search) {
        return answer_refuse(search->path, "leads out of the image directories by a symbolic link");
}

static bool path_is_at_or_beneath(const char *path, const char *directory) {
        return strcmp(path, directory) == 0 || path_beneath(path, directory);
}

/* In the directory that was looked into, or in another one that a link leads to. */
static bool place_is_inside(const Search *search, const char *place) {
        if (path_is_at_or_beneath(place, search->base))
                return true;
        for (char *const *directory = search->rules->directories; *directory; directory++) {
                g_autofree char *real = realpath(*directory, NULL);

                if (real && path_is_at_or_beneath(place, real))
                        return true;
        }
        return false;
}

/* What could not be looked at is not known: it may be there, and another one must not be taken in
 * its place. */
static ImageAnswer *unknown_refuse(const Search *search, const Walk *walk) {
        g_autofree char *at = refusal_show(walk->at->str);
        g_autofree char *why =
                g_strdup_printf("could not be looked at: %s: %s", at, g_strerror(-walk->error));
        bool kept_out = walk->error == -EACCES || walk->error == -EPERM;

        return answer_new(search->path, IMAGE_NOT_ALLOWED, why,
                          kept_out ? "Let root look into that folder: export it with "
                                     "no_root_squash on a file server, or change the folder's mode."
                                   : "See whether the file system there answers; mount it again, "
                                     "or take the directory out of the configuration.");
}

static ImageAnswer *walk_refuse(const Search *search, const Walk *walk) {
        if (walk->bent)
                return answer_new(search->path, IMAGE_NOT_ALLOWED, walk->bent,
                                  "Make root its owner and take write permission from group and "
                                  "others (chown root, chmod go-w), or use another folder.");
        switch (-walk->error) {
        case ENOENT:
        case ENOTDIR:
                return answer_new(search->path, IMAGE_NOT_FOUND, "does not exist", NULL);
        case ELOOP:
                return answer_refuse(search->path, "leads through too many symbolic links");
        case ENAMETOOLONG:
                return answer_refuse(search->path, "has too long a name");
        default:
                return unknown_refuse(search, walk);
        }
}

/* --- what was found --- */

/* The walk has come to it, and it may be used. */
static ImageAnswer *found_answer(const Search *search, const Walk *walk) {
        ImageAnswer *answer = answer_new(search->path, IMAGE_OK, NULL, NULL);
        int r = identities_survey(&walk->status, answer->identities);
        bool block = S_ISBLK(walk->status.st_mode);
        g_autofree char *use =
                block ? block_use_survey(walk->status.st_rdev) : file_use_survey(walk->at->str);

        answer->block = block;
        if (use)
                image_answer_refuse(
                        answer, use,
                        "Unmount it, or remove it from what is made of it, or use another one.");
        else if (r < 0) {
                g_autofree char *why = g_strdup_printf(
                        "is made of something that could not be looked at: %s", g_strerror(-r));

                image_answer_refuse(answer, why, NULL);
        } else
                reach_survey(walk, search->rules->apparmor, search->use, answer);
        if (answer->verdict == IMAGE_OK) {
                answer->name = g_strdup(search->name);
                answer->resolved = g_strdup(walk->at->str);
        } else {
                answer->block = answer->read_only = false;
                g_array_set_size(answer->identities, 0);
        }
        return answer;
}

/* Something that lies in an image directory by its name. A link there stands for a device only
 * where that was listed by the name that it has without links: the link itself proves nothing. */
static ImageAnswer *entry_judge(const Search *search, const Walk *walk) {
        bool block = S_ISBLK(walk->status.st_mode);

        if (block && path_is_listed_device(search->rules, walk->at->str))
                return found_answer(search, walk);
        if (!place_is_inside(search, walk->at->str))
                return outside_refuse(search);
        if (block)
                return answer_refuse(search->path,
                                     "is a block device that the administrator has not listed");
        if (!S_ISREG(walk->status.st_mode))
                return answer_refuse(search->path, "is neither a regular file nor a block device");
        return found_answer(search, walk);
}

/* Looks for @rest in the directory that the walk has come to. NULL when it may look in another one:
 * then nothing of that name is there. */
static ImageAnswer *entry_survey(Search *search, Walk *walk, const char *directory,
                                 const char *rest) {
        unsigned links = walk->links;
        char *name = g_build_filename(directory, rest, NULL);

        g_free(search->base);
        search->base = g_strdup(walk->at->str);
        g_free(search->name);
        search->name = name;
        if (walk_along(walk, rest))
                return entry_judge(search, walk);
        if (walk->links == links && (walk->error == -ENOENT || walk->error == -ENOTDIR))
                return NULL;
        if (!place_is_inside(search, walk->at->str))
                return outside_refuse(search);
        return walk_refuse(search, walk);
}

/* A file name: the first directory that has such an entry decides. One that is not there is passed
 * over; one that could not be looked at may have it. */
static ImageAnswer *name_survey(Search *search) {
        for (char *const *given = search->rules->directories; *given; given++) {
                g_autofree char *directory = path_plain(*given);
                g_autoptr(Walk) walk = walk_new(search->rules->qemu_uid);
                ImageAnswer *answer = NULL;

                if (walk_along(walk, directory))
                        answer = entry_survey(search, walk, directory, search->path);
                else if (walk->error != -ENOENT && walk->error != -ENOTDIR)
                        answer = walk_refuse(search, walk);
                if (answer)
                        return answer;
        }
        return answer_new(search->path, IMAGE_NOT_FOUND, "is in none of the image directories",
                          NULL);
}

/* An absolute path beneath @directory, of which @beneath is what follows. */
static ImageAnswer *path_survey(Search *search, const char *directory, const char *beneath) {
        g_autofree char *rest = g_strdup(beneath);
        g_autoptr(Walk) walk = walk_new(search->rules->qemu_uid);
        ImageAnswer *answer;

        if (!walk_along(walk, directory))
                return walk_refuse(search, walk);
        answer = entry_survey(search, walk, directory, rest);
        return answer ?: walk_refuse(search, walk);
}

/* --- block devices --- */

/* A listed name that leads to @device now; NULL = none. New. */
static char *listed_name_find(const ImageRules *rules, const char *device) {
        for (char *const *pattern = rules->block_devices; *pattern; pattern++) {
                g_autofree char *found = NULL;
                glob_t names;

                if (!g_str_has_prefix(*pattern, "/dev/") ||
                    glob(*pattern, GLOB_NOSORT, NULL, &names) != 0)
                        continue;
                for (size_t i = 0; i < names.gl_pathc && !found; i++) {
                        g_autofree char *real = realpath(names.gl_pathv[i], NULL);

                        if (g_strcmp0(real, device) == 0)
                                found = g_strdup(names.gl_pathv[i]);
                }
                globfree(&names);
                if (found)
                        return g_steal_pointer(&found);
        }
        return NULL;
}

/* The same of what is there and of what is not. The kernel gives its own names out anew at each
 * boot, so a definition that has one may mean another disk by now. */
static ImageAnswer *unlisted_refuse(const Search *search, const char *device) {
        g_autofree char *listed = device ? listed_name_find(search->rules, device) : NULL;
        g_autofree char *shown = listed ? refusal_show(listed) : NULL;
        g_autofree char *remedy =
                listed ? g_strdup_printf("The listed name %s leads to that device now: if you mean "
                                         "that device, use the listed name, in a machine's "
                                         "definition too (virsh edit).",
                                         shown)
                       : g_strdup("Use a name that BlockDevices= lists, or list the device there "
                                  "by a name that it keeps, as in /dev/disk/by-id. A machine's "
                                  "definition that has another name needs that name too (virsh "
                                  "edit).");

        return answer_new(search->path, IMAGE_NOT_ALLOWED,
                          "is not a name of a block device that the administrator has listed",
                          remedy);
}

/* A name beneath /dev is udev's, and stands for what it leads to. */
static ImageAnswer *device_survey(const Search *search) {
        bool listed = path_is_listed_device(search->rules, search->name);
        g_autoptr(Walk) walk = walk_new(search->rules->qemu_uid);
        bool arrived;

        walk->in_dev = true;
        arrived = walk_along(walk, search->name);
        if (!listed && !(arrived && path_is_listed_device(search->rules, walk->at->str)))
                return unlisted_refuse(search, arrived ? walk->at->str : NULL);
        if (!arrived)
                return walk_refuse(search, walk);
        if (!S_ISBLK(walk->status.st_mode))
                return answer_refuse(search->path, "is not a block device");
        return found_answer(search, walk);
}

/* A listed node that lies elsewhere; a link to it was made by who may write there. */
static ImageAnswer *node_survey(const Search *search) {
        g_autoptr(Walk) walk = walk_new(search->rules->qemu_uid);

        if (!walk_along(walk, search->name))
                return walk_refuse(search, walk);
        if (!S_ISBLK(walk->status.st_mode) || !path_is_listed_device(search->rules, walk->at->str))
                return answer_refuse(search->path, "is not a block device");
        return found_answer(search, walk);
}

/* --- */

/* Beneath a directory as the administrator named it; only then, beneath one as it is without links:
 * that asks the file systems of all of them. */
static ImageAnswer *absolute_survey(Search *search) {
        for (char *const *given = search->rules->directories; *given; given++) {
                g_autofree char *directory = path_plain(*given);
                const char *rest = path_beneath(search->name, directory);

                if (rest)
                        return path_survey(search, directory, rest);
        }
        if (g_str_has_prefix(search->name, "/dev/"))
                return device_survey(search);
        if (path_is_listed_device(search->rules, search->name))
                return node_survey(search);
        for (char *const *given = search->rules->directories; *given; given++) {
                g_autofree char *real = realpath(*given, NULL);
                const char *rest = real ? path_beneath(search->name, real) : NULL;

                if (rest)
                        return path_survey(search, real, rest);
        }
        return answer_refuse(search->path, "lies outside the image directories");
}

ImageAnswer *image_survey(const ImageRules *rules, const char *path, ImageUse use) {
        g_auto(Search) search = { .rules = rules, .path = path, .use = use };

        if (!*path || strcmp(path, ".") == 0)
                return answer_refuse(path, "has no name");
        if (path_has_controls(path))
                return answer_refuse(path, "has a control character in its name; rename it");
        if (path_climbs(path))
                return answer_refuse(path, "has a \"..\" in its path");
        if (*path != '/')
                return strchr(path, '/')
                               ? answer_refuse(path, "is neither a file name nor an absolute path")
                               : name_survey(&search);
        if (g_str_has_suffix(path, "/") || g_str_has_suffix(path, "/."))
                return answer_refuse(path, "is the name of a folder");
        search.name = path_plain(path);
        return absolute_survey(&search);
}
