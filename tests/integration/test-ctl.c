/* feosctl as scripts use it: every command against the real object tree, what it says, how it ends,
 * and its JSON. */
#include "run-ctl.h"

#include <glib/gstdio.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_object, json_object_put)

/* A stage with an image data.raw and a network default. */
static Stage *stage_furnished(void) {
        Stage *stage = stage_new(0);

        g_hash_table_insert(stage->world->images, g_strdup("data.raw"), GINT_TO_POINTER(IMAGE_OK));
        g_ptr_array_insert(stage->world->networks, 0, g_strdup("default"));
        return stage;
}

/* The same with machine vm-1, which has both GPUs and runs. */
static Stage *stage_with_machine(void) {
        Stage *stage = stage_furnished();
        g_auto(Answer) created = { 0 };

        create(stage, stage->root, "vm-1", &created);
        assert_path(&created, MACHINE);
        return stage;
}

static void assert_state(Stage *stage, const char *expected) {
        assert_text(stage, MACHINE, "org.feos.VM1.Machine", "State", expected);
}

/* GPU 02:00.0 cannot come back to its driver. */
static void faulted(Stage *stage) {
        g_autoptr(Run) G_GNUC_UNUSED bound = run(stage, 0, "bind", "02:00.0", NULL);
        g_autoptr(Run) refused = NULL;

        world_mark(stage->world->no_return, "0000:02:00.0");
        refused = run(stage, 1, "release", "02:00.0", NULL);
        assert_err(refused, "GPU 0000:02:00.0 could not be handed over");
        assert_err(refused, "\n  → The kernel's log says more: journalctl -k\n");
}

/* What it wrote, as one JSON value. */
static json_object *parsed(const Run *run) {
        json_object *object = json_tokener_parse(run->out->str);

        if (!object)
                fail_msg("no JSON:\n%s", run->out->str);
        return object;
}

static const char *text_of(json_object *object, const char *key) {
        json_object *member = json_object_object_get(object, key);

        if (!member)
                fail_msg("no %s in %s", key, json_object_to_json_string(object));
        return json_object_get_string(member);
}

/* --- looking -------------------------------------------------------------------------------------
 */

static void test_overview(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) shown = run(stage, 0, NULL);
        g_autoptr(Run) told = run(stage, 0, "--json", NULL);
        g_autoptr(json_object) host = parsed(told);

        assert_out(shown, " - feos-vmd 1.2.3\n");
        assert_out(shown, "GPUs: 2: 2 attached\n");
        assert_out(shown, "Machines: 1: 1 running\n");
        assert_out(shown, "0000:01:00.0  attached  vfio-pci      1     -  1234:1111  vm-1\n");
        assert_out(shown, "vm-1     running      2   2 GiB  0000:02:00.0,0000:01:00.0\n");
        assert_string_equal(shown->err->str, "");
        assert_string_equal(text_of(host, "Version"), "1.2.3");
        assert_int_equal(json_object_array_length(json_object_object_get(host, "GPUs")), 2);
        assert_int_equal(json_object_array_length(json_object_object_get(host, "Machines")), 1);
}

static void test_overview_says_what_is_wrong(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) shown = NULL;

        faulted(stage);
        stage->world->host_facts.iommu = false;
        world_set_connected(stage->world, false);
        shown = run(stage, 0, NULL);
        assert_out(shown, "no IOMMU at work");
        assert_out(shown, "intel_iommu=on");
        assert_out(shown, "libvirt does not answer");
        assert_out(shown, "GPU 0000:02:00.0 is faulted (handover-failed): ");
        assert_out(shown, "then: feosctl recover 0000:02:00.0\n");
}

