/* What feosctl reads and writes: sizes, words, tables, errors, the host at a glance. */
#include "complaint.h"
#include "create.h"
#include "gpus.h"
#include "json.h"
#include "monitor.h"
#include "nearest.h"
#include "object.h"
#include "overview.h"
#include "size.h"
#include "table.h"
#include "testing.h"
#include "value.h"

#include <string.h>

static const Terminal paper = { .utf8 = true };
static const Terminal colours = { .tty = true, .colour = true, .utf8 = true, .width = 80 };

static void assert_in(const char *text, const char *expected) {
        if (!strstr(text, expected))
                fail_msg("\"%s\" is not in:\n%s", expected, text);
}

static void assert_not_in(const char *text, const char *unexpected) {
        if (strstr(text, unexpected))
                fail_msg("\"%s\" is in:\n%s", unexpected, text);
}

/* --- sizes and values ----------------------------------------------------------------------------
 */

static void test_sizes_are_read(void **state) {
        static const struct {
                const char *text;
                uint64_t bytes; /* 0 = refused */
        } sizes[] = {
                { "64G", UINT64_C(64) << 30 },
                { "512M", UINT64_C(512) << 20 },
                { "1.5T", UINT64_C(1536) << 30 },
                { "0.5G", UINT64_C(512) << 20 },
                { "2048K", UINT64_C(2) << 20 },
                { "1P", UINT64_C(1) << 50 },
                { "64g", UINT64_C(64) << 30 },
                { "64GiB", UINT64_C(64) << 30 },
                { "64gi", UINT64_C(64) << 30 },
                { "4096", 0 }, /* of what? */
                { "64GB", 0 }, /* powers of ten, or not? */
                { "64 G", 0 },
                { "", 0 },
                { "G", 0 },
                { "-1G", 0 },
                { "1.G", 0 },
                { ".5G", 0 },
                { "1.1.1G", 0 },
                { "64Gx", 0 },
                { "1,5T", 0 },
                { "0.1K", 0 },
                { "0x10G", 0 },
                { "9999999999999G", 0 },
                { "99999999999P", 0 },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                uint64_t bytes = 7;
                bool read = size_parse(sizes[i].text, &bytes);

                if (read != (sizes[i].bytes > 0) || bytes != (read ? sizes[i].bytes : 7))
                        fail_msg("%s: %d, %" G_GUINT64_FORMAT, sizes[i].text, read, bytes);
        }
}

