/* Follows the signals of the objects in question. The line is written only when something has been
 * heard, so that it is never in the way of an agent that asks for a password. */
#include "progress.h"

#include "json.h"
#include "object.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MATCH                                                                \
        "type='signal',sender='" VM1_NAME "',path_namespace='" VM1_PATH "'," \
        "interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'"

typedef struct Card {
        char *address;
        char *words; /* what it does, NULL = nothing was heard of it */
} Card;

struct Progress {
        Ctl *ctl;
        char *machine; /* NULL = none */
        char *state;
        GArray *cards; /* Card */
        sd_bus_slot *slot;
        bool shown;
};

static void card_clear(void *data) {
        Card *card = data;

        g_free(card->address);
        g_free(card->words);
}

static void erase(Progress *progress) {
        if (progress->shown)
                fputs("\r\033[K", stderr);
        progress->shown = false;
        fflush(stderr);
}

static void show(Progress *progress) {
        g_autoptr(GString) line = g_string_new(NULL);
        g_autofree char *clean = NULL;
        g_autofree char *shown = NULL;

        for (guint i = 0; i < progress->cards->len; i++) {
                const Card *card = &g_array_index(progress->cards, Card, i);

                if (card->words)
                        g_string_append_printf(line, "%s%s %s", line->len > 0 ? ", " : "",
                                               card->words, card->address);
        }
        if (progress->state)
                g_string_append_printf(line, "%s%s %s", line->len > 0 ? "; " : "",
                                       progress->machine, progress->state);
        clean = text_clean(line->str);
        /* One column is left free: behind the last one some terminals begin a new line. */
        shown = text_shorten(clean, MAX(progress->ctl->err.width, 8) - 1, progress->ctl->err.utf8);
        fprintf(stderr, "\r\033[K%s%s%s", style_begin(&progress->ctl->err, STYLE_QUIET), shown,
                style_end(&progress->ctl->err, STYLE_QUIET));
        fflush(stderr);
        progress->shown = true;
}

/* The card at @address among those in question, or NULL. */
static Card *find_card(Progress *progress, const char *address) {
        for (guint i = 0; i < progress->cards->len; i++)
                if (g_str_equal(g_array_index(progress->cards, Card, i).address, address))
                        return &g_array_index(progress->cards, Card, i);
        return NULL;
}

static bool note_card(Progress *progress, const char *address, json_object *changed) {
        Card *card = find_card(progress, address);
        const char *pending = json_text(changed, "Pending"), *state = json_text(changed, "State");

        if (!card || !(*pending || *state))
                return false;
        g_free(card->words);
        card->words = g_strdup(*pending ? pending : state);
        return true;
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        g_autoptr(json_object) changed = NULL;
        g_autofree char *name = NULL;
        Progress *progress = userdata;
        bool news = false;

        if (sd_bus_message_skip(m, "s") < 0 || json_read(m, &changed) < 0)
                return 0;
        switch (object_of_path(sd_bus_message_get_path(m), &name)) {
        case OBJECT_GPU:
                news = note_card(progress, name, changed);
                break;
        case OBJECT_MACHINE:
                news = g_strcmp0(name, progress->machine) == 0 && *json_text(changed, "State");
                if (news) {
                        g_free(progress->state);
                        progress->state = g_strdup(json_text(changed, "State"));
                }
                break;
        case OBJECT_SERVICE:
        case OBJECT_OTHER:
                break;
        }
        if (news)
                show(progress);
        return 0;
}

Progress *progress_new(Ctl *ctl, const char *machine, const char *const *gpus) {
        g_autoptr(Progress) progress = NULL;

        if (!ctl->err.moves || ctl->json || ctl->quiet || !ctl->bus)
                return NULL;
        progress = g_new0(Progress, 1);
        progress->ctl = ctl;
        progress->machine = g_strdup(machine);
        progress->cards = g_array_new(FALSE, TRUE, sizeof(Card));
        g_array_set_clear_func(progress->cards, card_clear);
        for (; gpus && *gpus; gpus++) {
                Card card = { .address = g_strdup(*gpus) };

                g_array_append_val(progress->cards, card);
        }
        if (sd_bus_add_match(ctl->bus, &progress->slot, MATCH, on_changed, progress) < 0)
                return NULL;
        return g_steal_pointer(&progress);
}

void progress_end(Progress *progress) {
        if (!progress)
                return;
        progress->slot = sd_bus_slot_unref(progress->slot);
        erase(progress);
}

void progress_free(Progress *progress) {
        if (!progress)
                return;
        progress_end(progress);
        g_array_unref(progress->cards);
        g_free(progress->machine);
        g_free(progress->state);
        g_free(progress);
}
