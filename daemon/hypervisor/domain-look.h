/* What libvirt, and for its process the kernel, say about domains. All of it blocks: for worker
 * threads. */
#pragma once

#include "core/hypervisor.h"
#include "hypervisor/link.h"

typedef enum LookResult {
        LOOK_RESULT_SEEN,
        LOOK_RESULT_GONE,
        LOOK_RESULT_FAILED,
} LookResult;

/* Looks at the domain with @uuid. Seen: @ret has its facts (domain_facts_free()). Failed:
 * @ret_error has libvirt's words (g_free()). A machine of ours that is seen to run has had its
 * first start, and its metadata says so afterwards. */
LookResult domain_look(Link *link, const char *uuid, DomainFacts **ret, char **ret_error);

/* Notes in the metadata of @domain, if it is ours, that its first start has happened. Whoever
 * starts it does this as well: a guest that powers off at once would never be seen to run. */
void domain_note_first_start(struct _virDomain *domain);

/* Notes in the metadata of the running @domain, if it is ours, that its guest was asked to shut
 * down. The note lives for as long as this QEMU does. */
void domain_note_stop(struct _virDomain *domain);

/* Looks at every domain there is. Returns a new array that owns its DomainFacts, or NULL and
 * libvirt's words in @ret_error: one domain that cannot be looked at fails the listing, as leaving
 * it out would say that it is gone. */
GPtrArray *domain_look_all(Link *link, char **ret_error);

/* The names of the active networks (g_strfreev()); NULL where libvirt does not tell. */
char **networks_list(Link *link);
