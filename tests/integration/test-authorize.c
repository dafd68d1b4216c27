/* polkit/authorize against a bus daemon, a polkitd that does as told, and callers of two users. The
 * service under test is as small as one can be: it asks, and counts. */
#include "authorize.h"
#include "mock-polkit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define ACTION            "org.feos.vm1.gpu"
#define ACCESS_DENIED     "org.freedesktop.DBus.Error.AccessDenied"
#define INTERACTION_ASKED "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
/* The bus daemon then refuses to do this. */
#define DENY(member)                                                                     \
        "<policy context=\"mandatory\"><deny send_destination=\"org.freedesktop.DBus\" " \
        "send_interface=\"org.freedesktop.DBus\" send_member=\"" member "\"/></policy>"
#define LIMIT "test.Limit"

typedef struct Service {
        PrivateBus *private_bus;
        MockPolkit *polkit; /* NULL = there is none */
        sd_bus *bus;
        sd_bus_slot *object;
        Authorizer *authorizer;
        sd_bus *caller;

        const char *machine; /* what the next question is about */
        bool keep;           /* calls that may go on stay under way */
        uid_t uid;           /* of the last call that might go on */
        unsigned runs;       /* of the handler */
        unsigned changes;    /* calls that might go on */
} Service;

static int handle(Service *self, sd_bus_message *m, const char *action, sd_bus_error *error) {
        AuthorizeDetails details = { .machine = self->machine,
                                     .gpus = "0000:01:00.0",
                                     .verb = "Bind" };
        const char *text;
        uid_t uid;
        int r;

        self->runs++;
        /* That the message is rewound shows when it is read. */
        r = sd_bus_message_read(m, "s", &text);
        if (r < 0)
                return r;
        r = authorize(self->authorizer, m, action, &details, &uid, error);
        if (r == -EDQUOT)
                return sd_bus_error_set(error, LIMIT, "Limit");
        if (r < 0)
                return r;
        if (r == 0)
                return 1;
        self->uid = uid;
        self->changes++;
        if (!self->keep)
                authorizer_release(self->authorizer, uid);
        return sd_bus_reply_method_return(m, "s", text);
}

static int on_change(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return handle(userdata, m, ACTION, error);
}

static int on_count(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return handle(userdata, m, NULL, error);
}

static const sd_bus_vtable service_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Change", "s", "s", on_change, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Count", "s", "s", on_count, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static Service *service_new(bool with_polkit, AuthorizerConfig config, const char *policy) {
        Service *self = g_new0(Service, 1);

        self->private_bus = private_bus_new(policy);
        self->polkit = with_polkit ? mock_polkit_new(self->private_bus) : NULL;
        self->machine = "vm-1";
        self->bus = private_bus_connect(self->private_bus, 0);
        self->authorizer = authorizer_new(self->bus, &config);
        assert_non_null(self->authorizer);
        assert_true(sd_bus_add_object_vtable(self->bus, &self->object, "/test", "test.Test",
                                             service_vtable, self) >= 0);
        assert_true(sd_bus_request_name(self->bus, "test.Test", 0) >= 0);
        self->caller = private_bus_connect(self->private_bus, SOMEBODY);
        return self;
}

static void service_free(Service *self) {
        authorizer_free(self->authorizer);
        sd_bus_slot_unref(self->object);
        sd_bus_flush_close_unref(self->bus);
        sd_bus_flush_close_unref(self->caller);
        if (self->polkit)
                mock_polkit_free(self->polkit);
        private_bus_free(self->private_bus);
        g_free(self);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Service, service_free)

static void call(Service *self, sd_bus *caller, const char *member, bool interactive,
                 Answer *answer) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_method_call(caller, &m, "test.Test", "/test", "test.Test",
                                                   member) >= 0);
        assert_true(sd_bus_message_append(m, "s", "text") >= 0);
        assert_true(sd_bus_message_set_allow_interactive_authorization(m, interactive) >= 0);
        answer_expect(answer, caller, m);
}

/* One call from beginning to end. */
static void call_and_wait(Service *self, bool interactive, Answer *answer) {
        call(self, self->caller, "Change", interactive, answer);
        private_bus_wait(self->private_bus, &answer->there);
}

