/* What the handover helper is from outside, a process with arguments, pipes and locks: tried with
 * the real program, the one argument. Runs under umockdev-wrapper. */
#include "autoptr.h"
#include "helper-kernel.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *real_program;

/* The real program, with @input written to it; its output is a pipe that nobody reads. */
static int program_run(const char *direction, const char *function, const char *input) {
        int in[2], out[2], status;
        pid_t pid;

        assert_return_code(pipe2(in, O_CLOEXEC), errno);
        assert_return_code(pipe2(out, O_CLOEXEC), errno);
        close(out[0]);
        assert_int_equal(write(in[1], input, strlen(input)), strlen(input));
        close(in[1]);
        pid = fork();
        assert_return_code(pid, errno);
        if (pid == 0) {
                signal(SIGPIPE, SIG_DFL); /* as helper_start() does */
                dup2(in[0], STDIN_FILENO);
                dup2(out[1], STDOUT_FILENO);
                execl(real_program, real_program, direction, kernel.state_dir, function, NULL);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* A daemon that goes before its word is a no, one that goes after it stops nothing. */
static void test_nobody_listens(void **state) {
        put("nvidia", "", "");
        assert_int_equal(program_run("bind", GPU, ""), EXIT_FAILURE);
        assert_int_equal(program_run("release", GPU "=nvidia,override=mine", ""), EXIT_FAILURE);
        assert_stands(0, "nvidia", "");
        assert_int_equal(program_run("release", GPU "=nvidia,override=mine", "go\n"), EXIT_SUCCESS);
        assert_stands(0, "nvidia", "mine");
        card_die(&kernel.cards[0]);
        assert_int_equal(program_run("release", GPU "=nvidia,override=your", "go\n"), EXIT_FAILURE);
        assert_stands(0, "nvidia", "your");
}

/* A helper of an earlier daemon is stuck at the card: the next one says what that is at, does
 * nothing, and goes when its own daemon goes, so that they do not queue up. */
static void test_waits_for_an_earlier_one(void **state) {
        g_autofree char *path = g_strconcat(kernel.state_dir, "/" GPU ".lock", NULL);
        const char *note = "17 1795528800 The driver nvidia has not let go of " GPU "\n";
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        int in[2], out[2], status;
        char said[256] = "";
        pid_t pid;

        put("nvidia", "", "");
        assert_return_code(fd, errno);
        assert_return_code(flock(fd, LOCK_EX), errno);
        assert_int_equal(write(fd, note, strlen(note)), strlen(note));
        assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in), errno);
        assert_return_code(pipe2(out, O_CLOEXEC), errno);
        pid = fork();
        assert_return_code(pid, errno);
        if (pid == 0) {
                dup2(in[1], STDIN_FILENO);
                dup2(out[1], STDOUT_FILENO);
                execl(real_program, real_program, "release", kernel.state_dir,
                      GPU "=nvidia,override=mine", NULL);
                _exit(127);
        }
        close(in[1]);
        close(out[1]);
        assert_true(read(out[0], said, sizeof said - 1) > 0);
        assert_string_equal(said,
                            "held 17 1795528800 The driver nvidia has not let go of " GPU "\n");
        close(in[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILURE);
        close(out[0]);
        close(fd);
        assert_stands(0, "nvidia", "");
}

/* And whoever holds the lock says in its file what it is at. */
static void test_notes_what_it_is_at(void **state) {
        g_autofree char *path = g_strconcat(kernel.state_dir, "/" AUDIO ".lock", NULL);
        g_autofree char *note = NULL;

        put("nvidia", "snd_hda_intel", "");
        kernel.cards[1].keeps = true;
        helper_run("bind", GPU, AUDIO,
                   "failed The driver snd_hda_intel refused to let go of " AUDIO ".");
        assert_true(g_file_get_contents(path, &note, NULL, NULL));
        assert_true(g_regex_match_simple("^[0-9]+ [0-9]+ The driver snd_hda_intel has not let go "
                                         "of " AUDIO "\n$",
                                         note, 0, 0));
}

static void test_arguments(void **state) {
        static const char *const wrong[] = { "",
                                             "01:00",
                                             GPU "=a/b",
                                             "x=nvidia",
                                             GPU ",1",
                                             GPU ",1,on,",
                                             GPU ",,0123456789abcdef" };

        for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++)
                assert_int_equal(program_run("release", wrong[i], "go\n"), EXIT_FAILURE);
        assert_int_equal(program_run("give", GPU, "go\n"), EXIT_FAILURE);
}

int main(int argc, char *argv[]) {
        static const struct CMUnitTest tests[] = {
                TEST(test_nobody_listens),
                TEST(test_waits_for_an_earlier_one),
                TEST(test_notes_what_it_is_at),
                TEST(test_arguments),
        };

        if (argc != 2)
                return 77;
        real_program = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