/* What only some may know is shown to them and left out for others; nobody is asked. */
static void test_holders_are_for_those_who_may(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) may = NULL;
        g_autoptr(Run) may_not = NULL;
        Holder *holder = g_new0(Holder, 1);

        if (!private_bus_can_be_anybody())
                skip();
        holder->pid = 42;
        holder->command = g_strdup("Xorg");
        holder->unit = g_strdup("gdm.service");
        holder->node = g_strdup("/dev/dri/card0");
        g_ptr_array_add(stage->world->holders, holder);
        may = run(stage, 0, "gpu", "01:00.0", NULL);
        assert_out(may, "Held by: Xorg [42] of gdm.service: /dev/dri/card0\n");
        stage->polkit->verdict = MOCK_CHALLENGE;
        may_not = run_start(stage, &(RunSetting){ .uid = SOMEBODY },
                            (const char *const[]){ "gpu", "01:00.0", NULL });
        run_end(may_not);
        assert_int_equal(may_not->status, 0);
        assert_out(may_not, "State: host-bound\n");
        assert_null(strstr(may_not->out->str, "Held by"));
        assert_int_equal(stage->polkit->flags, 0);
}

static void test_gpus(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) table = run(stage, 0, "gpus", NULL);
        g_autoptr(Run) bare = run(stage, 0, "--no-legend", "gpus", NULL);
        g_autoptr(Run) told = run(stage, 0, "gpus", "--json", NULL);
        g_autoptr(json_object) gpus = parsed(told);

        assert_int_equal(strncmp(table->out->str, "GPU   ", 6), 0);
        assert_int_equal(strncmp(bare->out->str, "0000:01:00.0  host-bound  bochs-drm", 35), 0);
        assert_int_equal(json_object_array_length(gpus), 2);
        assert_string_equal(text_of(json_object_array_get_idx(gpus, 1), "Address"), "0000:02:00.0");
        assert_string_equal(text_of(json_object_array_get_idx(gpus, 1), "Path"), GPU2);
}

/* Each is shown in full, whatever the form of its address; one that is not there fails alone. */
static void test_gpu(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) shown = run(stage, 1, "gpu", "01:00.0", "09:00.0", "0000:02:00.0", NULL);

        assert_out(shown, "0000:01:00.0 - 1234:1111\n");
        assert_out(shown, "Goes with: 0000:01:00.1\n");
        assert_out(shown, "\n○ 0000:02:00.0 - ");
        assert_err(shown, "0000:09:00.0");
        assert_err(shown, "\n  → feosctl gpus shows the GPUs there are.\n");
}

static void test_machine(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) shown = run(stage, 0, "machine", "vm-1", NULL);
        g_autoptr(Run) list = run(stage, 0, "machines", NULL);
        g_autoptr(Run) told = run(stage, 0, "--json", "machine", "vm-1", NULL);
        g_autoptr(json_object) machines = parsed(told);
        g_autoptr(Run) by_uuid = run(stage, 0, "machine",
                                     text_of(json_object_array_get_idx(machines, 0), "UUID"), NULL);

        assert_out(shown, "● vm-1\n");
        assert_out(shown, "GPUs: 0000:02:00.0, 0000:01:00.0\n");
        assert_out(list, "vm-1     running");
        assert_string_equal(by_uuid->out->str, shown->out->str);
}

static void test_no_machines(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) said = run(stage, 0, "machines", NULL);
        g_autoptr(Run) told = run(stage, 0, "machines", "--json", NULL);
        g_autoptr(Run) bare = run(stage, 0, "machines", "--no-legend", NULL);

        assert_string_equal(said->out->str, "No machines. Make one with: feosctl create NAME\n");
        assert_string_equal(told->out->str, "[]\n");
        assert_string_equal(bare->out->str, "");
}

static void test_xml(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) shown = run(stage, 0, "xml", "vm-1", NULL);

        assert_string_equal(shown->out->str, "<domain/>\n");
}

/* --- machines ------------------------------------------------------------------------------------
 */

