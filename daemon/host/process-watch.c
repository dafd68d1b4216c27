/* Watches processes by pidfd: readable means dead (pidfd_open(2)), also for processes that are not
 * our children, and whatever their parent does. It knows nothing of what they were. */
#include "host/process-watch.h"

#include "autoptr.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/epoll.h>

typedef struct Watch {
        ProcessWatches *watches; /* weak */
        uint64_t ticket;
        sd_event_source *source; /* owns the descriptor */
        void (*died)(void *userdata);
        void *userdata;
} Watch;

struct ProcessWatches {
        sd_event *event;
        GHashTable *table; /* ticket -> Watch, owned */
        uint64_t last_ticket;
};

static void watch_free(void *data) {
        Watch *watch = data;

        sd_event_source_disable_unref(watch->source);
        g_free(watch);
}

ProcessWatches *process_watches_new(sd_event *event) {
        ProcessWatches *watches = g_new0(ProcessWatches, 1);

        watches->event = sd_event_ref(event);
        watches->table = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, watch_free);
        return watches;
}

void process_watches_free(ProcessWatches *watches) {
        if (!watches)
                return;
        g_hash_table_unref(watches->table);
        sd_event_unref(watches->event);
        g_free(watches);
}

static int process_died(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Watch *watch = userdata;
        void (*died)(void *userdata) = watch->died;
        void *died_userdata = watch->userdata;

        process_watches_remove(watch->watches, watch->ticket);
        died(died_userdata);
        return 0;
}

uint64_t process_watches_add(ProcessWatches *watches, int pidfd, void (*died)(void *userdata),
                             void *userdata) {
        g_autofd int fd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
        Watch *watch;

        if (fd < 0)
                return 0;
        watch = g_new0(Watch, 1);
        *watch = (Watch){
                .watches = watches,
                .ticket = ++watches->last_ticket,
                .died = died,
                .userdata = userdata,
        };
        if (sd_event_add_io(watches->event, &watch->source, fd, EPOLLIN, process_died, watch) < 0) {
                g_free(watch);
                return 0;
        }
        sd_event_source_set_io_fd_own(watch->source, true);
        g_steal_fd(&fd);
        g_hash_table_insert(watches->table, &watch->ticket, watch);
        return watch->ticket;
}

void process_watches_remove(ProcessWatches *watches, uint64_t ticket) {
        g_hash_table_remove(watches->table, &ticket);
}
