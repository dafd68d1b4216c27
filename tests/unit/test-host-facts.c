/* What the host as a whole has, on this machine's own sysfs. */
#include "host/host-facts.h"
#include "testing.h"

#include <glib/gstdio.h>
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
                assert_int_equal(host_netdev(HOST_NETDEVS, names[i]), NETDEV_NONE);
        assert_int_equal(host_netdev(HOST_NETDEVS, "lo"), NETDEV_OTHER);
}

/* Files in folders in it. */
static void folder_remove(const char *folder) {
        g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
        const char *name;

        while (dir && (name = g_dir_read_name(dir))) {
                g_autofree char *path = g_build_filename(folder, name, NULL);

                folder_remove(path);
        }
        assert_int_equal(g_remove(folder), 0);
}

static void netdev_make(const char *folder, const char *name, const char *flags,
                        const char *state) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *tun = g_build_filename(path, "tun_flags", NULL);
        g_autofree char *operstate = g_build_filename(path, "operstate", NULL);

        assert_int_equal(g_mkdir_with_parents(path, 0700), 0);
        assert_true(g_file_set_contents(tun, flags, -1, NULL));
        if (state)
                assert_true(g_file_set_contents(operstate, state, -1, NULL));
}

static void a_tap_is_known_from_a_tunnel_and_from_one_that_is_taken(void **state) {
        static const struct {
                const char *flags, *operstate;
                NetdevKind kind;
        } rows[] = {
                { "0x1802\n", "down\n", NETDEV_TAP },
                { "0x1802\n", NULL, NETDEV_UNKNOWN }, /* it has just gone, or been renamed */
                { "0x5002\n", "up\n", NETDEV_TAP_TAKEN },
                { "0x5002\n", "unknown\n", NETDEV_TAP_TAKEN },
                { "0x1902\n", "down\n", NETDEV_TAP_QUEUES },
                { "0x1801\n", "down\n", NETDEV_OTHER },
        };
        g_autofree char *folder = g_dir_make_tmp("feos-netdevs-XXXXXX", NULL);

        for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
                g_autofree char *name = g_strdup_printf("tap%zu", i);

                netdev_make(folder, name, rows[i].flags, rows[i].operstate);
                assert_int_equal(host_netdev(folder, name), rows[i].kind);
        }
        folder_remove(folder);
}

static void huge_pages_are_mounted_by_their_size(void **state) {
        static const char mounts[] =
                "proc /proc proc rw,nosuid 0 0\n"
                "hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n"
                "x /pagesize=1024M tmpfs rw,pagesize=1024M 0 0\n";

        HugepagesMount mount = host_mounts_find_hugepages(mounts, 2);

        assert_false(mount.unmounted || mount.shut);
        assert_int_equal(mount.limit_mib, 0);
        assert_true(host_mounts_find_hugepages(mounts, 1024).unmounted);
        assert_true(host_mounts_find_hugepages("", 2).unmounted);
        mount = host_mounts_find_hugepages(
                "none /mnt hugetlbfs rw,uid=64055,mode=700,pagesize=1024M,size=4294967296 0 0\n"
                "none /srv hugetlbfs rw,pagesize=1024M 0 0\n",
                1024);
        assert_true(mount.shut);
        assert_int_equal(mount.owner, 64055);
        assert_int_equal(mount.limit_mib, 4096);
        mount = host_mounts_find_hugepages("n /m hugetlbfs rw,gid=1,mode=770,pagesize=2M 0 0\n", 2);
        assert_false(mount.shut);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_host_has_cpus_and_memory),
                cmocka_unit_test(a_name_that_no_interface_has_is_none),
                cmocka_unit_test(a_tap_is_known_from_a_tunnel_and_from_one_that_is_taken),
                cmocka_unit_test(huge_pages_are_mounted_by_their_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