static void test_create(void **state) {
        g_autoptr(Stage) stage = stage_furnished();
        g_autoptr(Run) made = run(stage, 0, "create", "vm-1", "--gpu", "01:00.0", "--gpu",
                                  "0000:02:00.0", "--vcpus", "4", "--memory", "1.5G", "--disk",
                                  "data.raw,read-only", "--nic", "default,id=n7", NULL);
        WorldDomain *domain = world_domain(stage->world, "vm-1");

        assert_string_equal(made->out->str, "Machine vm-1 is running.\n");
        assert_string_equal(made->err->str, "");
        assert_state(stage, "running");
        assert_int_equal(domain->vcpus, 4);
        assert_int_equal(domain->memory_mib, 1536);
        assert_int_equal(domain->hostdevs->len, 3);
        assert_string_equal(g_ptr_array_index(domain->disks, 0), "disk1");
        assert_string_equal(g_ptr_array_index(domain->nics, 0), "n7");
}

static void test_create_without_start_or_wait(void **state) {
        g_autoptr(Stage) stage = stage_furnished();
        g_autoptr(Run) defined = run(stage, 0, "create", "vm-1", "--start=no", NULL);
        g_autoptr(Run) begun = NULL;
        g_autoptr(Run) told = NULL;
        g_autoptr(json_object) path = NULL;

        assert_out(defined, "feosctl start vm-1\n");
        assert_state(stage, "created");
        begun = run(stage, 0, "create", "other", "--gpu", "01:00.0", "--wait=no", NULL);
        assert_out(begun, "feosctl monitor other\n");
        told = run(stage, 0, "create", "third", "--json", NULL);
        path = parsed(told);
        assert_string_equal(text_of(path, "Machine"), "/org/feos/VM1/machine/third");
}

/* Its secrets come from a file and are on no command line. */
static void test_create_with_ignition(void **state) {
        g_autoptr(Stage) stage = stage_furnished();
        const char *const arguments[] = { "create", "vm-1", "--ignition", "-", NULL };
        g_autoptr(Run) good = run_start(stage, &(RunSetting){ .input = "{\"a\": 1}" }, arguments);
        g_autoptr(Run) bad = NULL;

        run_end(good);
        assert_int_equal(good->status, 0);
        bad = run_start(stage, &(RunSetting){ .input = "password" }, arguments);
        run_end(bad);
        assert_int_equal(bad->status, 1);
        assert_err(bad, "Option ignition is no JSON object.\n  → Give the whole");
        assert_null(strstr(bad->err->str, "password"));
}

static void test_life_of_a_machine(void **state) {
        static const struct {
                const char *command, *state, *says;
        } steps[] = {
                { "pause", "paused", "Machine vm-1 is paused.\n" },
                { "resume", "running", "Machine vm-1 is running.\n" },
                { "reboot", "running", "Machine vm-1 has been asked to reboot.\n" },
                { "shutdown", "stopping", "Machine vm-1 has been asked to shut down.\n" },
                { "poweroff", "stopped", "Machine vm-1 is off.\n" },
                { "start", "running", "Machine vm-1 is running.\n" },
        };
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) gone = NULL;
        g_autoptr(Run) quiet = NULL;

        for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
                g_autoptr(Run) done = run(stage, 0, steps[i].command, "vm-1", NULL);

                assert_string_equal(done->out->str, steps[i].says);
                assert_state(stage, steps[i].state);
        }
        quiet = run(stage, 0, "-q", "pause", "vm-1", NULL);
        assert_string_equal(quiet->out->str, "");
        gone = run(stage, 0, "delete", "vm-1", NULL);
        assert_out(gone, "Machine vm-1 is deleted; its images stay.\n");
        assert_null(world_domain(stage->world, "vm-1"));
}

