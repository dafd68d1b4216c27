/* The host's mount tables. Part of the survey helper. */
#pragma once

#include "core/host.h"
#include "survey-nodes.h"

/* The host's first process, whose mounts are the host's: to be looked at first. */
#define MOUNTS_HOST_PID 1

/* What the processes' mount namespaces have told so far. */
typedef struct Mounts Mounts;

Mounts *mounts_new(void);
void mounts_free(Mounts *mounts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Mounts, mounts_free)

/* Reads the mounts that the thread @tid of the process @pid sees, unless another one sees the same.
 * Adds to @holders (Holder) those of the block devices among @nodes (Node): once each, with pid 0
 * where the host's first process sees it. 0, also for one that is gone, or a negative errno. */
int mounts_look(Mounts *mounts, unsigned pid, unsigned tid, const GArray *nodes,
                GPtrArray *holders);

/* The host's own, by its first process; or, where that may not be looked at, those that this
 * process has from it. 0, or a negative errno: neither could be read. */
int mounts_look_at_host(Mounts *mounts, const GArray *nodes, GPtrArray *holders);

/* Whether the mount with the number @id, as a thread's fdinfo has it, was seen, and no file server
 * has to be asked about a file on it. */
bool mounts_is_local(const Mounts *mounts, unsigned id);
