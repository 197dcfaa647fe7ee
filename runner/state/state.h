/*
 * State that outlives its process. What an object is made of is described once, by a function that visits its parts in
 * a fixed order: they are written when the state saves and filled when it loads, so nothing is saved that would not be
 * loaded, or the other way round.
 *
 * One file a rank and checkpoint: magic, version, byte order | records: name length u32, kind u32, payload bytes u64,
 * name, payload | XXH3-128 of all of that. A part that will never change again is written once, into a file of its own,
 * and from then on named by its hash. All functions are Local.
 */
#ifndef RUNNER_STATE_STATE_H
#define RUNNER_STATE_STATE_H

#include "kernels/device.h"

#include <stdbool.h>
#include <stdint.h>

enum { LEMOE_STATE_VERSION = 1, LEMOE_STATE_HASH_BYTES = 16 };

typedef struct lemoe_state lemoe_state;
typedef lemoe_status (*lemoe_state_visit)(void *object, lemoe_state *state);

/* ---- describing: the same calls in both directions ---- */

bool lemoe_state_is_loading(const lemoe_state *state);
/* Errors while saving: IO. While loading: FORMAT when the file holds something else at this place. */
lemoe_status lemoe_state_i64(lemoe_state *state, const char *name, int64_t *value) LEMOE_MUST_CHECK;
lemoe_status lemoe_state_f64(lemoe_state *state, const char *name, double *value) LEMOE_MUST_CHECK;
lemoe_status lemoe_state_bool(lemoe_state *state, const char *name, bool *value) LEMOE_MUST_CHECK;
/* A number of things: what is loaded lies within [0, most]. */
lemoe_status lemoe_state_count(lemoe_state *state, const char *name, int64_t *value, int64_t most) LEMOE_MUST_CHECK;
/* What has to be equal in file and process: FORMAT, saying both, when it is not. */
lemoe_status lemoe_state_same(lemoe_state *state, const char *name, const char *text) LEMOE_MUST_CHECK;
/* Host memory, and a tensor of a device. */
lemoe_status lemoe_state_bytes(lemoe_state *state, const char *name, void *data, int64_t n_bytes) LEMOE_MUST_CHECK;
lemoe_status lemoe_state_tensor(lemoe_state *state, lemoe_device *device, const char *name,
                                lemoe_tensor tensor) LEMOE_MUST_CHECK;
/* A part with a visit of its own. is_frozen (matters while saving only): it will never change again. name: unique among
 * the frozen parts of a run, fit for a file name. */
lemoe_status lemoe_state_part(lemoe_state *state, const char *name, bool is_frozen, lemoe_state_visit visit,
                              void *object) LEMOE_MUST_CHECK;

/* ---- files ---- */

typedef struct lemoe_state_frozen {
    char *name;
    unsigned char hash[LEMOE_STATE_HASH_BYTES];
} lemoe_state_frozen;

/* Where the state of one rank stands: folder/checkpoint-<name>-<rank>. The caller sets the first two; zero the rest. */
typedef struct lemoe_state_folder {
    const char *path; /* borrowed */
    int rank;
    lemoe_state_frozen *frozen; /* parts that are known to be durable */
    int64_t n_frozen, capacity;
} lemoe_state_folder;

/* Forgets what is known to be durable, and frees it. */
void lemoe_state_folder_reset(lemoe_state_folder *folder);
/* Writes the file of that name, durable when this returns: dot-file, fsync, rename, fsync of the folder; frozen parts
 * before it. Errors: IO; those of visit. */
lemoe_status lemoe_state_save(lemoe_state_folder *folder, const char *name, lemoe_state_visit visit,
                              void *object) LEMOE_MUST_CHECK;
/* Opens a file for loading and checks its hash before a byte is believed. Errors: IO, FORMAT, UNSUPPORTED (a newer
 * version). */
lemoe_status lemoe_state_open(lemoe_state_folder *folder, const char *name, lemoe_state **out) LEMOE_MUST_CHECK;
void lemoe_state_close(lemoe_state *state);
/* Removes the file of that name; fine when there is none. */
void lemoe_state_remove(const lemoe_state_folder *folder, const char *name);

#endif
