/* Finds who holds a card: goes through all processes, and puts together what survey-kernel.c has
 * found besides. It refuses to judge; that is core's. */
#include "survey-holders.h"

#include "reading.h"
#include "survey-kernel.h"
#include "survey-kfd.h"
#include "survey-process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* So many processes that cannot be looked at are not a few that somebody protects: then nothing is
 * known of any. */
#define UNSEEN_MAX 16

typedef struct Survey {
        const GArray *functions;
        GArray *nodes;
        Mounts *mounts;
        GPtrArray *holders;
        unsigned unseen;
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

/* That it may not be looked at says nothing of the others; anything else that fails does. */
static int unseen_tell(Survey *survey, unsigned pid, int error) {
        Holder *holder;

        if ((error != -EACCES && error != -EPERM) || ++survey->unseen > UNSEEN_MAX)
                return error;
        holder_add(survey, HOLDER_UNSEEN, pid, "");
        holder = g_ptr_array_index(survey->holders, survey->holders->len - 1);
        g_free(holder->at);
        holder->at = g_strdup(g_strerror(-error));
        return 0;
}

static int process_look(Survey *survey, unsigned pid) {
        g_autoptr(GPtrArray) found = g_ptr_array_new();
        int r;

        if (pid == (unsigned)getpid() || pid == (unsigned)getppid())
                return mounts_look(survey->mounts, pid, pid, survey->nodes, survey->holders);
        r = process_survey(pid, survey->nodes, survey->mounts, found, survey->holders);

        return r < 0 ? unseen_tell(survey, pid, r) : found_tell(survey, pid, found);
}

/* The host's own mounts come first. What could not be seen of them is told when it is the turn of
 * that process. */
static int processes_look(Survey *survey) {
        g_autoptr(GPtrArray) names = NULL;
        int r = reading_error(reading_folder(AT_FDCWD, "/proc", &names));

        (void)mounts_look(survey->mounts, MOUNTS_HOST_PID, MOUNTS_HOST_PID, survey->nodes,
                          survey->holders);
        for (guint i = 0; r == 0 && names && i < names->len; i++) {
                guint64 pid;

                if (g_ascii_string_to_unsigned(g_ptr_array_index(names, i), 10, 1, INT_MAX, &pid,
                                               NULL))
                        r = process_look(survey, (unsigned)pid);
        }
        return r;
}

int holders_survey(const GArray *functions, GPtrArray **ret) {
        g_autoptr(GArray) nodes = NULL;
        g_autoptr(Mounts) mounts = mounts_new();
        g_autoptr(GPtrArray) holders = g_ptr_array_new_with_free_func((GDestroyNotify)holder_free);
        int r = nodes_survey(functions, &nodes);
        Survey survey = { functions, nodes, mounts, holders, 0 };

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