static void assert_denied(const Service *self, const Answer *answer, const char *name,
                          const char *word) {
        assert_non_null(answer->error);
        assert_string_equal(answer->error, name);
        assert_non_null(strstr(answer->text, word));
        assert_int_equal(self->changes, 0);
}

static void test_authorised(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) answer = { 0 };
        const char *name, *text;

        call_and_wait(self, false, &answer);
        assert_null(answer.error);
        assert_true(sd_bus_message_read(answer.reply, "s", &text) > 0);
        assert_string_equal(text, "text");
        assert_int_equal(self->runs, 2);
        assert_int_equal(self->changes, 1);

        assert_int_equal(self->polkit->asked, 1);
        assert_true(sd_bus_get_unique_name(self->caller, &name) >= 0);
        assert_string_equal(self->polkit->subject_kind, "system-bus-name");
        assert_string_equal(self->polkit->subject_name, name);
        assert_string_equal(self->polkit->action, ACTION);
        assert_int_equal(g_hash_table_size(self->polkit->details), 3);
        assert_string_equal(g_hash_table_lookup(self->polkit->details, "machine"), "vm-1");
        assert_string_equal(g_hash_table_lookup(self->polkit->details, "gpus"), "0000:01:00.0");
        assert_string_equal(g_hash_table_lookup(self->polkit->details, "verb"), "Bind");
        assert_int_equal(self->polkit->flags, 0);
        assert_string_not_equal(self->polkit->cancellation, "");
        assert_false(self->polkit->was_cancelled);
        if (private_bus_can_be_anybody())
                assert_int_equal(self->uid, SOMEBODY);
}

/* An answer is for one call. */
static void test_every_call_is_asked(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);

        for (unsigned i = 1; i <= 3; i++) {
                g_auto(Answer) answer = { 0 };

                call_and_wait(self, false, &answer);
                assert_int_equal(self->polkit->asked, i);
                assert_int_equal(self->changes, i);
        }
        self->polkit->verdict = MOCK_NO;
        for (unsigned i = 4; i <= 5; i++) {
                g_auto(Answer) answer = { 0 };

                call_and_wait(self, false, &answer);
                assert_string_equal(answer.error, ACCESS_DENIED);
                assert_int_equal(self->polkit->asked, i);
                assert_int_equal(self->changes, 3);
        }
}

static void test_denied(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_NO;
        call_and_wait(self, true, &answer);
        assert_denied(self, &answer, ACCESS_DENIED, ACTION);
}

static void test_challenge(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_CHALLENGE;
        call_and_wait(self, false, &answer);
        assert_denied(self, &answer, INTERACTION_ASKED, "interactive");
        assert_int_equal(self->polkit->flags, 0);
}

static void test_challenge_failed(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_CHALLENGE;
        call_and_wait(self, true, &answer);
        assert_denied(self, &answer, ACCESS_DENIED, ACTION);
        assert_int_equal(self->polkit->flags, 1);
}

static void test_no_polkit(void **state) {
        g_autoptr(Service) self = service_new(false, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) answer = { 0 };

        call_and_wait(self, false, &answer);
        assert_denied(self, &answer, ACCESS_DENIED, "polkit cannot be reached");
}

static void test_polkit_talks_junk(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_JUNK;
        call_and_wait(self, false, &answer);
        assert_denied(self, &answer, ACCESS_DENIED, "makes no sense");
}

static void test_polkit_fails(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_ERROR;
        call_and_wait(self, false, &answer);
        assert_denied(self, &answer, ACCESS_DENIED, "polkit could not say");
}

static void test_polkit_silent(void **state) {
        g_autoptr(Service) self =
                service_new(true, (AuthorizerConfig){ .timeout_usec = G_USEC_PER_SEC / 5 }, NULL);
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_SILENT;
        call_and_wait(self, true, &answer);
        assert_denied(self, &answer, ACCESS_DENIED, "in time");
        private_bus_wait(self->private_bus, &self->polkit->was_cancelled);
        assert_string_equal(self->polkit->cancelled, self->polkit->cancellation);

        /* What it says when it is too late changes nothing. */
        mock_polkit_answer(self->polkit, MOCK_YES);
        private_bus_settle(self->private_bus);
        assert_int_equal(self->changes, 0);
        assert_int_equal(self->runs, 2);
}

