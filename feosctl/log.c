/* Reads the journal's entries about a machine or GPU. They are found by their fields, which anybody
 * can write; so only those are taken that root's processes wrote, which the journal itself vouches
 * for. */
#include "log.h"

#include "complaint.h"
#include "json.h"
#include "value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#define LINES_DEFAULT 20
#define LINES_ALL     UINT32_MAX

/* The value of the entry's field @name; NULL = it has none. Caller frees. */
static char *field(sd_journal *journal, const char *name) {
        size_t length, skip = strlen(name) + 1;
        const void *data;

        if (sd_journal_get_data(journal, name, &data, &length) < 0 || length < skip)
                return NULL;
        return g_strndup((const char *)data + skip, length - skip);
}

static Style style_of(const char *priority) {
        int level = priority ? atoi(priority) : LOG_INFO;

        return level <= LOG_ERR ? STYLE_BAD : level <= LOG_WARNING ? STYLE_BUSY : STYLE_PLAIN;
}

static void print_line(const Ctl *ctl, sd_journal *journal) {
        g_autofree char *message = field(journal, "MESSAGE");
        g_autofree char *priority = field(journal, "PRIORITY");
        g_autofree char *clean = text_clean(message ?: "");
        g_autofree char *when = NULL;
        g_autoptr(GDateTime) time = NULL;
        Style style = style_of(priority);
        uint64_t usec = 0;

        sd_journal_get_realtime_usec(journal, &usec);
        time = g_date_time_new_from_unix_local((gint64)(usec / G_USEC_PER_SEC));
        when = g_date_time_format(time, "%Y-%m-%d %H:%M:%S");
        printf("%s  %s%s%s\n", when, style_begin(&ctl->out, style), clean,
               style_end(&ctl->out, style));
}

/* A field that stands more than once in the entry becomes an array. */
static void put_field(json_object *object, const char *name, const char *value) {
        json_object *there = json_member(object, name);
        json_object *array;

        if (!there) {
                json_put(object, name, value);
                return;
        }
        if (json_object_is_type(there, json_type_array)) {
                json_object_array_add(there, json_object_new_string(value));
                return;
        }
        array = json_object_new_array();
        json_object_array_add(array, json_object_get(there));
        json_object_array_add(array, json_object_new_string(value));
        json_object_object_add(object, name, array);
}

static void print_json(sd_journal *journal) {
        g_autoptr(json_object) object = json_object_new_object();
        const void *data;
        uint64_t usec;
        size_t length;

        if (sd_journal_get_realtime_usec(journal, &usec) >= 0)
                json_object_object_add(object, "__REALTIME_TIMESTAMP",
                                       json_object_new_uint64(usec));
        SD_JOURNAL_FOREACH_DATA(journal, data, length) {
                g_autofree char *text = g_strndup(data, length);
                char *sign = strchr(text, '=');

                if (!sign || !g_utf8_validate(text, (gssize)length, NULL))
                        continue;
                *sign = '\0';
                put_field(object, text, sign + 1);
        }
        json_print(object, false);
}

/* Prints from the entry behind the present one to the last. Returns how many, or a negative errno.
 */
static int print_on(const Ctl *ctl, sd_journal *journal) {
        int r, n = 0;

        while ((r = sd_journal_next(journal)) > 0) {
                if (ctl->json)
                        print_json(journal);
                else
                        print_line(ctl, journal);
                n++;
        }
        fflush(stdout);
        return r < 0 ? r : n;
}

static int add_matches(sd_journal *journal, const char *name) {
        g_autofree char *address = name ? address_canonical(name) : NULL;
        g_autofree char *match = NULL;
        int r;

        r = sd_journal_add_match(journal, "_UID=0", 0);
        if (r < 0)
                return r;
        if (!name)
                return sd_journal_add_match(journal, "_SYSTEMD_UNIT=feos-vmd.service", 0);
        match = address ? g_strconcat("FEOS_GPU=", address, NULL)
                        : g_strconcat("FEOS_MACHINE=", name, NULL);
        return sd_journal_add_match(journal, match, 0);
}

/* Goes to where the last @lines entries begin, so that the next is the first of them. */
static int seek(sd_journal *journal, uint32_t lines) {
        int r;

        if (lines != LINES_ALL) {
                r = sd_journal_seek_tail(journal);
                if (r >= 0)
                        r = sd_journal_previous_skip(journal, (uint64_t)lines + 1);
                /* It stands one before them, or there are not more than that. */
                if (r < 0 || r == (int)lines + 1)
                        return r;
        }
        return sd_journal_seek_head(journal);
}

static int follow(const Ctl *ctl, sd_journal *journal) {
        int r;

        do {
                r = sd_journal_wait(journal, UINT64_MAX);
                if (r >= 0)
                        r = print_on(ctl, journal);
        } while (r >= 0 || r == -EINTR);
        return r;
}

static int show(const Ctl *ctl, const char *name, uint32_t lines) {
        g_autoptr(sd_journal) journal = NULL;
        int r;

        r = ctl->directory ? sd_journal_open_directory(&journal, ctl->directory, 0)
                           : sd_journal_open(&journal, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM);
        if (r >= 0)
                r = add_matches(journal, name);
        if (r >= 0)
                r = seek(journal, lines);
        if (r >= 0)
                r = print_on(ctl, journal);
        if (r == 0 && lines > 0 && !ctl->quiet && !ctl->json)
                fprintf(stderr, "The journal has no entry%s%s.%s\n", name ? " about " : "",
                        name ?: "",
                        geteuid() == 0 ? "" : " Members of systemd-journal see all of it.");
        if (r >= 0 && ctl->follow)
                r = follow(ctl, journal);
        return r;
}

int log_run(Ctl *ctl, char **arguments) {
        uint32_t lines = ctl->follow ? 10 : LINES_DEFAULT;
        int r;

        if (ctl->host) {
                complain(ctl, "Usage", "Use ssh: ssh HOST feosctl log MACHINE",
                         "The journal of another host is not on its bus.");
                return EXIT_USAGE;
        }
        if (ctl->lines && g_str_equal(ctl->lines, "all"))
                lines = LINES_ALL;
        else if (ctl->lines && !unsigned_parse(ctl->lines, 0, INT32_MAX - 1, &lines)) {
                complain(ctl, "Usage", "Give a number, or all.", "\"%s\" is no number of lines.",
                         ctl->lines);
                return EXIT_USAGE;
        }
        r = show(ctl, *arguments, lines);
        if (r >= 0)
                return EXIT_SUCCESS;
        complain(ctl, "Failed", "See whether this works: journalctl -u feos-vmd",
                 "The journal cannot be read: %s.", g_strerror(-r));
        return EXIT_FAILURE;
}
