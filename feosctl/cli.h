/* The command line. */
#pragma once

/* Reads @argv and does what it says; the exit code. */
int cli_run(int argc, char **argv);
