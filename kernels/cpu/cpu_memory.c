/* How much memory this process may use: the node's, or less where a control group (Slurm, a container) sets a limit. */
#include "kernels/cpu/cpu_internal.h"

#include <stdio.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

/* The number that a file begins with; -1 when there is none ("max", no file). */
static int64_t number_in(const char *folder, const char *name) {
    char path[PATH_BYTES + 64];
    long long value = -1;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    if (fscanf(file, "%lld", &value) != 1) value = -1;
    (void)fclose(file);
    return value;
}

/* The value behind a word at the start of a line, as in /proc/meminfo; -1 when there is none. */
static int64_t number_after(const char *folder, const char *name, const char *word) {
    char path[PATH_BYTES + 64], line[256];
    long long value = -1, number = 0;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    while (value < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, word, strlen(word)) == 0 && sscanf(line + strlen(word), " %lld", &number) == 1)
            value = number;
    (void)fclose(file);
    return value;
}

/* The two generations of control groups name the same things differently. */
typedef struct group_files {
    const char *folder, *limit, *usage, *reclaimable;
} group_files;

static const group_files version_1 = {"/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                      "total_inactive_file "};
static const group_files version_2 = {"", "memory.max", "memory.current", "inactive_file "};

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Takes one group's limit into account. Pages of files that it could drop are not in use. */
static void apply_group(const char *folder, const group_files *files, int64_t *free_bytes, int64_t *total_bytes) {
    int64_t limit = number_in(folder, files->limit), usage = number_in(folder, files->usage);
    if (limit < 0 || limit >= *total_bytes) return; /* version 1 writes a huge number for none */
    int64_t reclaimable = number_after(folder, "memory.stat", files->reclaimable);
    int64_t used = usage < 0 ? 0 : reclaimable > 0 ? usage - smaller(usage, reclaimable) : usage;
    *total_bytes = limit;
    *free_bytes = smaller(*free_bytes, limit - smaller(limit, used));
}

/* The group and those above it: any of them may hold the limit. */
static void apply_groups(const char *cgroup, const group_files *files, const char *group, int64_t *free_bytes,
                         int64_t *total_bytes) {
    char folder[PATH_BYTES];
    int root = snprintf(folder, sizeof folder, "%s%s", cgroup, files->folder);
    if (root < 0 || (size_t)root + strlen(group) >= sizeof folder) return;
    (void)snprintf(folder + root, sizeof folder - (size_t)root, "%s", strcmp(group, "/") == 0 ? "" : group);
    for (;;) {
        apply_group(folder, files, free_bytes, total_bytes);
        char *slash = strrchr(folder + root, '/');
        if (!slash) return;
        *slash = '\0';
    }
}

void cpu_memory_info(const char *proc, const char *cgroup, size_t *free_bytes, size_t *total_bytes) {
    int64_t total = number_after(proc, "meminfo", "MemTotal:"),
            available = number_after(proc, "meminfo", "MemAvailable:");
    total = total < 0 ? (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) : total * 1024;
    available = available < 0 ? total : available * 1024;
    char path[PATH_BYTES], line[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/self/cgroup", proc);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) { /* "0::/group" or "9:cpu,memory:/group" */
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = '\0';
        if (controllers[1] == '\0')
            apply_groups(cgroup, &version_2, group, &available, &total);
        else if (strstr(controllers + 1, "memory"))
            apply_groups(cgroup, &version_1, group, &available, &total);
    }
    if (file) (void)fclose(file);
    *free_bytes = (size_t)smaller(available, total);
    *total_bytes = (size_t)total;
}