static void test_sizes_are_written(void **state) {
        static const struct {
                uint64_t bytes;
                const char *text;
        } sizes[] = {
                { 0, "0 B" },
                { 512, "512 B" },
                { 1023, "1023 B" },
                { 16384, "16 KiB" },
                { UINT64_C(1536) << 20, "1.5 GiB" },
                { UINT64_C(64) << 30, "64 GiB" },
                { (UINT64_C(1) << 40) - 1, "1023.9 GiB" },
                { UINT64_MAX, "16383.9 PiB" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
                g_autofree char *text = size_format(sizes[i].bytes);

                assert_string_equal(text, sizes[i].text);
        }
}

static void test_values(void **state) {
        uint32_t number = 7;
        bool flag = false;

        assert_true(boolean_parse("Yes", &flag) && flag);
        assert_true(boolean_parse("off", &flag) && !flag);
        assert_false(boolean_parse("", &flag));
        assert_false(boolean_parse("maybe", &flag));
        assert_true(unsigned_parse("16", 1, 16, &number));
        assert_int_equal(number, 16);
        assert_false(unsigned_parse("17", 1, 16, &number));
        assert_false(unsigned_parse("-1", 0, UINT32_MAX, &number));
        assert_false(unsigned_parse("4294967296", 0, UINT32_MAX, &number));
        assert_false(unsigned_parse("1x", 0, UINT32_MAX, &number));
}

static void test_addresses(void **state) {
        static const struct {
                const char *text, *full; /* NULL = none */
        } addresses[] = {
                { "01:00.0", "0000:01:00.0" },
                { "0000:01:00.0", "0000:01:00.0" },
                { "10000:E1:00.0", "10000:e1:00.0" },
                { "AB:1f.7", "0000:ab:1f.7" },
                { "box", NULL },
                { "01:00", NULL },
                { "01:00.8", NULL },
                { "01:00.0\n", NULL },
                { "x01:00.0", NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
                g_autofree char *full = address_canonical(addresses[i].text);

                if (g_strcmp0(full, addresses[i].full) != 0)
                        fail_msg("%s is read as %s", addresses[i].text, full);
        }
}

static void test_paths(void **state) {
        static const struct {
                const char *path;
                ObjectKind kind;
                const char *name;
        } paths[] = {
                { "/org/feos/VM1", OBJECT_SERVICE, NULL },
                { "/org/feos/VM1/gpu/0000_01_00_0", OBJECT_GPU, "0000:01:00.0" },
                { "/org/feos/VM1/gpu/nonsense", OBJECT_OTHER, NULL },
                { "/org/feos/VM1/machine/vm_2d1", OBJECT_MACHINE, "vm-1" },
                { "/org/freedesktop/DBus", OBJECT_OTHER, NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
                g_autofree char *name = NULL;

                assert_int_equal(object_of_path(paths[i].path, &name), paths[i].kind);
                assert_true(g_strcmp0(name, paths[i].name) == 0);
        }
}

static void test_nearest_word(void **state) {
        static const char *const words[] = { "start", "shutdown", "pause", "poweroff",
                                             "gpus",  "gpu",      "log",   NULL };
        static const struct {
                const char *word, *meant;
        } cases[] = {
                { "strat", "start" },
                { "shutdwon", "shutdown" },
                { "power-off", "poweroff" },
                { "gups", "gpus" },
                { "gp", "gpu" },
                { "pasue", "pause" },
                { "lgo", "log" },
                { "frobnicate", NULL },
                { "x", NULL },
                { "begin", NULL },
                { "averyverylongwordthatnobodyhaseverwrittenbefore", NULL },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                const char *meant = nearest_word(cases[i].word, words);

                if (g_strcmp0(meant, cases[i].meant) != 0)
                        fail_msg("%s is taken for %s", cases[i].word, meant);
        }
}

/* --- tables and terminals ------------------------------------------------------------------------
 */

static Table *small_table(void) {
        Table *table = table_new((const char *const[]){ "NAME", "SIZE", "MODEL", NULL });

        table_align_right(table, 1);
        table_add(table, "a", STYLE_GOOD);
        table_add(table, "1", STYLE_PLAIN);
        table_add(table, "Accelerator of the greatest kind", STYLE_PLAIN);
        table_add(table, "long-name", STYLE_PLAIN);
        table_add(table, "1024", STYLE_PLAIN);
        table_add(table, "", STYLE_PLAIN);
        return table;
}

static void test_table_lines_up(void **state) {
        g_autoptr(Table) table = small_table();
        g_autofree char *text = table_format(table, &paper, 0, true);

        assert_string_equal(text, "NAME       SIZE  MODEL\n"
                                  "a             1  Accelerator of the greatest kind\n"
                                  "long-name  1024  -\n");
}

static void test_table_without_headings(void **state) {
        g_autoptr(Table) table = small_table();
        g_autofree char *text = table_format(table, &paper, 2, false);

        assert_string_equal(text, "  a             1  Accelerator of the greatest kind\n"
                                  "  long-name  1024  -\n");
}

/* At every width no line is longer than that, until nothing can be cut any more. */
static void test_table_fits(void **state) {
        for (unsigned width = 20; width <= 60; width++) {
                const Terminal narrow = { .tty = true, .utf8 = true, .width = width };
                g_autoptr(Table) table = small_table();
                g_autofree char *text = table_format(table, &narrow, 0, true);
                g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

                for (char **line = lines; *line; line++)
                        if (text_width(*line) > width)
                                fail_msg("at %u: %s", width, *line);
        }
}

static void test_table_cuts_the_widest(void **state) {
        const Terminal narrow = { .tty = true, .utf8 = true, .width = 30 };
        g_autoptr(Table) table = small_table();
        g_autofree char *text = table_format(table, &narrow, 0, true);

        assert_string_equal(text, "NAME       SIZE  MODEL\n"
                                  "a             1  Accelerator …\n"
                                  "long-name  1024  -\n");
}

static void test_table_colours_and_notes(void **state) {
        g_autoptr(Table) table = table_new((const char *const[]){ "A", NULL });
        g_autofree char *text = NULL;

        table_add(table, "x", STYLE_BAD);
        table_note(table, "why", STYLE_PLAIN);
        table_note(table, "", STYLE_PLAIN);
        text = table_format(table, &colours, 0, true);
        assert_string_equal(text, "\033[1mA\033[0m\n\033[31mx\033[0m\n    why\n");
}

static void test_text_is_cleaned(void **state) {
        static const struct {
                const char *text, *clean;
        } texts[] = {
                { "H100 PCIe", "H100 PCIe" },
                { "a\033[2Jb", "a?[2Jb" },
                { "two\nlines", "two lines" },
                { "caf\xe9", "caf\xef\xbf\xbd" },
                { "\xe2\x80\xae"
                  "evil",
                  "?evil" },
                { "Größe", "Größe" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                g_autofree char *clean = text_clean(texts[i].text);

                assert_string_equal(clean, texts[i].clean);
        }
}

static void test_text_is_shortened(void **state) {
        static const struct {
                const char *text;
                unsigned width;
                bool utf8;
                const char *shown;
        } texts[] = {
                { "abcdef", 6, true, "abcdef" },  { "abcdef", 5, true, "abcd…" },
                { "abcdef", 5, false, "ab..." },  { "abcdef", 1, true, "…" },
                { "abcdef", 2, false, ".." },     { "abcdef", 0, true, "" },
                { "漢字漢字", 5, true, "漢字…" }, { "漢字漢字", 4, true, "漢…" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
                g_autofree char *shown = text_shorten(texts[i].text, texts[i].width, texts[i].utf8);

                assert_string_equal(shown, texts[i].shown);
        }
}

/* --- errors --------------------------------------------------------------------------------------
 */

static void check_complaint(const char *name, const char *message, const char *expected_name,
                            const char *expected_message, const char *expected_remedy) {
        sd_bus_error error = SD_BUS_ERROR_MAKE_CONST(name, message);
        g_auto(Complaint) complaint = { 0 };

        complaint_of_error(&error, 0, &complaint);
        assert_string_equal(complaint.name, expected_name);
        assert_string_equal(complaint.message, expected_message);
        if (g_strcmp0(complaint.remedy, expected_remedy) != 0)
                fail_msg("the remedy of \"%s\" is \"%s\"", message, complaint.remedy);
}

static void test_remedy_is_the_last_sentence(void **state) {
        check_complaint("org.feos.VM1.Error.GPUInUse",
                        "GPU 0000:01:00.0 belongs to machine box. Shut that machine down first.",
                        "GPUInUse", "GPU 0000:01:00.0 belongs to machine box.",
                        "Shut that machine down first.");
        check_complaint("org.feos.VM1.Error.HypervisorFailed",
                        "libvirt could not start box: internal error. qemu: no. Look at the log.",
                        "HypervisorFailed",
                        "libvirt could not start box: internal error. qemu: no.",
                        "Look at the log.");
        check_complaint("org.feos.VM1.Error.InvalidName",
                        "\"-x\" is not a machine's name. Use 1 to 64 of A-Z a-z 0-9 _ . - and "
                        "begin with a letter or digit.",
                        "InvalidName", "\"-x\" is not a machine's name.",
                        "Use 1 to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit.");
        check_complaint("org.feos.VM1.Error.Odd", "One sentence.", "Odd", "One sentence.", NULL);
}

static void test_remedies_name_commands(void **state) {
        static const char *const remedies[][2] = {
                { "ListGPUs shows the GPUs there are.", "feosctl gpus shows the GPUs there are." },
                { "Remove the cause, then call Recover.",
                  "Remove the cause, then call feosctl recover." },
                { "A paused guest cannot hear of it: use Resume first, or PowerOff.",
                  "A paused guest cannot hear of it: use feosctl resume first, or feosctl "
                  "poweroff." },
                { "Start it first.", "Start it first." },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(remedies); i++) {
                g_autofree char *translated = complaint_translate(remedies[i][0]);

                assert_string_equal(translated, remedies[i][1]);
        }
}

static void test_errors_of_the_bus(void **state) {
        check_complaint(SD_BUS_ERROR_SERVICE_UNKNOWN, "The name is not activatable",
                        SD_BUS_ERROR_SERVICE_UNKNOWN,
                        "feos-vmd does not run, and could not be started.",
                        "Start it: systemctl start feos-vmd");
        check_complaint(SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, "no",
                        SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                        "This needs an administrator's password.",
                        "Leave out --no-ask-password and call from a terminal, or ask as root.");
        check_complaint("org.example.Error", "", "org.example.Error", "org.example.Error", NULL);
}

/* --- what is shown -------------------------------------------------------------------------------
 */

static const char host_text[] =
        "{'Version':'1.2','HypervisorURI':'qemu:///system','HypervisorVersion':'9.0.0',"
        "'HypervisorState':'connected','IOMMUEnabled':true,'ImageDirectories':['/images'],"
        "'GPUs':["
        "{'Address':'0000:01:00.0','State':'attached','Driver':'vfio-pci','HostDriver':'nvidia',"
        "'MachineName':'box','Model':'H100','IOMMUGroup':13,'NUMANode':0,'VendorID':4318},"
        "{'Address':'0000:41:00.0','State':'host-bound','Driver':'nvidia','Fault':'stuck',"
        "'FaultMessage':'nvidia has not let go.','Model':'A40','IOMMUGroup':14,'NUMANode':-1},"
        "{'Address':'0000:81:00.0','State':'host-bound','Driver':'nvidia','Model':'A40',"
        "'IOMMUGroup':15,'NUMANode':1,'Holders':[{'PID':42,'Command':'Xorg','Unit':'gdm.service',"
        "'Node':'/dev/dri/card0'},{'PID':43,'Command':'x','Unit':'','Node':'/dev/dri/card0'}]}],"
        "'Machines':[{'Name':'box','State':'running','VCPUs':16,'MemoryMiB':65536,"
        "'GPUAddresses':['0000:01:00.0']},"
        "{'Name':'old','State':'crashed','StateReason':'QEMU was killed','VCPUs':2,"
        "'MemoryMiB':2048,'GPUAddresses':[]},"
        "{'Name':'sad','State':'running','StateReason':'GPU 0000:61:00.0 is gone','LeaderPID':7,"
        "'VCPUs':2,'MemoryMiB':2048,'GPUs':[],'GPUAddresses':['0000:61:00.0']}]}";

/* JSON, written with single quotes. */
static json_object *host_new(const char *text) {
        g_autofree char *json = g_strdelimit(g_strdup(text), "'", '"');
        json_object *host = json_tokener_parse(json);

        assert_non_null(host);
        return host;
}

/* What the kernel does with a GPU has no process. */
static void test_holders_of_the_kernel(void **state) {
        g_autoptr(json_object) gpu = host_new(
                "{'Address':'0000:01:00.0','State':'host-bound','Driver':'nouveau','Holders':["
                "{'PID':0,'Command':'network interface that is up','Unit':'','Node':'enx1'},"
                "{'PID':0,'Command':'network interface in another namespace','Unit':'',"
                "'Node':''}]}");
        g_autofree char *text = gpu_format(gpu, &paper);

        assert_in(text, "Held by: network interface that is up: enx1\n");
        assert_in(text, " network interface in another namespace\n");
}

static void test_overview(void **state) {
        g_autoptr(json_object) host = host_new(host_text);
        g_autofree char *text = overview_format(host, "gpu7", &paper);

        assert_in(text, "gpu7 - feos-vmd 1.2\n");
        assert_in(text, "IOMMU: on\n");
        assert_in(text, "libvirt: 9.0.0, qemu:///system\n");
        assert_in(text, "GPUs: 3: 1 attached, 2 host-bound\n");
        assert_in(text, "Machines: 3: 2 running, 1 crashed\n");
        assert_in(text, "× GPU 0000:41:00.0 is faulted (stuck): nvidia has not let go.\n"
                        "  → Remove the cause; then: feosctl recover 0000:41:00.0\n");
        assert_in(text, "× Machine old has crashed: QEMU was killed.\n"
                        "  → See what went before: feosctl log old\n");
        assert_in(text,
                  "GPU           STATE              DRIVER    GROUP  NODE  MODEL  USED BY\n"
                  "0000:01:00.0  attached           vfio-pci     13     0  H100   box\n"
                  "0000:41:00.0  host-bound, stuck  nvidia       14     -  A40    -\n"
                  "0000:81:00.0  host-bound         nvidia       15     1  A40    Xorg [42] +1\n");
        assert_in(text, "MACHINE  STATE    VCPUS  MEMORY  GPUS\n"
                        "box      running     16  64 GiB  0000:01:00.0\n"
                        "old      crashed      2   2 GiB  -\n");
        assert_in(text, "× Machine sad runs without all of its GPUs: GPU 0000:61:00.0 is gone.\n");
        assert_not_in(text, "\033");
}

static void test_overview_of_a_bare_host(void **state) {
        g_autoptr(json_object) host = host_new(
                "{'Version':'1.2','HypervisorURI':'qemu:///system','HypervisorVersion':'',"
                "'HypervisorState':'connecting','IOMMUEnabled':false,'ImageDirectories':[],"
                "'GPUs':[],'Machines':[]}");
        g_autofree char *text = overview_format(host, "gpu7", &paper);

        assert_in(text, "IOMMU: off\n");
        assert_in(text, "no IOMMU at work: no GPU can go to a machine.\n"
                        "  → Switch VT-d or AMD-Vi on in the firmware");
        assert_in(text, "libvirt does not answer at qemu:///system");
        assert_in(text, "This host has no GPU.");
        assert_not_in(text, "MACHINE ");
}

static void test_overview_colours_states(void **state) {
        g_autoptr(json_object) host = host_new(host_text);
        g_autofree char *text = overview_format(host, "gpu7", &colours);

        assert_in(text, "\033[32mattached\033[0m");
        assert_in(text, "\033[31mhost-bound, stuck\033[0m");
        assert_in(text, "    \033[31mnvidia has not let go.\033[0m\n");
        assert_in(text, "\033[32m●\033[0m  box");
}

static void test_gpu_in_full(void **state) {
        g_autoptr(json_object) gpu = host_new(
                "{'Address':'0000:01:00.0','State':'vfio-bound','Driver':'vfio-pci',"
                "'HostDriver':'nvidia','Vendor':'NVIDIA','Model':'H100','VendorID':4318,"
                "'DeviceID':8965,'SubsystemVendorID':4318,'SubsystemDeviceID':1,'Class':197120,"
                "'IOMMUGroup':-1,'Companions':['0000:01:00.1'],'NUMANode':1,'BootDisplay':true,"
                "'BARSizes':[16777216,0,137438953472],'ResetMethods':['flr','bus'],"
                "'LinkSpeed':'32.0 GT/s PCIe','LinkWidth':16}");
        g_autofree char *text = gpu_format(gpu, &paper);

        assert_in(text, "● 0000:01:00.0 - H100\n");
        assert_in(text, "Driver: vfio-pci; goes back to nvidia\n");
        assert_in(text, "IOMMU group: none: it can go to no machine\n");
        assert_in(text, "Goes with: 0000:01:00.1\n");
        assert_in(text, "Vendor: NVIDIA (10de:2305, subsystem 10de:0001)\n");
        assert_in(text, "Class: 030200\n");
        assert_in(text, "Display: shows the host's console\n");
        assert_in(text, "Link: 32.0 GT/s PCIe, x16\n");
        assert_in(text, "Memory regions: 16 MiB, 128 GiB\n");
        assert_in(text, "Resets: flr, bus\n");
}

static void test_findings(void **state) {
        g_autoptr(json_object) findings = host_new(
                "[{'Severity':'error','Code':'GPUBusy','Subject':'/dev/dri/card0',"
                "'Message':'Process 42 (X) has it open.','Remedy':'ListHolders shows all.'},"
                "{'Severity':'warning','Code':'NoKVM','Subject':'box','Message':'Slow.',"
                "'Remedy':'Load kvm.'}]");
        g_autoptr(json_object) none = json_object_new_array();
        g_autofree char *text = findings_format(findings, "box", &paper);
        g_autofree char *nothing = findings_format(none, "box", &paper);

        assert_string_equal(text, "× GPUBusy: Process 42 (X) has it open.\n"
                                  "  → feosctl holders shows all.\n"
                                  "● NoKVM: Slow.\n"
                                  "  → Load kvm.\n");
        assert_string_equal(nothing, "Nothing stands in the way of box.\n");
}

static void test_events(void **state) {
        static const struct {
                const char *event, *line; /* behind the time */
        } events[] = {
                { "{'Event':'StateChanged','Machine':'box','Old':'created','New':'starting',"
                  "'Reason':'asked to start'}",
                  "  machine box            created → starting: asked to start" },
                { "{'Event':'Pending','GPU':'0000:01:00.0','New':'binding'}",
                  "  GPU 0000:01:00.0   Pending binding" },
                { "{'Event':'Fault','GPU':'0000:01:00.0','New':'stuck','Reason':'Why.'}",
                  "  GPU 0000:01:00.0   Fault stuck: Why." },
                { "{'Event':'HypervisorState','New':'connecting'}",
                  "  feos-vmd               HypervisorState connecting" },
                { "{'Event':'Removed','Machine':'box'}", "  machine box            Removed" },
        };

        for (size_t i = 0; i < G_N_ELEMENTS(events); i++) {
                g_autoptr(json_object) event = host_new(events[i].event);
                g_autofree char *line = event_format(event, &paper);

                assert_string_equal(line + strlen("00:00:00"), events[i].line);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sizes_are_read),
                cmocka_unit_test(test_sizes_are_written),
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_addresses),
                cmocka_unit_test(test_paths),
                cmocka_unit_test(test_nearest_word),
                cmocka_unit_test(test_table_lines_up),
                cmocka_unit_test(test_table_without_headings),
                cmocka_unit_test(test_table_fits),
                cmocka_unit_test(test_table_cuts_the_widest),
                cmocka_unit_test(test_table_colours_and_notes),
                cmocka_unit_test(test_text_is_cleaned),
                cmocka_unit_test(test_text_is_shortened),
                cmocka_unit_test(test_remedy_is_the_last_sentence),
                cmocka_unit_test(test_remedies_name_commands),
                cmocka_unit_test(test_errors_of_the_bus),
                cmocka_unit_test(test_holders_of_the_kernel),
                cmocka_unit_test(test_overview),
                cmocka_unit_test(test_overview_of_a_bare_host),
                cmocka_unit_test(test_overview_colours_states),
                cmocka_unit_test(test_gpu_in_full),
                cmocka_unit_test(test_findings),
                cmocka_unit_test(test_events),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
