/* A list behind a mutex and an eventfd that wakes the main loop. It knows nothing of what it
 * carries. It is counted, not owned: a thread that is stuck in a call for ever may still hold it
 * when everybody else is gone. */
#include "hypervisor/main-queue.h"

#include "autoptr-bus.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef struct Item {
        MainQueueFunc func;
        void *data;
        GDestroyNotify free_data;
} Item;

struct MainQueue {
        gatomicrefcount references;
        GMutex mutex;
        bool closed;      /* under the mutex */
        GPtrArray *items; /* Item, under the mutex */
        int fd;
        void *owner;             /* main thread only, weak */
        sd_event_source *source; /* main thread only */
};

/* Of an item that was never run. */
static void item_free(void *data) {
        Item *item = data;

        if (item)
                item->free_data(item->data);
        g_free(item);
}

static GPtrArray *queue_take(MainQueue *queue, bool close) {
        GPtrArray *items;

        g_mutex_lock(&queue->mutex);
        items = queue->items;
        queue->items = g_ptr_array_new_with_free_func(item_free);
        queue->closed |= close;
        g_mutex_unlock(&queue->mutex);
        return items;
}

static int on_woken(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        MainQueue *queue = userdata;
        g_autoptr(GPtrArray) items = NULL;
        uint64_t count;

        /* Emptied before the list is taken: what comes in between wakes the loop once more. So does
         * one that could not be emptied; to return an error would be to be deaf from then on. */
        (void)!read(fd, &count, sizeof(count));
        items = queue_take(queue, false);
        for (unsigned i = 0; i < items->len; i++) {
                g_autofree Item *item = g_steal_pointer(&g_ptr_array_index(items, i));

                item->func(queue->owner, item->data);
        }
        return 0;
}

int main_queue_new(sd_event *event, void *owner, MainQueue **ret) {
        MainQueue *queue = g_new0(MainQueue, 1);
        int r;

        g_atomic_ref_count_init(&queue->references);
        g_mutex_init(&queue->mutex);
        queue->items = g_ptr_array_new_with_free_func(item_free);
        queue->owner = owner;
        queue->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = queue->fd < 0 ? -errno : 0;
        if (r >= 0)
                r = sd_event_add_io(event, &queue->source, queue->fd, EPOLLIN, on_woken, queue);
        if (r < 0) {
                main_queue_unref(queue);
                return r;
        }
        (void)sd_event_source_set_description(queue->source, "libvirt-queue");
        *ret = queue;
        return 0;
}

MainQueue *main_queue_ref(MainQueue *queue) {
        g_atomic_ref_count_inc(&queue->references);
        return queue;
}

void main_queue_unref(MainQueue *queue) {
        if (!queue || !g_atomic_ref_count_dec(&queue->references))
                return;
        /* The last reference may be a worker's; the source must have gone with its owner. */
        g_assert(!queue->source);
        g_ptr_array_unref(queue->items);
        g_mutex_clear(&queue->mutex);
        if (queue->fd >= 0)
                close(queue->fd);
        g_free(queue);
}

void main_queue_close(MainQueue *queue) {
        queue->source = sd_event_source_disable_unref(queue->source);
        g_ptr_array_unref(queue_take(queue, true));
}

void main_queue_post(MainQueue *queue, MainQueueFunc func, void *data, GDestroyNotify free_data) {
        const uint64_t one = 1;
        Item *item = g_new(Item, 1);
        bool closed;

        /* Once it is in the queue, @data can be gone, and with it the reference that we live on. */
        main_queue_ref(queue);
        *item = (Item){ .func = func, .data = data, .free_data = free_data };
        g_mutex_lock(&queue->mutex);
        closed = queue->closed;
        if (!closed)
                g_ptr_array_add(queue->items, item);
        g_mutex_unlock(&queue->mutex);
        if (closed)
                item_free(item);
        else
                /* EAGAIN alone can fail it, at 2^64 - 1 wake-ups that nobody has read: awake
                 * enough. */
                while (write(queue->fd, &one, sizeof(one)) < 0 && errno == EINTR)
                        ;
        main_queue_unref(queue);
}

bool main_queue_is_closed(MainQueue *queue) {
        bool closed;

        g_mutex_lock(&queue->mutex);
        closed = queue->closed;
        g_mutex_unlock(&queue->mutex);
        return closed;
}
