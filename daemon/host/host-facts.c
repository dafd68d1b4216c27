/* Reads what the host as a whole has: memory, huge pages, network interfaces. Files that the kernel
 * makes from numbers it has at hand; none of them waits for a device. */
#include "host/host-facts.h"

#include "autoptr.h"
#include "host/pci-facts.h"
#include "host/reading.h"

#include <fcntl.h>
#include <net/if.h>
#include <string.h>

#define MACHINES_LIMIT "/sys/fs/cgroup/machine.slice/memory.max"

#define HUGEPAGES "/sys/kernel/mm/hugepages/hugepages-"

static uint64_t hugepages(const char *size, const char *what) {
        g_autofree char *path = g_strconcat(HUGEPAGES, size, "/", what, NULL);
        g_autofree char *text = NULL;

        return reading_text(AT_FDCWD, path, &text) > 0 ? g_ascii_strtoull(text, NULL, 10) : 0;
}

/* 0 where it is not told. */
static uint64_t memory_available_mib(void) {
        g_autofree char *text = NULL;
        const char *found = NULL;

        if (reading_text(AT_FDCWD, "/proc/meminfo", &text) > 0)
                found = strstr(text, "\nMemAvailable:");
        return found ? g_ascii_strtoull(found + strlen("\nMemAvailable:"), NULL, 10) / 1024 : 0;
}

/* What systemd's slice for machines may have, all together; 0 for no limit, which is "max" or no
 * such slice yet (Linux, Documentation/admin-guide/cgroup-v2.rst). */
static uint64_t machines_limit_mib(void) {
        g_autofree char *text = NULL;

        if (reading_text(AT_FDCWD, MACHINES_LIMIT, &text) <= 0)
                return 0;
        return g_ascii_strtoull(text, NULL, 10) >> 20;
}

void host_facts_read(HostFacts *ret) {
        pci_facts_read_host(ret);
        ret->memory_available_mib = memory_available_mib();
        ret->machines_limit_mib = machines_limit_mib();
        ret->hugepages_2m_free = hugepages("2048kB", "free_hugepages");
        ret->hugepages_2m_total = hugepages("2048kB", "nr_hugepages");
        ret->hugepages_1g_free = hugepages("1048576kB", "free_hugepages");
        ret->hugepages_1g_total = hugepages("1048576kB", "nr_hugepages");
}

NetdevKind host_netdev(const char *name) {
        g_autofree char *path = g_build_filename("/sys/class/net", name, NULL);
        g_autofree char *bridge = g_build_filename(path, "bridge", NULL);
        g_autofree char *tun = g_build_filename(path, "tun_flags", NULL);

        if (!name[0] || strlen(name) >= IFNAMSIZ || strchr(name, '/') || name[0] == '.' ||
            access(path, F_OK) < 0)
                return NETDEV_NONE;
        if (access(bridge, F_OK) == 0)
                return NETDEV_BRIDGE;
        return access(tun, F_OK) == 0 ? NETDEV_TAP : NETDEV_OTHER;
}
