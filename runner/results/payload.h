/* Bytes of a journal frame's payload: a growing buffer to write them, a checked cursor to read them. */
#ifndef RUNNER_RESULTS_PAYLOAD_H
#define RUNNER_RESULTS_PAYLOAD_H

#include "kernels/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lemoe_payload {
    unsigned char *data; /* freed by lemoe_payload_reset */
    int64_t n_bytes, capacity;
} lemoe_payload;

/* Local. Append to the buffer; text goes with its length in front and without its NUL. */
lemoe_status lemoe_payload_put(lemoe_payload *payload, const void *data, int64_t n_bytes) LEMOE_MUST_CHECK;
lemoe_status lemoe_payload_put_i64(lemoe_payload *payload, int64_t value) LEMOE_MUST_CHECK;
lemoe_status lemoe_payload_put_text(lemoe_payload *payload, const char *text) LEMOE_MUST_CHECK;
void lemoe_payload_reset(lemoe_payload *payload);

typedef struct lemoe_payload_cursor {
    const unsigned char *data;
    int64_t n_bytes, at;
    bool is_short; /* something was asked for that is not there; values read then are zero */
} lemoe_payload_cursor;

/* Local. Reads of what is not there set is_short and give NULL or 0. */
const unsigned char *lemoe_payload_get(lemoe_payload_cursor *cursor, int64_t n_bytes);
int64_t lemoe_payload_get_i64(lemoe_payload_cursor *cursor);
/* Text is not terminated: *n_bytes of it, borrowed. */
const char *lemoe_payload_get_text(lemoe_payload_cursor *cursor, int64_t *n_bytes);
/* Local. A terminated copy in which bytes that are not UTF-8, and NUL, became '?'; the caller frees. */
lemoe_status lemoe_payload_get_copy(lemoe_payload_cursor *cursor, char **out) LEMOE_MUST_CHECK;

#endif
