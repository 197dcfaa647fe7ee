#include "runner/io/lease.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_BYTES = 1024 };

struct lemoe_lease {
    char *path, *lease_path;
    int lock; /* descriptor that carries the lock */
    double last_renewal;
    lemoe_lease_owner me, previous;
};

/* One word of at most 64 bytes: what a host or a scheduler calls itself is text from outside. */
static void copy_word(char out[65], const char *text) {
    int n = 0;
    for (; text[n] && n < 64 && isgraph((unsigned char)text[n]); n++) out[n] = text[n];
    if (n == 0) out[n++] = '-';
    out[n] = '\0';
}

static void describe_self(lemoe_lease_owner *me) {
    char text[256] = "";
    memset(me, 0, sizeof *me);
    if (gethostname(text, sizeof text - 1) != 0) text[0] = '\0';
    copy_word(me->host, text);
    const char *job = getenv("SLURM_JOB_ID");
    copy_word(me->job, job ? job : "");
    text[0] = '\0';
    FILE *boot = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (boot) {
        if (!fgets(text, sizeof text, boot)) text[0] = '\0';
        (void)fclose(boot);
    }
    copy_word(me->boot, text);
    lemoe_clock_utc(me->start);
    me->pid = (int64_t)getpid();
    struct stat space;
    /* Containers of one machine share the boot id but not the process numbers. */
    me->pid_namespace = stat("/proc/self/ns/pid", &space) == 0 ? (int64_t)space.st_ino : 0;
}

static bool is_same_owner(const lemoe_lease_owner *a, const lemoe_lease_owner *b) {
    return a->pid == b->pid && a->pid_namespace == b->pid_namespace && strcmp(a->host, b->host) == 0 &&
           strcmp(a->boot, b->boot) == 0 && strcmp(a->start, b->start) == 0;
}

static bool is_same_boot(const lemoe_lease_owner *a, const lemoe_lease_owner *b) {
    return strcmp(a->boot, "-") != 0 && strcmp(a->boot, b->boot) == 0;
}

static bool is_fresh(const lemoe_lease_owner *owner) {
    int64_t now = (int64_t)time(NULL);
    return owner->renewed >= now - LEMOE_LEASE_STALE_SECONDS && owner->renewed <= now + LEMOE_LEASE_STALE_SECONDS;
}

