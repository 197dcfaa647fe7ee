/*
 * The processes of one communicator, and the memory that they share: each has room for what it gives to two collectives
 * in turn, and for a description of them. Nothing of it has a name in a file system, so that nothing is left behind,
 * however a process ends; a process that has ended is noticed by its lock on the memory.
 */
#ifndef TESTS_CUDA_HOST_NCCL_GROUP_H
#define TESTS_CUDA_HOST_NCCL_GROUP_H

#include <nccl.h>

#include <stdint.h>

/* What all ranks have to call alike. */
struct nccl_call {
    char name[16];
    uint64_t count;
    int type, op, root;
};

struct nccl_shared; /* nccl_group.cc */

struct nccl_group {
    int rank = 0, size = 0, memory_file = -1;
    nccl_shared *shared = nullptr;
    int64_t n_called = 0; /* by this process */
    bool is_aborted = false;
    double looked = 0;    /* when the others were last looked at */
    bool is_lost = false; /* what was seen then */
    ~nccl_group();
};

/* The text of an id, with which processes find each other: whoever made it is one of them. */
ncclResult_t nccl_group_name(char *text, size_t text_bytes);
/* Waits for all ranks, as long as LEMOE_CUDA_HOST_SECONDS. */
ncclResult_t nccl_group_join(nccl_group *group, const char *name, int rank, int size);
/* Says that this rank takes part in nothing more. */
void nccl_group_leave(nccl_group *group);

/* Gives this rank's part of collective `number`, which the others may read from then on. */
void nccl_group_give(nccl_group *group, int64_t number, const nccl_call &call, const void *bytes, size_t n_bytes);
/* Whether all have given theirs. */
bool nccl_group_is_there(const nccl_group *group, int64_t number);
/* What a rank gave. Ends the process when the ranks do not call alike, which on GPUs is garbage, or a hang. */
const void *nccl_group_part(const nccl_group *group, int64_t number, int rank);
void nccl_group_check_alike(const nccl_group *group, int64_t number);
/* Whether a rank that has not given its part of `number` is gone. Looked at some times a second. */
bool nccl_group_is_lost(nccl_group *group, int64_t number);

/* The last error in words: ncclGetLastError. */
extern char nccl_last_error[256];
ncclResult_t nccl_failed(ncclResult_t result, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