/* One that fails keeps none of the others from what they are to do. */
static void test_several_at_once(void **state) {
        g_autoptr(Stage) stage = stage_furnished();
        g_autoptr(Run) G_GNUC_UNUSED a = run(stage, 0, "create", "a", NULL);
        g_autoptr(Run) G_GNUC_UNUSED b = run(stage, 0, "create", "b", NULL);
        g_autoptr(Run) paused = run(stage, 1, "pause", "a", "nobody", "b", NULL);

        assert_string_equal(paused->out->str, "Machine a is paused.\nMachine b is paused.\n");
        assert_err(paused, "There is no machine \"nobody\".\n  → feosctl machines shows");
}

static void test_devices_come_and_go(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) disk = run(stage, 0, "attach-disk", "vm-1", "data.raw,id=scratch", NULL);
        g_autoptr(Run) nic = run(stage, 0, "attach-nic", "vm-1", "source=default", "--json", NULL);
        g_autoptr(json_object) id = parsed(nic);
        g_autoptr(Run) no_disk = run(stage, 0, "detach-disk", "vm-1", "scratch", NULL);
        g_autoptr(Run) no_nic = run(stage, 1, "detach-nic", "vm-1", "nic1", "nic2", NULL);
        g_autoptr(Run) wrong = run(stage, 2, "attach-disk", "vm-1", "pth=data.raw", NULL);

        assert_string_equal(disk->out->str, "Machine vm-1 has disk scratch.\n");
        assert_string_equal(text_of(id, "ID"), "nic1");
        assert_string_equal(no_disk->out->str, "Machine vm-1 has given disk scratch back.\n");
        assert_string_equal(no_nic->out->str, "Machine vm-1 has given NIC nic1 back.\n");
        assert_err(no_nic, "has no NIC \"nic2\"");
        assert_err(wrong, "Did you mean \"path\"?");
        assert_int_equal(world_domain(stage->world, "vm-1")->disks->len, 0);
}

/* --- GPUs ----------------------------------------------------------------------------------------
 */

static void test_bind_and_release(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) bound = run(stage, 0, "bind", "01:00.0", "02:00.0", NULL);
        g_autoptr(Run) released = NULL;

        assert_string_equal(bound->out->str, "GPU 0000:01:00.0 is set aside on vfio-pci.\n"
                                             "GPU 0000:02:00.0 is set aside on vfio-pci.\n");
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "vfio-bound");
        released = run(stage, 0, "release", "0000:01:00.0", NULL);
        assert_string_equal(released->out->str, "GPU 0000:01:00.0 is back with the host.\n");
        assert_text(stage, GPU1, "org.feos.VM1.GPU", "State", "host-bound");
}

static void test_recover(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) shown = NULL;
        g_autoptr(Run) recovered = NULL;

        faulted(stage);
        shown = run(stage, 0, "gpu", "02:00.0", NULL);
        assert_out(shown, "handover-failed\n");
        assert_out(shown, "Fault: ");
        g_array_set_size(stage->world->no_return, 0);
        recovered = run(stage, 0, "recover", "02:00.0", NULL);
        assert_string_equal(recovered->out->str, "GPU 0000:02:00.0 is well.\n");
}

static void test_holders(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) nobody = run(stage, 0, "holders", "02:00.0", NULL);
        g_autoptr(Run) table = NULL;
        g_autoptr(Run) told = NULL;
        g_autoptr(json_object) holders = NULL;
        Holder *holder = g_new0(Holder, 1);

        holder->pid = 42;
        /* A process may call itself anything. */
        holder->command = g_strdup("X\033[2J");
        holder->unit = g_strdup("");
        holder->node = g_strdup("/dev/dri/card0");
        g_ptr_array_add(stage->world->holders, holder);
        assert_out(nobody, "Nothing on the host holds GPU 0000:02:00.0.\n");
        table = run(stage, 0, "holders", "02:00.0", NULL);
        assert_string_equal(table->out->str, "PID  COMMAND  UNIT  NODE\n"
                                             " 42  X?[2J    -     /dev/dri/card0\n");
        told = run(stage, 0, "holders", "02:00.0", "--json", NULL);
        holders = parsed(told);
        assert_string_equal(text_of(json_object_array_get_idx(holders, 0), "PID"), "42");
}

