/*
 * Who owns a file that only one process may write: the holder of a lock on it *and* of a lease, a small text file
 * beside it ("<path>.lease": host, process, job, boot, start, last renewal). The lock decides between processes of one
 * machine; the lease decides where locks are not to be relied on (NFS, Lustre) and tells readers who it is.
 */
#ifndef RUNNER_IO_LEASE_H
#define RUNNER_IO_LEASE_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { LEMOE_LEASE_RENEW_SECONDS = 10, LEMOE_LEASE_STALE_SECONDS = 60 };

typedef struct lemoe_lease lemoe_lease;

/* What a lease file says. Words hold no white space. */
typedef struct lemoe_lease_owner {
    char host[65], job[65], boot[65]; /* job: SLURM_JOB_ID or "-"; boot: the kernel's id of this boot */
    char start[21];                   /* UTC, when the lease was taken */
    int64_t pid, pid_namespace;
    int64_t renewed; /* seconds since 1970 */
} lemoe_lease_owner;

/* Local. Takes lock and lease of path, which is created empty when missing. Errors: IO; STATE, naming the owner, when
 * somebody else holds the lock, or a lease renewed within the last 60 s on another machine. */
lemoe_status lemoe_lease_acquire(const char *path, lemoe_lease **out) LEMOE_MUST_CHECK;
/* Local, pure. Who had it when it was taken, as its lease file said under the lock: host is "" after an owner who gave
 * it back, and for a file that had none. */
const lemoe_lease_owner *lemoe_lease_previous(const lemoe_lease *lease);
/* Local. Renews when 10 s have passed since the last time; cheap otherwise, so call it from every tick. Errors: IO;
 * STATE when the lease was taken over (this process slept for more than a minute): stop writing. */
lemoe_status lemoe_lease_renew(lemoe_lease *lease) LEMOE_MUST_CHECK;
/* Local. The same whatever the clock says. */
lemoe_status lemoe_lease_renew_now(lemoe_lease *lease) LEMOE_MUST_CHECK;
/* Local. Removes the lease file if it is still ours, gives the lock back, frees. NULL is fine. */
void lemoe_lease_release(lemoe_lease *lease);

/* Local. For readers; changes nothing. Whether path is owned by a living process; *owner is filled when there is a
 * lease file that can be read (owner->host is "" when not). */
bool lemoe_lease_probe(const char *path, lemoe_lease_owner *owner);
/* Local. "host H, process P, job J, since T" for messages; the caller's storage. */
void lemoe_lease_describe(const lemoe_lease_owner *owner, char *out, int64_t n_bytes);

#endif
