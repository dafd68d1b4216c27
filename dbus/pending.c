/* A call that the manager has not answered yet: the held message, the caller's place in the limit,
 * and how the answer is written. It belongs to the bus, not to the caller: who hangs up does not
 * stop what he began. What the call is about is not known here. */
#include "pending.h"

#include "errors.h"
#include "text.h"

#include "autoptr.h"

#include <errno.h>
#include <systemd/sd-journal.h>

struct Pending {
        Bus *bus; /* weak: it owns us */
        sd_bus_message *message;
        uid_t uid;
        char *path;    /* the machine's, for Create; else NULL */
        bool lasting;  /* its answer is not its end */
        bool answered; /* one that lasts */
};

int pending_begin(Bus *bus, sd_bus_message *m, const char *action, const AuthorizeDetails *details,
                  sd_bus_error *error, Pending **ret) {
        Pending *pending;
        uid_t uid;
        int r;

        *ret = NULL;
        r = authorize(bus->authorizer, m, action, details, &uid, error);
        if (r == -EDQUOT) {
                g_autoptr(Refusal) refusal =
                        refusal_new(REFUSAL_LIMITS_EXCEEDED, details->verb,
                                    "Wait for the answers of your earlier calls, then call again.",
                                    "Too many of your requests are under way.");

                return error_set_refusal(error, refusal);
        }
        if (r < 0)
                return error_set_failed(error, r, "The call could not be authorised.");
        if (r == 0)
                return 1;

        pending = g_new0(Pending, 1);
        pending->bus = bus;
        pending->message = sd_bus_message_ref(m);
        pending->uid = uid;
        g_hash_table_add(bus->pendings, pending);
        *ret = pending;
        return 1;
}

void pending_set_path(Pending *pending, const char *path) {
        g_free(pending->path);
        pending->path = g_strdup(path);
}

uid_t pending_uid(const Pending *pending) {
        return pending->uid;
}

static void pending_free(Pending *pending) {
        g_hash_table_remove(pending->bus->pendings, pending);
        authorizer_release(pending->bus->authorizer, pending->uid);
        sd_bus_message_unref(pending->message);
        g_free(pending->path);
        g_free(pending);
}

/* From its beginning, as if it had come only now. */
static void pending_run_again(void *userdata) {
        Pending *pending = userdata;
        int r = sd_bus_message_rewind(pending->message, true);

        if (r >= 0)
                r = sd_bus_enqueue_for_read(pending->bus->sd, pending->message);
        if (r < 0) {
                sd_journal_print(LOG_ERR, "Cannot resume a call that has waited: %s",
                                 g_strerror(-r));
                sd_bus_reply_method_errorf(pending->message, SD_BUS_ERROR_FAILED,
                                           "The service cannot resume this call. Call again.");
        }
        pending_free(pending);
}

int pending_hold(Bus *bus, sd_bus_message *m, const char *verb, sd_bus_error *error) {
        Pending *pending;
        int r = pending_begin(bus, m, NULL, &(AuthorizeDetails){ .verb = verb }, error, &pending);

        if (pending)
                manager_await_libvirt(bus->manager, pending_run_again, pending);
        return r;
}

static void pending_end(Pending *pending) {
        pending->answered = true;
        if (!pending->lasting)
                pending_free(pending);
}

/* Sends @reply, or, when it could not be made (@r negative), an error in its place. */
static void pending_send(Pending *pending, sd_bus_message *reply, int r) {
        g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;

        if (r >= 0)
                r = sd_bus_send(pending->bus->sd, reply, NULL);
        if (r < 0) {
                error_set_failed(&error, r,
                                 "The answer could not be sent. What was asked is done.");
                sd_bus_reply_method_error(pending->message, &error);
        }
        pending_end(pending);
}

static void pending_refuse(Pending *pending, const Refusal *refusal) {
        g_auto(sd_bus_error) error = SD_BUS_ERROR_NULL;
        int r;

        error_set_refusal(&error, refusal);
        r = sd_bus_reply_method_error(pending->message, &error);
        if (r < 0)
                sd_journal_print(LOG_WARNING, "Cannot send %s to a caller: %s", error.name,
                                 g_strerror(-r));
        pending_end(pending);
}

/* Begins the answer: 1 and a new message, or a negative errno. 0: @refusal was the answer, and
 * @pending is gone. */
static int pending_open(Pending *pending, const Refusal *refusal, sd_bus_message **ret) {
        int r;

        if (refusal) {
                pending_refuse(pending, refusal);
                return 0;
        }
        r = sd_bus_message_new_method_return(pending->message, ret);
        return r < 0 ? r : 1;
}

