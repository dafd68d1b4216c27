/* Finds who holds a card: goes through all processes, and puts together what survey-kernel.c has
 * found besides. It refuses to judge; that is core's. */
#include "survey-holders.h"

#include "reading.h"
#include "survey-kernel.h"
#include "survey-kfd.h"
#include "survey-process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* So many that could not be looked at are named; of the others only the number is told. */
#define UNSEEN_NAMED_MAX 8

typedef struct Survey {
        const GArray *functions;
        GArray *nodes;
        Mounts *mounts;
        GPtrArray *holders;
        unsigned unseen;
        unsigned unseen_pid; /* the last one */
        int unseen_error;
} Survey;

/* --- who a process is --- */

static int process_read(unsigned pid, const char *name, char **ret) {
        g_autofree char *path = g_strdup_printf("/proc/%u/%s", pid, name);

        return reading_text(AT_FDCWD, path, ret);
}

/* The last service or scope in the process's control group; "" for none. */
static char *unit_find(const char *cgroup) {
        g_auto(GStrv) parts = g_strsplit_set(cgroup ?: "", "/\n", -1);
        const char *unit = "";

        for (char **part = parts; *part; part++)
                if (g_str_has_suffix(*part, ".service") || g_str_has_suffix(*part, ".scope"))
                        unit = *part;
        return g_strdup(unit);
}

/* Who the process behind the entry is. False when it has ended meanwhile. */
static bool holder_describe(Holder *holder) {
        unsigned pid = (unsigned)holder->pid;
        g_autofree char *status = NULL;
        g_autofree char *command = NULL;
        g_autofree char *cgroup = NULL;
        const char *uid;

        if (process_read(pid, "status", &status) == 0 || process_read(pid, "comm", &command) == 0 ||
            process_read(pid, "cgroup", &cgroup) == 0)
                return false;
        uid = status ? strstr(status, "\nUid:") : NULL;
        if (uid)
                sscanf(uid + strlen("\nUid:"), "%u", &holder->uid);
        g_free(holder->command);
        holder->command = command ? g_steal_pointer(&command) : g_strdup("");
        g_free(holder->unit);
        holder->unit = unit_find(cgroup);
        return true;
}

/* A process that has ended holds nothing any more; a mount that it saw others may see still. */
static void holders_describe(GPtrArray *holders) {
        for (guint i = 0; i < holders->len;) {
                Holder *holder = g_ptr_array_index(holders, i);

                if (holder->pid > 0 && !holder_describe(holder) && holder->kind != HOLDER_MOUNT)
                        g_ptr_array_remove_index(holders, i);
                else
                        i++;
        }
}

/* --- what it has --- */

static void holder_add(Survey *survey, HolderKind kind, unsigned pid, const char *node) {
        Holder *holder = holder_new(kind, node);

        holder->pid = (pid_t)pid;
        g_ptr_array_add(survey->holders, holder);
}

/* Whether it has a node of a certain card of the driver open: then the shared ones are for that. */
static bool found_has_card(const GPtrArray *found) {
        for (guint i = 0; i < found->len; i++) {
                const Node *node = g_ptr_array_index(found, i);

                if (node->use == NODE_OWN || node->use == NODE_OTHERS)
                        return true;
        }
        return false;
}

static int kfd_tell(Survey *survey, unsigned pid, const Node *node) {
        KfdUse use;
        int r = kfd_read_use(pid, survey->functions, &use);

        if (r < 0)
                return r;
        if (use == KFD_USES || use == KFD_UNTOLD)
                holder_add(survey, HOLDER_PROCESS, pid, node->path);
        else if (use == KFD_IDLE)
                holder_add(survey, HOLDER_SHARER, pid, node->path);
        return 0;
}

