/* Stands in for polkitd: takes its name on the private bus, notes what it is asked, and answers as
 * told. It judges nothing. */
#include "mock-polkit.h"

static void note(char **field, const char *value) {
        g_free(*field);
        *field = g_strdup(value);
}

static void reply_verdict(sd_bus_message *m, MockVerdict verdict) {
        int r = 0;

        switch (verdict) {
        case MOCK_YES:
                r = sd_bus_reply_method_return(m, "(bba{ss})", true, false, 0);
                break;
        case MOCK_NO:
                r = sd_bus_reply_method_return(m, "(bba{ss})", false, false, 0);
                break;
        case MOCK_CHALLENGE:
                r = sd_bus_reply_method_return(m, "(bba{ss})", false, true, 0);
                break;
        case MOCK_JUNK:
                r = sd_bus_reply_method_return(m, "bs", true, "yes");
                break;
        case MOCK_ERROR:
                r = sd_bus_reply_method_errorf(m, "org.freedesktop.PolicyKit1.Error.Failed",
                                               "No such action");
                break;
        case MOCK_SILENT:
                g_assert_not_reached();
        }
        g_assert_cmpint(r, >=, 0);
}

static void note_details(MockPolkit *self, sd_bus_message *m) {
        const char *key, *value;

        g_hash_table_remove_all(self->details);
        g_assert_cmpint(sd_bus_message_enter_container(m, 'a', "{ss}"), >, 0);
        while (sd_bus_message_read(m, "{ss}", &key, &value) > 0)
                g_hash_table_insert(self->details, g_strdup(key), g_strdup(value));
        g_assert_cmpint(sd_bus_message_exit_container(m), >=, 0);
}

static void on_check(MockPolkit *self, sd_bus_message *m) {
        const char *kind, *key, *name, *action, *cancellation;

        g_assert_cmpint(sd_bus_message_read(m, "(sa{sv})s", &kind, 1, &key, "s", &name, &action), >,
                        0);
        g_assert_cmpstr(key, ==, "name");
        note_details(self, m);
        g_assert_cmpint(sd_bus_message_read(m, "us", &self->flags, &cancellation), >, 0);
        note(&self->subject_kind, kind);
        note(&self->subject_name, name);
        note(&self->action, action);
        note(&self->cancellation, cancellation);
        self->asked++;
        self->was_asked = true;

        if (self->verdict == MOCK_SILENT)
                g_ptr_array_add(self->held, sd_bus_message_ref(m));
        else
                reply_verdict(m, self->verdict);
}

static void on_cancel(MockPolkit *self, sd_bus_message *m) {
        const char *cancellation;

        g_assert_cmpint(sd_bus_message_read(m, "s", &cancellation), >, 0);
        note(&self->cancelled, cancellation);
        self->was_cancelled = true;
        g_assert_cmpint(sd_bus_reply_method_return(m, NULL), >=, 0);
}

/* Not a vtable: sd-bus would not let one answer junk. */
static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        static const char interface[] = "org.freedesktop.PolicyKit1.Authority";

        if (sd_bus_message_is_method_call(m, interface, "CheckAuthorization"))
                on_check(userdata, m);
        else if (sd_bus_message_is_method_call(m, interface, "CancelCheckAuthorization"))
                on_cancel(userdata, m);
        else
                return 0;
        return 1;
}

static void message_unref(void *message) {
        sd_bus_message_unref(message);
}

MockPolkit *mock_polkit_new(PrivateBus *bus) {
        MockPolkit *self = g_new0(MockPolkit, 1);

        self->bus = private_bus_connect(bus, 0);
        self->held = g_ptr_array_new_with_free_func(message_unref);
        self->details = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
        g_assert_cmpint(sd_bus_add_object(self->bus, NULL, "/org/freedesktop/PolicyKit1/Authority",
                                          on_message, self),
                        >=, 0);
        g_assert_cmpint(sd_bus_request_name(self->bus, "org.freedesktop.PolicyKit1", 0), >=, 0);
        return self;
}

void mock_polkit_free(MockPolkit *self) {
        g_ptr_array_unref(self->held);
        sd_bus_flush_close_unref(self->bus);
        g_hash_table_unref(self->details);
        g_free(self->subject_kind);
        g_free(self->subject_name);
        g_free(self->action);
        g_free(self->cancellation);
        g_free(self->cancelled);
        g_free(self);
}

void mock_polkit_answer(MockPolkit *self, MockVerdict verdict) {
        for (guint i = 0; i < self->held->len; i++)
                reply_verdict(g_ptr_array_index(self->held, i), verdict);
        g_ptr_array_set_size(self->held, 0);
}
