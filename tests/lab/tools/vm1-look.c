/* Looks at the whole lab host as often as it is asked to, for tests/lab/host/invariants.sh: a
 * program for each of its questions would take longer to start than to answer.
 *
 * It reads requests, a line each, and answers each with lines of words between tabs, "-" for an
 * empty one, and "." at the end:
 *
 *   look             all of the lines below, but for memory
 *   look-unlibvirt   the same without domains: to ask libvirt would start it
 *   memory ADDRESS   each BAR of a function that is not where the kernel has put it
 *
 *   had GROUP PID                  a QEMU had that VFIO group open before the others were looked at
 *   function ADDRESS DRIVER GROUP
 *   holds GROUP PID                has it open after that
 *   qemu PID NAME
 *   helper PID                     one of the service's own
 *   daemon PID DESCRIPTORS KIB     what it has open, and its resident memory
 *   domain NAME STATE              in virsh's words, or "being started"
 *   gpu ADDRESS STATE PENDING FAULT DRIVER MACHINE MESSAGE
 *   machine NAME STATE LEADER
 *   memory BAR IS SHOULD */
#include "autoptr-bus.h"
#include "autoptr.h"

#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SYS_DEVICES "/sys/bus/pci/devices"
#define QEMU        "qemu-system-x86" /* as much of its name as comm has */
#define CALL_USEC   (60 * UINT64_C(1000000))

#define BARS       6
#define BARS_AT    0x10  /* PCI_BASE_ADDRESS_0, include/uapi/linux/pci_regs.h */
#define IS_MEMORY  0x200 /* IORESOURCE_MEM, include/linux/ioport.h */
#define BAR_MEMORY UINT32_C(0xfffffff0)

/* --- Processes --- */

static char *proc_read(const char *pid, const char *file, size_t *ret_length) {
        g_autofree char *path = g_build_filename("/proc", pid, file, NULL);
        char *text = NULL;

        return g_file_get_contents(path, &text, ret_length, NULL) ? text : g_strdup("");
}

/* Where @directory/@name leads to, its last part, or "-". */
static char *link_read(const char *directory, const char *name) {
        g_autofree char *path = g_build_filename(directory, name, NULL);
        g_autofree char *target = g_file_read_link(path, NULL);

        return target ? g_path_get_basename(target) : g_strdup("-");
}

static unsigned descriptors(const char *pid) {
        g_autofree char *path = g_build_filename("/proc", pid, "fd", NULL);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        unsigned n = 0;

        while (dir && g_dir_read_name(dir))
                n++;
        return n;
}

/* "guest=box,debug-threads=on" is one of QEMU's arguments. */
static void qemu_tell(const char *pid) {
        size_t length = 0;
        g_autofree char *arguments = proc_read(pid, "cmdline", &length);

        for (const char *a = arguments; a < arguments + length; a += strlen(a) + 1)
                if (g_str_has_prefix(a, "guest="))
                        printf("qemu\t%s\t%.*s\n", pid, (int)strcspn(a + 6, ","), a + 6);
}

static void groups_tell(const char *pid, const char *word) {
        g_autofree char *path = g_build_filename("/proc", pid, "fd", NULL);
        g_autoptr(GHashTable) groups = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        const char *fd;

        while (dir && (fd = g_dir_read_name(dir))) {
                g_autofree char *link = g_build_filename(path, fd, NULL);
                g_autofree char *target = g_file_read_link(link, NULL);

                if (!target || !g_str_has_prefix(target, "/dev/vfio/") ||
                    !g_ascii_isdigit(target[strlen("/dev/vfio/")]))
                        continue;
                if (g_hash_table_add(groups, g_strdup(target)))
                        printf("%s\t%s\t%s\n", word, target + strlen("/dev/vfio/"), pid);
        }
}

/* A child between fork and exec has the daemon's name, too. */
static void daemon_tell(const char *pid) {
        g_autofree char *status = proc_read(pid, "status", NULL);
        const char *parent = strstr(status, "\nPPid:\t1\n");
        const char *memory = strstr(status, "\nVmRSS:");

        if (parent && memory)
                printf("daemon\t%s\t%u\t%lu\n", pid, descriptors(pid),
                       strtoul(memory + strlen("\nVmRSS:"), NULL, 10));
}

