/* Runs the survey helper, one process for each question, and reads its answer. It refuses to judge
 * what it is told, and to wait: a survey that is overdue is answered as such, and its process is
 * killed and forgotten as soon as the kernel lets it go. */
#include "survey.h"

#include "helper.h"
#include "pci-facts.h"

#include "autoptr-bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-journal.h>

#define SURVEY_TIMEOUT_SEC 10

/* A survey that hangs in the kernel keeps its place. */
#define SURVEYS_MAX 64

struct Surveys {
        sd_event *event;
        char *program;
        char **directories;
        char **block_devices;
        GPtrArray *running; /* Survey *, owned */
};

typedef struct Survey {
        Surveys *all; /* weak */
        Helper *helper;
        sd_event_source *deferred; /* when no helper could be started: tells so from the loop */
        bool ended;                /* the helper has told all, but for files and users' names */

        SurveyDone done; /* NULL = answered already, or asked for a link */
        void *userdata;
        char **paths; /* the images asked for */
        SurveyAnswer *answer;

        const HostEvents *link_events; /* weak; NULL unless asked for a link */
        PciAddress link_address;
} Survey;

static void survey_free(Survey *survey) {
        if (!survey)
                return;

        if (survey->helper)
                helper_kill(survey->helper);
        helper_free(survey->helper);
        g_clear_pointer(&survey->deferred, sd_event_source_disable_unref);
        g_strfreev(survey->paths);
        survey_answer_free(survey->answer);
        g_free(survey);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Survey, survey_free)

Surveys *surveys_new(sd_event *event, const char *program, char *const *directories,
                     char *const *block_devices) {
        Surveys *surveys = g_new0(Surveys, 1);

        surveys->event = sd_event_ref(event);
        surveys->program = g_strdup(program);
        surveys_allow(surveys, directories, block_devices);
        surveys->running = g_ptr_array_new_with_free_func((GDestroyNotify)survey_free);
        return surveys;
}

void surveys_allow(Surveys *surveys, char *const *directories, char *const *block_devices) {
        g_strfreev(surveys->directories);
        g_strfreev(surveys->block_devices);
        surveys->directories = g_strdupv((char **)directories);
        surveys->block_devices = g_strdupv((char **)block_devices);
}

void surveys_free(Surveys *surveys) {
        if (!surveys)
                return;

        g_ptr_array_unref(surveys->running);
        sd_event_unref(surveys->event);
        g_free(surveys->program);
        g_strfreev(surveys->directories);
        g_strfreev(surveys->block_devices);
        g_free(surveys);
}

static char *word_take(const char *word) {
        g_autofree char *text = g_strcompress(word);

        return g_utf8_make_valid(text, -1);
}

static bool holder_take(Survey *survey, char **words) {
        HolderKind kind;
        Holder *holder;

        if (g_strv_length(words) != 8 || !survey->answer ||
            !holder_kind_from_string(words[1], &kind))
                return false;

        holder = g_new0(Holder, 1);
        holder->kind = kind;
        holder->pid = (pid_t)g_ascii_strtoll(words[2], NULL, 10);
        holder->uid = (uid_t)g_ascii_strtoull(words[3], NULL, 10);
        /* A name may follow. */
        holder->user = holder->pid > 0 ? g_strdup_printf("%u", holder->uid) : g_strdup("");
        holder->command = word_take(words[4]);
        holder->unit = word_take(words[5]);
        holder->node = word_take(words[6]);
        holder->at = word_take(words[7]);
        g_ptr_array_add(survey->answer->holders, holder);
        return true;
}

static bool serial_take(Survey *survey, char **words) {
        FunctionSerial serial;

        if (g_strv_length(words) != 3 || !survey->answer ||
            !pci_address_parse(words[1], &serial.address) ||
            g_strlcpy(serial.serial, words[2], sizeof serial.serial) >= sizeof serial.serial)
                return false;

        g_array_append_val(survey->answer->serials, serial);
        return true;
}

static bool user_take(Survey *survey, char **words) {
        uid_t uid;

        if (g_strv_length(words) != 3 || !survey->answer)
                return false;

        uid = (uid_t)g_ascii_strtoull(words[1], NULL, 10);
        for (guint i = 0; i < survey->answer->holders->len; i++) {
                Holder *holder = g_ptr_array_index(survey->answer->holders, i);

                if (holder->pid == 0 || holder->uid != uid)
                        continue;
                g_free(holder->user);
                holder->user = word_take(words[2]);
        }
        return true;
}

