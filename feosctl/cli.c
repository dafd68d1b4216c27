/* Reads the command line: first what stands before the command, so as to find that, then the rest
 * with the command's own options. What is wrong is said with what was probably meant. */
#include "cli.h"

#include "commands.h"
#include "complaint.h"
#include "nearest.h"
#include "version.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

static void add_options_of_all(GOptionGroup *group, Ctl *ctl) {
        const GOptionEntry entries[] = {
                { "help", 'h', 0, G_OPTION_ARG_NONE, &ctl->help, "Show this", NULL },
                { "version", 0, 0, G_OPTION_ARG_NONE, &ctl->version, "Show the version", NULL },
                { "host", 'H', 0, G_OPTION_ARG_STRING, &ctl->host, "Work on another host, by ssh",
                  "[USER@]HOST" },
                { "json", 'j', 0, G_OPTION_ARG_NONE, &ctl->json, "Write JSON", NULL },
                { "quiet", 'q', 0, G_OPTION_ARG_NONE, &ctl->quiet, "Say nothing when all went well",
                  NULL },
                { "no-legend", 0, 0, G_OPTION_ARG_NONE, &ctl->no_legend, "Leave out the headings",
                  NULL },
                { "no-ask-password", 0, 0, G_OPTION_ARG_NONE, &ctl->no_ask_password,
                  "Ask for no password", NULL },
                { NULL },
        };

        g_option_group_add_entries(group, entries);
}

static GOptionContext *context_new(Ctl *ctl, const Command *command) {
        const char *arguments = command && command->name ? command->arguments : "[COMMAND]";
        GOptionContext *context = g_option_context_new(arguments);
        GOptionGroup *group = g_option_group_new("feosctl", NULL, NULL, ctl->create, NULL);

        if (command && command->add_options)
                command->add_options(group, ctl);
        add_options_of_all(group, ctl);
        g_option_context_set_main_group(context, group);
        g_option_context_set_help_enabled(context, FALSE);
        return context;
}

/* The help of one command; GLib writes it for a program that is only that. Caller frees. */
static char *command_help(GOptionContext *context, const Command *command) {
        g_autofree char *text = NULL;
        g_autofree char *usage = NULL;
        g_auto(GStrv) parts = NULL;

        g_option_context_set_summary(context, command->help);
        text = g_option_context_get_help(context, TRUE, NULL);
        parts = g_strsplit(text, "feosctl ", 2);
        usage = g_strdup_printf("feosctl %s ", command->name);
        return g_strjoinv(usage, parts);
}

static void print_help(GOptionContext *context, const Command *command) {
        g_autofree char *text = NULL;
        g_autofree char *commands = NULL;

        if (command->name) {
                text = command_help(context, command);
                g_print("%s", text);
                return;
        }
        commands = commands_format();
        g_option_context_set_summary(context,
                                     "Machines with whole GPUs of this host. Without a command: "
                                     "the host at a glance.");
        text = g_option_context_get_help(context, TRUE, NULL);
        g_print("%s%s\nfeosctl COMMAND --help shows a command's options; feosctl(1) says more.\n",
                text, commands + 1);
}

/* The long option that was meant; NULL = nobody can tell. Caller frees. */
static char *nearest_option(GOptionContext *context, const char *unknown) {
        g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
        g_autofree char *name = g_strndup(unknown, strcspn(unknown, "="));
        g_autoptr(GRegex) regex = g_regex_new("--[a-z][a-z-]+", 0, 0, NULL);
        g_autoptr(GPtrArray) words = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GMatchInfo) match = NULL;

        for (g_regex_match(regex, help, 0, &match); g_match_info_matches(match);
             g_match_info_next(match, NULL))
                g_ptr_array_add(words, g_match_info_fetch(match, 0));
        g_ptr_array_add(words, NULL);
        return g_strdup(nearest_word(name, (const char *const *)words->pdata));
}

static char *usage_of(const Command *command) {
        return command->name ? g_strdup_printf("Usage: feosctl %s [OPTION...] %s", command->name,
                                               command->arguments)
                             : g_strdup("feosctl --help shows the commands and options.");
}

