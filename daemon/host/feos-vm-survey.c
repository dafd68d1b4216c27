/* The survey helper: reads what can block, so that the daemon need not. It changes nothing and
 * decides nothing. The question is its command line, pairs of a word and a value in any number and
 * order:
 *
 *   feos-vm-survey ask [directory PATH] [device GLOB] [card ADDRESS] [serial ADDRESS] [image PATH]
 *                      [qcow2 PATH] [kernel PATH] [qemu UID] [apparmor yes] [file PATH]
 *                      [file-qcow2 PATH] ...
 *   feos-vm-survey link ADDRESS
 *
 * and the answer is lines of words parted by tabs, each escaped as g_strescape() does:
 *
 *   holder KIND PID UID COMMAND UNIT NODE AT   for each holder of one of the functions; the kind is
 *                                              one of holder_kind_to_string()
 *   serial ADDRESS SERIAL                      for each function asked for that has one
 *   image VERDICT ACCESS USE NAME RESOLVED WHY REMEDY IDENTITIES
 *                                              for each image, qcow2 or kernel, in their order; the
 *                                              verdict is ok, block (ok too, a block device),
 *                                              missing or refused, the access rw or ro, the use
 *                                              that others make of it free, kept or written; an
 *                                              identity is "file DEVICE INODE" or "block DEVICE 0",
 *                                              then " read" where it is only read, and a semicolon
 *                                              follows each
 *   link SPEED WIDTH                           or, when the device does not answer, "lost"
 *   end                                        all was told, but for:
 *   file INDEX FOUND IDENTITIES                for each file and file-qcow2, counted from 0, that
 *                                              could be looked at in time; found is 1, 0 or a
 *                                              negative errno
 *   user UID NAME                              what the holders' users are called. A directory
 *                                              server may have to be asked, which may be dead: so
 *                                              this comes last, and may as well not come */
#include "reading.h"
#include "survey-files.h"
#include "survey-holders.h"
#include "survey-images.h"
#include "survey-serial.h"

#include "autoptr.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long files of other domains are waited for when all else was told. */
#define FILES_USEC (3 * G_USEC_PER_SEC)

typedef struct Question {
        GPtrArray *directories; /* lent strings, as the next; NULL-terminated at the end */
        GPtrArray *devices;
        GArray *functions; /* PciAddress */
        GArray *numbered;  /* PciAddress: whose serial numbers are wanted */
        GArray *files;     /* FileQuestion */
        uid_t qemu_uid;
        bool apparmor;
} Question;

static void word_print(const char *word) {
        g_autofree char *escaped = g_strescape(word ?: "", NULL);

        printf("\t%s", escaped);
}

static void holders_print(const GPtrArray *holders) {
        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);

                printf("holder\t%s\t%d\t%u", holder_kind_to_string(holder->kind), holder->pid,
                       holder->uid);
                word_print(holder->command);
                word_print(holder->unit);
                word_print(holder->node);
                word_print(holder->at);
                putchar('\n');
        }
}

static void users_print(const GPtrArray *holders) {
        g_autoptr(GHashTable) told = g_hash_table_new(NULL, NULL);

        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);
                const struct passwd *user;

                if (holder->pid == 0 || !g_hash_table_add(told, GUINT_TO_POINTER(holder->uid)))
                        continue;
                user = getpwuid(holder->uid);
                if (!user)
                        continue;
                printf("user\t%u", holder->uid);
                word_print(user->pw_name);
                putchar('\n');
        }
}

static void serials_print(const GArray *functions) {
        for (guint i = 0; i < functions->len; i++) {
                PciAddress address = g_array_index(functions, PciAddress, i);
                char serial[PCI_SERIAL_BUFFER], text[PCI_ADDRESS_BUFFER];

                if (serial_survey(address, serial))
                        printf("serial\t%s\t%s\n", pci_address_print(address, text), serial);
        }
}

