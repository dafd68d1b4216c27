/* The connection of the seam to libvirt: what is told of domains and networks while there is one,
 * what is said while there is none, and how it ends. */
#include "libvirt-fixture.h"
#include "testing.h"

#include <libvirt/libvirt.h>
#include <string.h>

/* Whether somebody may wait for libvirt to say which domains there are. */
static void assert_awaited(Fixture *f, bool awaited) {
        HypervisorFacts facts;

        f->hypervisor.ops->facts(f->hypervisor.self, &facts);
        assert_int_equal(facts.awaited, awaited);
        assert_false(facts.silent);
}

/* It is until the domains have been listed. */
static void test_awaited(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        assert_awaited(&f, false);
        assert_int_equal(libvirt_begin(f.libvirt, &fixture_events, &f), 0);
        assert_awaited(&f, true);
        await(&f, &f.n_connection_changed, 1);
        assert_awaited(&f, f.n_listed == 0);
        await(&f, &f.n_listed, 1);
        assert_awaited(&f, false);
        assert_int_equal(f.n_overdue, 0);
        fixture_close(&f);
}

static void test_connect(void **state) {
        Fixture f = { 0 };
        HypervisorFacts facts;

        fixture_open(&f, TEST_URI);
        f.hypervisor.ops->facts(f.hypervisor.self, &facts);
        assert_false(facts.tried);
        assert_false(facts.connected);
        assert_string_equal(facts.version, "");
        await_connected(&f);
        assert_int_equal(f.n_connection_changed, 1);
        assert_string_equal(g_ptr_array_index(f.order, 0), "connection");
        assert_string_equal(g_ptr_array_index(f.order, 1), "listed");

        f.hypervisor.ops->facts(f.hypervisor.self, &facts);
        assert_true(facts.tried);
        assert_true(facts.connected);
        assert_string_equal(facts.uri, TEST_URI);
        assert_non_null(strstr(facts.version, " (TEST "));

        assert_int_equal(g_hash_table_size(f.domains), 1);
        assert_non_null(domain(&f, TEST_DOMAIN));
        assert_string_equal(domain(&f, TEST_DOMAIN)->name, "test");
        assert_false(domain(&f, TEST_DOMAIN)->ours);
        assert_true(domain(&f, TEST_DOMAIN)->active);
        assert_int_equal(domain(&f, TEST_DOMAIN)->state, DOMAIN_RUNNING);
        assert_int_equal(domain(&f, TEST_DOMAIN)->pid, 0);
        assert_int_equal(domain(&f, TEST_DOMAIN)->pidfd, -1);
        fixture_close(&f);
}

static bool has_network(Fixture *f, const char *name) {
        HypervisorFacts facts;

        f->hypervisor.ops->facts(f->hypervisor.self, &facts);
        assert_non_null(facts.networks);
        return g_strv_contains(facts.networks, name);
}

/* Networks come and go, and are known without being asked for. */
static void test_networks(void **state) {
        Fixture f = { 0 };
        virConnectPtr other;
        virNetworkPtr network;
        unsigned listed;

        fixture_open(&f, SHARED_URI);
        assert_false(has_network(&f, "default"));
        await_connected(&f);
        assert_true(has_network(&f, "default"));
        other = virConnectOpen(SHARED_URI);
        network = virNetworkLookupByName(other, "default");
        assert_non_null(network);

        listed = f.n_listed;
        assert_int_equal(virNetworkDestroy(network), 0);
        await(&f, &f.n_listed, listed + 1);
        assert_false(has_network(&f, "default"));
        listed = f.n_listed;
        assert_int_equal(virNetworkCreate(network), 0);
        await(&f, &f.n_listed, listed + 1);
        assert_true(has_network(&f, "default"));

        virNetworkFree(network);
        virConnectClose(other);
        fixture_close(&f);
}

/* What somebody else does with a domain is seen. */
static void test_events(void **state) {
        Fixture f = { 0 };
        virConnectPtr other;
        virDomainPtr theirs;
        unsigned seen;

        fixture_open(&f, SHARED_URI);
        await_connected(&f);
        other = virConnectOpen(SHARED_URI);
        assert_non_null(other);
        theirs = virDomainLookupByName(other, "test");
        assert_non_null(theirs);
        assert_true(domain(&f, TEST_DOMAIN)->active);

        seen = f.n_seen;
        assert_int_equal(virDomainDestroy(theirs), 0);
        await(&f, &f.n_seen, seen + 1);
        assert_false(domain(&f, TEST_DOMAIN)->active);
        seen = f.n_seen;
        assert_int_equal(virDomainCreate(theirs), 0);
        await(&f, &f.n_seen, seen + 1);
        assert_true(domain(&f, TEST_DOMAIN)->active);

        virDomainFree(theirs);
        virConnectClose(other);
        fixture_close(&f);
}