/* --- check ---------------------------------------------------------------------------------------
 */

static void test_check(void **state) {
        g_autoptr(Stage) stage = stage_furnished();
        g_autoptr(Run) fine = run(stage, 0, "check", "box", "--gpu", "01:00.0", NULL);
        g_autoptr(Run) wrong =
                run(stage, 3, "check", "box", "--gpu", "09:00.0", "--image", "nowhere.raw", NULL);
        g_autoptr(Run) told = run(stage, 3, "check", "box", "--gpu", "09:00.0", "--json", NULL);
        g_autoptr(json_object) findings = parsed(told);
        g_autoptr(Run) warned = NULL;
        json_object *first = json_object_array_get_idx(findings, 0);

        assert_string_equal(fine->out->str, "Nothing stands in the way of box.\n");
        assert_out(wrong, "× NoSuchGPU: ");
        assert_out(wrong, "× ImageNotFound: ");
        assert_string_equal(text_of(first, "Severity"), "error");
        assert_string_equal(text_of(first, "Code"), "NoSuchGPU");
        assert_string_equal(text_of(first, "Subject"), "0000:09:00.0");
        stage->world->kvm = false;
        warned = run(stage, 0, "check", "box", NULL);
        assert_out(warned, "● NoKVM: ");
        assert_null(world_domain(stage->world, "box"));
}

/* --- what goes wrong -----------------------------------------------------------------------------
 */

static void test_refusals(void **state) {
        static const struct {
                const char *arguments[6];
                const char *message, *remedy;
        } refusals[] = {
                { { "create", "other", "--gpu", "01:00.0" },
                  "GPU 0000:01:00.0 belongs to machine vm-1.",
                  "Shut that machine down first, or ask for another GPU." },
                { { "create", "vm-1" },
                  "There is a machine or libvirt domain vm-1 already.",
                  "Choose another name, or delete that machine first." },
                { { "start", "vm-1" }, "Machine vm-1 is running.", "feosctl poweroff" },
                { { "bind", "01:00.0" }, "GPU 0000:01:00.0 belongs to machine vm-1.", "Shut" },
                { { "machine", "nobody" }, "There is no machine \"nobody\".", "feosctl machines" },
                { { "gpu", "1" }, "\"1\" is not a PCI address.", "0000:01:00.0 or 01:00.0" },
                { { "create", "other", "--firmware", "efi" },
                  "Option firmware has no such value.",
                  "Use \"bios\" or \"uefi\"." },
        };
        g_autoptr(Stage) stage = stage_with_machine();

        for (size_t i = 0; i < G_N_ELEMENTS(refusals); i++) {
                g_autoptr(Run) refused =
                        run_start(stage, &(RunSetting){ 0 }, refusals[i].arguments);
                g_auto(GStrv) lines = NULL;

                run_end(refused);
                assert_int_equal(refused->status, 1);
                assert_string_equal(refused->out->str, "");
                lines = g_strsplit(refused->err->str, "\n", -1);
                assert_int_equal(g_strv_length(lines), 3);
                assert_string_equal(lines[0], refusals[i].message);
                assert_int_equal(strncmp(lines[1], "  → ", strlen("  → ")), 0);
                if (!strstr(lines[1], refusals[i].remedy))
                        fail_msg("%s", lines[1]);
        }
}

static void test_refusal_in_json(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        g_autoptr(Run) refused = run(stage, 1, "--json", "create", "vm-1", NULL);
        g_autoptr(json_object) error = json_tokener_parse(refused->err->str);

        assert_string_equal(refused->out->str, "");
        assert_string_equal(text_of(error, "Error"), "MachineExists");
        assert_string_equal(text_of(error, "Remedy"),
                            "Choose another name, or delete that machine first.");
}

