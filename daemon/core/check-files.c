/* The files that a machine has as its disks: whether each may be used, and whether somebody else
 * writes to it. Two writers destroy a file. QEMU's own lock would refuse the second only after the
 * cards have been moved, and does not cover block devices. Compared is what the names lead to or,
 * where that is unknown, the names. */
#include "core/check.h"

#include <errno.h>

/* As the caller wrote it and, where that is not the same, what it leads to. A new string. */
static char *image_print(const ImageAnswer *image) {
        g_autofree char *path = refusal_show(image->path);
        g_autofree char *resolved = image->resolved ? refusal_show(image->resolved) : NULL;

        return resolved && !g_str_equal(resolved, path) ? g_strdup_printf("%s (%s)", path, resolved)
                                                        : g_steal_pointer(&path);
}

static void check_image(const CheckFacts *facts, const RequestImage *asked,
                        const ImageAnswer *image, GPtrArray *findings) {
        g_autofree char *path = refusal_show(image->path);
        g_autofree char *printed = image_print(image);

        if (image->verdict != IMAGE_OK) {
                findings_error(findings,
                               image->verdict == IMAGE_NOT_FOUND ? REFUSAL_IMAGE_NOT_FOUND
                                                                 : REFUSAL_IMAGE_NOT_ALLOWED,
                               path,
                               image->remedy
                                       ?: "Put the file into one of the service's "
                                          "ImageDirectories and name it there.",
                               "Image %s %s.", path, image->why);
                return;
        }
        if (asked->writes && image->read_only)
                findings_error(findings, REFUSAL_IMAGE_NOT_ALLOWED, path,
                               "Make the disk read-only, or use a writable copy.",
                               "Image %s cannot be written to.", printed);
        /* QEMU opens the two with different drivers, and refuses the wrong one. */
        if (facts->definition && asked->disk && asked->block != image->block)
                findings_error(findings, REFUSAL_INVALID_STATE, path,
                               "Put back what was there, or use virsh edit to match what is there "
                               "now: <disk type='file'> with <source file=>, or <disk "
                               "type='block'> with <source dev=>.",
                               "The machine's definition has %s as a %s, but it is a %s.", printed,
                               asked->block ? "block device" : "file",
                               image->block ? "block device" : "file");
}

static bool is_known(const GArray *identities) {
        return identities && identities->len > 0;
}

static bool image_has_name(const ImageAnswer *image, const char *path) {
        return path && (g_str_equal(path, image->path) || g_strcmp0(path, image->name) == 0 ||
                        g_strcmp0(path, image->resolved) == 0);
}

static bool images_meet(const ImageAnswer *one, bool one_writes, const ImageAnswer *other,
                        bool other_writes) {
        if (is_known(one->identities) && is_known(other->identities))
                return file_identities_meet(one->identities, one_writes, other->identities,
                                            other_writes);
        return (one_writes || other_writes) && image_has_name(one, other->resolved);
}

static bool use_meets(const FileUse *use, const ImageAnswer *image, bool writes) {
        if (use->found > 0 && is_known(use->identities) && is_known(image->identities))
                return file_identities_meet(image->identities, writes, use->identities,
                                            use->writes);
        return (use->writes || writes) && image_has_name(image, use->path);
}

/* @other is the one that was named before. */
static void check_twice(const ImageAnswer *image, const ImageAnswer *other, GPtrArray *findings) {
        g_autofree char *path = refusal_show(image->path);
        g_autofree char *this = image_print(image);
        g_autofree char *that = image_print(other);

        findings_error(findings, REFUSAL_INVALID_OPTION, path,
                       "Name each file once, or make both disks read-only.",
                       g_str_equal(this, that) ? "File %s would be two disks of one machine."
                                               : "File %s would be two disks of one machine: it is "
                                                 "%s too, or shares storage with it.",
                       this, that);
}

/* Two definitions may have one file; only one of the two is ever started. @now: the machine that
 * gets it runs, or is to. */
static void check_use(const FileUse *use, const ImageAnswer *image, bool now, GPtrArray *findings) {
        g_autofree char *path = refusal_show(image->path);
        g_autofree char *printed = image_print(image);
        g_autofree char *machine = refusal_show(use->machine);
        g_autofree char *theirs = refusal_show(use->path);
        bool same = g_str_equal(theirs, path);

        if (use->own || (use->now && now))
                findings_error(findings, REFUSAL_INVALID_OPTION, path,
                               "Detach it there or shut that machine down first, or make a copy.",
                               "File %s is in use by machine %s%s%s.", printed, machine,
                               same ? "" : ", which has it as ", same ? "" : theirs);
        else
                findings_warning(
                        findings, REFUSAL_INVALID_OPTION, path,
                        "Only one of the two machines can run at a time. To run both, make a copy.",
                        "File %s is also a disk of machine %s, which %s%s%s.", printed, machine,
                        use->now ? "runs" : "does not run", same ? "" : " and has it as ",
                        same ? "" : theirs);
}

/* Whether a machine that libvirt knows has the file open, even if it only reads it. */
static bool is_open_in_a_machine(const CheckFacts *facts, const ImageAnswer *image) {
        for (guint i = 0; facts->files && i < facts->files->len; i++) {
                const FileUse *use = &g_array_index(facts->files, FileUse, i);

                if (use->now && use_meets(use, image, true))
                        return true;
        }
        return false;
}

