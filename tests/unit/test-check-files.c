/* The judgement of a machine's files: whether they may be used, and whether somebody else has what
 * they lead to. */
#include "check-scene.h"

#include "testing.h"

#include <errno.h>
#include <string.h>

static void add_identity(GArray *identities, uint64_t inode) {
        FileIdentity identity = { .device = 8, .inode = inode };

        g_array_append_val(identities, identity);
}

/* The answer to the next disk of the request, which is @path: it leads to @inode, 0 = nobody knows.
 */
static ImageAnswer *add_answer(Scene *scene, const char *path, uint64_t inode) {
        ImageAnswer *answer = g_new0(ImageAnswer, 1);

        answer->path = g_strdup(path);
        answer->name = g_strconcat("/images/", path, NULL);
        answer->resolved = g_strdup(answer->name);
        answer->identities = g_array_new(FALSE, TRUE, sizeof(FileIdentity));
        if (inode != 0)
                add_identity(answer->identities, inode);
        g_ptr_array_add(scene->survey->images, answer);
        return answer;
}

static ImageAnswer *add_disk(Scene *scene, const char *path, uint64_t inode, bool read_only) {
        DeviceRequest *disk = device_request_new(DEVICE_DISK);

        disk->path = g_strdup(path);
        disk->read_only = read_only;
        g_ptr_array_add(scene->request->disks, disk);
        return add_answer(scene, path, inode);
}

static Scene *scene_with_image(uint64_t inode) {
        Scene *scene = scene_new();

        scene->request->image = g_strdup("disk.img");
        add_answer(scene, "disk.img", inode);
        return scene;
}

static ImageAnswer *answer_of(Scene *scene) {
        return g_ptr_array_index(scene->survey->images, 0);
}

static void images_that_are_missing_or_elsewhere(void **state) {
        static const struct {
                ImageVerdict verdict;
                RefusalCode code;
        } rows[] = {
                { IMAGE_NOT_FOUND, REFUSAL_IMAGE_NOT_FOUND },
                { IMAGE_NOT_ALLOWED, REFUSAL_IMAGE_NOT_ALLOWED },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                Scene *scene = scene_with_image(1);

                answer_of(scene)->verdict = rows[i].verdict;
                answer_of(scene)->why = g_strdup("is a clause");
                expect_remedy(scene, rows[i].code, "disk.img", "Image disk.img is a clause.",
                              "ImageDirectories");
                scene = scene_with_image(1);
                answer_of(scene)->verdict = rows[i].verdict;
                answer_of(scene)->why = g_strdup("is a clause");
                answer_of(scene)->remedy = g_strdup("Do this.");
                expect_remedy(scene, rows[i].code, "disk.img", "clause", "Do this.");
        }
}

static void a_disk_that_takes_no_writes_is_only_to_be_read(void **state) {
        Scene *scene = scene_with_image(1);

        answer_of(scene)->read_only = true;
        expect_remedy(scene, REFUSAL_IMAGE_NOT_ALLOWED, "disk.img", "cannot be written to",
                      "read-only");
        scene = scene_new();
        add_disk(scene, "cd.iso", 1, true)->read_only = true;
        expect_nothing(scene);
}

static void a_definition_that_has_a_device_as_a_file(void **state) {
        Scene *scene = scene_with_image(1);

        scene_define(scene);
        answer_of(scene)->block = true;
        expect_remedy(scene, REFUSAL_INVALID_STATE, "disk.img", "as a file, but it is a block",
                      "type='block'");
        scene = scene_with_image(1);
        answer_of(scene)->block = true; /* a Create has not said which it is */
        expect_nothing(scene);
}