/* A new string. */
static char *identities_words(const GArray *identities) {
        g_autoptr(GString) words = g_string_new(NULL);

        for (guint i = 0; i < identities->len; i++) {
                const FileIdentity *identity = &g_array_index(identities, FileIdentity, i);

                g_string_append_printf(words, "%s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "%s;",
                                       identity->block ? "block" : "file", identity->device,
                                       identity->inode, identity->read ? " read" : "");
        }
        return g_string_free(g_steal_pointer(&words), FALSE);
}

static void image_print(const ImageRules *rules, const char *path, ImageUse use) {
        static const char *const words[] = {
                [IMAGE_OK] = "ok",
                [IMAGE_NOT_FOUND] = "missing",
                [IMAGE_NOT_ALLOWED] = "refused",
        };
        ImageAnswer *answer = image_survey(rules, path, use);
        g_autofree char *identities = identities_words(answer->identities);

        printf("image\t%s\t%s\t%s", answer->block ? "block" : words[answer->verdict],
               answer->read_only ? "ro" : "rw",
               answer->written ? "written" : (answer->kept ? "kept" : "free"));
        word_print(answer->name);
        word_print(answer->resolved);
        word_print(answer->why);
        word_print(answer->remedy);
        printf("\t%s\n", identities);
        image_answer_free(answer);
}

static void files_print(const GPtrArray *answers) {
        for (guint i = 0; i < answers->len; i++) {
                const FileAnswer *answer = g_ptr_array_index(answers, i);
                g_autofree char *identities = answer ? identities_words(answer->identities) : NULL;

                if (answer)
                        printf("file\t%u\t%d\t%s\n", i, answer->found, identities);
        }
        fflush(stdout);
}

static bool number_take(const char *value, uid_t *ret) {
        guint64 number;

        if (!g_ascii_string_to_unsigned(value, 10, 0, UINT32_MAX, &number, NULL))
                return false;
        *ret = (uid_t)number;
        return true;
}

static bool file_take(Question *question, const char *word, const char *path) {
        FileQuestion file = { .path = path, .qcow2 = strcmp(word, "file-qcow2") == 0 };

        if (!file.qcow2 && strcmp(word, "file") != 0)
                return false;
        g_array_append_val(question->files, file);
        return true;
}

/* Takes in what is needed before anything can be answered. False for what is not understood. */
static bool pair_take(Question *question, char *word, char *value) {
        PciAddress function;
        ImageUse use;

        if (strcmp(word, "directory") == 0)
                g_ptr_array_add(question->directories, value);
        else if (strcmp(word, "device") == 0)
                g_ptr_array_add(question->devices, value);
        else if (strcmp(word, "card") == 0 && pci_address_parse(value, &function))
                g_array_append_val(question->functions, function);
        else if (strcmp(word, "serial") == 0 && pci_address_parse(value, &function))
                g_array_append_val(question->numbered, function);
        else if (strcmp(word, "apparmor") == 0)
                question->apparmor = strcmp(value, "yes") == 0;
        else if (strcmp(word, "qemu") == 0)
                return number_take(value, &question->qemu_uid);
        else
                return file_take(question, word, value) || image_use_from_string(word, &use);
        return true;
}

static bool question_take(Question *question, int count, char *words[]) {
        for (int i = 0; i + 1 < count; i += 2)
                if (!pair_take(question, words[i], words[i + 1])) {
                        fprintf(stderr, "not understood: %s %s\n", words[i], words[i + 1]);
                        return false;
                }
        g_ptr_array_add(question->directories, NULL);
        g_ptr_array_add(question->devices, NULL);
        return true;
}

static void images_print(const Question *question, int count, char *words[]) {
        ImageRules rules = {
                .directories = (char *const *)question->directories->pdata,
                .block_devices = (char *const *)question->devices->pdata,
                .qemu_uid = question->qemu_uid,
                .apparmor = question->apparmor,
        };

        for (int i = 0; i + 1 < count; i += 2) {
                ImageUse use;

                if (image_use_from_string(words[i], &use))
                        image_print(&rules, words[i + 1], use);
        }
}