static int found_tell(Survey *survey, unsigned pid, const GPtrArray *found) {
        bool told = found_has_card(found);
        int r = 0;

        for (guint i = 0; r == 0 && i < found->len; i++) {
                const Node *node = g_ptr_array_index(found, i);

                if (node->use == NODE_OWN)
                        holder_add(survey, HOLDER_PROCESS, pid, node->path);
                else if (node->use == NODE_KFD)
                        r = kfd_tell(survey, pid, node);
                else if (node->use == NODE_SHARED && !told) {
                        holder_add(survey, HOLDER_SHARER, pid, node->path);
                        told = true; /* once is enough */
                }
        }
        return r;
}

/* CAP_SYS_PTRACE, without which /proc shows little of other users' processes. */
static bool may_look_at_others(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[2];

        return syscall(SYS_capget, &header, data) == 0 &&
               (data[0].effective & (1u << CAP_SYS_PTRACE)) != 0;
}

/* Takes @command. */
static void unseen_add(Survey *survey, unsigned pid, char *command, int error) {
        Holder *holder = holder_new(HOLDER_UNSEEN, "");

        holder->pid = (pid_t)pid;
        g_free(holder->command);
        holder->command = command;
        g_free(holder->at);
        holder->at = g_strdup(g_strerror(-error));
        g_ptr_array_add(survey->holders, holder);
}

/* That it could not be looked at says nothing of the others: any user can make a process of which
 * something cannot be read, and as many of those as they like. */
static int unseen_tell(Survey *survey, unsigned pid, int error) {
        int r = process_judge_error(error);

        if (r < 0)
                return r;
        survey->unseen_pid = pid;
        survey->unseen_error = error;
        if (++survey->unseen <= UNSEEN_NAMED_MAX)
                unseen_add(survey, pid, g_strdup(""), error);
        return 0;
}

/* Those that were not named; a single one is. Without the right to look at others' processes this
 * one would see none: then nothing is known. */
static int unseen_sum_up(Survey *survey) {
        unsigned more = survey->unseen - MIN(survey->unseen, UNSEEN_NAMED_MAX);

        if (more == 0)
                return 0;
        if (!may_look_at_others())
                return -EACCES;
        if (more == 1)
                unseen_add(survey, survey->unseen_pid, g_strdup(""), survey->unseen_error);
        else
                unseen_add(survey, 0, g_strdup_printf("%u more processes", more),
                           survey->unseen_error);
        return 0;
}

static int process_look(Survey *survey, unsigned pid) {
        g_autoptr(GPtrArray) found = g_ptr_array_new();
        int r, told;

        if (pid == (unsigned)getpid() || pid == (unsigned)getppid())
                return mounts_look(survey->mounts, pid, pid, survey->nodes, survey->holders);
        r = process_survey(pid, survey->nodes, survey->mounts, found, survey->holders);
        told = found_tell(survey, pid, found); /* what was seen of it is true */
        if (r == 0)
                r = told;
        return r < 0 ? unseen_tell(survey, pid, r) : 0;
}

/* The host's own mounts come first. */
static int processes_look(Survey *survey) {
        g_autoptr(GPtrArray) names = NULL;
        int r = mounts_look_at_host(survey->mounts, survey->nodes, survey->holders);

        if (r == 0)
                r = reading_error(reading_folder(AT_FDCWD, "/proc", &names));
        for (guint i = 0; r == 0 && names && i < names->len; i++) {
                guint64 pid;

                if (g_ascii_string_to_unsigned(g_ptr_array_index(names, i), 10, 1, INT_MAX, &pid,
                                               NULL))
                        r = process_look(survey, (unsigned)pid);
        }
        return r == 0 ? unseen_sum_up(survey) : r;
}

int holders_survey(const GArray *functions, GPtrArray **ret) {
        g_autoptr(GArray) nodes = NULL;
        g_autoptr(Mounts) mounts = mounts_new();
        g_autoptr(GPtrArray) holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        int r = nodes_survey(functions, &nodes);
        Survey survey = { functions, nodes, mounts, holders, 0, 0, 0 };

        if (r == 0)
                r = kernel_survey(functions, nodes, holders);
        if (r == 0 && nodes->len > 0)
                r = processes_look(&survey);
        if (r < 0)
                return r;

        holders_describe(holders);
        *ret = g_steal_pointer(&holders);
        return 0;
}
