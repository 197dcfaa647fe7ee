/*
 * A journal played back into memory: attributes and the rows of each dataset as of the last commit. It can go on from
 * where it stopped, so the owner of a journal reads each of its bytes back once.
 */
#ifndef RUNNER_RESULTS_REPLAY_H
#define RUNNER_RESULTS_REPLAY_H

#include "kernels/base/status.h"
#include "runner/results/journal.h"
#include "runner/results/results_schema.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_replay_attribute {
    char *name;
    lemoe_element element; /* TEXT or I64; 0: only marked as volatile so far */
    char *text;
    int64_t value;
    bool is_volatile;
} lemoe_replay_attribute;

typedef struct lemoe_replay_column {
    bool is_put;      /* something was put; the rest is fill */
    int64_t n_row;    /* rows held: the axis' length, or as many as were put where it grows */
    double *f64;      /* one of the three, by the schema's type; i32 datasets are held as i64 */
    int64_t *i64;     /* fill: NaN, -1, NULL */
    char **text;      /* owned */
    int64_t capacity; /* elements */
} lemoe_replay_column;

typedef struct lemoe_replay {
    char *name;   /* of the journal, for messages */
    char *run_id; /* NULL until a header was committed, as is schema */
    lemoe_schema *schema;
    lemoe_replay_column *columns; /* [schema->n_dataset] */
    lemoe_replay_attribute *attributes;
    int64_t n_attribute;
    int64_t checkpoints[LEMOE_RESULTS_CHECKPOINTS]; /* the last ones named, newest first; 0: none */
    bool has_ended;
    int64_t offset; /* of the journal's first byte not yet played back */
    int64_t n_skipped_bytes;

    bool salvage;
    uint64_t next_sequence;
    int64_t n_claimed_bytes, attribute_capacity;
} lemoe_replay;

/* Local. Nothing is read yet. salvage: what is damaged is left out instead of refused. */
lemoe_status lemoe_replay_create(const char *name, bool salvage, lemoe_replay **out) LEMOE_MUST_CHECK;
/* Local. Plays back bytes that stand at replay->offset, up to the last commit among them. Errors: as
 * lemoe_journal_next; FORMAT naming the offset of a frame that makes no sense; NOMEM. After an error only destroy. */
lemoe_status lemoe_replay_feed(lemoe_replay *replay, const unsigned char *data, int64_t n_bytes) LEMOE_MUST_CHECK;
/* Local. The same for what the file at path holds beyond replay->offset. */
lemoe_status lemoe_replay_advance(lemoe_replay *replay, const char *path) LEMOE_MUST_CHECK;
void lemoe_replay_destroy(lemoe_replay *replay);

/* Local, pure. NULL when there is none, or nothing was put. */
const lemoe_replay_attribute *lemoe_replay_attribute_of(const lemoe_replay *replay, const char *name);
const lemoe_replay_column *lemoe_replay_column_of(const lemoe_replay *replay, const char *path);

/* ---- payloads of the frames ---- */

typedef struct lemoe_rows {
    const char *path;
    lemoe_element element; /* F64, I64 or TEXT */
    int64_t first, n_rows, n_element;
    const void *values; /* double, int64_t, const char * (NULL = empty) */
} lemoe_rows;

/* Local. Into an empty payload. */
lemoe_status lemoe_replay_encode_header(const lemoe_results_axes *axes, const char *run_id,
                                        lemoe_payload *out) LEMOE_MUST_CHECK;
/* text, or value when text is NULL. */
lemoe_status lemoe_replay_encode_attribute(const char *name, const char *text, int64_t value,
                                           lemoe_payload *out) LEMOE_MUST_CHECK;
lemoe_status lemoe_replay_encode_checkpoint(int64_t serial, lemoe_payload *out) LEMOE_MUST_CHECK;
lemoe_status lemoe_replay_encode_rows(const lemoe_rows *rows, lemoe_payload *out) LEMOE_MUST_CHECK;

#endif
