/* Whether the host has the memory that a machine wants. Where the machine has GPUs all of it is
 * taken at the start and kept, for the devices write to it whenever they like (Linux, VFIO pins
 * what is mapped); what is not free then is made free by the kernel, which kills processes at last.
 * What cannot be is refused: more than the host has, more than all machines may have, huge pages
 * that are not reserved. What is only an estimate is a warning.
 *
 * RLIMIT_MEMLOCK is no matter here: libvirt raises it for a machine with VFIO devices to what that
 * needs (src/qemu/qemu_domain.c, qemuDomainGetMemLockLimitBytes()). */
#include "core/check.h"

/* What QEMU takes for itself: tables, buffers, firmware, libraries. */
#define QEMU_MIB 192

/* libvirt looks for the mounts when it is started (libvirt 9.0.0, src/util/virfile.c,
 * virFileFindHugeTLBFS()); Debian mounts pages of the default size alone. It makes a folder in the
 * first one, and gives that to QEMU's user. */
static void check_hugepages_mount(const CheckFacts *facts, const char *size, uint64_t wanted_mib,
                                  GPtrArray *findings) {
        const HugepagesMount *mount = &facts->hugepages;
        uid_t qemu = facts->hypervisor.qemu_uid;
        g_autofree char *remedy = g_strdup_printf(
                "Mount them, for good in /etc/fstab, and restart libvirt: mkdir "
                "-p /dev/hugepages%s && mount -t hugetlbfs -o pagesize=%s hugetlbfs "
                "/dev/hugepages%s && systemctl restart libvirtd",
                size, size, size);

        if (mount->unmounted)
                findings_error(findings, REFUSAL_INVALID_OPTION, "hugepages", remedy,
                               "Huge pages of %s are not mounted, and libvirt needs them mounted.",
                               size);
        else if (mount->limit_mib > 0 && mount->limit_mib < wanted_mib)
                findings_error(findings, REFUSAL_INVALID_OPTION, "hugepages",
                               "Mount them with a larger size=, or with none.",
                               "The machine takes %" G_GUINT64_FORMAT
                               " MiB, and the mount of huge pages of %s gives no more than "
                               "%" G_GUINT64_FORMAT " MiB.",
                               wanted_mib, size, mount->limit_mib);
        else if (mount->shut && qemu != 0 && qemu != mount->owner)
                findings_error(findings, REFUSAL_INVALID_OPTION, "hugepages",
                               "Mount them with mode=0755.",
                               "QEMU's user (%u) may not enter the mount of huge pages of %s.",
                               qemu, size);
}

/* A machine's memory must be all huge pages, and they must be there before it starts. */
void check_hugepages(const CheckFacts *facts, const Request *request, GPtrArray *findings) {
        bool large = request->hugepages == HUGEPAGES_1G;
        uint64_t page_mib = large ? 1024 : 2;
        uint64_t free_pages = large ? facts->host.hugepages_1g_free : facts->host.hugepages_2m_free;
        uint64_t total = large ? facts->host.hugepages_1g_total : facts->host.hugepages_2m_total;
        uint64_t needed = request->memory_mib / page_mib;
        g_autofree char *remedy = NULL;

        if (request->hugepages == HUGEPAGES_NONE || request->hugepages == HUGEPAGES_OTHER)
                return;
        if (request->memory_mib % page_mib != 0) {
                findings_error(findings, REFUSAL_INVALID_OPTION, "hugepages",
                               "Make memory-mib a multiple of the page size.",
                               "Machine %s would have %" G_GUINT64_FORMAT
                               " MiB of memory, which is not a whole number of %s pages.",
                               request->name, request->memory_mib, large ? "1G" : "2M");
                return;
        }
        check_hugepages_mount(facts, large ? "1G" : "2M", request->memory_mib, findings);
        if (free_pages >= needed)
                return;
        remedy = g_strdup_printf("Reserve more: echo %" G_GUINT64_FORMAT
                                 " > /sys/kernel/mm/hugepages/hugepages-%ukB/nr_hugepages",
                                 total + needed - free_pages, large ? 1048576u : 2048u);
        findings_error(findings, REFUSAL_INVALID_OPTION, "hugepages", remedy,
                       "The machine needs %" G_GUINT64_FORMAT
                       " huge pages of %s, and of the host's %" G_GUINT64_FORMAT
                       " reserved ones %" G_GUINT64_FORMAT " are free.",
                       needed, large ? "1G" : "2M", total, free_pages);
}