static void test_polkit_dies(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_SILENT;
        call(self, self->caller, "Change", true, &answer);
        private_bus_wait(self->private_bus, &self->polkit->was_asked);
        g_clear_pointer(&self->polkit, mock_polkit_free);
        private_bus_wait(self->private_bus, &answer.there);
        assert_denied(self, &answer, ACCESS_DENIED, "polkit");
}

static void test_caller_leaves(void **state) {
        g_autoptr(Service) self =
                service_new(true, (AuthorizerConfig){ .pending_per_user = 1 }, NULL);
        g_auto(Answer) lost = { 0 };
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_SILENT;
        call(self, self->caller, "Change", true, &lost);
        private_bus_wait(self->private_bus, &self->polkit->was_asked);
        sd_bus_flush_close_unref(g_steal_pointer(&self->caller));
        private_bus_wait(self->private_bus, &self->polkit->was_cancelled);
        assert_string_equal(self->polkit->cancelled, self->polkit->cancellation);
        mock_polkit_answer(self->polkit, MOCK_YES);
        private_bus_settle(self->private_bus);
        assert_int_equal(self->runs, 1);
        assert_int_equal(self->changes, 0);

        /* Nor does he count any more. */
        self->polkit->verdict = MOCK_YES;
        self->caller = private_bus_connect(self->private_bus, SOMEBODY);
        call_and_wait(self, false, &answer);
        assert_null(answer.error);
        assert_int_equal(self->changes, 1);
}

/* Leaves at once, so that the bus daemon may not even know who it was. */
static void test_caller_leaves_at_once(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) lost = { 0 };

        call(self, self->caller, "Change", true, &lost);
        sd_bus_flush_close_unref(g_steal_pointer(&self->caller));
        private_bus_settle(self->private_bus);
        assert_int_equal(self->changes, 0);
}

static void test_root(void **state) {
        g_autoptr(Service) self = NULL;
        g_auto(Answer) answer = { 0 };

        if (!private_bus_can_be_anybody())
                skip();
        self = service_new(false, (AuthorizerConfig){ 0 }, NULL);
        sd_bus_flush_close_unref(self->caller);
        self->caller = private_bus_connect(self->private_bus, 0);
        call_and_wait(self, false, &answer);
        assert_null(answer.error);
        assert_int_equal(self->changes, 1);
        assert_int_equal(self->uid, 0);
}

static void test_uid_unknown(void **state) {
        g_autoptr(Service) self =
                service_new(true, (AuthorizerConfig){ 0 }, DENY("GetConnectionUnixUser"));
        g_auto(Answer) answer = { 0 };

        sd_bus_flush_close_unref(self->caller);
        self->caller = private_bus_connect(self->private_bus, 0);
        call_and_wait(self, false, &answer);
        assert_denied(self, &answer, ACCESS_DENIED, "who you are");
        assert_int_equal(self->polkit->asked, 0);
}

static void test_departure_cannot_be_watched(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, DENY("AddMatch"));
        g_auto(Answer) answer = { 0 };

        call_and_wait(self, false, &answer);
        assert_denied(self, &answer, ACCESS_DENIED, "who you are");
        assert_int_equal(self->polkit->asked, 0);
}

static void test_question_changes(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_SILENT;
        call(self, self->caller, "Change", true, &answer);
        private_bus_wait(self->private_bus, &self->polkit->was_asked);
        self->machine = "vm-2";
        mock_polkit_answer(self->polkit, MOCK_YES);
        private_bus_wait(self->private_bus, &answer.there);
        assert_denied(self, &answer, ACCESS_DENIED, "has changed");
}

/* The thing that the call was about goes away while polkit thinks. */
static void test_object_goes(void **state) {
        g_autoptr(Service) self =
                service_new(true, (AuthorizerConfig){ .pending_per_user = 1 }, NULL);
        g_auto(Answer) lost = { 0 };
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_SILENT;
        call(self, self->caller, "Change", true, &lost);
        private_bus_wait(self->private_bus, &self->polkit->was_asked);
        self->object = sd_bus_slot_unref(self->object);
        mock_polkit_answer(self->polkit, MOCK_YES);
        private_bus_wait(self->private_bus, &lost.there);
        assert_string_equal(lost.error, "org.freedesktop.DBus.Error.UnknownObject");
        private_bus_settle(self->private_bus);

        assert_true(sd_bus_add_object_vtable(self->bus, &self->object, "/test", "test.Test",
                                             service_vtable, self) >= 0);
        self->polkit->verdict = MOCK_YES;
        call_and_wait(self, false, &answer);
        assert_null(answer.error);
}