static void one_thing_as_two_disks(void **state) {
        Scene *scene = scene_with_image(7);

        add_disk(scene, "link.img", 7, false);
        expect(scene, REFUSAL_INVALID_OPTION, "link.img",
               "File link.img (/images/link.img) would be two disks of one machine: it is "
               "disk.img (/images/disk.img) too, or shares storage with it.");
        scene = scene_with_image(7);
        add_disk(scene, "disk.img", 7, true); /* the other is written */
        expect(scene, REFUSAL_INVALID_OPTION, "disk.img", "two disks of one machine.");
        scene = scene_new();
        add_disk(scene, "a", 7, true);
        add_disk(scene, "b", 7, true);
        expect_nothing(scene);
        scene = scene_with_image(7);
        add_disk(scene, "other.img", 8, false);
        expect_nothing(scene);
        scene = scene_with_image(0); /* what they lead to is not known: by name */
        add_disk(scene, "disk.img", 0, false);
        expect(scene, REFUSAL_INVALID_OPTION, "disk.img", "two disks of one machine");
}

/* A disk made of another one, as a logical volume of a partition: both are in its identities. */
static void a_disk_and_what_it_is_made_of(void **state) {
        Scene *scene = scene_with_image(7);

        add_identity(add_disk(scene, "volume", 8, false)->identities, 7);
        expect(scene, REFUSAL_INVALID_OPTION, "volume", "two disks of one machine");
        scene = scene_with_image(7); /* two volumes of one disk are two things */
        add_identity(answer_of(scene)->identities, 9);
        add_identity(add_disk(scene, "volume", 8, false)->identities, 9);
        expect_nothing(scene);
}

/* Another machine has a file that leads to @inode, 0 = nobody knows. */
static Scene *scene_with_use(FileUse use, uint64_t inode) {
        static GArray *identities;
        Scene *scene = scene_with_image(7);

        if (!identities)
                identities = g_array_new(FALSE, TRUE, sizeof(FileIdentity));
        g_array_set_size(identities, 0);
        if (inode != 0)
                add_identity(identities, inode);
        use.identities = identities;
        scene->facts.files = g_array_new(FALSE, TRUE, sizeof(FileUse));
        g_array_append_val(scene->facts.files, use);
        return scene;
}

static void a_disk_of_another_machine(void **state) {
        FileUse use = {
                .path = "/dev/dm-3", .machine = "other", .writes = true, .now = true, .found = 1
        };
        Scene *scene = scene_with_use(use, 7);

        expect(scene, REFUSAL_INVALID_OPTION, "disk.img",
               "File disk.img (/images/disk.img) is in use by machine other, which has it as "
               "/dev/dm-3.");
        expect_nothing(scene_with_use(use, 8)); /* another thing, whatever it is called */
        use.path = "/images/disk.img";
        expect_nothing(scene_with_use(use, 8));
        use.writes = false; /* ours writes */
        expect(scene_with_use(use, 7), REFUSAL_INVALID_OPTION, "disk.img", "by machine other");
        use.now = false;
        expect_warning(scene_with_use(use, 7), REFUSAL_INVALID_OPTION, "disk.img",
                       "is also a disk of machine other, which does not run and has it as "
                       "/images/disk.img");
        use.now = true;
        scene = scene_with_use(use, 7);
        scene->request->start = false; /* it need not have it when ours starts */
        expect_warning(scene, REFUSAL_INVALID_OPTION, "disk.img", "which runs");
        use.own = true;
        scene = scene_with_use(use, 7);
        scene->request->start = false;
        expect(scene, REFUSAL_INVALID_OPTION, "disk.img", "in use by");
}

static void a_disk_that_both_only_read(void **state) {
        FileUse use = { .path = "/cd", .machine = "other", .now = true, .found = 1 };
        Scene *scene = scene_with_use(use, 7);

        g_clear_pointer(&scene->request->image, g_free);
        g_ptr_array_set_size(scene->survey->images, 0);
        add_disk(scene, "cd.iso", 7, true);
        expect_nothing(scene);
}

static void what_nobody_can_look_at_is_compared_by_name_or_told(void **state) {
        FileUse use = { .path = "/images/disk.img",
                        .machine = "other",
                        .writes = true,
                        .now = true,
                        .found = -EIO };

        expect(scene_with_use(use, 0), REFUSAL_INVALID_OPTION, "disk.img", "in use by");
        use.path = "/elsewhere\n";
        expect_warning(scene_with_use(use, 0), REFUSAL_INVALID_OPTION, "/elsewhere\\n",
                       "Machine other runs with file /elsewhere\\n, and what that name leads to is "
                       "unknown");
        use.found = 0; /* it runs, so what it has is not what has that name now */
        expect_warning(scene_with_use(use, 0), REFUSAL_INVALID_OPTION, "/elsewhere\\n",
                       "is unknown");
        use.now = false;
        expect_nothing(scene_with_use(use, 0));
}

