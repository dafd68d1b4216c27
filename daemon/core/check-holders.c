/* What holders of a card are to a request: each one is named, with the way to be rid of it. A
 * driver that is used may never let go once it was asked to, so nothing is asked of it while one is
 * left. */
#include "core/check.h"

/* "process 42 (Xorg, unit gdm.service, user gdm)". */
static char *process_print(const Holder *holder) {
        g_autofree char *command = refusal_show(holder->command);

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

static void check_made_device(const Holder *holder, GPtrArray *findings) {
        g_autofree char *remedy =
                g_strdup_printf("Take %s apart first, as it was made: vgchange -an, cryptsetup "
                                "close, mdadm --stop.",
                                holder->at);

        findings_error(findings, REFUSAL_GPU_BUSY, holder->node, remedy,
                       "%s is part of the block device %s.", holder->node, holder->at);
}

void check_holders(const GPtrArray *holders, GPtrArray *findings) {
        static void (*const checks[_HOLDER_KIND_MAX])(const Holder *, GPtrArray *) = {
                [HOLDER_PROCESS] = check_process,
                [HOLDER_MOUNT] = check_mount,
                [HOLDER_SWAP] = check_swap,
                [HOLDER_DEVICE] = check_made_device,
        };

        for (guint i = 0; i < holders->len; i++) {
                const Holder *holder = g_ptr_array_index(holders, i);

                checks[holder->kind](holder, findings);
        }
}