static int ask(int count, char *words[]) {
        g_autoptr(GPtrArray) directories = g_ptr_array_new();
        g_autoptr(GPtrArray) devices = g_ptr_array_new();
        g_autoptr(GArray) functions = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_autoptr(GArray) numbered = g_array_new(FALSE, TRUE, sizeof(PciAddress));
        g_autoptr(GArray) files = g_array_new(FALSE, TRUE, sizeof(FileQuestion));
        Question question = { directories, devices, functions, numbered, files, 0, false };
        g_autoptr(GPtrArray) holders = NULL;
        g_autoptr(GPtrArray) answers = NULL;
        Files *asked;
        int r;

        if (!question_take(&question, count, words))
                return EXIT_FAILURE;

        asked = files_begin(g_steal_pointer(&files));
        r = holders_survey(functions, &holders);
        if (r < 0) {
                fprintf(stderr, "cannot see who holds the cards: %s\n", g_strerror(-r));
                return EXIT_FAILURE;
        }
        holders_print(holders);
        serials_print(numbered);
        images_print(&question, count, words);
        puts("end");
        fflush(stdout);
        answers = files_end(asked, FILES_USEC);
        files_print(answers);
        users_print(holders);
        return EXIT_SUCCESS;
}

/* The attribute's value; "" when it cannot be read, as for a device on no PCI Express link. */
static char *attribute_read(const char *address, const char *attribute) {
        g_autofree char *path = g_build_filename("/sys/bus/pci/devices", address, attribute, NULL);
        char *text = NULL;

        return reading_text(AT_FDCWD, path, &text) > 0 ? text : g_strdup("");
}

/* Whether it does: a device that has fallen off the bus reads as all ones. 1, 0 or a negative
 * errno. */
static int device_answers(const char *address) {
        g_autofree char *path = g_build_filename("/sys/bus/pci/devices", address, "config", NULL);
        g_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
        unsigned char id[4];
        ssize_t n = fd < 0 ? -1 : pread(fd, id, sizeof id, 0);

        if (n < 0)
                return reading_is_absence(-errno) ? 0 : -errno;
        if (n != (ssize_t)sizeof id)
                return -EIO;
        return memcmp(id, "\xff\xff\xff\xff", sizeof id) != 0;
}

static int link_survey(const char *text) {
        g_autofree char *speed = NULL;
        g_autofree char *width = NULL;
        char address[PCI_ADDRESS_BUFFER];
        PciAddress parsed;
        int r;

        if (!pci_address_parse(text, &parsed)) {
                fprintf(stderr, "not a PCI address: %s\n", text);
                return EXIT_FAILURE;
        }

        pci_address_print(parsed, address);
        r = device_answers(address);
        if (r < 0) {
                fprintf(stderr, "cannot find out whether %s answers: %s\n", address,
                        g_strerror(-r));
                return EXIT_FAILURE;
        }
        if (r == 0) {
                puts("lost");
                return EXIT_SUCCESS;
        }

        speed = attribute_read(address, "current_link_speed");
        width = attribute_read(address, "current_link_width");
        printf("link");
        word_print(speed);
        word_print(width);
        puts("\nend");
        return EXIT_SUCCESS;
}

int main(int argc, char *argv[]) {
        if (argc >= 2 && argc % 2 == 0 && strcmp(argv[1], "ask") == 0)
                return ask(argc - 2, argv + 2);
        if (argc == 3 && strcmp(argv[1], "link") == 0)
                return link_survey(argv[2]);

        fprintf(stderr, "usage: %s ask [WORD VALUE]... | link ADDRESS\n", argv[0]);
        return EXIT_FAILURE;
}
