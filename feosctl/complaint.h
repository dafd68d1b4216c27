/* What went wrong, for a person: what it is, and what to do about it on a line of its own. */
#pragma once

#include "ctl.h"

typedef struct Complaint {
        char *name; /* of the D-Bus error, without org.feos.VM1.Error. where that is it */
        char *message;
        char *remedy; /* NULL = none is known */
} Complaint;

/* Zero it before. */
void complaint_clear(Complaint *complaint);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Complaint, complaint_clear)

/* Puts an error of the service, of the bus or of sd-bus itself into words. @error may be unset,
 * then
 * @r says what happened. */
void complaint_of_error(const sd_bus_error *error, int r, Complaint *ret);

/* What the service calls by its D-Bus name, a person has a command for. Caller frees. */
char *complaint_translate(const char *remedy);

/* Writes it to standard error: two lines, or with --json an object. */
void complaint_show(const Ctl *ctl, const Complaint *complaint);

/* Both in one. */
void complain_of(const Ctl *ctl, const sd_bus_error *error, int r);

/* For what is refused here. */
void complain(const Ctl *ctl, const char *name, const char *remedy, const char *format, ...)
        G_GNUC_PRINTF(4, 5);