void pending_done(void *userdata, const Refusal *refusal) {
        g_autoptr(sd_bus_message) reply = NULL;
        Pending *pending = userdata;
        int r = pending_open(pending, refusal, &reply);

        if (r == 0)
                return;
        if (r >= 0 && pending->path)
                r = sd_bus_message_append(reply, "o", pending->path);
        pending_send(pending, reply, r);
}

void pending_answered(void *userdata, const Refusal *refusal) {
        Pending *pending = userdata;

        pending->lasting = true;
        pending_done(pending, refusal);
}

void pending_ended(void *userdata) {
        pending_free(userdata);
}

/* What another user's processes do is told to those who may call ListHolders. */
static bool finding_is_private(const Refusal *finding, uid_t uid) {
        return finding->code == REFUSAL_GPU_BUSY && uid != 0;
}

static const char *finding_message(const Refusal *finding, uid_t uid) {
        return finding_is_private(finding, uid) ? "The host's processes hold the GPU."
                                                : finding->message;
}

static const char *finding_remedy(const Refusal *finding, uid_t uid) {
        return finding_is_private(finding, uid)
                       ? "Have them end first; ListHolders shows every holder."
                       : finding->remedy;
}

static int append_findings(sd_bus_message *reply, const GPtrArray *findings, uid_t uid) {
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(sssss)");
        for (guint i = 0; r >= 0 && i < findings->len; i++) {
                const Refusal *finding = g_ptr_array_index(findings, i);

                r = sd_bus_message_open_container(reply, 'r', "sssss");
                if (r >= 0)
                        r = append_texts(
                                reply, finding->severity == SEVERITY_ERROR ? "error" : "warning",
                                refusal_code_to_string(finding->code), finding->subject,
                                finding_message(finding, uid), finding_remedy(finding, uid), NULL);
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

void pending_checked(void *userdata, const GPtrArray *findings) {
        g_autoptr(sd_bus_message) reply = NULL;
        Pending *pending = userdata;
        int r = pending_open(pending, NULL, &reply);

        if (r >= 0)
                r = append_findings(reply, findings, pending->uid);
        pending_send(pending, reply, r);
}

static int append_holders(sd_bus_message *reply, const GPtrArray *holders) {
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(usss)");
        for (guint i = 0; r >= 0 && i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);
                g_autofree char *words = holder_words(holder);

                r = sd_bus_message_open_container(reply, 'r', "usss");
                if (r >= 0)
                        r = sd_bus_message_append(reply, "u", (uint32_t)holder->pid);
                if (r >= 0)
                        r = append_texts(reply, words, holder->unit, holder->node, NULL);
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

void pending_holders(void *userdata, const GPtrArray *holders, const Refusal *refusal) {
        g_autoptr(sd_bus_message) reply = NULL;
        Pending *pending = userdata;
        int r = pending_open(pending, refusal, &reply);

        if (r == 0)
                return;
        if (r >= 0)
                r = append_holders(reply, holders);
        pending_send(pending, reply, r);
}

/* Answers with one string. */
static void pending_text(Pending *pending, const char *text, const Refusal *refusal) {
        g_autoptr(sd_bus_message) reply = NULL;
        int r = pending_open(pending, refusal, &reply);

        if (r == 0)
                return;
        if (r >= 0)
                r = append_text(reply, text);
        pending_send(pending, reply, r);
}

void pending_attached(void *userdata, const char *id, const Refusal *refusal) {
        pending_text(userdata, id, refusal);
}

void pending_xml(void *userdata, const char *xml, const Refusal *refusal) {
        pending_text(userdata, xml, refusal);
}

void pending_console(void *userdata, int fd, const Refusal *refusal) {
        /* Ours to close: the message has a duplicate, which goes with it. */
        g_autofd G_GNUC_UNUSED int console = fd;
        g_autoptr(sd_bus_message) reply = NULL;
        Pending *pending = userdata;
        int r = pending_open(pending, refusal, &reply);

        if (r == 0)
                return;
        if (r >= 0)
                r = sd_bus_message_append(reply, "h", console);
        pending_send(pending, reply, r);
}

void pending_abandon(Pending *pending) {
        if (!pending->answered)
                sd_bus_reply_method_errorf(
                        pending->message, SD_BUS_ERROR_FAILED,
                        "feos-vmd is stopping. It finishes or undoes what you asked for "
                        "when it starts again; look then.");
        pending_free(pending);
}
