/* Private to runner/state: one file on its way out or in. */
#ifndef RUNNER_STATE_STATE_INTERNAL_H
#define RUNNER_STATE_STATE_INTERNAL_H

#include "runner/io/file.h"
#include "runner/state/state.h"

#include <stdio.h>
#include <xxhash.h>

struct lemoe_state {
    lemoe_state_folder *folder;
    char *path;
    FILE *stream; /* saving; NULL while loading */
    XXH3_state_t *hash;
    lemoe_file_map map; /* loading */
    int64_t at, end;    /* records stand before end */
    unsigned char digest[LEMOE_STATE_HASH_BYTES];
};

typedef enum state_kind { STATE_VALUE = 1, STATE_INLINE = 2, STATE_FROZEN = 3 } state_kind;

typedef struct state_record {
    uint32_t name_bytes, kind;
    uint64_t n_bytes;
} state_record;

/* state.c. Saving: a record's head; the payload follows through state_write. */
lemoe_status state_begin_record(lemoe_state *state, const char *name, state_kind kind, int64_t n_bytes);
lemoe_status state_write(lemoe_state *state, const void *data, int64_t n_bytes);
/* Loading: the payload of the next record, which has to be of that name. */
lemoe_status state_next_record(lemoe_state *state, const char *name, state_record *record,
                               const unsigned char **payload);

#endif