static bool verdict_parse(const char *word, ImageVerdict *ret, bool *ret_block) {
        *ret_block = strcmp(word, "block") == 0;
        if (*ret_block || strcmp(word, "ok") == 0)
                *ret = IMAGE_OK;
        else if (strcmp(word, "missing") == 0)
                *ret = IMAGE_NOT_FOUND;
        else if (strcmp(word, "refused") == 0)
                *ret = IMAGE_NOT_ALLOWED;
        else
                return false;
        return true;
}

/* "file 2049 131;block 2048 0 read;"; a new array, NULL for what is not understood. */
static GArray *identities_parse(const char *words) {
        g_autoptr(GArray) identities = g_array_new(FALSE, TRUE, sizeof(FileIdentity));
        g_auto(GStrv) parts = g_strsplit(words, ";", -1);

        for (char **part = parts; *part && **part; part++) {
                FileIdentity identity = { 0 };
                char kind[8], read[8] = "";

                if (sscanf(*part, "%7s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %7s", kind,
                           &identity.device, &identity.inode, read) < 3)
                        return NULL;
                identity.read = strcmp(read, "read") == 0;
                identity.block = strcmp(kind, "block") == 0;
                g_array_append_val(identities, identity);
        }
        return g_steal_pointer(&identities);
}

static bool image_take(Survey *survey, char **words) {
        bool whole = g_strv_length(words) == 9 && survey->answer;
        g_autoptr(GArray) identities = whole ? identities_parse(words[8]) : NULL;
        ImageVerdict verdict;
        ImageAnswer *answer;
        guint index;
        bool block;

        if (!identities || !verdict_parse(words[1], &verdict, &block) ||
            (verdict == IMAGE_OK) != (identities->len > 0))
                return false;
        index = survey->answer->images->len;
        if (index >= g_strv_length(survey->paths))
                return false;

        answer = g_new0(ImageAnswer, 1);
        answer->verdict = verdict;
        answer->block = block;
        answer->read_only = strcmp(words[2], "ro") == 0;
        answer->written = strcmp(words[3], "written") == 0;
        answer->kept = answer->written || strcmp(words[3], "kept") == 0;
        answer->path = g_strdup(survey->paths[index]);
        answer->name = verdict == IMAGE_OK ? g_strcompress(words[4]) : NULL;
        answer->resolved = verdict == IMAGE_OK ? g_strcompress(words[5]) : NULL;
        answer->why = verdict == IMAGE_OK ? NULL : word_take(words[6]);
        answer->remedy = *words[7] ? word_take(words[7]) : NULL;
        answer->identities = g_steal_pointer(&identities);
        g_ptr_array_add(survey->answer->images, answer);
        return true;
}

static bool file_take(Survey *survey, char **words) {
        bool whole = g_strv_length(words) == 4 && survey->answer;
        g_autoptr(GArray) identities = whole ? identities_parse(words[3]) : NULL;
        FileAnswer *answer;
        guint64 index;

        if (!identities || !g_ascii_string_to_unsigned(words[1], 10, 0, G_MAXUINT, &index, NULL) ||
            index >= survey->answer->files->len)
                return false;

        answer = g_ptr_array_index(survey->answer->files, index);
        answer->found = (int)g_ascii_strtoll(words[2], NULL, 10);
        g_array_unref(answer->identities);
        answer->identities = g_steal_pointer(&identities);
        return true;
}

static bool link_take(Survey *survey, char **words) {
        g_autofree char *speed = NULL;
        LinkFacts link;

        if (g_strv_length(words) != 3 || !survey->link_events)
                return false;

        speed = word_take(words[1]);
        link = (LinkFacts){ speed, (unsigned)g_ascii_strtoull(words[2], NULL, 10) };
        survey->link_events->link_read(survey->userdata, survey->link_address, &link);
        return true;
}

