/*
 * Preloaded into lemoe-run by the tests: ends the process, or lets the disk be full, at the k-th thing that makes a
 * file durable or visible. Counted are writes to a *.journal, and fsync and rename of anything. In the environment:
 *
 *   CUT_OFF_AT=K      the K-th of them (from 1) is the last
 *   CUT_OFF_HOW=HOW   before (the default): not done any more; torn: a write is done by half; after: done, and then the
 *                     end. full: not an end, but from there on every write to a file says ENOSPC
 *   CUT_OFF_RANK=R    in rank R of an mpirun only
 *   CUT_OFF_COUNT=F   the number counted is written to file F when the process exits by itself
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef ssize_t (*pwrite_function)(int, const void *, size_t, off_t);
typedef ssize_t (*write_function)(int, const void *, size_t);
typedef int (*fsync_function)(int);
typedef int (*rename_function)(const char *, const char *);

static long n_seen;

/* mpirun and its daemons are left alone. */
static int is_watched(void) {
    const char *wanted = getenv("CUT_OFF_RANK"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (wanted && strcmp(wanted, rank ? rank : "0") != 0) return 0;
    return strcmp(program_invocation_short_name, "lemoe-run") == 0;
}

static int is_how(const char *how) {
    const char *text = getenv("CUT_OFF_HOW");
    return strcmp(text ? text : "before", how) == 0;
}

/* Counts; whether this one is the chosen one, or with a full disk one behind it. */
static int is_time(void) {
    const char *text = getenv("CUT_OFF_AT");
    long at = text ? strtol(text, NULL, 10) : 0;
    n_seen++;
    return at > 0 && (n_seen == at || (n_seen > at && is_how("full")));
}

__attribute__((noreturn)) static void end(void) { _exit(137); }

static void note_count(void) {
    const char *path = getenv("CUT_OFF_COUNT");
    FILE *file = path && is_watched() ? fopen(path, "w") : NULL;
    if (!file) return;
    (void)fprintf(file, "%ld\n", n_seen);
    (void)fclose(file);
}

__attribute__((constructor)) static void begin(void) { (void)atexit(note_count); }

static int is_file_in(int file, const char *part) {
    char link[64], path[4096];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = '\0';
    return path[0] == '/' && strstr(path, part) != NULL;
}

static int is_full(void) {
    const char *text = getenv("CUT_OFF_AT");
    return is_how("full") && text && n_seen >= strtol(text, NULL, 10);
}

ssize_t pwrite64(int file, const void *data, size_t n_bytes, off_t offset) {
    pwrite_function real = (pwrite_function)dlsym(RTLD_NEXT, "pwrite64");
    if (!is_watched()) return real(file, data, n_bytes, offset);
    if (!is_file_in(file, ".journal")) {
        if (!is_full() || !is_file_in(file, "/runs/")) return real(file, data, n_bytes, offset);
        errno = ENOSPC;
        return -1;
    }
    if (!is_time()) return real(file, data, n_bytes, offset);
    if (is_how("full")) {
        errno = ENOSPC;
        return -1;
    }
    if (is_how("torn")) (void)real(file, data, n_bytes / 2, offset);
    if (is_how("after")) (void)real(file, data, n_bytes, offset);
    end();
}
ssize_t pwrite(int file, const void *data, size_t n_bytes, off_t offset) {
    return pwrite64(file, data, n_bytes, offset);
}

int fsync(int file) {
    fsync_function real = (fsync_function)dlsym(RTLD_NEXT, "fsync");
    if (!is_watched() || !is_time() || is_how("full")) return real(file);
    if (is_how("after")) (void)real(file);
    end();
}

int rename(const char *from, const char *to) {
    rename_function real = (rename_function)dlsym(RTLD_NEXT, "rename");
    if (!is_watched() || !is_time() || is_how("full")) return real(from, to);
    if (is_how("after")) (void)real(from, to);
    end();
}