static void check_stranger(const CheckFacts *facts, const ImageAnswer *image, bool writes, bool now,
                           GPtrArray *findings) {
        static const char remedy[] =
                "End that process first: fuser -v with the file's name shows it.";
        g_autofree char *path = refusal_show(image->path);
        g_autofree char *printed = image_print(image);
        g_autofree char *message = NULL;

        if (!(image->written || (writes && image->kept)) || is_open_in_a_machine(facts, image))
                return;
        message = g_strdup_printf("File %s is in use by a QEMU that libvirt does not know, or by a "
                                  "QEMU tool (qemu-nbd, guestfish)",
                                  printed);
        if (now)
                findings_error(findings, REFUSAL_INVALID_OPTION, path, remedy, "%s.", message);
        else
                findings_warning(findings, REFUSAL_INVALID_OPTION, path, remedy, "%s.", message);
}

/* Whether a running machine has the file, but what its name leads to is unknown. */
static bool use_is_unknown(const FileUse *use) {
        return use->now && (use->found < 0 || !use->path || use->found == 0);
}

/* QEMU locks files but not block devices, so nothing else would keep two writers of a device apart.
 * A name that leads to nothing was a device's only if it is beneath /dev. */
static bool unknown_is_dangerous(const FileUse *use, const ImageAnswer *image, bool writes) {
        return (use->path && g_str_has_prefix(use->path, "/dev/")) ||
               (use->found < 0 && writes && image->block);
}

static void tell_unknown(const FileUse *use, bool danger, GPtrArray *findings) {
        g_autofree char *machine = refusal_show(use->machine);
        g_autofree char *theirs = refusal_show(use->path);
        g_autofree char *message =
                g_strdup_printf("Machine %s runs with file %s, and what that name leads to is "
                                "unknown.",
                                machine, theirs);

        if (danger)
                findings_error(findings, REFUSAL_INVALID_STATE, theirs,
                               "Try again. If that does not help, detach it there or shut that "
                               "machine down.",
                               "%s", message);
        else
                findings_warning(findings, REFUSAL_INVALID_OPTION, theirs,
                                 "Make sure that it is not one of this machine's disks.", "%s",
                                 message);
}

typedef enum Told {
        TOLD_NOTHING,
        TOLD_WARNING,
        TOLD_ERROR,
} Told;

/* What all disks of a request are judged with. */
typedef struct Disks {
        const CheckFacts *facts;
        GArray *asked; /* RequestImage */
        bool now;      /* the machine runs, or is to */
        Told *told;    /* of each FileUse: that nobody knows what it is */
        GPtrArray *findings;
} Disks;

static const ImageAnswer *disks_answer(const Disks *disks, guint i) {
        return g_ptr_array_index(disks->facts->survey->images, i);
}

static bool disks_writes(const Disks *disks, guint i) {
        return g_array_index(disks->asked, RequestImage, i).writes;
}

/* Whether file @i is a disk, and may be used. */
static bool disks_has(const Disks *disks, guint i) {
        return g_array_index(disks->asked, RequestImage, i).disk &&
               disks_answer(disks, i)->verdict == IMAGE_OK;
}

static void check_unknown(const Disks *disks, guint disk, guint i) {
        const FileUse *use = &g_array_index(disks->facts->files, FileUse, i);
        bool danger = disks->now && unknown_is_dangerous(use, disks_answer(disks, disk),
                                                         disks_writes(disks, disk));
        Told told = danger ? TOLD_ERROR : TOLD_WARNING;

        if (disks->told[i] >= told)
                return;
        disks->told[i] = told;
        tell_unknown(use, danger, disks->findings);
}

static void check_uses(const Disks *disks, guint disk) {
        const GArray *uses = disks->facts->files;
        const ImageAnswer *image = disks_answer(disks, disk);
        bool writes = disks_writes(disks, disk);

        for (guint i = 0; uses && i < uses->len; i++) {
                const FileUse *use = &g_array_index(uses, FileUse, i);

                if (!use->writes && !writes)
                        continue;
                if (use_meets(use, image, writes))
                        check_use(use, image, disks->now, disks->findings);
                else if (use_is_unknown(use))
                        check_unknown(disks, disk, i);
        }
}

static void check_others(const Disks *disks, guint disk) {
        for (guint i = 0; i < disk; i++)
                if (disks_has(disks, i) &&
                    images_meet(disks_answer(disks, disk), disks_writes(disks, disk),
                                disks_answer(disks, i), disks_writes(disks, i)))
                        check_twice(disks_answer(disks, disk), disks_answer(disks, i),
                                    disks->findings);
}

static void check_volumes(const Request *request, GPtrArray *findings) {
        for (guint i = 0; i < request->disks->len; i++) {
                const DeviceRequest *disk = g_ptr_array_index(request->disks, i);
                g_autofree char *path = refusal_show(disk->path);

                if (disk->volume_unknown)
                        findings_error(findings, REFUSAL_IMAGE_NOT_FOUND, path,
                                       "Start its pool: virsh pool-start; virsh vol-list shows "
                                       "what is in it.",
                                       "libvirt does not say where volume %s is.", path);
        }
}

void check_files(const CheckFacts *facts, const Request *request, GPtrArray *findings) {
        g_autoptr(GArray) asked = request_images(request);
        g_autofree Told *told = g_new0(Told, facts->files ? facts->files->len + 1 : 1);
        guint answered = facts->survey ? MIN(asked->len, facts->survey->images->len) : 0;
        Disks disks = { facts, asked, request->start, told, findings };

        check_volumes(request, findings);
        for (guint i = 0; i < answered; i++)
                check_image(facts, &g_array_index(asked, RequestImage, i), disks_answer(&disks, i),
                            findings);
        /* Who has them is not known when the host has not said it all; that has been told. */
        for (guint i = 0; i < answered && facts->survey->error == 0; i++) {
                if (!disks_has(&disks, i))
                        continue;
                check_others(&disks, i);
                check_uses(&disks, i);
                check_stranger(facts, disks_answer(&disks, i), disks_writes(&disks, i), disks.now,
                               findings);
        }
}
