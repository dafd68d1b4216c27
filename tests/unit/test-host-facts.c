/* What the host as a whole has, on this machine's own sysfs. */
#include "host/host-facts.h"
#include "testing.h"

#include <string.h>

static void the_host_has_cpus_and_memory(void **state) {
        HostFacts facts;

        host_facts_read(&facts);
        assert_true(facts.cpus >= 1);
        assert_true(facts.memory_mib >= 64);
        assert_true(facts.memory_available_mib >= 1);
        assert_true(facts.memory_available_mib <= facts.memory_mib);
        assert_true(facts.hugepages_2m_free <= facts.hugepages_2m_total);
}

static void a_name_that_no_interface_has_is_none(void **state) {
        static const char *const names[] = {
                "", ".", "..", "../..", "lo/..", "nosuchinterface0", "a-name-that-is-far-too-long"
        };

        for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
                assert_int_equal(host_netdev(names[i]), NETDEV_NONE);
        assert_int_equal(host_netdev("lo"), NETDEV_OTHER);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_host_has_cpus_and_memory),
                cmocka_unit_test(a_name_that_no_interface_has_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
