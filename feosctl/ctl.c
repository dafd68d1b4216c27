/* Begins and ends a run. What it does is the commands' business. */
#include "ctl.h"

#include "json.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

void ctl_init(Ctl *ctl) {
        *ctl = (Ctl){
                .create = create_options_new(),
                .out = terminal_of(STDOUT_FILENO),
                .err = terminal_of(STDERR_FILENO),
        };
}

void ctl_clear(Ctl *ctl) {
        agent_stop(&ctl->agent);
        sd_bus_flush_close_unref(ctl->bus);
        create_options_free(ctl->create);
        g_free(ctl->host);
        g_free(ctl->lines);
        g_free(ctl->directory);
}

void ctl_say(const Ctl *ctl, const char *format, ...) {
        g_autofree char *text = NULL;
        g_autofree char *clean = NULL;
        va_list args;

        if (ctl->quiet || ctl->json)
                return;
        va_start(args, format);
        text = g_strdup_vprintf(format, args);
        va_end(args);
        clean = text_clean(text);
        puts(clean);
}

void ctl_print_json(const Ctl *ctl, json_object *object) {
        json_print(object, ctl->out.tty);
}