static void process_tell(const char *pid, const char *comm) {
        if (strcmp(comm, QEMU) == 0) {
                qemu_tell(pid);
                groups_tell(pid, "holds");
        } else if (strcmp(comm, "feos-vm-handove") == 0 || strcmp(comm, "feos-vm-survey") == 0)
                printf("helper\t%s\n", pid);
        else if (strcmp(comm, "feos-vmd") == 0)
                daemon_tell(pid);
}

static void former_holder_tell(const char *pid, const char *comm) {
        if (strcmp(comm, QEMU) == 0)
                groups_tell(pid, "had");
}

static void processes_walk(void (*tell)(const char *pid, const char *comm)) {
        g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
        const char *pid;

        while ((pid = g_dir_read_name(dir)))
                if (g_ascii_isdigit(pid[0])) {
                        g_autofree char *comm = proc_read(pid, "comm", NULL);

                        tell(pid, g_strchomp(comm));
                }
}

/* --- Devices --- */

static void functions_tell(void) {
        g_autoptr(GDir) dir = g_dir_open(SYS_DEVICES, 0, NULL);
        const char *address;

        while ((address = g_dir_read_name(dir))) {
                g_autofree char *path = g_build_filename(SYS_DEVICES, address, NULL);
                g_autofree char *driver = link_read(path, "driver");
                g_autofree char *group = link_read(path, "iommu_group");

                printf("function\t%s\t%s\t%s\n", address, driver, group);
        }
}

/* "0x00000000fd000000 0x00000000fdffffff 0x0000000000042208" is a line of a function's resources.
 */
static void memory_tell(const char *address) {
        g_autofree char *config = g_build_filename(SYS_DEVICES, address, "config", NULL);
        g_autofree char *resources = g_build_filename(SYS_DEVICES, address, "resource", NULL);
        g_autofree char *text = NULL;
        g_autofd int fd = open(config, O_RDONLY | O_CLOEXEC);
        uint32_t bars[BARS];
        const char *line;

        if (fd < 0 || pread(fd, bars, sizeof bars, BARS_AT) != (ssize_t)sizeof bars ||
            !g_file_get_contents(resources, &text, NULL, NULL))
                return;
        line = text;
        for (size_t i = 0; i < BARS && line; i++) {
                unsigned long long start, flags;
                uint32_t is = GUINT32_FROM_LE(bars[i]) & BAR_MEMORY;

                if (sscanf(line, "%llx %*x %llx", &start, &flags) == 2 && (flags & IS_MEMORY) &&
                    is != ((uint32_t)start & BAR_MEMORY))
                        printf("memory\t%zu\t%#x\t%#llx\n", i, is, start);
                line = strchr(line, '\n');
                line = line ? line + 1 : NULL;
        }
}

/* --- libvirt --- */

/* virsh does not tell a domain that is only being started from one that somebody has paused. */
static const char *domain_state(int state, int reason) {
        static const char *const words[] = {
                [VIR_DOMAIN_RUNNING] = "running",       [VIR_DOMAIN_BLOCKED] = "idle",
                [VIR_DOMAIN_PAUSED] = "paused",         [VIR_DOMAIN_SHUTDOWN] = "in shutdown",
                [VIR_DOMAIN_SHUTOFF] = "shut off",      [VIR_DOMAIN_CRASHED] = "crashed",
                [VIR_DOMAIN_PMSUSPENDED] = "suspended",
        };

        if (state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_STARTING_UP)
                return "being started";
        return state >= 0 && state < (int)G_N_ELEMENTS(words) && words[state] ? words[state] : "-";
}

static void on_libvirt_error(void *userdata, virErrorPtr error) {
        /* It would write to our standard error; that it does not answer is seen from what is not
         * said. */
}

static void domains_tell(void) {
        virConnectPtr connection = virConnectOpen("qemu:///system");
        virDomainPtr *domains = NULL;
        int n = connection ? virConnectListAllDomains(connection, &domains, 0) : 0;

        for (int i = 0; i < n; i++) {
                int state = -1, reason = 0;

                (void)virDomainGetState(domains[i], &state, &reason, 0);
                printf("domain\t%s\t%s\n", virDomainGetName(domains[i]),
                       domain_state(state, reason));
                virDomainFree(domains[i]);
        }
        free(domains);
        if (connection)
                virConnectClose(connection);
}

