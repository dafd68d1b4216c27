/* Asks polkit whether a caller may do something, without ever waiting for the answer: the question
 * is sent, the method's handler returns, and when the answer is there the same message is put back
 * at the end of the bus's read queue, so that the handler runs from its beginning once more and
 * finds the answer here. Whatever the handler looked at before the question is thus looked at again
 * after it.
 *
 * Everything that goes wrong on the way is a no. Answers are never kept for another message.
 *
 * This module knows polkit and the bus daemon; it does not know what a machine or a GPU is. */
#include "authorize.h"

#include "autoptr-bus.h"

#include <errno.h>
#include <stdbool.h>
#include <systemd/sd-journal.h>

#define PENDING_PER_USER_DEFAULT 16
/* A person has to find and type a password. */
#define TIMEOUT_INTERACTIVE_USEC (120 * G_USEC_PER_SEC)
#define TIMEOUT_USEC             (25 * G_USEC_PER_SEC)

/* polkit's CheckAuthorizationFlags (the D-Bus reference of org.freedesktop.PolicyKit1.Authority).
 */
#define POLKIT_ALLOW_USER_INTERACTION 1U

#define BUS_SERVICE      "org.freedesktop.DBus"
#define BUS_PATH         "/org/freedesktop/DBus"
#define POLKIT_SERVICE   "org.freedesktop.PolicyKit1"
#define POLKIT_PATH      "/org/freedesktop/PolicyKit1/Authority"
#define POLKIT_INTERFACE "org.freedesktop.PolicyKit1.Authority"

struct Authorizer {
        sd_bus *bus;
        unsigned pending_per_user;
        uint64_t timeout_usec;
        GHashTable *queries; /* sd_bus_message * -> Query *, owned; the query holds the message */
        GHashTable *counts;  /* uid -> requests under way, never 0 */
        sd_event_source *sweeper;
        uint64_t last_cancellation;
};

/* One message whose sender is being looked into. */
typedef struct Query {
        Authorizer *authorizer; /* weak: it owns us */
        sd_bus_message *message;
        char *action; /* NULL = only to be counted */
        char *machine;
        char *gpus;
        char *verb;
        char *instance;

        uid_t uid;
        bool counted;           /* against uid */
        char *cancellation;     /* not NULL while polkit is asked */
        sd_bus_slot *departure; /* tells that the caller has left */
        sd_bus_slot *call;      /* the question under way, to the bus daemon or to polkit */
        bool answered;          /* the message is in the read queue again */
        int verdict;            /* when answered: as authorize() returns it */
        sd_bus_error error;
} Query;

static bool count_up(Authorizer *self, uid_t uid) {
        unsigned n = GPOINTER_TO_UINT(g_hash_table_lookup(self->counts, GUINT_TO_POINTER(uid)));

        if (n >= self->pending_per_user)
                return false;
        g_hash_table_insert(self->counts, GUINT_TO_POINTER(uid), GUINT_TO_POINTER(n + 1));
        return true;
}

void authorizer_release(Authorizer *self, uid_t uid) {
        unsigned n = GPOINTER_TO_UINT(g_hash_table_lookup(self->counts, GUINT_TO_POINTER(uid)));

        g_return_if_fail(n > 0);
        if (n == 1)
                g_hash_table_remove(self->counts, GUINT_TO_POINTER(uid));
        else
                g_hash_table_insert(self->counts, GUINT_TO_POINTER(uid), GUINT_TO_POINTER(n - 1));
}

/* Takes a password dialogue off the screen that nobody waits for any more. */
static void query_withdraw(Query *query) {
        g_autoptr(sd_bus_message) m = NULL;
        g_autofree char *cancellation = g_steal_pointer(&query->cancellation);
        int r;

        if (!cancellation)
                return;
        r = sd_bus_message_new_method_call(query->authorizer->bus, &m, POLKIT_SERVICE, POLKIT_PATH,
                                           POLKIT_INTERFACE, "CancelCheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", cancellation);
        if (r >= 0)
                r = sd_bus_message_set_expect_reply(m, false);
        /* polkit may be the very thing that has failed: it is not to be started for this. */
        if (r >= 0)
                r = sd_bus_message_set_auto_start(m, false);
        if (r >= 0)
                r = sd_bus_send(query->authorizer->bus, m, NULL);
        if (r < 0 && r != -ENOTCONN)
                sd_journal_print(LOG_WARNING, "Cannot withdraw a question from polkit: %s",
                                 g_strerror(-r));
}