static int refuse_option(const Ctl *ctl, GOptionContext *context, const Command *command,
                         const GError *error) {
        static const char unknown[] = "Unknown option ";
        g_autofree char *usage = usage_of(command);
        g_autofree char *meant = NULL;

        if (g_str_has_prefix(error->message, unknown))
                meant = nearest_option(context, error->message + strlen(unknown));
        if (meant)
                complain(ctl, "Usage", usage, "%s. Did you mean %s?", error->message, meant);
        else
                complain(ctl, "Usage", usage, "%s%s", error->message,
                         g_str_has_suffix(error->message, ".") ? "" : ".");
        return EXIT_USAGE;
}

static int refuse_command(const Ctl *ctl, const char *name) {
        const char *meant = command_nearest(name);
        g_autofree char *question =
                meant ? g_strdup_printf(" Did you mean '%s'?", meant) : g_strdup("");

        complain(ctl, "Usage", "feosctl --help shows the commands.", "Unknown command '%s'.%s",
                 name, question);
        return EXIT_USAGE;
}

static int refuse_arguments(const Ctl *ctl, const Command *command, char **arguments) {
        g_autofree char *usage = usage_of(command);
        guint n = g_strv_length(arguments);

        if (n > command->max)
                complain(ctl, "Usage", usage, "'%s' is one argument too many for %s.",
                         arguments[command->max], command->name);
        else
                complain(ctl, "Usage", usage, "An argument is missing for %s.", command->name);
        return EXIT_USAGE;
}

/* D-Bus carries UTF-8 alone. */
static bool are_text(char **arguments) {
        for (; *arguments; arguments++)
                if (!g_utf8_validate(*arguments, -1, NULL))
                        return false;
        return true;
}

/* Runs @command with what stands behind it; @line begins with the program's name. */
static int run_command(Ctl *ctl, const Command *command, char ***line) {
        g_autoptr(GOptionContext) context = context_new(ctl, command);
        g_autoptr(GError) error = NULL;
        char **arguments;
        guint n;

        create_options_expand(*line);
        if (!g_option_context_parse_strv(context, line, &error))
                return refuse_option(ctl, context, command, error);
        if (ctl->help) {
                print_help(context, command);
                return EXIT_SUCCESS;
        }
        if (ctl->version) {
                puts("feosctl " VERSION);
                return EXIT_SUCCESS;
        }
        arguments = *line + 1;
        if (*arguments && g_str_equal(*arguments, "--"))
                arguments++;
        n = g_strv_length(arguments);
        if (n < command->min || n > command->max)
                return refuse_arguments(ctl, command, arguments);
        if (!are_text(arguments)) {
                complain(ctl, "Usage", "Write it in UTF-8.", "An argument is no text.");
                return EXIT_USAGE;
        }
        return command->run(ctl, arguments);
}

int cli_run(int argc, char **argv) {
        g_autoptr(GOptionContext) context = NULL;
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) line = NULL;
        const Command *command;
        g_auto(Ctl) ctl;

        /* What may be shown, and no language but our own. */
        setlocale(LC_CTYPE, "");
        g_set_prgname("feosctl");
        ctl_init(&ctl);
        line = g_new0(char *, (gsize)argc + 1);
        for (int i = 0; i < argc; i++)
                line[i] = g_strdup(argv[i]);
        context = context_new(&ctl, NULL);
        g_option_context_set_strict_posix(context, TRUE);
        if (!g_option_context_parse_strv(context, &line, &error))
                return refuse_option(&ctl, context, command_find(NULL), error);
        if (!line[1])
                return run_command(&ctl, command_find(NULL), &line);
        command = command_find(line[1]);
        if (!command)
                return refuse_command(&ctl, line[1]);
        /* The command's name goes, the rest stays. */
        g_free(line[1]);
        memmove(line + 1, line + 2, (g_strv_length(line + 2) + 1) * sizeof *line);
        return run_command(&ctl, command, &line);
}