/* --- The service --- */

/* The properties of one interface as text, by their names. Only strings and numbers are of
 * interest. */
static GHashTable *properties_read(sd_bus_message *m) {
        GHashTable *properties = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

        sd_bus_message_enter_container(m, 'a', "{sv}");
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                const char *name = NULL, *contents = NULL, *text = NULL;
                uint32_t number = 0;
                char type;

                sd_bus_message_read(m, "s", &name);
                sd_bus_message_peek_type(m, &type, &contents);
                if (strcmp(contents, "s") == 0) {
                        sd_bus_message_read(m, "v", "s", &text);
                        g_hash_table_insert(
                                properties, g_strdup(name),
                                g_strdelimit(g_strdup(*text ? text : "-"), "\t\n", ' '));
                } else if (strcmp(contents, "u") == 0) {
                        sd_bus_message_read(m, "v", "u", &number);
                        g_hash_table_insert(properties, g_strdup(name),
                                            g_strdup_printf("%u", number));
                } else
                        sd_bus_message_skip(m, "v");
                sd_bus_message_exit_container(m);
        }
        sd_bus_message_exit_container(m);
        return properties;
}

static void object_tell(const char *interface, GHashTable *properties) {
        static const char *const gpu[] = { "Address", "State",       "Pending",      "Fault",
                                           "Driver",  "MachineName", "FaultMessage", NULL };
        static const char *const machine[] = { "Name", "State", "LeaderPID", NULL };
        bool is_gpu = strcmp(interface, "org.feos.VM1.GPU") == 0;

        if (!is_gpu && strcmp(interface, "org.feos.VM1.Machine") != 0)
                return;
        printf(is_gpu ? "gpu" : "machine");
        for (const char *const *name = is_gpu ? gpu : machine; *name; name++) {
                const char *value = g_hash_table_lookup(properties, *name);

                printf("\t%s", value ? value : "-");
        }
        printf("\n");
}

static void objects_tell(void) {
        g_autoptr(sd_bus) bus = NULL;
        g_autoptr(sd_bus_message) call = NULL;
        g_autoptr(sd_bus_message) reply = NULL;

        if (sd_bus_open_system(&bus) < 0 ||
            sd_bus_message_new_method_call(bus, &call, "org.feos.VM1", "/org/feos/VM1",
                                           "org.freedesktop.DBus.ObjectManager",
                                           "GetManagedObjects") < 0 ||
            sd_bus_call(bus, call, CALL_USEC, NULL, &reply) < 0)
                return;
        sd_bus_message_enter_container(reply, 'a', "{oa{sa{sv}}}");
        while (sd_bus_message_enter_container(reply, 'e', "oa{sa{sv}}") > 0) {
                sd_bus_message_skip(reply, "o");
                sd_bus_message_enter_container(reply, 'a', "{sa{sv}}");
                while (sd_bus_message_enter_container(reply, 'e', "sa{sv}") > 0) {
                        g_autoptr(GHashTable) properties = NULL;
                        const char *interface = NULL;

                        sd_bus_message_read(reply, "s", &interface);
                        properties = properties_read(reply);
                        object_tell(interface, properties);
                        sd_bus_message_exit_container(reply);
                }
                sd_bus_message_exit_container(reply);
                sd_bus_message_exit_container(reply);
        }
}

/* --- Requests --- */

static void request_answer(const char *request) {
        if (g_str_has_prefix(request, "memory ")) {
                memory_tell(request + strlen("memory "));
        } else {
                processes_walk(former_holder_tell);
                functions_tell();
                processes_walk(process_tell);
                if (strcmp(request, "look-unlibvirt") != 0)
                        domains_tell();
                objects_tell();
        }
        printf(".\n");
        fflush(stdout);
}

int main(void) {
        char request[128];

        virSetErrorFunc(NULL, on_libvirt_error);
        while (fgets(request, sizeof request, stdin))
                request_answer(g_strchomp(request));
        return EXIT_SUCCESS;
}