static void test_look(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        f.hypervisor.ops->look(f.hypervisor.self, UUID); /* not connected: nothing happens */
        await_connected(&f);
        f.hypervisor.ops->look(f.hypervisor.self, TEST_DOMAIN);
        f.hypervisor.ops->look(f.hypervisor.self, UUID);
        await(&f, &f.n_seen, 1);
        await(&f, &f.n_gone, 1);
        fixture_close(&f);
}

/* Many at once: one listing and sixteen verbs, all answered, each after its own look. */
static void test_many(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        define(&f);
        for (unsigned i = 0; i < 40; i++)
                f.hypervisor.ops->act(f.hypervisor.self,
                                      i % 2 ? HYPERVISOR_DESTROY : HYPERVISOR_START, UUID, on_done,
                                      &f);
        await(&f, &f.n_done, 41);
        fixture_close(&f);
}

static void test_relisted(void **state) {
        Fixture f = { 0 };

        fixture_open(&f, TEST_URI);
        await_connected(&f);
        await(&f, &f.n_listed, 2);
        assert_non_null(domain(&f, TEST_DOMAIN));
        fixture_close(&f);
}

static void test_not_connected(void **state) {
        Fixture f = { 0 };
        HypervisorFacts facts;

        fixture_open(&f, TEST_URI);
        define(&f);
        assert_refused(&f, REFUSAL_HYPERVISOR_UNAVAILABLE);
        assert_string_equal(f.refusal->subject, "box");
        act(&f, HYPERVISOR_DESTROY, UUID);
        assert_refused(&f, REFUSAL_HYPERVISOR_UNAVAILABLE);
        f.hypervisor.ops->facts(f.hypervisor.self, &facts);
        assert_false(facts.connected);
        fixture_close(&f);
}

/* An address where nobody is: it keeps trying, says nothing to core, and verbs are answered. */
static void test_unreachable(void **state) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;
        HypervisorFacts facts = { 0 };
        Fixture f = { 0 };

        fixture_open(&f, "qemu+unix:///system?socket=/nonexistent/libvirt-sock");
        assert_int_equal(libvirt_begin(f.libvirt, &fixture_events, &f), 0);
        act(&f, HYPERVISOR_START, UUID);
        assert_refused(&f, REFUSAL_HYPERVISOR_UNAVAILABLE);
        while (!facts.tried) {
                assert_true(g_get_monotonic_time() < deadline);
                assert_true(sd_event_run(f.event, DEADLINE_USEC) >= 0);
                f.hypervisor.ops->facts(f.hypervisor.self, &facts);
        }
        assert_false(facts.connected);
        assert_int_equal(f.n_connection_changed, 0);
        /* Who asks is told so at once, and not when the next attempt is due. */
        await(&f, &f.n_unreachable, 1);
        assert_awaited(&f, false);
        for (unsigned i = 2; i < 6; i++) {
                f.hypervisor.ops->look(f.hypervisor.self, UUID);
                await(&f, &f.n_unreachable, i);
        }
        f.hypervisor.ops->reach(f.hypervisor.self);
        assert_awaited(&f, true);
        await(&f, &f.n_unreachable, 6);
        assert_awaited(&f, false);
        fixture_close(&f);
}

/* Freed with everything under way: nothing is called afterwards, nothing hangs. */
static void test_free_early(void **state) {
        for (unsigned i = 0; i < 20; i++) {
                Fixture f = { 0 };

                fixture_open(&f, TEST_URI);
                if (i % 2)
                        await_connected(&f);
                else
                        assert_int_equal(libvirt_begin(f.libvirt, &fixture_events, &f), 0);
                f.hypervisor.ops->define(f.hypervisor.self, &f.spec, on_done, &f);
                f.hypervisor.ops->look(f.hypervisor.self, TEST_DOMAIN);
                fixture_close(&f);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_awaited),     cmocka_unit_test(test_connect),
                cmocka_unit_test(test_networks),    cmocka_unit_test(test_events),
                cmocka_unit_test(test_look),        cmocka_unit_test(test_many),
                cmocka_unit_test(test_relisted),    cmocka_unit_test(test_not_connected),
                cmocka_unit_test(test_unreachable), cmocka_unit_test(test_free_early),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
