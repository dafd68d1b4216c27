/* Takes the place of libsystemd's last step on the way to the journal. It judges nothing. */
#include "journal-entry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>

#include <cmocka.h>

static GPtrArray *entry;
static GPtrArray *ids; /* of all entries */

int __wrap_sd_journal_sendv_with_location(const char *file, const char *line, const char *function,
                                          const struct iovec *fields, int n);

int __wrap_sd_journal_sendv_with_location(const char *file, const char *line, const char *function,
                                          const struct iovec *fields, int n) {
        g_ptr_array_set_size(entry, 0);
        for (int i = 0; i < n; i++)
                g_ptr_array_add(entry, g_strndup(fields[i].iov_base, fields[i].iov_len));
        g_ptr_array_add(ids, g_strdup(journal_entry_field("MESSAGE_ID")));
        return 0;
}

int journal_entry_setup(void **state) {
        entry = g_ptr_array_new_with_free_func(g_free);
        ids = g_ptr_array_new_with_free_func(g_free);
        return 0;
}

int journal_entry_teardown(void **state) {
        g_ptr_array_unref(entry);
        g_ptr_array_unref(ids);
        return 0;
}

void assert_field(const char *field) {
        unsigned n = 0;

        for (guint i = 0; i < entry->len; i++)
                if (g_str_equal(g_ptr_array_index(entry, i), field))
                        n++;
        if (n != 1)
                fail_msg("%s stands %u times in the entry", field, n);
}

const char *journal_entry_field(const char *name) {
        g_autofree char *begin = g_strconcat(name, "=", NULL);

        for (guint i = 0; i < entry->len; i++)
                if (g_str_has_prefix(g_ptr_array_index(entry, i), begin))
                        return (char *)g_ptr_array_index(entry, i) + strlen(begin);
        return NULL;
}

unsigned journal_entry_count(const char *id) {
        unsigned n = 0;

        for (guint i = 0; i < ids->len; i++)
                n += g_strcmp0(g_ptr_array_index(ids, i), id) == 0;
        return n;
}