static void query_free(Query *query) {
        query_withdraw(query);
        if (query->counted)
                authorizer_release(query->authorizer, query->uid);
        sd_bus_slot_unref(query->departure);
        sd_bus_slot_unref(query->call);
        sd_bus_message_unref(query->message);
        sd_bus_error_free(&query->error);
        g_free(query->action);
        g_free(query->machine);
        g_free(query->gpus);
        g_free(query->verb);
        g_free(query->instance);
        g_free(query);
}

static void query_drop(Query *query) {
        g_hash_table_remove(query->authorizer->queries, query->message);
}

static bool query_was_for(const Query *query, const char *action, const AuthorizeDetails *details) {
        return g_strcmp0(query->action, action) == 0 &&
               g_str_equal(query->machine, details->machine ?: "") &&
               g_str_equal(query->gpus, details->gpus ?: "") &&
               g_str_equal(query->verb, details->verb ?: "") &&
               g_str_equal(query->instance, details->instance ?: "");
}

/* The answer is there: has the handler run again. */
static void query_answer(Query *query, int verdict) {
        int r;

        query->verdict = verdict;
        query->answered = true;
        query->call = sd_bus_slot_unref(query->call);
        g_clear_pointer(&query->cancellation, g_free);

        r = sd_bus_message_rewind(query->message, true);
        if (r >= 0)
                r = sd_bus_enqueue_for_read(query->authorizer->bus, query->message);
        if (r >= 0)
                r = sd_event_source_set_enabled(query->authorizer->sweeper, SD_EVENT_ONESHOT);
        if (r < 0) {
                sd_journal_print(LOG_ERR, "Cannot go on with a call that was authorised: %s",
                                 g_strerror(-r));
                sd_bus_reply_method_errorf(query->message, SD_BUS_ERROR_FAILED,
                                           "The service cannot resume this call. Call again.");
                query_drop(query);
        }
}

static void query_deny(Query *query, const char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void query_deny(Query *query, const char *name, const char *format, ...) {
        g_autofree char *text = NULL;
        va_list args;

        va_start(args, format);
        text = g_strdup_vprintf(format, args);
        va_end(args);
        query_answer(query, sd_bus_error_set(&query->error, name, text));
}

/* Why there is no answer of polkit's, for the caller and for the journal. */
static void query_deny_failed(Query *query, const sd_bus_error *error) {
        sd_journal_print(LOG_WARNING, "polkit gave no answer about %s: %s", query->action,
                         error->message ?: error->name);

        /* Not there, or its unit may not be started. */
        if (sd_bus_error_has_names(
                    error, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                    "org.freedesktop.systemd1.UnitMasked", "org.freedesktop.systemd1.NoSuchUnit"))
                query_deny(query, SD_BUS_ERROR_ACCESS_DENIED,
                           "polkit cannot be reached, so nobody but root may call %s. "
                           "Start polkit, or call as root.",
                           query->verb);
        else if (sd_bus_error_has_names(error, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_TIMEOUT,
                                        "org.freedesktop.DBus.Error.TimedOut"))
                query_deny(query, SD_BUS_ERROR_ACCESS_DENIED,
                           "polkit did not answer in time whether you may call %s. "
                           "Call again, or call as root.",
                           query->verb);
        else
                query_deny(query, SD_BUS_ERROR_ACCESS_DENIED,
                           "polkit could not say whether you may call %s. "
                           "See polkit's entries in the journal, or call as root.",
                           query->verb);
}

static int on_polkit_answer(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Query *query = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        int authorised, challenge;

        if (error) {
                /* The question may still be open over there: after a timeout it is. */
                query_withdraw(query);
                query_deny_failed(query, error);
                return 1;
        }
        if (!sd_bus_message_has_signature(reply, "(bba{ss})") ||
            sd_bus_message_enter_container(reply, 'r', "bba{ss}") < 0 ||
            sd_bus_message_read(reply, "bb", &authorised, &challenge) < 0) {
                sd_journal_print(LOG_WARNING, "polkit's answer about %s makes no sense",
                                 query->action);
                query_deny(query, SD_BUS_ERROR_ACCESS_DENIED,
                           "polkit's answer whether you may call %s makes no sense. "
                           "See that polkit is sound, or call as root.",
                           query->verb);
                return 1;
        }

        if (authorised)
                query_answer(query, 1);
        else if (challenge &&
                 sd_bus_message_get_allow_interactive_authorization(query->message) <= 0)
                query_deny(query, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                           "polkit wants a password before you may call %s (action %s). "
                           "Call again and allow interactive authorisation.",
                           query->verb, query->action);
        else
                query_deny(query, SD_BUS_ERROR_ACCESS_DENIED,
                           "polkit does not allow you to call %s (action %s). "
                           "Ask an administrator for a rule, or call as root.",
                           query->verb, query->action);
        return 1;
}

/* Returns 0, or a negative errno when the question could not even be sent. */
static int query_ask_polkit(Query *query) {
        Authorizer *self = query->authorizer;
        g_autoptr(sd_bus_message) m = NULL;
        uint64_t timeout = self->timeout_usec;
        bool interactive;
        int r;

        interactive = sd_bus_message_get_allow_interactive_authorization(query->message) > 0;
        if (timeout == 0)
                timeout = interactive ? TIMEOUT_INTERACTIVE_USEC : TIMEOUT_USEC;
        query->cancellation =
                g_strdup_printf("feos-vmd-%" G_GUINT64_FORMAT, ++self->last_cancellation);

        r = sd_bus_message_new_method_call(self->bus, &m, POLKIT_SERVICE, POLKIT_PATH,
                                           POLKIT_INTERFACE, "CheckAuthorization");
        if (r < 0)
                return r;
        /* The sender's unique name is the one subject that cannot become somebody else meanwhile.
         */
        r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                  sd_bus_message_get_sender(query->message), query->action);
        if (r < 0)
                return r;
        r = sd_bus_message_append(
                m, "a{ss}us", 3, "machine", query->machine, "gpus", query->gpus, "verb",
                query->verb, interactive ? POLKIT_ALLOW_USER_INTERACTION : 0U, query->cancellation);
        if (r < 0)
                return r;
        query->call = sd_bus_slot_unref(query->call);
        return sd_bus_call_async(self->bus, &query->call, m, on_polkit_answer, query, timeout);
}