static void on_line(void *userdata, char *line) {
        Survey *survey = userdata;
        g_auto(GStrv) words = g_strsplit(line, "\t", -1);
        bool understood = false;

        if (survey->ended && g_strcmp0(words[0], "user") != 0 && g_strcmp0(words[0], "file") != 0)
                return;

        if (g_strcmp0(words[0], "user") == 0)
                understood = user_take(survey, words);
        else if (g_strcmp0(words[0], "file") == 0)
                understood = file_take(survey, words);
        else if (g_strcmp0(words[0], "holder") == 0)
                understood = holder_take(survey, words);
        else if (g_strcmp0(words[0], "serial") == 0)
                understood = serial_take(survey, words);
        else if (g_strcmp0(words[0], "image") == 0)
                understood = image_take(survey, words);
        else if (g_strcmp0(words[0], "link") == 0)
                understood = link_take(survey, words);
        else if (g_strcmp0(words[0], "end") == 0 || g_strcmp0(words[0], "lost") == 0)
                understood = survey->ended = true;

        if (!understood)
                sd_journal_print(LOG_ERR, "the survey helper said what is not understood: %s",
                                 line);
}

static bool survey_is_whole(const Survey *survey) {
        return survey->ended &&
               (!survey->answer || survey->answer->images->len == g_strv_length(survey->paths));
}

static void survey_answer(Survey *survey, int error) {
        SurveyDone done = survey->done;

        survey->done = NULL;
        if (!done)
                return;
        survey->answer->error = error;
        done(survey->userdata, g_steal_pointer(&survey->answer));
}

/* What is left of its answer is not wanted any more; who has asked for a link is told nothing. */
static void on_overdue(void *userdata) {
        Survey *survey = userdata;
        bool whole = survey_is_whole(survey);

        sd_journal_print(LOG_WARNING, "a survey has not ended within %d seconds",
                         SURVEY_TIMEOUT_SEC);
        survey->ended = true;
        helper_kill(survey->helper);
        survey_answer(survey, whole ? 0 : -ETIMEDOUT);
}

/* Takes the survey out of the list; it is the caller's then. */
static Survey *survey_steal(Survey *survey) {
        guint index;

        if (g_ptr_array_find(survey->all->running, survey, &index))
                g_ptr_array_steal_index_fast(survey->all->running, index);
        return survey;
}

static void on_ended(void *userdata, int status) {
        g_autoptr(Survey) survey = survey_steal(userdata);

        survey_answer(survey, status == 0 && survey_is_whole(survey) ? 0 : -EIO);
}

static const HelperEvents helper_events = {
        .line = on_line,
        .overdue = on_overdue,
        .ended = on_ended,
};

static int on_deferred(sd_event_source *source, void *userdata) {
        g_autoptr(Survey) survey = survey_steal(userdata);

        survey_answer(survey, survey->answer->error);
        return 0;
}

/* Starts the helper with what @builder holds; 0 or a negative errno. */
static int survey_start(Survey *survey, GStrvBuilder *builder) {
        g_auto(GStrv) arguments = g_strv_builder_end(builder);

        if (survey->all->running->len >= SURVEYS_MAX)
                return -EBUSY;
        return helper_start(survey->all->event, arguments, SURVEY_TIMEOUT_SEC, &helper_events,
                            survey, &survey->helper);
}

static void words_add(GStrvBuilder *builder, const char *word, char *const *values) {
        for (; values && *values; values++)
                g_strv_builder_add_many(builder, word, *values, NULL);
}

/* Every function of every card; of a card that is gone there is nothing to ask. 0 or a negative
 * errno. */
static int cards_add(GStrvBuilder *builder, const SurveyQuestion *question) {
        for (guint i = 0; question->cards && i < question->cards->len; i++) {
                PciAddress card = g_array_index(question->cards, PciAddress, i);
                g_autoptr(GArray) functions = NULL;
                int r = pci_facts_read_card(card, &functions);

                if (r < 0 && r != -ENODEV)
                        return r;
                for (guint j = 0; functions && j < functions->len; j++) {
                        char address[PCI_ADDRESS_BUFFER];

                        pci_address_print(g_array_index(functions, PciFunction, j).address,
                                          address);
                        g_strv_builder_add_many(builder, "card", address, NULL);
                        if (question->serials)
                                g_strv_builder_add_many(builder, "serial", address, NULL);
                }
        }
        return 0;
}

