/* The seam to libvirt while somebody else changes a machine's domain: what is seen of it without
 * being asked for, and that no verb touches a domain that is not ours any more. The other one works
 * on a connection of his own to the domains that all connections of the process share. */
#include "hypervisor/domain-look.h"
#include "hypervisor/domain-xml.h"
#include "libvirt-fixture.h"
#include "testing.h"

#include <libvirt/libvirt.h>
#include <string.h>

typedef struct Other {
        virConnectPtr connection;
        virDomainPtr domain;
} Other;

static Other other_open(Fixture *f) {
        Other other;

        fixture_open(f, SHARED_URI);
        await_connected(f);
        define(f);
        assert_done(f);
        other.connection = virConnectOpen(SHARED_URI);
        assert_non_null(other.connection);
        other.domain = virDomainLookupByUUIDString(other.connection, UUID);
        assert_non_null(other.domain);
        return other;
}

static void other_close(Other *other, Fixture *f) {
        (void)virDomainDestroy(other->domain);
        assert_int_equal(virDomainUndefine(other->domain), 0);
        virDomainFree(other->domain);
        virConnectClose(other->connection);
        fixture_close(f);
}

/* Looks that earlier events have asked for may come first. */
static void await_seen(Fixture *f, bool (*is)(const DomainFacts *facts)) {
        gint64 deadline = g_get_monotonic_time() + DEADLINE_USEC;

        while (!is(domain(f, UUID))) {
                gint64 left = deadline - g_get_monotonic_time();

                assert_true(left > 0);
                assert_true(sd_event_run(f->event, (uint64_t)left) >= 0);
        }
}

static bool is_not_ours(const DomainFacts *facts) {
        return !facts->ours;
}

static bool is_chest(const DomainFacts *facts) {
        return g_str_equal(facts->name, "chest");
}

static bool has_two_cpus(const DomainFacts *facts) {
        return facts->vcpus == 2;
}

static bool has_less_memory(const DomainFacts *facts) {
        return facts->memory_now_mib == 64;
}

static void take_element_out(Other *other, unsigned flags) {
        assert_int_equal(virDomainSetMetadata(other->domain, VIR_DOMAIN_METADATA_ELEMENT, NULL,
                                              NULL, DOMAIN_METADATA_URI, flags),
                         0);
}

static void element_that_is_taken_out_is_seen(void **state) {
        Fixture f = { 0 };
        Other other = other_open(&f);

        assert_true(domain(&f, UUID)->ours);
        take_element_out(&other, VIR_DOMAIN_AFFECT_CONFIG);
        await_seen(&f, is_not_ours);
        other_close(&other, &f);
}

static void new_name_is_seen(void **state) {
        Fixture f = { 0 };
        Other other = other_open(&f);

        assert_int_equal(virDomainRename(other.domain, "chest", 0), 0);
        await_seen(&f, is_chest);
        other_close(&other, &f);
}

/* Told by no event of libvirt's. */
static void new_number_of_cpus_is_seen_by_the_next_listing(void **state) {
        Fixture f = { 0 };
        Other other = other_open(&f);

        assert_int_equal(domain(&f, UUID)->vcpus, 3);
        assert_int_equal(virDomainSetVcpusFlags(other.domain, 2, VIR_DOMAIN_AFFECT_CONFIG), 0);
        await_seen(&f, has_two_cpus);
        other_close(&other, &f);
}

static void memory_that_was_set_is_seen(void **state) {
        Fixture f = { 0 };
        Other other = other_open(&f);

        act(&f, HYPERVISOR_START, UUID);
        assert_int_equal(domain(&f, UUID)->memory_now_mib, 96);
        assert_int_equal(virDomainSetMemoryFlags(other.domain, 64 * 1024, VIR_DOMAIN_AFFECT_LIVE),
                         0);
        f.hypervisor.ops->look(f.hypervisor.self, UUID);
        await_seen(&f, has_less_memory);
        assert_int_equal(domain(&f, UUID)->memory_mib, 96);
        other_close(&other, &f);
}

/* virsh start, between the look that said that it may go and the deed. */
static void what_runs_again_keeps_its_definition(void **state) {
        Fixture f = { 0 };
        Other other = other_open(&f);

        assert_int_equal(virDomainCreate(other.domain), 0);
        act(&f, HYPERVISOR_UNDEFINE, UUID);
        assert_refused(&f, REFUSAL_INVALID_STATE);
        assert_int_equal(virDomainIsPersistent(other.domain), 1);
        other_close(&other, &f);
}

static bool is_to_stop(const DomainFacts *facts) {
        return facts->stop_asked;
}