/* What is available is an estimate: the kernel may give back more than it says (ZFS's cache counts
 * as used), or have to give it to somebody else before. */
static void check_free(const CheckFacts *facts, const MachineMemory *memory, uint64_t wanted,
                       GPtrArray *findings) {
        if (facts->host.memory_available_mib == 0 || wanted <= facts->host.memory_available_mib)
                return;
        findings_warning(findings, REFUSAL_INVALID_OPTION, "memory-mib",
                         "Make sure there is enough: free -m and systemd-cgtop show what uses it. "
                         "A file system's cache (ZFS's ARC) may count as used, but is given back.",
                         "The machine takes %" G_GUINT64_FORMAT
                         " MiB of memory with QEMU's own%s, but the host has %" G_GUINT64_FORMAT
                         " MiB available",
                         wanted, memory->pinned ? ", all of it at once for its GPUs" : "",
                         facts->host.memory_available_mib);
}

/* Memory that is not pinned can be swapped, and may never be touched. */
static void tell(const MachineMemory *memory, GPtrArray *findings, const char *remedy,
                 const char *message) {
        if (memory->pinned)
                findings_error(findings, REFUSAL_INVALID_OPTION, "memory-mib", remedy, "%s",
                               message);
        else
                findings_warning(findings, REFUSAL_INVALID_OPTION, "memory-mib", remedy, "%s",
                                 message);
}

/* All machines live in one control group of systemd's; where the administrator has limited it, the
 * kernel kills there as if the host had no more. */
static void check_limit(const CheckFacts *facts, const MachineMemory *memory, uint64_t wanted,
                        GPtrArray *findings) {
        uint64_t limit = facts->host.machines_limit_mib;
        g_autofree char *message = NULL;
        g_autofree char *remedy = NULL;

        if (limit == 0 || facts->machines_mib + wanted <= limit)
                return;
        remedy = g_strdup_printf(
                "Raise it: systemctl set-property machine.slice MemoryMax=%" G_GUINT64_FORMAT "M",
                facts->machines_mib + wanted);
        message = g_strdup_printf(
                "The machine takes %" G_GUINT64_FORMAT
                " MiB of memory with QEMU's own, running ones have %" G_GUINT64_FORMAT
                " MiB, and all may have %" G_GUINT64_FORMAT " MiB (MemoryMax= of machine.slice)",
                wanted, facts->machines_mib, limit);
        tell(memory, findings, remedy, message);
}

/* Then the kernel refuses QEMU the memory when it asks for it, used or not. */
static void check_promises(const CheckFacts *facts, const MachineMemory *memory,
                           GPtrArray *findings) {
        if (!facts->host.promises_bounded || memory->huge ||
            memory->mib <= facts->host.promises_left_mib)
                return;
        findings_error(findings, REFUSAL_INVALID_OPTION, "memory-mib",
                       "Let the kernel promise more: raise vm.overcommit_ratio, or sysctl "
                       "vm.overcommit_memory=0",
                       "The machine takes %" G_GUINT64_FORMAT
                       " MiB of memory, but the kernel promises no more than %" G_GUINT64_FORMAT
                       " MiB (vm.overcommit_memory is 2).",
                       memory->mib, facts->host.promises_left_mib);
}

void check_memory(const CheckFacts *facts, const MachineMemory *memory, GPtrArray *findings) {
        /* Huge pages are set aside already, and counted nowhere else. */
        uint64_t wanted = (memory->huge ? 0 : memory->mib) + QEMU_MIB;

        if (memory->mib > facts->host.memory_mib) {
                g_autofree char *has = g_strdup_printf(
                        "The host has %" G_GUINT64_FORMAT " MiB of memory; %s.",
                        facts->host.memory_mib,
                        facts->definition
                                ? "give the machine less with virsh setmem and setmaxmem, --config"
                                : "ask for less");

                findings_error(findings, REFUSAL_INVALID_OPTION, "memory-mib", has,
                               "Machine %s would have %" G_GUINT64_FORMAT
                               " MiB of memory, more than the host has.",
                               memory->machine, memory->mib);
                return;
        }
        if (!memory->now)
                return;
        check_free(facts, memory, wanted, findings);
        check_limit(facts, memory, wanted, findings);
        check_promises(facts, memory, findings);
}