static char **images_add(GStrvBuilder *builder, const SurveyQuestion *question) {
        g_autoptr(GStrvBuilder) paths = g_strv_builder_new();

        for (guint i = 0; question->images && i < question->images->len; i++) {
                const char *path = g_ptr_array_index(question->images, i);
                ImageUse use = question->uses && i < question->uses->len
                                       ? g_array_index(question->uses, ImageUse, i)
                                       : IMAGE_AS_FILE;

                g_strv_builder_add(paths, path);
                g_strv_builder_add_many(builder, image_use_to_string(use), path, NULL);
        }
        return g_strv_builder_end(paths);
}

/* Until it is told what became of a file nothing is known of it. */
static GPtrArray *files_add(GStrvBuilder *builder, const SurveyQuestion *question) {
        GPtrArray *answers = g_ptr_array_new_with_free_func((GDestroyNotify)file_answer_free);

        for (guint i = 0; question->files && i < question->files->len; i++) {
                const char *path = g_ptr_array_index(question->files, i);
                bool qcow2 = question->files_qcow2 && i < question->files_qcow2->len &&
                             g_array_index(question->files_qcow2, bool, i);
                FileAnswer *answer = file_answer_new(path);

                answer->found = -ETIMEDOUT;
                g_ptr_array_add(answers, answer);
                g_strv_builder_add_many(builder, qcow2 ? "file-qcow2" : "file", path, NULL);
        }
        return answers;
}

static void qemu_add(GStrvBuilder *builder, const SurveyQuestion *question) {
        g_autofree char *uid = g_strdup_printf("%u", question->qemu_uid);

        g_strv_builder_add_many(builder, "qemu", uid, "apparmor", question->apparmor ? "yes" : "no",
                                NULL);
}

void surveys_ask(Surveys *surveys, const SurveyQuestion *question, SurveyDone done,
                 void *userdata) {
        g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
        Survey *survey = g_new0(Survey, 1);
        int r;

        survey->all = surveys;
        survey->done = done;
        survey->userdata = userdata;
        survey->answer = g_new0(SurveyAnswer, 1);
        survey->answer->holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        survey->answer->serials = g_array_new(FALSE, FALSE, sizeof(FunctionSerial));
        survey->answer->images = g_ptr_array_new_with_free_func((GDestroyNotify)image_answer_free);

        g_strv_builder_add_many(builder, surveys->program, "ask", NULL);
        words_add(builder, "directory", surveys->directories);
        words_add(builder, "device", surveys->block_devices);
        r = cards_add(builder, question);
        qemu_add(builder, question);
        survey->paths = images_add(builder, question);
        survey->answer->files = files_add(builder, question);

        if (r >= 0)
                r = survey_start(survey, builder);
        if (r < 0) {
                sd_journal_print(LOG_ERR, "cannot start a survey: %s", g_strerror(-r));
                survey->answer->error = r;
                r = sd_event_add_defer(surveys->event, &survey->deferred, on_deferred, survey);
                g_assert(r >= 0);
        }

        g_ptr_array_add(surveys->running, survey);
}

static bool link_is_asked(const Surveys *surveys, PciAddress address) {
        for (guint i = 0; i < surveys->running->len; i++) {
                const Survey *survey = g_ptr_array_index(surveys->running, i);

                if (survey->link_events && pci_address_equal(survey->link_address, address))
                        return true;
        }
        return false;
}

void surveys_read_link(Surveys *surveys, PciAddress address, const HostEvents *events,
                       void *userdata) {
        g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
        g_autoptr(Survey) survey = NULL;
        char text[PCI_ADDRESS_BUFFER];
        int r;

        if (link_is_asked(surveys, address))
                return;

        survey = g_new0(Survey, 1);
        survey->all = surveys;
        survey->userdata = userdata;
        survey->link_events = events;
        survey->link_address = address;
        g_strv_builder_add_many(builder, surveys->program, "link", pci_address_print(address, text),
                                NULL);

        r = survey_start(survey, builder);
        if (r < 0)
                sd_journal_print(LOG_WARNING, "cannot read the link of %s: %s", text,
                                 g_strerror(-r));
        else
                g_ptr_array_add(surveys->running, g_steal_pointer(&survey));
}
