#define _DEFAULT_SOURCE /* wait4 */
#include "tests/bad_input/spawn.h"

#include "tests/bad_input/files.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* In a process group of its own, so that what the program itself starts can be killed with it. */
static int start(char *const argv[], const char *out_path, const char *err_path, pid_t *child) {
    const int flags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawnattr_init(&attributes);
    (void)posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, out_path, flags, 0666);
    (void)posix_spawn_file_actions_addopen(&files, STDERR_FILENO, err_path, flags, 0666);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    (void)posix_spawnattr_setpgroup(&attributes, 0);
    int failed = posix_spawnp(child, argv[0], &files, &attributes, argv, environ);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&files);
    return failed;
}

static void wait_for(pid_t child, double seconds, spawned *out) {
    const struct timespec pause = {0, 2000000};
    double deadline = now() + seconds;
    int status = 0;
    struct rusage usage = {0};
    while (wait4(child, &status, WNOHANG, &usage) == 0) {
        if (now() < deadline) {
            (void)nanosleep(&pause, NULL);
            continue;
        }
        out->timed_out = true;
        (void)kill(-child, SIGKILL);
        (void)wait4(child, &status, 0, &usage);
        break;
    }
    out->peak_kib = usage.ru_maxrss;
    out->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void spawn(char *const argv[], const char *folder, double seconds, spawned *out) {
    char *out_path = path_in(folder, "stdout"), *err_path = path_in(folder, "stderr");
    pid_t child = 0;
    *out = (spawned){.exit_status = -1};
    if (start(argv, out_path, err_path, &child) == 0) wait_for(child, seconds, out);
    out->out = file_read(out_path, NULL);
    out->err = file_read(err_path, NULL);
    (void)unlink(out_path);
    (void)unlink(err_path);
    free(out_path);
    free(err_path);
}

void spawned_free(spawned *result) {
    free(result->out);
    free(result->err);
}