/* The renewal time comes last and has a fixed width, so that renewing changes a few bytes in place. */
static lemoe_status write_record(const char *lease_path, const lemoe_lease_owner *owner) {
    char text[RECORD_BYTES];
    int length =
        snprintf(text, sizeof text,
                 "lemoe-lease 1\nhost %s\npid %" PRId64 "\nnamespace %" PRId64
                 "\nboot %s\njob %s\nstart %s\nrenewed %020" PRId64 "\n",
                 owner->host, owner->pid, owner->pid_namespace, owner->boot, owner->job, owner->start, owner->renewed);
    int file = open(lease_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    LEMOE_CHECK(file >= 0, LEMOE_ERR_IO, "%s: cannot be written: %s", lease_path, strerror(errno));
    bool is_written =
        pwrite(file, text, (size_t)length, 0) == (ssize_t)length && ftruncate(file, length) == 0 && fsync(file) == 0;
    int reason = errno;
    (void)close(file);
    LEMOE_CHECK(is_written, LEMOE_ERR_IO, "%s: cannot be written: %s", lease_path, strerror(reason));
    return LEMOE_OK;
}

/* False when there is no lease file or it does not hold a record. */
static bool read_record(const char *lease_path, lemoe_lease_owner *out) {
    memset(out, 0, sizeof *out);
    char text[RECORD_BYTES];
    int file = open(lease_path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    ssize_t length = read(file, text, sizeof text - 1);
    (void)close(file);
    if (length <= 0) return false;
    text[length] = '\0';
    lemoe_lease_owner owner;
    memset(&owner, 0, sizeof owner);
    int n = sscanf(text,
                   "lemoe-lease 1 host %64s pid %18" SCNd64 " namespace %18" SCNd64
                   " boot %64s job %64s start %20s renewed %20" SCNd64,
                   owner.host, &owner.pid, &owner.pid_namespace, owner.boot, owner.job, owner.start, &owner.renewed);
    if (n != 7) return false;
    *out = owner;
    return true;
}

/* A process that has ended, but whose parent has not asked how: in a container the first process may never ask. */
static bool is_zombie(int64_t pid) {
    char path[64], text[512];
    (void)snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    FILE *file = fopen(path, "r");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file) (void)fclose(file);
    text[n] = '\0';
    const char *end_of_name = strrchr(text, ')'); /* "pid (name) state ..." */
    return end_of_name && end_of_name[1] == ' ' && (end_of_name[2] == 'Z' || end_of_name[2] == 'X');
}

static bool is_alive(const lemoe_lease_owner *owner, const lemoe_lease_owner *me) {
    if (!is_fresh(owner)) return false;
    if (!is_same_boot(owner, me) || owner->pid_namespace != me->pid_namespace) return true;
    bool is_there = owner->pid > 0 && (kill((pid_t)owner->pid, 0) == 0 || errno == EPERM);
    return is_there && !is_zombie(owner->pid);
}

void lemoe_lease_describe(const lemoe_lease_owner *owner, char *out, int64_t n_bytes) {
    if (!owner->host[0])
        (void)snprintf(out, (size_t)n_bytes, "a process that left no lease");
    else
        (void)snprintf(out, (size_t)n_bytes, "host %s, process %" PRId64 ", job %s, since %s", owner->host, owner->pid,
                       owner->job, owner->start);
}

static lemoe_status raise_owned(const char *path, const lemoe_lease_owner *owner) {
    char who[320];
    lemoe_lease_describe(owner, who, (int64_t)sizeof who);
    return lemoe_raise(LEMOE_ERR_STATE, "%s: in use by %s; wait until it ends, or end it and start again", path, who);
}

static lemoe_status take(lemoe_lease *lease) {
    lemoe_lease_owner *owner = &lease->previous;
    lease->lock = open(lease->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    LEMOE_CHECK(lease->lock >= 0, LEMOE_ERR_IO, "%s: cannot be opened for writing: %s", lease->path, strerror(errno));
    if (flock(lease->lock, LOCK_EX | LOCK_NB) != 0) {
        int reason = errno;
        (void)read_record(lease->lease_path, owner);
        if (reason == EWOULDBLOCK) return raise_owned(lease->path, owner);
        /* A file system without locks: the lease alone has to do. */
        if (reason != ENOLCK && reason != ENOSYS && reason != EOPNOTSUPP)
            return lemoe_raise(LEMOE_ERR_IO, "%s: cannot be locked: %s", lease->path, strerror(reason));
        if (is_alive(owner, &lease->me)) return raise_owned(lease->path, owner);
    } else if (read_record(lease->lease_path, owner) && !is_same_boot(owner, &lease->me) && is_fresh(owner)) {
        return raise_owned(lease->path, owner);
    }
    lease->me.renewed = (int64_t)time(NULL);
    LEMOE_TRY(write_record(lease->lease_path, &lease->me));
    lease->last_renewal = lemoe_clock_seconds();
    return LEMOE_OK;
}

static void forget(lemoe_lease *lease) {
    if (lease->lock >= 0) (void)close(lease->lock);
    lemoe_mem_free(lease->path);
    lemoe_mem_free(lease->lease_path);
    lemoe_mem_free(lease);
}

lemoe_status lemoe_lease_acquire(const char *path, lemoe_lease **out) {
    lemoe_lease *lease = NULL;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *lease, &lease));
    lease->lock = -1;
    LEMOE_TRY_GOTO(lemoe_mem_strdup(path, &lease->path));
    LEMOE_TRY_GOTO(lemoe_mem_printf(&lease->lease_path, "%s.lease", path));
    describe_self(&lease->me);
    LEMOE_TRY_GOTO(take(lease));
    *out = lease;
    lease = NULL;
out:
    if (lease) forget(lease);
    return status;
}

const lemoe_lease_owner *lemoe_lease_previous(const lemoe_lease *lease) { return &lease->previous; }

lemoe_status lemoe_lease_renew_now(lemoe_lease *lease) {
    lemoe_lease_owner owner;
    /* A missing file is written anew: somebody tidied up, nobody took over. */
    if (read_record(lease->lease_path, &owner) && !is_same_owner(&owner, &lease->me)) {
        char who[320];
        lemoe_lease_describe(&owner, who, (int64_t)sizeof who);
        return lemoe_raise(LEMOE_ERR_STATE, "%s: the lease was taken over by %s while this process stood still",
                           lease->path, who);
    }
    lease->me.renewed = (int64_t)time(NULL);
    LEMOE_TRY(write_record(lease->lease_path, &lease->me));
    lease->last_renewal = lemoe_clock_seconds();
    return LEMOE_OK;
}

lemoe_status lemoe_lease_renew(lemoe_lease *lease) {
    if (lemoe_clock_seconds() - lease->last_renewal < LEMOE_LEASE_RENEW_SECONDS) return LEMOE_OK;
    return lemoe_lease_renew_now(lease);
}

void lemoe_lease_release(lemoe_lease *lease) {
    if (!lease) return;
    lemoe_lease_owner owner;
    /* Before the lock goes: afterwards the file may be the next owner's. */
    if (read_record(lease->lease_path, &owner) && is_same_owner(&owner, &lease->me)) (void)unlink(lease->lease_path);
    forget(lease);
}

bool lemoe_lease_probe(const char *path, lemoe_lease_owner *owner) {
    memset(owner, 0, sizeof *owner);
    lemoe_lease_owner me;
    describe_self(&me);
    char lease_path[4096];
    int length = snprintf(lease_path, sizeof lease_path, "%s.lease", path);
    if (length < 0 || length >= (int)sizeof lease_path || !read_record(lease_path, owner)) return false;
    return is_alive(owner, &me);
}
