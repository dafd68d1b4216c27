/* Which libvirt URIs mean this host. */
#include "hypervisor/uri.h"
#include "testing.h"

#include <glib.h>

static void one_libvirt_in_every_spelling_is_this_host(void **state) {
        static const char *const uris[] = {
                "qemu:///system",
                "qemu+unix:///system",
                "qemu+UNIX:///system",
                "qemu:///system?socket=/run/libvirt/libvirt-sock",
                "qemu+unix:///system?socket=/run/libvirt/virtqemud-sock",
                "qemu:///system?mode=direct",
                "qemu:/system",
        };

        for (unsigned i = 0; i < G_N_ELEMENTS(uris); i++)
                if (!uri_is_of_this_host(uris[i]))
                        fail_msg("%s is this host's", uris[i]);
}

static void others_are_not(void **state) {
        static const char *const uris[] = {
                "qemu:///session",
                "qemu:///embed?root=/srv",
                "qemu:///system/",
                "qemu://localhost/system",
                "qemu+ssh://root@far/system",
                "qemu+ssh:///system",
                "qemu+tcp://127.0.0.1/system",
                "qemu+unix://far/system",
                "qemux:///system",
                "xen:///system",
                "test:///default",
                "/system",
                "",
                "qemu:///system x%",
        };

        for (unsigned i = 0; i < G_N_ELEMENTS(uris); i++)
                if (uri_is_of_this_host(uris[i]))
                        fail_msg("%s is not this host's", uris[i]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(one_libvirt_in_every_spelling_is_this_host),
                cmocka_unit_test(others_are_not),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
