/* Stands in for the journal: keeps the fields of the entry that was sent last. The program is to be
 * linked with --wrap=sd_journal_sendv_with_location. */
#pragma once

#include <glib.h>

/* A group's or test's setup and teardown. */
int journal_entry_setup(void **state);
int journal_entry_teardown(void **state);

/* Fails the test unless @field ("NAME=value") stands in the entry exactly once. */
void assert_field(const char *field);

/* The value of the entry's first field @name; NULL = it has none. */
const char *journal_entry_field(const char *name);

/* How many entries with that MESSAGE_ID were sent since the setup. */
unsigned journal_entry_count(const char *id);
