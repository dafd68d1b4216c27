/* Reads what the host as a whole has: memory, huge pages, network interfaces. Files that the kernel
 * makes from numbers it has at hand; none of them waits for a device. */
#include "host/host-facts.h"

#include "autoptr.h"
#include "host/pci-facts.h"
#include "host/reading.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/stat.h>

#define MACHINES_LIMIT "/sys/fs/cgroup/machine.slice/memory.max"

/* 2: no more is promised than there is (Linux, Documentation/vm/overcommit-accounting.rst). */
#define OVERCOMMIT "/proc/sys/vm/overcommit_memory"

#define HUGEPAGES "/sys/kernel/mm/hugepages/hugepages-"

/* A file's text, NULL without one; what cannot be read is noted in @facts. */
static void text_read(const char *path, HostFacts *facts, char **ret) {
        int r = reading_text(AT_FDCWD, path, ret);

        facts->unread |= r < 0;
}

static uint64_t hugepages(const char *size, const char *what, HostFacts *ret) {
        g_autofree char *path = g_strconcat(HUGEPAGES, size, "/", what, NULL);
        g_autofree char *text = NULL;

        text_read(path, ret, &text);
        return text ? g_ascii_strtoull(text, NULL, 10) : 0;
}

/* The line @name of /proc/meminfo, in MiB. 0 where it is not told. */
static uint64_t meminfo_mib(const char *meminfo, const char *name) {
        const char *found = meminfo ? strstr(meminfo, name) : NULL;

        return found ? g_ascii_strtoull(found + strlen(name), NULL, 10) / 1024 : 0;
}

static void read_meminfo(HostFacts *ret) {
        g_autofree char *text = NULL;
        g_autofree char *policy = NULL;
        uint64_t limit, promised;

        text_read("/proc/meminfo", ret, &text);
        text_read(OVERCOMMIT, ret, &policy);
        ret->memory_available_mib = meminfo_mib(text, "\nMemAvailable:");
        limit = meminfo_mib(text, "\nCommitLimit:");
        promised = meminfo_mib(text, "\nCommitted_AS:");
        ret->promises_left_mib = limit > promised ? limit - promised : 0;
        ret->promises_bounded = limit > 0 && g_strcmp0(policy, "2") == 0;
}

/* What systemd's slice for machines may have, all together; 0 for no limit, which is "max" or no
 * such slice yet (Linux, Documentation/admin-guide/cgroup-v2.rst). */
static uint64_t machines_limit_mib(HostFacts *ret) {
        g_autofree char *text = NULL;

        text_read(MACHINES_LIMIT, ret, &text);
        return text ? g_ascii_strtoull(text, NULL, 10) >> 20 : 0;
}

void host_facts_read(HostFacts *ret) {
        pci_facts_read_host(ret);
        read_meminfo(ret);
        ret->machines_limit_mib = machines_limit_mib(ret);
        ret->hugepages_2m_free = hugepages("2048kB", "free_hugepages", ret);
        ret->hugepages_2m_total = hugepages("2048kB", "nr_hugepages", ret);
        ret->hugepages_1g_free = hugepages("1048576kB", "free_hugepages", ret);
        ret->hugepages_1g_total = hugepages("1048576kB", "nr_hugepages", ret);
}

/* A queue that a process has open makes the carrier of a tap (Linux, drivers/net/tun.c,
 * tun_set_iff() and __tun_detach()), and without one its state is "down"; so it is while the
 * interface is not up. The state follows the carrier within a second (net/core/link_watch.c).
 * Unlike "carrier", whose reader waits for the lock of the whole network configuration since Linux
 * 6.8, it is read without one (net/core/net-sysfs.c, operstate_show()). */
static NetdevKind tun_kind(const char *path, const char *flags) {
        guint64 value = g_ascii_strtoull(flags, NULL, 16);
        g_autofree char *operstate = g_build_filename(path, "operstate", NULL);
        g_autofree char *text = NULL;
        int r;

        if (!(value & IFF_TAP))
                return NETDEV_OTHER;
        if (value & IFF_MULTI_QUEUE)
                return NETDEV_TAP_QUEUES;
        r = reading_text(AT_FDCWD, operstate, &text);
        if (r <= 0)
                return NETDEV_UNKNOWN;
        return g_str_equal(text, "down") || g_str_equal(text, "lowerlayerdown") ? NETDEV_TAP
                                                                                : NETDEV_TAP_TAKEN;
}

NetdevKind host_netdev(const char *folder, const char *name) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *bridge = g_build_filename(path, "bridge", NULL);
        g_autofree char *tun = g_build_filename(path, "tun_flags", NULL);
        g_autofree char *flags = NULL;
        int r;

        if (!name[0] || strlen(name) >= IFNAMSIZ || strchr(name, '/') || name[0] == '.')
                return NETDEV_NONE;
        r = reading_exists(AT_FDCWD, path);
        if (r <= 0)
                return r < 0 ? NETDEV_UNKNOWN : NETDEV_NONE;
        r = reading_exists(AT_FDCWD, bridge);
        if (r != 0)
                return r < 0 ? NETDEV_UNKNOWN : NETDEV_BRIDGE;
        r = reading_text(AT_FDCWD, tun, &flags);
        if (r < 0)
                return NETDEV_UNKNOWN;
        return r > 0 ? tun_kind(path, flags) : NETDEV_OTHER;
}

/* The value of the option @name, such as "size=", as a number; false where it is not there. */
static bool option_take(char *const *options, const char *name, unsigned base, guint64 *ret) {
        for (; *options; options++)
                if (g_str_has_prefix(*options, name)) {
                        *ret = g_ascii_strtoull(*options + strlen(name), NULL, base);
                        return true;
                }
        return false;
}

/* The kernel writes sizes as "pagesize=2M" and "pagesize=1024M", a limit in bytes, and of the root
 * folder's owner and mode what is not 0 and 0755 (fs/hugetlbfs/inode.c, hugetlbfs_show_options()).
 */
static HugepagesMount mount_of(char *const *options) {
        HugepagesMount mount = { 0 };
        guint64 bytes = 0, mode = 0755, uid = 0;

        if (option_take(options, "size=", 10, &bytes))
                mount.limit_mib = bytes >> 20;
        (void)option_take(options, "mode=", 8, &mode);
        (void)option_take(options, "uid=", 10, &uid);
        mount.shut = (mode & (S_IXGRP | S_IXOTH)) == 0;
        mount.owner = (uid_t)uid;
        return mount;
}

HugepagesMount host_mounts_find_hugepages(const char *mounts, unsigned page_mib) {
        g_auto(GStrv) lines = g_strsplit(mounts, "\n", -1);
        g_autofree char *size = g_strdup_printf("pagesize=%uM", page_mib);

        for (char **line = lines; *line; line++) {
                g_auto(GStrv) fields = g_strsplit(*line, " ", -1);
                g_auto(GStrv) options = NULL;

                if (g_strv_length(fields) < 4 || !g_str_equal(fields[2], "hugetlbfs"))
                        continue;
                options = g_strsplit(fields[3], ",", -1);
                if (g_strv_contains((const char *const *)options, size))
                        return mount_of(options);
        }
        return (HugepagesMount){ .unmounted = true };
}

HugepagesMount host_hugepages_mount(unsigned page_mib) {
        g_autofree char *mounts = NULL;

        if (reading_text(AT_FDCWD, "/proc/self/mounts", &mounts) <= 0)
                return (HugepagesMount){ 0 };
        return host_mounts_find_hugepages(mounts, page_mib);
}