/* The test driver's guests end as soon as they are asked, so the note is made by hand. */
static void note_of_a_stop_lives_as_long_as_the_guest(void **state) {
        Fixture f = { 0 };
        Other other = other_open(&f);

        act(&f, HYPERVISOR_START, UUID);
        assert_done(&f);
        domain_note_stop(other.domain);
        await_seen(&f, is_to_stop);
        act(&f, HYPERVISOR_DESTROY, UUID);
        assert_false(domain(&f, UUID)->stop_asked);
        act(&f, HYPERVISOR_START, UUID);
        assert_false(domain(&f, UUID)->stop_asked);
        other_close(&other, &f);
}

static void on_xml(void *userdata, const char *xml, const Refusal *refusal) {
        on_done(userdata, refusal);
}

static void on_console(void *userdata, int fd, const Refusal *refusal) {
        assert_int_equal(fd, -1);
        on_done(userdata, refusal);
}

static void assert_every_verb_refused(Fixture *f, RefusalCode code) {
        g_autoptr(DeviceRequest) nic = device_request_new(DEVICE_NIC);
        const HypervisorOps *ops = f->hypervisor.ops;
        void *self = f->hypervisor.self;

        for (HypervisorVerb verb = HYPERVISOR_REHEARSE; verb < _HYPERVISOR_VERB_MAX; verb++) {
                act(f, verb, UUID);
                assert_refused(f, code);
        }
        nic->id = g_strdup("lan");
        nic->source = g_strdup("default");
        ops->attach(self, UUID, nic, on_done, f);
        await(f, &f->n_done, f->n_done + 1);
        assert_refused(f, code);
        ops->detach(self, UUID, DEVICE_NIC, "lan", on_done, f);
        await(f, &f->n_done, f->n_done + 1);
        assert_refused(f, code);
        ops->get_xml(self, UUID, on_xml, f);
        await(f, &f->n_done, f->n_done + 1);
        assert_refused(f, code);
        ops->open_console(self, UUID, "/dev/pts/99999", 0, on_console, f);
        await(f, &f->n_done, f->n_done + 1);
        assert_refused(f, code);
}

/* Asked for in the same moment, before anybody has looked. */
static void no_verb_touches_a_domain_that_is_not_ours_any_more(void **state) {
        Fixture f = { 0 };
        Other other = other_open(&f);

        take_element_out(&other, VIR_DOMAIN_AFFECT_CONFIG);
        act(&f, HYPERVISOR_UNDEFINE, UUID);
        assert_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        assert_non_null(strstr(f.refusal->message, "machine box"));
        assert_every_verb_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        assert_int_equal(virDomainIsActive(other.domain), 0);
        assert_int_equal(virDomainIsPersistent(other.domain), 1);
        other_close(&other, &f);
}

/* The definition is what its owner has edited; the running domain is as it was. */
static void edited_definition_is_seen_while_it_runs(void **state) {
        Fixture f = { 0 };
        Other other = other_open(&f);

        act(&f, HYPERVISOR_START, UUID);
        assert_done(&f);
        assert_true(domain(&f, UUID)->ours);
        take_element_out(&other, VIR_DOMAIN_AFFECT_CONFIG);
        await_seen(&f, is_not_ours);
        assert_true(domain(&f, UUID)->active);
        other_close(&other, &f);
}

/* Its owner has edited the definition; what runs is as it was. */
static void nor_one_whose_definition_is_not_ours_any_more(void **state) {
        Fixture f = { 0 };
        Other other = other_open(&f);

        act(&f, HYPERVISOR_START, UUID);
        assert_done(&f);
        take_element_out(&other, VIR_DOMAIN_AFFECT_CONFIG);
        assert_every_verb_refused(&f, REFUSAL_NO_SUCH_MACHINE);
        assert_int_equal(virDomainIsActive(other.domain), 1);
        other_close(&other, &f);
}

static void nor_one_that_has_another_name_by_then(void **state) {
        Fixture f = { 0 };
        Other other = other_open(&f);

        assert_int_equal(virDomainRename(other.domain, "chest", 0), 0);
        act(&f, HYPERVISOR_UNDEFINE, UUID);
        assert_refused(&f, REFUSAL_INVALID_STATE);
        assert_non_null(strstr(f.refusal->message, "is now called chest"));
        assert_int_equal(virDomainIsPersistent(other.domain), 1);
        /* That has been seen by now. */
        act(&f, HYPERVISOR_START, UUID);
        assert_done(&f);
        other_close(&other, &f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(element_that_is_taken_out_is_seen),
                cmocka_unit_test(new_name_is_seen),
                cmocka_unit_test(new_number_of_cpus_is_seen_by_the_next_listing),
                cmocka_unit_test(memory_that_was_set_is_seen),
                cmocka_unit_test(what_runs_again_keeps_its_definition),
                cmocka_unit_test(note_of_a_stop_lives_as_long_as_the_guest),
                cmocka_unit_test(no_verb_touches_a_domain_that_is_not_ours_any_more),
                cmocka_unit_test(edited_definition_is_seen_while_it_runs),
                cmocka_unit_test(nor_one_whose_definition_is_not_ours_any_more),
                cmocka_unit_test(nor_one_that_has_another_name_by_then),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