static void test_limit(void **state) {
        g_autoptr(Service) self =
                service_new(true, (AuthorizerConfig){ .pending_per_user = 2 }, NULL);
        g_auto(Answer) first = { 0 };
        g_auto(Answer) second = { 0 };
        g_auto(Answer) third = { 0 };
        g_auto(Answer) fourth = { 0 };
        sd_bus *again;

        /* One that is done but not over, one that polkit thinks about. */
        self->keep = true;
        call(self, self->caller, "Count", false, &first);
        private_bus_wait(self->private_bus, &first.there);
        assert_null(first.error);
        assert_int_equal(self->polkit->asked, 0);
        self->polkit->verdict = MOCK_SILENT;
        call(self, self->caller, "Change", false, &second);
        private_bus_wait(self->private_bus, &self->polkit->was_asked);

        /* It is the user that counts, not the connection. */
        again = private_bus_connect(self->private_bus, SOMEBODY);
        call(self, again, "Change", false, &third);
        private_bus_wait(self->private_bus, &third.there);
        assert_string_equal(third.error, LIMIT);
        assert_int_equal(self->polkit->asked, 1);

        authorizer_release(self->authorizer, self->uid);
        call(self, again, "Count", false, &fourth);
        private_bus_wait(self->private_bus, &fourth.there);
        assert_null(fourth.error);

        mock_polkit_answer(self->polkit, MOCK_YES);
        private_bus_wait(self->private_bus, &second.there);
        assert_null(second.error);
        sd_bus_flush_close_unref(again);
}

static void test_other_users_limit(void **state) {
        g_autoptr(Service) self = NULL;
        g_auto(Answer) first = { 0 };
        g_auto(Answer) second = { 0 };
        sd_bus *root;

        if (!private_bus_can_be_anybody())
                skip();
        self = service_new(true, (AuthorizerConfig){ .pending_per_user = 1 }, NULL);
        root = private_bus_connect(self->private_bus, 0);
        self->polkit->verdict = MOCK_SILENT;
        call(self, self->caller, "Change", false, &first);
        private_bus_wait(self->private_bus, &self->polkit->was_asked);
        call(self, root, "Change", false, &second);
        private_bus_wait(self->private_bus, &second.there);
        assert_null(second.error);
        sd_bus_flush_close_unref(root);
}

/* The service ends while polkit thinks. */
static void test_end(void **state) {
        g_autoptr(Service) self = service_new(true, (AuthorizerConfig){ 0 }, NULL);
        g_auto(Answer) answer = { 0 };

        self->polkit->verdict = MOCK_SILENT;
        call(self, self->caller, "Change", true, &answer);
        private_bus_wait(self->private_bus, &self->polkit->was_asked);
        g_clear_pointer(&self->authorizer, authorizer_free);
        private_bus_wait(self->private_bus, &self->polkit->was_cancelled);
        assert_string_equal(self->polkit->cancelled, self->polkit->cancellation);
        assert_int_equal(self->changes, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_authorised),
                cmocka_unit_test(test_every_call_is_asked),
                cmocka_unit_test(test_denied),
                cmocka_unit_test(test_challenge),
                cmocka_unit_test(test_challenge_failed),
                cmocka_unit_test(test_no_polkit),
                cmocka_unit_test(test_polkit_talks_junk),
                cmocka_unit_test(test_polkit_fails),
                cmocka_unit_test(test_polkit_silent),
                cmocka_unit_test(test_polkit_dies),
                cmocka_unit_test(test_caller_leaves),
                cmocka_unit_test(test_caller_leaves_at_once),
                cmocka_unit_test(test_root),
                cmocka_unit_test(test_uid_unknown),
                cmocka_unit_test(test_departure_cannot_be_watched),
                cmocka_unit_test(test_question_changes),
                cmocka_unit_test(test_object_goes),
                cmocka_unit_test(test_limit),
                cmocka_unit_test(test_other_users_limit),
                cmocka_unit_test(test_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
