/* What holders of a card are to a request: each one is named, with the way to be rid of it. A
 * driver that is used may never let go once it was asked to, so nothing is asked of it while one is
 * left. */
#include "core/check.h"

/* "process 42 (Xorg, unit gdm.service, user gdm)". */
static char *process_print(const Holder *holder) {
        g_autofree char *command = refusal_show(holder->command);

        if (!holder->command[0])
                return g_strdup_printf("process %d, which has ended", (int)holder->pid);
        return g_strdup_printf("process %d (%s%s%s, user %s)", (int)holder->pid, command,
                               holder->unit[0] ? ", unit " : "", holder->unit, holder->user);
}

static void check_process(const Holder *holder, GPtrArray *findings) {
        g_autofree char *process = process_print(holder);
        const char *remedy = "End that process first; ListHolders shows every holder.";

        /* Of keyboards, those too that nobody uses are watched, for their power keys. */
        if (g_str_has_prefix(holder->node, "/dev/input/"))
                remedy = "Unplug that input device, or end the process; ListHolders shows every "
                         "holder.";
        else if (holder->unit[0])
                remedy = "Stop that unit first; ListHolders shows every holder.";
        process[0] = g_ascii_toupper(process[0]);
        findings_error(findings, REFUSAL_GPU_BUSY, holder->node, remedy, "%s has %s open.", process,
                       holder->node);
}

static void check_mount(const Holder *holder, GPtrArray *findings) {
        g_autofree char *at = refusal_show(holder->at);
        g_autofree char *quoted = g_shell_quote(holder->at);
        g_autofree char *command = refusal_show(quoted);
        g_autofree char *process = holder->pid > 0 ? process_print(holder) : NULL;
        g_autofree char *remedy =
                process ? g_strdup_printf("Unmount it there first: nsenter -t %d -m umount %s",
                                          (int)holder->pid, command)
                        : g_strdup_printf("Unmount it first: umount %s", command);

        findings_error(findings, REFUSAL_GPU_BUSY, holder->node, remedy, "%s is mounted at %s%s%s.",
                       holder->node, at, process ? " where it is seen by " : "", process ?: "");
}

static void check_swap(const Holder *holder, GPtrArray *findings) {
        g_autofree char *remedy =
                g_strdup_printf("Take it out of use first: swapoff %s", holder->node);

        findings_error(findings, REFUSAL_GPU_BUSY, holder->node, remedy, "The host swaps to %s.",
                       holder->node);
}

static void check_member(const Holder *holder, GPtrArray *findings) {
        findings_error(findings, REFUSAL_GPU_BUSY, holder->node,
                       "Unmount it first; findmnt -t btrfs shows where it is mounted.",
                       "%s is part of the mounted btrfs %s.", holder->node, holder->at);
}

static void check_made_device(const Holder *holder, GPtrArray *findings) {
        g_autofree char *remedy =
                g_strdup_printf("Take %s apart first, as it was made: vgchange -an, cryptsetup "
                                "close, mdadm --stop.",
                                holder->at);

        findings_error(findings, REFUSAL_GPU_BUSY, holder->node, remedy,
                       "%s is part of the block device %s.", holder->node, holder->at);
}

static void check_sharer(const Holder *holder, GPtrArray *findings) {
        g_autofree char *process = process_print(holder);

        process[0] = g_ascii_toupper(process[0]);
        findings_warning(findings, REFUSAL_GPU_BUSY, holder->node,
                         "If it uses this GPU, end it first; otherwise the driver does not let go. "
                         "ListHolders shows every holder.",
                         "%s has %s open, a node that all GPUs of the driver share.", process,
                         holder->node);
}

/* Without a process, the command says how many more there are. */
static void check_unseen(const Holder *holder, GPtrArray *findings) {
        g_autofree char *process =
                holder->pid > 0 ? process_print(holder) : refusal_show(holder->command);
        g_autofree char *subject =
                holder->pid > 0 ? g_strdup_printf("%d", (int)holder->pid) : g_strdup("host");

        findings_warning(findings, REFUSAL_GPU_BUSY, subject,
                         "Make sure that it does not use the GPU, and find what keeps the service "
                         "from reading /proc, such as a security module.",
                         "Cannot find out what %s %s open: %s.", process,
                         holder->pid > 0 ? "has" : "have", holder->at);
}

static void check_netdev(const Holder *holder, GPtrArray *findings) {
        g_autofree char *shown = refusal_show(holder->node);
        g_autofree char *quoted = g_shell_quote(shown);
        g_autofree char *remedy = g_strdup_printf(
                "Take it down first, if the host can do without it: ip link set %s down", quoted);

        if (holder->node[0])
                findings_error(findings, REFUSAL_GPU_BUSY, shown, remedy,
                               "The host's network interface %s is up.", shown);
        else
                findings_error(findings, REFUSAL_GPU_BUSY, "host",
                               "End what it was given to, such as a container; then it returns to "
                               "the host.",
                               "A network interface of the card is in another network namespace.");
}

static void check_mdev(const Holder *holder, GPtrArray *findings) {
        g_autofree char *shown = refusal_show(holder->node);
        g_autofree char *remedy =
                g_strdup_printf("Shut down the machine that has it, then remove it: "
                                "echo 1 > /sys/bus/mdev/devices/%s/remove, or mdevctl stop.",
                                shown);

        findings_error(findings, REFUSAL_GPU_BUSY, shown, remedy,
                       "The mediated device %s is part of %s.", shown, holder->at);
}

/* The kernel takes the console off by itself; with some drivers it has not lived through that. */
static void check_console(const Holder *holder, GPtrArray *findings) {
        g_autofree char *remedy = g_strdup_printf(
                "To be safe, unbind the console first: echo 0 > /sys/class/vtconsole/%s/bind",
                holder->at);

        findings_warning(findings, REFUSAL_KNOWN_TROUBLE, holder->node, remedy,
                         "The host's text console is on %s, which goes with the GPU; not every "
                         "driver lets go of a GPU that shows it.",
                         holder->node);
}

static void check_module(const Holder *holder, GPtrArray *findings) {
        g_autofree char *remedy =
                g_strdup_printf("Unload it first: modprobe -r %s. For good, put this into a file "
                                "in /etc/modprobe.d: options %s modeset=0",
                                holder->node, holder->node);

        findings_error(findings, REFUSAL_GPU_BUSY, holder->at, remedy,
                       "The kernel module %s drives displays (modeset) and so holds GPU %s; a "
                       "driver older than 580.94 then never lets go of it.",
                       holder->node, holder->at);
}

void check_holders(const GPtrArray *holders, GPtrArray *findings) {
        static void (*const checks[_HOLDER_KIND_MAX])(const Holder *, GPtrArray *) = {
                [HOLDER_PROCESS] = check_process, [HOLDER_SHARER] = check_sharer,
                [HOLDER_UNSEEN] = check_unseen,   [HOLDER_MOUNT] = check_mount,
                [HOLDER_SWAP] = check_swap,       [HOLDER_DEVICE] = check_made_device,
                [HOLDER_MEMBER] = check_member,   [HOLDER_NETDEV] = check_netdev,
                [HOLDER_MDEV] = check_mdev,       [HOLDER_CONSOLE] = check_console,
                [HOLDER_MODULE] = check_module,
        };

        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);

                checks[holder->kind](holder, findings);
        }
}
