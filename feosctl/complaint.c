/* Errors in words. The service's own come with theirs: its message ends with the remedy, one
 * sentence. Those of the bus do not, and have them here. */
#include "complaint.h"

#include "json.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define OURS    "org.feos.VM1.Error."
#define BUS     "org.freedesktop.DBus.Error."
#define GONE    "feos-vmd has gone while it was at work."
#define JOURNAL "See what it says: journalctl -u feos-vmd"
#define ABSENT  "feos-vmd does not run, and could not be started."

/* Errors of the bus, or of sd-bus in its name. */
static const struct {
        const char *name;
        const char *message; /* NULL = its own */
        const char *remedy;
} known[] = {
        { BUS "AccessDenied", NULL, "Ask as root, or have a polkit rule allow it." },
        { BUS "InteractiveAuthorizationRequired", "This needs an administrator's password.",
          "Leave out --no-ask-password and call from a terminal, or ask as root." },
        { BUS "ServiceUnknown", ABSENT, "Start it: systemctl start feos-vmd" },
        { BUS "NameHasNoOwner", ABSENT, "Start it: systemctl start feos-vmd" },
        { "org.freedesktop.systemd1.NoSuchUnit", ABSENT,
          "Install it, then: systemctl daemon-reload" },
        { BUS "Spawn.", ABSENT, JOURNAL },
        { "org.freedesktop.systemd1.", ABSENT, JOURNAL },
        { BUS "TimedOut", ABSENT, JOURNAL },
        { BUS "Timeout", "feos-vmd has not answered in time.", JOURNAL },
        { BUS "NoReply", GONE, JOURNAL },
        { BUS "Disconnected", GONE, JOURNAL },
        { BUS "UnknownMethod", NULL, "feos-vmd is older than this program: restart it." },
        { BUS "UnknownObject", NULL, NULL },
};

void complaint_clear(Complaint *complaint) {
        g_free(complaint->name);
        g_free(complaint->message);
        g_free(complaint->remedy);
        *complaint = (Complaint){ 0 };
}

char *complaint_translate(const char *remedy) {
        static const char *const words[][2] = {
                { "\\bListGPUs\\b", "feosctl gpus" },
                { "\\bListMachines\\b", "feosctl machines" },
                { "\\bListHolders\\b", "feosctl holders" },
                { "\\bGetXML\\b", "feosctl xml" },
                { "\\bcall Recover\\b", "call feosctl recover" },
                { "\\bPowerOff\\b", "feosctl poweroff" },
                { "(?<=[Uu]se )Shutdown\\b", "feosctl shutdown" },
                { "(?<=[Uu]se )Resume\\b", "feosctl resume" },
                { "\\bImageDirectories\\b", "image directories" },
        };
        char *text = g_strdup(remedy);

        for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
                g_autoptr(GRegex) regex = g_regex_new(words[i][0], 0, 0, NULL);
                g_autofree char *before = text;

                text = g_regex_replace_literal(regex, before, -1, 0, words[i][1], 0, NULL);
        }
        return text;
}

/* The last sentence of @text, or NULL when it has only one. A stop that stands alone is no end. */
static const char *last_sentence(const char *text) {
        const char *found = NULL;

        for (const char *c = text; (c = strstr(c, ". ")); c++)
                if (c > text && c[-1] != ' ' && c[2] && c[2] != ' ')
                        found = c + 2;
        return found;
}

static void split(const char *text, Complaint *complaint) {
        const char *last = last_sentence(text);

        if (!last) {
                complaint->message = g_strdup(text);
                return;
        }
        complaint->message = g_strchomp(g_strndup(text, (gsize)(last - text)));
        complaint->remedy = complaint_translate(last);
}

void complaint_of_error(const sd_bus_error *error, int r, Complaint *ret) {
        if (!sd_bus_error_is_set(error)) {
                ret->name = g_strdup("Failed");
                ret->message = g_strdup_printf("The call failed: %s.", g_strerror(-r));
                return;
        }
        if (g_str_has_prefix(error->name, OURS)) {
                ret->name = g_strdup(error->name + strlen(OURS));
                split(error->message ?: "", ret);
                return;
        }
        ret->name = g_strdup(error->name);
        for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
                if (g_str_has_prefix(error->name, known[i].name)) {
                        ret->message = g_strdup(known[i].message ?: error->message ?: "");
                        ret->remedy = g_strdup(known[i].remedy);
                        return;
                }
        ret->message = g_strdup(error->message && *error->message ? error->message : error->name);
}

static void show_json(const Complaint *complaint) {
        g_autoptr(json_object) object = json_object_new_object();

        json_put(object, "Error", complaint->name);
        json_put(object, "Message", complaint->message);
        json_put(object, "Remedy", complaint->remedy ?: "");
        fprintf(stderr, "%s\n",
                json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
                                                               JSON_C_TO_STRING_NOSLASHESCAPE));
}

void complaint_show(const Ctl *ctl, const Complaint *complaint) {
        g_autofree char *message = text_clean(complaint->message);
        g_autofree char *remedy = complaint->remedy ? text_clean(complaint->remedy) : NULL;

        /* What was said before comes before, wherever both go. */
        fflush(stdout);
        if (ctl->json) {
                show_json(complaint);
                return;
        }
        /* What progress there was is no more. */
        fprintf(stderr, "%s%s%s%s\n", ctl->err.moves ? "\r\033[K" : "",
                style_begin(&ctl->err, STYLE_BAD), message, style_end(&ctl->err, STYLE_BAD));
        if (remedy)
                fprintf(stderr, "  %s %s\n", terminal_arrow(&ctl->err), remedy);
}

void complain_of(const Ctl *ctl, const sd_bus_error *error, int r) {
        g_auto(Complaint) complaint = { 0 };

        complaint_of_error(error, r, &complaint);
        complaint_show(ctl, &complaint);
}

void complain(const Ctl *ctl, const char *name, const char *remedy, const char *format, ...) {
        g_auto(Complaint) complaint = { .name = g_strdup(name), .remedy = g_strdup(remedy) };
        va_list args;

        va_start(args, format);
        complaint.message = g_strdup_vprintf(format, args);
        va_end(args);
        complaint_show(ctl, &complaint);
}
