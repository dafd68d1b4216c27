/* The table of commands. What they do is in the files of their nouns. */
#include "commands.h"

#include "console.h"
#include "create.h"
#include "gpus.h"
#include "log.h"
#include "machines.h"
#include "monitor.h"
#include "nearest.h"
#include "overview.h"

#include <limits.h>
#include <string.h>

#define LOOK     "Look:"
#define MACHINES "Machines:"
#define GPUS     "GPUs:"

static void add_create_options(GOptionGroup *group, Ctl *ctl) {
        create_options_add_to(group);
}

static void add_log_options(GOptionGroup *group, Ctl *ctl) {
        const GOptionEntry entries[] = {
                { "lines", 'n', 0, G_OPTION_ARG_STRING, &ctl->lines,
                  "How many entries, from the last; or all (20)", "N" },
                { "follow", 'f', 0, G_OPTION_ARG_NONE, &ctl->follow, "Go on with new ones", NULL },
                { "directory", 'D', 0, G_OPTION_ARG_FILENAME, &ctl->directory,
                  "Read the journal there", "DIR" },
                { NULL },
        };

        g_option_group_add_entries(group, entries);
}

static const Command commands[] = {
        { NULL, NULL, "", 0, 0, NULL, NULL, overview_run },
        { "gpus", LOOK, "", 0, 0, "List the GPUs", NULL, gpus_list },
        { "gpu", LOOK, "ADDRESS...", 1, UINT_MAX, "Show one in full", NULL, gpus_show },
        { "holders", LOOK, "ADDRESS", 1, 1, "List the host's processes that have one open", NULL,
          gpus_holders },
        { "machines", LOOK, "", 0, 0, "List the machines", NULL, machines_list },
        { "machine", LOOK, "MACHINE...", 1, UINT_MAX, "Show one in full", NULL, machines_show },
        { "xml", LOOK, "MACHINE", 1, 1, "Show its libvirt domain", NULL, machines_xml },
        { "monitor", LOOK, "[MACHINE|ADDRESS...]", 0, UINT_MAX, "Show events as they happen", NULL,
          monitor_run },
        { "log", LOOK, "[MACHINE|ADDRESS]", 0, 1, "Show what the journal has", add_log_options,
          log_run },

        { "check", MACHINES, "NAME", 1, 1, "Say what create would say, and touch nothing",
          add_create_options, check_run },
        { "create", MACHINES, "NAME", 1, 1, "Make one and start it", add_create_options,
          create_run },
        { "start", MACHINES, "MACHINE...", 1, UINT_MAX, "Take its GPUs and start it", NULL,
          machines_start },
        { "check-start", MACHINES, "MACHINE", 1, 1, "Say what start would say, and touch nothing",
          NULL, check_start_run },
        { "shutdown", MACHINES, "MACHINE...", 1, UINT_MAX, "Press its power button", NULL,
          machines_shutdown },
        { "poweroff", MACHINES, "MACHINE...", 1, UINT_MAX, "Switch it off at once", NULL,
          machines_power_off },
        { "reboot", MACHINES, "MACHINE...", 1, UINT_MAX, "Ask its guest to reboot", NULL,
          machines_reboot },
        { "pause", MACHINES, "MACHINE...", 1, UINT_MAX, "Halt its processors", NULL,
          machines_pause },
        { "resume", MACHINES, "MACHINE...", 1, UINT_MAX, "Let them go on", NULL, machines_resume },
        { "delete", MACHINES, "MACHINE...", 1, UINT_MAX, "Switch it off and forget it", NULL,
          machines_delete },
        { "console", MACHINES, "MACHINE", 1, 1, "Use its serial console; Ctrl-] leaves", NULL,
          console_run },
        { "attach-disk", MACHINES, "MACHINE PATH[,KEY=VALUE...]", 2, 2, "Give it one more disk",
          NULL, machines_attach_disk },
        { "detach-disk", MACHINES, "MACHINE ID...", 2, UINT_MAX, "Take disks away", NULL,
          machines_detach_disk },
        { "attach-nic", MACHINES, "MACHINE SOURCE[,KEY=VALUE...]", 2, 2,
          "Give it one more network interface", NULL, machines_attach_nic },
        { "detach-nic", MACHINES, "MACHINE ID...", 2, UINT_MAX, "Take network interfaces away",
          NULL, machines_detach_nic },

        { "bind", GPUS, "ADDRESS...", 1, UINT_MAX, "Set it aside on vfio-pci", NULL, gpus_bind },
        { "release", GPUS, "ADDRESS...", 1, UINT_MAX, "Give it back to the host", NULL,
          gpus_release },
        { "recover", GPUS, "ADDRESS...", 1, UINT_MAX, "Look again after a fault", NULL,
          gpus_recover },
};

const Command *command_find(const char *name) {
        for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
                if (g_strcmp0(commands[i].name, name) == 0)
                        return &commands[i];
        return NULL;
}

const char *command_nearest(const char *name) {
        const char *names[G_N_ELEMENTS(commands)];
        size_t n = 0;

        for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
                if (commands[i].name)
                        names[n++] = commands[i].name;
        names[n] = NULL;
        return nearest_word(name, names);
}

char *commands_format(void) {
        GString *text = g_string_new(NULL);
        const char *group = NULL;

        for (size_t i = 0; i < G_N_ELEMENTS(commands); i++) {
                const Command *command = &commands[i];
                g_autofree char *usage = NULL;

                if (!command->name)
                        continue;
                if (command->group != group)
                        g_string_append_printf(text, "\n%s\n", command->group);
                group = command->group;
                usage = g_strdup_printf("%s %s", command->name, command->arguments);
                g_string_append_printf(text, "  %-42s %s\n", usage, command->help);
        }
        return g_string_free(text, FALSE);
}
