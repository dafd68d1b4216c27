#include "caller.h"
#include "testing.h"

#include <string.h>

void caller_done(void *userdata, const Refusal *refusal) {
        Caller *caller = userdata;

        caller->answers++;
        caller->refused = refusal != NULL;
        g_free(caller->message);
        caller->message = refusal ? g_strdup(refusal->message) : NULL;
        caller->code = refusal ? refusal->code : 0;
}

void caller_attached(void *userdata, const char *id, const Refusal *refusal) {
        Caller *caller = userdata;

        assert_int_equal(id == NULL, refusal != NULL);
        g_free(caller->id);
        caller->id = g_strdup(id);
        caller_done(userdata, refusal);
}

void caller_console(void *userdata, int fd, const Refusal *refusal) {
        Caller *caller = userdata;

        assert_int_equal(fd < 0, refusal != NULL);
        caller->fd = fd;
        caller_done(userdata, refusal);
}

void caller_xml(void *userdata, const char *xml, const Refusal *refusal) {
        assert_int_equal(xml == NULL, refusal != NULL);
        caller_done(userdata, refusal);
}

void caller_checked(void *userdata, const GPtrArray *findings) {
        caller_done(userdata, findings_first_error(findings));
}

void caller_forget(Caller *caller) {
        g_free(caller->message);
        g_free(caller->id);
        memset(caller, 0, sizeof(*caller));
}

void assert_done(Caller *caller) {
        assert_int_equal(caller->answers, 1);
        if (caller->refused)
                fail_msg("refused: %s: %s", refusal_code_to_string(caller->code), caller->message);
        caller_forget(caller);
}

void assert_refused(Caller *caller, RefusalCode code) {
        assert_int_equal(caller->answers, 1);
        assert_true(caller->refused);
        assert_string_equal(refusal_code_to_string(caller->code), refusal_code_to_string(code));
        assert_true(strlen(caller->message) > 10);
        caller_forget(caller);
}
