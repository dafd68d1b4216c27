#include "libvirt-fixture.h"

#include "testing.h"

#include <string.h>

static DomainFacts *facts_take(DomainFacts *facts) {
        DomainFacts *copy = domain_facts_new();

        g_array_append_vals(copy->gpus, facts->gpus->data, facts->gpus->len);
        g_array_append_vals(copy->cards, facts->cards->data, facts->cards->len);
        g_array_append_vals(copy->hostdevs, facts->hostdevs->data, facts->hostdevs->len);
        g_array_append_vals(copy->defined_hostdevs, facts->defined_hostdevs->data,
                            facts->defined_hostdevs->len);
        for (unsigned i = 0; i < facts->disks->len; i++)
                g_ptr_array_add(copy->disks, g_strdup(g_ptr_array_index(facts->disks, i)));
        for (unsigned i = 0; i < facts->nics->len; i++)
                g_ptr_array_add(copy->nics, g_strdup(g_ptr_array_index(facts->nics, i)));
        for (guint i = 0; i < facts->files->len; i++)
                g_ptr_array_add(copy->files, domain_file_copy(g_ptr_array_index(facts->files, i)));
        copy->autostart = facts->autostart;
        copy->stop_asked = facts->stop_asked;
        memcpy(copy->uuid, facts->uuid, sizeof(copy->uuid));
        copy->name = g_strdup(facts->name);
        copy->ours = facts->ours;
        copy->active = facts->active;
        copy->state = facts->state;
        copy->off_reason = facts->off_reason;
        copy->first_start = facts->first_start;
        copy->vcpus = facts->vcpus;
        copy->memory_mib = facts->memory_mib;
        copy->memory_now_mib = facts->memory_now_mib;
        copy->pid = facts->pid;
        copy->pidfd = facts->pidfd;
        facts->pidfd = -1;
        return copy;
}

static void on_connection_changed(void *userdata) {
        Fixture *f = userdata;

        f->n_connection_changed++;
        g_ptr_array_add(f->order, (void *)"connection");
}

static void on_unreachable(void *userdata) {
        Fixture *f = userdata;

        f->n_unreachable++;
}

static void on_answer_overdue(void *userdata) {
        Fixture *f = userdata;

        f->n_overdue++;
}

static void domain_remember(Fixture *f, DomainFacts *facts) {
        g_hash_table_replace(f->domains, g_strdup(facts->uuid), facts_take(facts));
}

static void on_domains_listed(void *userdata, GPtrArray *domains) {
        Fixture *f = userdata;

        f->n_listed++;
        g_ptr_array_add(f->order, (void *)"listed");
        g_hash_table_remove_all(f->domains);
        for (unsigned i = 0; i < domains->len; i++)
                domain_remember(f, g_ptr_array_index(domains, i));
}

static void on_domain_seen(void *userdata, DomainFacts *facts) {
        Fixture *f = userdata;

        f->n_seen++;
        g_ptr_array_add(f->order, (void *)"seen");
        domain_remember(f, facts);
}

static void on_domain_gone(void *userdata, const char *uuid) {
        Fixture *f = userdata;

        f->n_gone++;
        g_ptr_array_add(f->order, (void *)"gone");
        g_hash_table_remove(f->domains, uuid);
}

void on_done(void *userdata, const Refusal *refusal) {
        Fixture *f = userdata;

        f->n_done++;
        g_ptr_array_add(f->order, (void *)"done");
        g_clear_pointer(&f->refusal, refusal_free);
        if (refusal)
                f->refusal = refusal_copy(refusal);
}

const HypervisorEvents fixture_events = {
        .connection_changed = on_connection_changed,
        .unreachable = on_unreachable,
        .answer_overdue = on_answer_overdue,
        .domains_listed = on_domains_listed,
        .domain_seen = on_domain_seen,
        .domain_gone = on_domain_gone,
};

void fixture_open(Fixture *f, const char *uri) {
        assert_true(sd_event_new(&f->event) >= 0);
        f->domains = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                           (GDestroyNotify)domain_facts_free);
        f->order = g_ptr_array_new();
        assert_int_equal(libvirt_new(f->event, uri, &f->libvirt), 0);
        f->hypervisor = libvirt_seam(f->libvirt);
        f->request = (Request){
                .name = (char *)"box",
                .gpus = g_array_new(FALSE, FALSE, sizeof(PciAddress)),
                .vcpus = 3,
                .memory_mib = 96,
                .start = true,
        };
        f->spec = (DomainSpec){
                .request = &f->request,
                .uuid = UUID,
                .cards = g_array_new(FALSE, FALSE, sizeof(CardIdentity)),
        };
}

void fixture_close(Fixture *f) {
        libvirt_free(f->libvirt);
        sd_event_unref(f->event);
        g_hash_table_unref(f->domains);
        g_ptr_array_unref(f->order);
        g_array_unref(f->request.gpus);
        g_array_unref(f->spec.cards);
        refusal_free(f->refusal);
        g_free(f->xml);
}

void await(Fixture *f, const unsigned *counter, unsigned value) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;

        while (*counter < value) {
                gint64 left = deadline - g_get_monotonic_time();

                assert_true(left > 0);
                assert_true(sd_event_run(f->event, (uint64_t)left) >= 0);
        }
}

void await_connected(Fixture *f) {
        assert_int_equal(libvirt_begin(f->libvirt, &fixture_events, f), 0);
        await(f, &f->n_listed, 1);
}

void act(Fixture *f, HypervisorVerb verb, const char *uuid) {
        unsigned n = f->n_done;

        f->hypervisor.ops->act(f->hypervisor.self, verb, uuid, on_done, f);
        assert_int_equal(f->n_done, n);
        await(f, &f->n_done, n + 1);
}

void define(Fixture *f) {
        unsigned n = f->n_done;

        f->hypervisor.ops->define(f->hypervisor.self, &f->spec, on_done, f);
        assert_int_equal(f->n_done, n);
        await(f, &f->n_done, n + 1);
}

void assert_done(Fixture *f) {
        if (f->refusal)
                print_error("%s: %s\n", refusal_code_to_string(f->refusal->code),
                            f->refusal->message);
        assert_null(f->refusal);
}

void assert_refused(Fixture *f, RefusalCode code) {
        assert_non_null(f->refusal);
        assert_string_equal(refusal_code_to_string(f->refusal->code), refusal_code_to_string(code));
        assert_true(g_str_has_suffix(f->refusal->remedy, "."));
}

const DomainFacts *domain(Fixture *f, const char *uuid) {
        return g_hash_table_lookup(f->domains, uuid);
}