static void test_usage(void **state) {
        static const struct {
                const char *arguments[5];
                const char *says;
        } wrong[] = {
                { { "strat" }, "Unknown command 'strat'. Did you mean 'start'?\n" },
                { { "frobnicate" }, "Unknown command 'frobnicate'.\n" },
                { { "start" },
                  "An argument is missing for start.\n"
                  "  → Usage: feosctl start [OPTION...] MACHINE...\n" },
                { { "xml", "a", "b" }, "'b' is one argument too many for xml.\n" },
                { { "gpus", "x" }, "'x' is one argument too many for gpus.\n" },
                { { "--jsn", "gpus" }, "Unknown option --jsn. Did you mean --json?\n" },
                { { "create", "box", "--vpcus", "2" }, "Did you mean --vcpus?\n" },
                { { "create", "box", "--memory", "4096" },
                  "Option --memory takes a size such as 64G or 512M, not \"4096\".\n"
                  "  → Usage: feosctl create [OPTION...] NAME\n" },
                { { "log", "-n", "few" }, "\"few\" is no number of lines.\n" },
                { { "create", "box", "--gpu" }, "Missing argument for --gpu.\n" },
                { { "start", "b\xff" }, "An argument is no text.\n" },
        };
        g_autoptr(Stage) stage = stage_new(0);

        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
                g_autoptr(Run) refused = run_start(stage, &(RunSetting){ 0 }, wrong[i].arguments);

                run_end(refused);
                if (refused->status != 2)
                        fail_msg("%s: %d", wrong[i].says, refused->status);
                assert_err(refused, wrong[i].says);
                assert_string_equal(refused->out->str, "");
        }
}

static void test_help(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autoptr(Run) all = run(stage, 0, "--help", NULL);
        g_autoptr(Run) one = run(stage, 0, "create", "--help", NULL);
        g_autoptr(Run) version = run(stage, 0, "--version", NULL);

        assert_out(all, "attach-disk MACHINE PATH[,KEY=VALUE...]");
        assert_out(one, "feosctl create [OPTION…] NAME\n");
        assert_out(one, "--allow-boot-display");
        assert_int_equal(strncmp(version->out->str, "feosctl ", 8), 0);
}

static void test_without_a_service(void **state) {
        PrivateBus *bus = private_bus_new(NULL);
        Stage stage = { .private_bus = bus };
        g_autoptr(Run) nobody = run(&stage, 1, "gpus", NULL);
        g_autoptr(Run) nothing = NULL;

        assert_string_equal(nobody->err->str, "feos-vmd does not run, and could not be started.\n"
                                              "  → Start it: systemctl start feos-vmd\n");
        private_bus_kill(bus);
        nothing = run(&stage, 1, "gpus", NULL);
        assert_err(nothing, "Cannot reach the system bus");
        assert_err(nothing, "\n  → See whether it runs: systemctl status dbus\n");
        run_free(g_steal_pointer(&nobody));
        run_free(g_steal_pointer(&nothing));
        /* Its connections have gone with it. */
        private_bus_free(bus);
}

/* --- polkit --------------------------------------------------------------------------------------
 */

static void test_polkit_is_asked_as_wanted(void **state) {
        g_autoptr(Stage) stage = stage_with_machine();
        const RunSetting somebody = { .uid = SOMEBODY };
        g_autoptr(Run) may_ask = NULL;
        g_autoptr(Run) may_not = NULL;
        g_autoptr(Run) denied = NULL;

        if (!private_bus_can_be_anybody())
                skip();
        may_ask = run_start(stage, &somebody, (const char *const[]){ "pause", "vm-1", NULL });
        run_end(may_ask);
        assert_int_equal(may_ask->status, 0);
        assert_int_equal(stage->polkit->flags, 1);
        assert_asked(stage, "org.feos.vm1.manage", "vm-1", "0000:01:00.0,0000:02:00.0", "Pause");

        stage->polkit->verdict = MOCK_CHALLENGE;
        may_not = run_start(stage, &somebody,
                            (const char *const[]){ "--no-ask-password", "resume", "vm-1", NULL });
        run_end(may_not);
        assert_int_equal(may_not->status, 1);
        assert_int_equal(stage->polkit->flags, 0);
        assert_err(may_not, "This needs an administrator's password.\n  → Leave out");

        stage->polkit->verdict = MOCK_NO;
        denied = run_start(stage, &somebody, (const char *const[]){ "resume", "vm-1", NULL });
        run_end(denied);
        assert_int_equal(denied->status, 1);
        assert_err(denied, "\n  → Ask as root, or have a polkit rule allow it.\n");
}

