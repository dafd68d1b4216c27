/* The way from other threads to the main one: what they post is run there by the event loop, in the
 * order in which it was posted. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

typedef struct MainQueue MainQueue;

/* Runs on the main thread. @owner is who made the queue. Takes @data. */
typedef void (*MainQueueFunc)(void *owner, void *data);

/* Makes a queue that @event drains. Returns 0 or a negative errno. */
int main_queue_new(sd_event *event, void *owner, MainQueue **ret);

/* Any thread. Every thread that may post holds a reference. */
MainQueue *main_queue_ref(MainQueue *queue);
void main_queue_unref(MainQueue *queue);

/* The owner goes: nothing is run any more. What is in the queue is freed now, what is posted later
 * is freed where it is posted. Main thread only; not from within a function that the queue runs.
 * Does not drop the owner's reference. */
void main_queue_close(MainQueue *queue);

/* Has @func run with @data on the main thread, always later, also when called there. When it never
 * will run, @data is freed with @free_data instead. Any thread; does not block. @data may hold the
 * caller's own reference to @queue. */
void main_queue_post(MainQueue *queue, MainQueueFunc func, void *data, GDestroyNotify free_data);

/* Whether the owner has gone, so that what is not begun need not be. Any thread. */
bool main_queue_is_closed(MainQueue *queue);