/* QEMU's locks do not keep two writers of a device apart. */
static void a_device_that_may_be_anothers_is_refused(void **state) {
        FileUse use = {
                .path = "/elsewhere", .machine = "other", .now = true, .found = -ETIMEDOUT
        };
        Scene *scene = scene_with_use(use, 0);

        answer_of(scene)->block = true;
        expect_remedy(scene, REFUSAL_INVALID_STATE, "/elsewhere", "is unknown", "Try again");
        scene = scene_with_use(use, 0);
        answer_of(scene)->block = true;
        scene->request->start = false;
        expect_warning(scene, REFUSAL_INVALID_OPTION, "/elsewhere", "is unknown");
        use.found = 0; /* a file that was removed */
        scene = scene_with_use(use, 0);
        answer_of(scene)->block = true;
        expect_warning(scene, REFUSAL_INVALID_OPTION, "/elsewhere", "is unknown");
        use.path = "/dev/vg/gone";
        expect_remedy(scene_with_use(use, 0), REFUSAL_INVALID_STATE, "/dev/vg/gone", "is unknown",
                      "Try again");
}

static void a_volume_that_libvirt_does_not_tell_of(void **state) {
        Scene *scene = scene_new();
        DeviceRequest *disk = device_request_new(DEVICE_DISK);

        scene_define(scene);
        disk->path = g_strdup("pool/volume");
        disk->volume_unknown = true;
        g_ptr_array_add(scene->request->disks, disk);
        expect_remedy(scene, REFUSAL_IMAGE_NOT_FOUND, "pool/volume", "where volume pool/volume is",
                      "virsh pool-start");
}

static void a_file_that_a_stranger_has_open(void **state) {
        Scene *scene = scene_with_image(7);

        answer_of(scene)->kept = answer_of(scene)->written = true;
        expect_remedy(scene, REFUSAL_INVALID_OPTION, "disk.img", "libvirt does not know", "fuser");
        scene = scene_with_image(7);
        answer_of(scene)->kept = true; /* it reads, and this machine writes */
        expect(scene, REFUSAL_INVALID_OPTION, "disk.img", "libvirt does not know");
        scene = scene_new();
        add_disk(scene, "cd.iso", 1, true)->kept = true; /* both read */
        expect_nothing(scene);
        scene = scene_with_image(7);
        answer_of(scene)->written = true;
        scene->request->start = false;
        expect_warning(scene, REFUSAL_INVALID_OPTION, "disk.img", "libvirt does not know");
}

static void a_file_that_a_known_machine_has_open_is_told_once(void **state) {
        Scene *scene = scene_with_use((FileUse){ .path = "/images/disk.img",
                                                 .machine = "other",
                                                 .writes = true,
                                                 .now = true,
                                                 .found = 1 },
                                      7);

        answer_of(scene)->kept = answer_of(scene)->written = true;
        expect(scene, REFUSAL_INVALID_OPTION, "disk.img", "in use by machine other");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(images_that_are_missing_or_elsewhere),
                cmocka_unit_test(a_disk_that_takes_no_writes_is_only_to_be_read),
                cmocka_unit_test(a_definition_that_has_a_device_as_a_file),
                cmocka_unit_test(one_thing_as_two_disks),
                cmocka_unit_test(a_disk_and_what_it_is_made_of),
                cmocka_unit_test(a_file_that_a_stranger_has_open),
                cmocka_unit_test(a_file_that_a_known_machine_has_open_is_told_once),
                cmocka_unit_test(a_disk_of_another_machine),
                cmocka_unit_test(a_disk_that_both_only_read),
                cmocka_unit_test(what_nobody_can_look_at_is_compared_by_name_or_told),
                cmocka_unit_test(a_device_that_may_be_anothers_is_refused),
                cmocka_unit_test(a_volume_that_libvirt_does_not_tell_of),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