/* --- another host --------------------------------------------------------------------------------
 */

/* An ssh that goes nowhere: the bus is the one there is, and what it was asked is kept. */
static void test_another_host(void **state) {
        g_autoptr(Stage) stage = stage_new(0);
        g_autofree char *folder = g_dir_make_tmp("feosctl-ssh-XXXXXX", NULL);
        g_autofree char *ssh = g_build_filename(folder, "ssh", NULL);
        g_autofree char *asked = g_build_filename(folder, "asked", NULL);
        g_autofree char *path = g_strdup_printf("PATH=%s:%s", folder, g_getenv("PATH"));
        g_autofree char *script = g_strdup_printf(
                "#!/bin/sh\necho \"$@\" > %s\nexec systemd-stdio-bridge -p \"%s\"\n", asked,
                g_getenv("DBUS_SYSTEM_BUS_ADDRESS"));
        const RunSetting setting = { .setting = (const char *const[]){ path, NULL } };
        g_autoptr(Run) gpus = NULL;
        g_autoptr(Run) console = NULL;
        g_autofree char *words = NULL;

        assert_true(g_file_set_contents(ssh, script, -1, NULL));
        assert_int_equal(g_chmod(ssh, 0755), 0);
        gpus = run_start(stage, &setting, (const char *const[]){ "-H", "me@far", "gpus", NULL });
        run_end(gpus);
        assert_string_equal(gpus->err->str, "");
        assert_int_equal(gpus->status, 0);
        assert_out(gpus, "0000:01:00.0  host-bound");
        assert_true(g_file_get_contents(asked, &words, NULL, NULL));
        assert_non_null(strstr(words, "me@far systemd-stdio-bridge"));
        console = run_start(stage, &setting,
                            (const char *const[]){ "-H", "me@far", "console", "box", NULL });
        run_end(console);
        assert_int_equal(console->status, 2);
        assert_err(console, "ssh -t HOST feosctl console MACHINE");
        g_unlink(ssh);
        g_unlink(asked);
        g_rmdir(folder);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_overview),
                cmocka_unit_test(test_overview_says_what_is_wrong),
                cmocka_unit_test(test_holders_are_for_those_who_may),
                cmocka_unit_test(test_gpus),
                cmocka_unit_test(test_gpu),
                cmocka_unit_test(test_machine),
                cmocka_unit_test(test_no_machines),
                cmocka_unit_test(test_xml),
                cmocka_unit_test(test_create),
                cmocka_unit_test(test_create_without_start_or_wait),
                cmocka_unit_test(test_create_with_ignition),
                cmocka_unit_test(test_life_of_a_machine),
                cmocka_unit_test(test_several_at_once),
                cmocka_unit_test(test_devices_come_and_go),
                cmocka_unit_test(test_bind_and_release),
                cmocka_unit_test(test_recover),
                cmocka_unit_test(test_holders),
                cmocka_unit_test(test_check),
                cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_refusal_in_json),
                cmocka_unit_test(test_usage),
                cmocka_unit_test(test_help),
                cmocka_unit_test(test_without_a_service),
                cmocka_unit_test(test_polkit_is_asked_as_wanted),
                cmocka_unit_test(test_another_host),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
