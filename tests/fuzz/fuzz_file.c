#include "tests/fuzz/fuzz_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64]; /* state of the harness, not of what it tests */

static void check(int condition) {
    if (condition) return;
    perror("fuzz_file");
    abort();
}

static void remove_folder(void) {
    DIR *listing = opendir(folder);
    for (struct dirent *entry; listing && (entry = readdir(listing));) (void)unlinkat(dirfd(listing), entry->d_name, 0);
    if (listing) (void)closedir(listing);
    (void)rmdir(folder);
}

const char *fuzz_folder(void) {
    if (*folder) return folder;
    (void)snprintf(folder, sizeof folder, "%s/lemoe-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    check(mkdtemp(folder) != NULL);
    check(atexit(remove_folder) == 0);
    return folder;
}

const char *fuzz_write(const char *name, const uint8_t *data, size_t size) {
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    check(file >= 0);
    for (size_t done = 0; done < size;) {
        ssize_t n = write(file, data + done, size - done);
        check(n > 0);
        done += (size_t)n;
    }
    check(close(file) == 0);
    return path;
}
