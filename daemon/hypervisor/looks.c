/* Keeps, per domain, whether a look is under way and whether another is wanted. It knows domains by
 * UUID only and waiters not at all. */
#include "hypervisor/looks.h"

#include <stdbool.h>

typedef struct Entry {
        bool in_flight;
        bool wanted;      /* once more, after what is in flight */
        GPtrArray *now;   /* waiters for the look in flight */
        GPtrArray *later; /* waiters for the next one */
} Entry;

struct Looks {
        const LooksOps *ops;
        void *self;
        GHashTable *entries; /* UUID -> Entry; only those in flight or wanted */
        unsigned n_in_flight;
        bool listing;
        bool list_wanted;
};

static void entry_free(void *data) {
        Entry *entry = data;

        g_ptr_array_unref(entry->now);
        g_ptr_array_unref(entry->later);
        g_free(entry);
}

static Entry *entry_ensure(Looks *looks, const char *uuid) {
        Entry *entry = g_hash_table_lookup(looks->entries, uuid);

        if (entry)
                return entry;
        entry = g_new0(Entry, 1);
        entry->now = g_ptr_array_new();
        entry->later = g_ptr_array_new();
        g_hash_table_insert(looks->entries, g_strdup(uuid), entry);
        return entry;
}

Looks *looks_new(const LooksOps *ops, void *self) {
        Looks *looks = g_new0(Looks, 1);

        looks->ops = ops;
        looks->self = self;
        looks->entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, entry_free);
        return looks;
}

/* Forgets everything; returns the waiters that there were. */
static GPtrArray *looks_clear(Looks *looks) {
        GPtrArray *waiters = g_ptr_array_new();
        GHashTableIter iter;
        void *value;

        g_hash_table_iter_init(&iter, looks->entries);
        while (g_hash_table_iter_next(&iter, NULL, &value)) {
                Entry *entry = value;

                g_ptr_array_extend(waiters, entry->now, NULL, NULL);
                g_ptr_array_extend(waiters, entry->later, NULL, NULL);
        }
        g_hash_table_remove_all(looks->entries);
        looks->n_in_flight = 0;
        looks->listing = false;
        looks->list_wanted = false;
        return waiters;
}

void looks_free(Looks *looks) {
        g_autoptr(GPtrArray) waiters = NULL;

        if (!looks)
                return;
        waiters = looks_clear(looks);
        for (unsigned i = 0; i < waiters->len; i++)
                looks->ops->drop(g_ptr_array_index(waiters, i));
        g_hash_table_unref(looks->entries);
        g_free(looks);
}

static void looks_start(Looks *looks, const char *uuid, Entry *entry) {
        GPtrArray *swap = entry->now;

        g_assert(!entry->in_flight && swap->len == 0);
        entry->in_flight = true;
        entry->wanted = false;
        entry->now = entry->later;
        entry->later = swap;
        looks->n_in_flight++;
        looks->ops->start_look(looks->self, uuid);
}

/* Starts what may start now. A listing waits for the looks in flight, and while one is wanted no
 * other look begins, or it would never get its turn. */
static void looks_pump(Looks *looks) {
        GHashTableIter iter;
        void *uuid, *entry;

        if (looks->listing)
                return;
        if (looks->list_wanted) {
                if (looks->n_in_flight > 0)
                        return;
                looks->list_wanted = false;
                looks->listing = true;
                looks->ops->start_list(looks->self);
                return;
        }
        g_hash_table_iter_init(&iter, looks->entries);
        while (g_hash_table_iter_next(&iter, &uuid, &entry))
                if (((Entry *)entry)->wanted && !((Entry *)entry)->in_flight)
                        looks_start(looks, uuid, entry);
}

void looks_want(Looks *looks, const char *uuid, void *waiter) {
        Entry *entry = entry_ensure(looks, uuid);

        entry->wanted = true;
        if (waiter)
                g_ptr_array_add(entry->later, waiter);
        looks_pump(looks);
}

void looks_want_list(Looks *looks) {
        looks->list_wanted = true;
        looks_pump(looks);
}

static void looks_answer(Looks *looks, GPtrArray *waiters, LookOutcome outcome) {
        for (unsigned i = 0; i < waiters->len; i++)
                looks->ops->answer(looks->self, g_ptr_array_index(waiters, i), outcome);
}

void looks_looked(Looks *looks, const char *uuid, LookOutcome outcome) {
        Entry *entry = g_hash_table_lookup(looks->entries, uuid);
        g_autoptr(GPtrArray) waiters = NULL;

        g_return_if_fail(entry && entry->in_flight);
        waiters = g_steal_pointer(&entry->now);
        entry->now = g_ptr_array_new();
        entry->in_flight = false;
        looks->n_in_flight--;
        if (!entry->wanted)
                g_hash_table_remove(looks->entries, uuid);
        /* Everything is in order before anybody is called who may call back. */
        looks_pump(looks);
        looks_answer(looks, waiters, outcome);
}

void looks_listed(Looks *looks) {
        looks->listing = false;
        looks_pump(looks);
}

void looks_reset(Looks *looks) {
        g_autoptr(GPtrArray) waiters = looks_clear(looks);

        looks_answer(looks, waiters, LOOK_LOST);
}
