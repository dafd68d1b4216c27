/* Refusals and failures as D-Bus errors. A bare errno never leaves the service: sd-bus would turn
 * it into a name such as System.Error.EBUSY that nobody promised. This file does not know why
 * anything was refused; the sentences are the refusal's own. */
#include "errors.h"

#include <systemd/sd-journal.h>

int error_set_refusal(sd_bus_error *error, const Refusal *refusal) {
        g_autofree char *name =
                g_strconcat(ERROR_PREFIX, refusal_code_to_string(refusal->code), NULL);
        g_autofree char *text = g_strconcat(refusal->message, " ", refusal->remedy, NULL);
        /* It may quote libvirt or name a process; D-Bus carries UTF-8 alone. */
        g_autofree char *valid = g_utf8_make_valid(text, -1);

        return sd_bus_error_set(error, name, valid);
}

int error_set_failed(sd_bus_error *error, int r, const char *what) {
        if (sd_bus_error_is_set(error))
                return r;
        sd_journal_print(LOG_WARNING, "%s (%s)", what, g_strerror(-r));
        sd_bus_error_set(error, SD_BUS_ERROR_FAILED, what);
        return r;
}

int error_set_arguments(sd_bus_error *error, int r) {
        if (sd_bus_error_is_set(error))
                return r;
        sd_bus_error_set(error, SD_BUS_ERROR_INVALID_ARGS,
                         "The arguments cannot be read. Send them as the interface declares them.");
        return r;
}

int error_set_no_object(sd_bus_error *error, const char *path) {
        return sd_bus_error_setf(error, SD_BUS_ERROR_UNKNOWN_OBJECT,
                                 "The object %s has gone. List what there is and call again.",
                                 path);
}
