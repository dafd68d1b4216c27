/* Sets the stage and takes it down. The world goes on by itself while the loop runs, unless paused;
 * what is tried on it is the tests' business. */
#include "stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* After every event of the loop the world goes on. */
static int on_pump(sd_event_source *source, void *userdata) {
        Stage *stage = userdata;

        if (!stage->paused)
                world_run(stage->world);
        return 0;
}

static void read_properties(sd_bus_message *m, GString *line) {
        const char *interface, *name;

        assert_true(sd_bus_message_read(m, "s", &interface) > 0);
        assert_true(sd_bus_message_enter_container(m, 'a', "{sv}") > 0);
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                assert_true(sd_bus_message_read(m, "s", &name) > 0);
                g_string_append_printf(line, " %s", name);
                assert_true(sd_bus_message_skip(m, "v") >= 0);
                assert_true(sd_bus_message_exit_container(m) >= 0);
        }
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *member = sd_bus_message_get_member(m);
        GString *line = g_string_new(member);
        const char *path = sd_bus_message_get_path(m);
        const char *old, *new, *reason;
        Stage *stage = userdata;

        if (g_str_equal(member, "StateChanged")) {
                assert_true(sd_bus_message_read(m, "sss", &old, &new, &reason) > 0);
                g_string_append_printf(line, " %s %s %s", path, old, new);
        } else if (g_str_equal(member, "PropertiesChanged")) {
                g_string_append_printf(line, " %s", path);
                read_properties(m, line);
        } else if (g_str_has_prefix(member, "Interfaces")) {
                assert_true(sd_bus_message_read(m, "o", &path) > 0);
                g_string_append_printf(line, " %s", path);
        }
        g_ptr_array_add(stage->heard, g_string_free(line, FALSE));
        return 0;
}

Stage *stage_new(unsigned pending_per_user) {
        static const char *const directories[] = { "/var/lib/feos/images", NULL };
        BusConfig config = {
                .version = "1.2.3",
                .image_directories = directories,
                .pending_per_user = pending_per_user,
        };
        Stage *stage = g_new0(Stage, 1);
        WorldFunction *audio;
        sd_event *event;

        stage->private_bus = private_bus_new(NULL);
        stage->polkit = mock_polkit_new(stage->private_bus);
        stage->heard = g_ptr_array_new_with_free_func(g_free);
        event = private_bus_event(stage->private_bus);

        stage->world = world_new();
        world_add(stage->world, "0000:01:00.0", 0x030000, 1, "bochs-drm");
        audio = world_add(stage->world, "0000:01:00.1", 0x040300, 1, "snd_hda_intel");
        audio->facts.device = 0x2222;
        world_add(stage->world, "0000:02:00.0", 0x030200, 2, "bochs-drm");
        world_boot(stage->world);
        assert_true(bus_new(event, stage->world->manager, &config, &stage->bus) >= 0);
        world_run(stage->world);
        assert_int_equal(bus_take_name(stage->bus), 0);
        assert_true(sd_event_add_post(event, &stage->pump, on_pump, stage) >= 0);

        stage->root = private_bus_connect(stage->private_bus, 0);
        stage->somebody = private_bus_connect(stage->private_bus, SOMEBODY);
        assert_true(sd_bus_match_signal(stage->root, NULL, "org.feos.VM1", NULL, NULL, NULL,
                                        on_signal, stage) >= 0);
        return stage;
}

void stage_free(Stage *stage) {
        bus_free(stage->bus);
        sd_event_source_disable_unref(stage->pump);
        world_free(stage->world);
        sd_bus_flush_close_unref(stage->root);
        sd_bus_flush_close_unref(stage->somebody);
        mock_polkit_free(stage->polkit);
        private_bus_free(stage->private_bus);
        g_ptr_array_unref(stage->heard);
        g_free(stage);
}

