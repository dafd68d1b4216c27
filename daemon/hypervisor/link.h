/* One connection to libvirt and what is known about its other end. Everything here that may block
 * says so, and is for worker threads. */
#pragma once

#include "core/refusal.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct Link Link;

/* libvirt's virConnect and virDomain; who includes libvirt.h knows more about them. */
struct _virConnect;
struct _virDomain;

typedef struct ConnectionFacts {
        char *version;     /* "9.0.0 (QEMU 7.2.0)" */
        bool kvm;          /* domains may be of type kvm */
        bool uefi;         /* libvirt can choose UEFI firmware for them */
        uid_t qemu_uid;    /* whose QEMU's processes are; 0 = root's, or not known */
        bool apparmor;     /* they are confined by AppArmor */
        bool test;         /* libvirt's own test driver: its domains are of type test */
        bool on_this_host; /* QEMU's processes are this host's, libvirt's files where it keeps them
                            */
} ConnectionFacts;

typedef enum LinkNews {
        LINK_LOST,
        LINK_DOMAIN,   /* the domain with @uuid may have changed */
        LINK_NETWORKS, /* there may be other networks than before */
} LinkNews;

/* Called on libvirt's own thread, must not block. @uuid is NULL unless the news are a domain's. */
typedef void (*LinkNotify)(void *userdata, LinkNews news, const char *uuid);

/* Blocks. Connects to @uri, hears of every change of a domain from then on, and asks what there is.
 * @notify may be called as soon as this is; @userdata is freed with @free_userdata when it never
 * will be again, perhaps on another thread, also when this fails. Returns the link, or NULL and
 * libvirt's words in @ret_error (g_free()). */
Link *link_open(const char *uri, LinkNotify notify, void *userdata, GDestroyNotify free_userdata,
                char **ret_error);

/* Any thread; do not block. The connection closes in a thread of its own when the last one lets go.
 */
Link *link_ref(Link *link);
void link_unref(Link *link);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Link, link_unref)

const ConnectionFacts *link_facts(const Link *link);

/* Nobody waits any more for what is asked over this link: no line is opened from now on. Any
 * thread; does not block. */
void link_abandon(Link *link);

/* How often a device of some domain has come or gone since the link was made. Any thread; does not
 * block. */
uint64_t link_device_changes(Link *link);

/* Blocks until link_device_changes() is no longer @seen, the monotonic time @until (microseconds)
 * has come, or the link is abandoned. */
void link_await_device_change(Link *link, uint64_t seen, gint64 until);
bool link_is_abandoned(Link *link);

/* A line is a connection on which one thread at a time makes its calls; the link's own is only
 * listened to. Two threads on one connection are too many: in libvirt 9.0 a call that ends early
 * can leave a watch behind that points into its own stack, and the other thread's call runs into it
 * (CVE-2024-4418; seen to crash when libvirtd hung). And libvirtd takes only five calls at a time
 * from one connection (max_client_requests in libvirtd.conf). */
typedef struct Line Line;

/* Blocks. A line that is free, or a new one. NULL: libvirt's error, or its absence, says why. */
Line *link_take_line(Link *link);
/* Blocks. */
void line_give_back(Line *line);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Line, line_give_back)

const ConnectionFacts *line_facts(const Line *line);
struct _virConnect *line_connection(Line *line);

/* True for the first caller of a link alone: who then says that a QEMU was not found. */
bool line_may_tell_missing(Line *line);

/* The domain with @uuid (virDomainFree()). Blocks. NULL: *ret_missing says that there is none, else
 * libvirt's error is why. */
struct _virDomain *line_domain(Line *line, const char *uuid, bool *ret_missing);

/* What libvirt said last in this thread, new string; and whether that says that the domain is not
 * there. */
char *link_error_words(void);
bool link_error_is_no_domain(void);
/* Whether the last error was the connection's. May wipe the words: take them before. */
bool line_error_is_lost(Line *line);