static void query_deny_unknown_caller(Query *query, const char *why) {
        sd_journal_print(LOG_WARNING, "Cannot find out who calls: %s", why);
        query_deny(query, SD_BUS_ERROR_ACCESS_DENIED,
                   "The bus could not say who you are. Call again.");
}

/* The uid is there: whether root, whether too many, else polkit's turn. */
static int on_caller_uid(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Query *query = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        uint32_t uid;
        int r;

        if (error) {
                query_deny_unknown_caller(query, error->message ?: error->name);
                return 1;
        }
        r = sd_bus_message_read(reply, "u", &uid);
        if (r < 0) {
                query_deny_unknown_caller(query, "a reply that makes no sense");
                return 1;
        }

        query->uid = uid;
        query->counted = count_up(query->authorizer, uid);
        if (!query->counted) {
                query_answer(query, -EDQUOT);
        } else if (uid == 0 || !query->action) {
                query_answer(query, 1);
        } else {
                r = query_ask_polkit(query);
                if (r < 0) {
                        g_clear_pointer(&query->cancellation, g_free);
                        query_deny_failed(query, &SD_BUS_ERROR_MAKE_CONST(SD_BUS_ERROR_FAILED,
                                                                          g_strerror(-r)));
                }
        }
        return 1;
}

static int on_caller_left(sd_bus_message *m, void *userdata, sd_bus_error *ret_error) {
        Query *query = userdata;
        const char *name, *old, *new;

        if (sd_bus_message_read(m, "sss", &name, &old, &new) < 0 || *new != '\0')
                return 0;
        if (!query->answered) {
                query_drop(query);
                return 0;
        }
        /* The message is in the read queue and cannot be taken out: it must find a no. */
        sd_bus_error_free(&query->error);
        query->verdict = sd_bus_error_set(&query->error, SD_BUS_ERROR_ACCESS_DENIED,
                                          "The caller has left the bus.");
        return 0;
}

static int on_departure_watched(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error) {
        Query *query = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(reply);

        if (error && !query->answered)
                query_deny_unknown_caller(query, error->message ?: error->name);
        return 1;
}

/* The match is sent before the question who the sender is: the bus daemon takes them in turn, so a
 * caller that leaves either makes that question fail or is told by the match. sd_bus_track would
 * ask the bus and wait for the answer. */