void stage_wait(Stage *stage, bool (*is)(const Stage *stage)) {
        sd_event *event = private_bus_event(stage->private_bus);
        gint64 end = g_get_monotonic_time() + 10 * G_USEC_PER_SEC;

        while (!is(stage)) {
                gint64 left = end - g_get_monotonic_time();

                assert_true(left > 0);
                assert_true(sd_event_run(event, (uint64_t)left) >= 0);
        }
}

guint heard_at(const Stage *stage, const char *line) {
        g_autoptr(GString) all = g_string_new(NULL);

        for (guint i = 0; i < stage->heard->len; i++) {
                if (g_str_equal(g_ptr_array_index(stage->heard, i), line))
                        return i;
                g_string_append_printf(all, "\n  %s", (char *)g_ptr_array_index(stage->heard, i));
        }
        fail_msg("not heard: %s\nheard:%s", line, all->str);
        return 0;
}

sd_bus_message *call_new(sd_bus *caller, const char *path, const char *interface,
                         const char *member) {
        sd_bus_message *m = NULL;

        assert_true(sd_bus_message_new_method_call(caller, &m, "org.feos.VM1", path, interface,
                                                   member) >= 0);
        return m;
}

void call(Stage *stage, sd_bus *caller, const char *path, const char *interface, const char *member,
          Answer *answer) {
        answer_expect(answer, caller, call_new(caller, path, interface, member));
        private_bus_wait(stage->private_bus, &answer->there);
}

void call_with(Stage *stage, const char *member, const char *text, Answer *answer) {
        sd_bus_message *m = call_new(stage->somebody, VM1, "org.feos.VM1", member);

        assert_true(sd_bus_message_append(m, "s", text) >= 0);
        answer_expect(answer, stage->somebody, m);
        private_bus_wait(stage->private_bus, &answer->there);
}

void request(Stage *stage, sd_bus *caller, const char *member, const char *name, const char *option,
             bool value, Answer *answer) {
        sd_bus_message *m = call_new(caller, VM1, "org.feos.VM1", member);

        assert_true(sd_bus_message_append(m, "sasa{sv}", name, 2, "02:00.0", "01:00.0", 1, option,
                                          "b", value) >= 0);
        answer_expect(answer, caller, m);
}

void create(Stage *stage, sd_bus *caller, const char *name, Answer *answer) {
        request(stage, caller, "Create", name, "start", true, answer);
        private_bus_wait(stage->private_bus, &answer->there);
}

void assert_path(const Answer *answer, const char *expected) {
        const char *path;

        assert_null(answer->error);
        assert_true(sd_bus_message_read(answer->reply, "o", &path) > 0);
        assert_string_equal(path, expected);
}

void assert_error(const Answer *answer, const char *name, const char *word) {
        assert_non_null(answer->error);
        assert_string_equal(answer->error, name);
        if (!strstr(answer->text, word))
                fail_msg("\"%s\" does not speak of %s", answer->text, word);
}

char *text_property(Stage *stage, const char *path, const char *interface, const char *property) {
        sd_bus_message *m = call_new(stage->somebody, path, DBUS "Properties", "Get");
        g_auto(Answer) answer = { 0 };
        const char *text;

        assert_true(sd_bus_message_append(m, "ss", interface, property) >= 0);
        answer_expect(&answer, stage->somebody, m);
        private_bus_wait(stage->private_bus, &answer.there);
        assert_null(answer.error);
        assert_true(sd_bus_message_read(answer.reply, "v", "s", &text) > 0);
        return g_strdup(text);
}

void assert_text(Stage *stage, const char *path, const char *interface, const char *property,
                 const char *expected) {
        g_autofree char *text = text_property(stage, path, interface, property);

        assert_string_equal(text, expected);
}

void assert_asked(const Stage *stage, const char *action, const char *machine, const char *gpus,
                  const char *verb) {
        assert_string_equal(stage->polkit->action, action);
        assert_string_equal(g_hash_table_lookup(stage->polkit->details, "machine"), machine);
        assert_string_equal(g_hash_table_lookup(stage->polkit->details, "gpus"), gpus);
        assert_string_equal(g_hash_table_lookup(stage->polkit->details, "verb"), verb);
}