static int query_begin(Query *query) {
        sd_bus *bus = query->authorizer->bus;
        const char *sender = sd_bus_message_get_sender(query->message);
        g_autofree char *match = NULL;
        int r;

        if (!sender)
                return -ENXIO;
        match = g_strdup_printf("type='signal',sender='" BUS_SERVICE "',path='" BUS_PATH "',"
                                "interface='" BUS_SERVICE "',member='NameOwnerChanged',arg0='%s'",
                                sender);
        r = sd_bus_add_match_async(bus, &query->departure, match, on_caller_left,
                                   on_departure_watched, query);
        if (r < 0)
                return r;
        return sd_bus_call_method_async(bus, &query->call, BUS_SERVICE, BUS_PATH, BUS_SERVICE,
                                        "GetConnectionUnixUser", on_caller_uid, query, "s", sender);
}

/* The handler has run again, unless its object has gone: then nobody will fetch the answer. */
static int on_sweep(sd_event_source *source, void *userdata) {
        Authorizer *self = userdata;
        GHashTableIter iter;
        gpointer value;

        g_hash_table_iter_init(&iter, self->queries);
        while (g_hash_table_iter_next(&iter, NULL, &value))
                if (((Query *)value)->answered)
                        g_hash_table_iter_remove(&iter);
        return 0;
}

void authorizer_set_limit(Authorizer *self, unsigned pending_per_user) {
        self->pending_per_user = pending_per_user ?: PENDING_PER_USER_DEFAULT;
}

Authorizer *authorizer_new(sd_bus *bus, const AuthorizerConfig *config) {
        Authorizer *self = g_new0(Authorizer, 1);
        int r;

        self->bus = sd_bus_ref(bus);
        authorizer_set_limit(self, config->pending_per_user);
        self->timeout_usec = config->timeout_usec;
        self->queries = g_hash_table_new_full(NULL, NULL, NULL, (GDestroyNotify)query_free);
        self->counts = g_hash_table_new(NULL, NULL);

        /* Idle: after the bus has emptied its read queue, where the answered messages are. */
        r = sd_event_add_defer(sd_bus_get_event(bus), &self->sweeper, on_sweep, self);
        if (r >= 0)
                r = sd_event_source_set_enabled(self->sweeper, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_source_set_priority(self->sweeper, SD_EVENT_PRIORITY_IDLE);
        if (r < 0)
                g_clear_pointer(&self, authorizer_free);
        return self;
}

void authorizer_free(Authorizer *self) {
        if (!self)
                return;
        g_hash_table_destroy(self->queries);
        g_hash_table_destroy(self->counts);
        sd_event_source_disable_unref(self->sweeper);
        sd_bus_unref(self->bus);
        g_free(self);
}

/* Hands the answer to the handler that has run again, and forgets it. */
static int query_fetch(Query *query, const char *action, const AuthorizeDetails *details,
                       uid_t *ret_uid, sd_bus_error *error) {
        int r = query->verdict;

        if (r > 0 && !query_was_for(query, action, details))
                r = sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED,
                                     "What you asked for has changed while you were being "
                                     "authorised for it. Call again.");
        else if (r > 0) {
                *ret_uid = query->uid;
                query->counted = false; /* the caller's now */
        } else if (sd_bus_error_is_set(&query->error))
                sd_bus_error_move(error, &query->error);
        query_drop(query);
        return r;
}

int authorize(Authorizer *self, sd_bus_message *m, const char *action,
              const AuthorizeDetails *details, uid_t *ret_uid, sd_bus_error *error) {
        static const AuthorizeDetails none = { .verb = NULL };
        Query *query = g_hash_table_lookup(self->queries, m);
        int r;

        if (!details)
                details = &none;
        /* It was only counted, and now turns out to be about something. */
        if (query && query->answered && !query->action && !query_was_for(query, action, details)) {
                query_drop(query);
                query = NULL;
        }
        if (query && query->answered)
                return query_fetch(query, action, details, ret_uid, error);
        if (query)
                return 0;

        query = g_new0(Query, 1);
        query->authorizer = self;
        query->message = sd_bus_message_ref(m);
        query->action = g_strdup(action);
        query->machine = g_strdup(details->machine ?: "");
        query->gpus = g_strdup(details->gpus ?: "");
        query->verb = g_strdup(details->verb ?: "");
        query->instance = g_strdup(details->instance ?: "");
        g_hash_table_insert(self->queries, m, query);

        r = query_begin(query);
        if (r < 0) {
                sd_journal_print(LOG_WARNING, "Cannot find out who calls: %s", g_strerror(-r));
                query_drop(query);
                return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED,
                                        "The bus could not say who you are. Call again.");
        }
        return 0;
}
