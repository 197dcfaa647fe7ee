/*
 * The journal of a run: frames appended one behind the other, never rewritten. A frame is
 *
 *     magic "LeMJ" | major u8 | minor u8 | byte order u16 | kind u32 | 0 u32 | payload bytes u64 | sequence u64 |
 *     payload | CRC-32C u32 over all of that
 *
 * in the machine's byte order. What stands behind the last commit (or end) frame does not count. The file knows
 * nothing of what payloads mean; replay.h does. Who may write is settled by a lease (io/lease.h) held by the caller.
 */
#ifndef RUNNER_RESULTS_JOURNAL_H
#define RUNNER_RESULTS_JOURNAL_H

#include "kernels/base/status.h"
#include "runner/results/payload.h"

#include <stdbool.h>
#include <stdint.h>

enum { LEMOE_JOURNAL_MAJOR = 1, LEMOE_JOURNAL_MINOR = 1, LEMOE_FRAME_HEAD_BYTES = 32, LEMOE_FRAME_TAIL_BYTES = 4 };

typedef enum lemoe_frame_kind {
    LEMOE_FRAME_HEADER = 1,
    LEMOE_FRAME_ATTRIBUTE = 2,
    LEMOE_FRAME_ROWS = 3,
    LEMOE_FRAME_COMMIT = 4,
    LEMOE_FRAME_END = 5,       /* commits, and nothing follows; its payload is the run's summary */
    LEMOE_FRAME_CHECKPOINT = 6 /* since 1.1: names saved state that the run can go on from */
} lemoe_frame_kind;

/* ---- writing ---- */

typedef struct lemoe_journal lemoe_journal;

/* Local. A new journal in place of what path holds. Errors: IO. */
lemoe_status lemoe_journal_create(const char *path, lemoe_journal **out) LEMOE_MUST_CHECK;
/* Local. An existing journal, to go on with: what stands behind its last commit is cut off. Errors: IO; FORMAT for a
 * damaged one; STATE for one that has ended. */
lemoe_status lemoe_journal_reopen(const char *path, lemoe_journal **out) LEMOE_MUST_CHECK;
/* Local. The same for a journal that has ended, whose end frame is taken off: a run that failed, asked for again. */
lemoe_status lemoe_journal_revive(const char *path, lemoe_journal **out) LEMOE_MUST_CHECK;
/* Local. Appends a frame to the buffer. When the system refuses a write, the file is cut back to its last commit, so
 * that it stays readable and can take the frames that say why the run failed. Errors: IO. */
lemoe_status lemoe_journal_append(lemoe_journal *journal, lemoe_frame_kind kind,
                                  const lemoe_payload *payload) LEMOE_MUST_CHECK;
/* Local. Appends a commit (or an end) frame, writes everything out and fsyncs. Errors: as append. */
lemoe_status lemoe_journal_commit(lemoe_journal *journal) LEMOE_MUST_CHECK;
lemoe_status lemoe_journal_end(lemoe_journal *journal, const lemoe_payload *summary) LEMOE_MUST_CHECK;
/* Local. Writes out nothing more; NULL is fine. */
void lemoe_journal_close(lemoe_journal *journal);

/* Local. One whole frame behind the bytes of out; what append does, and tests and fuzzing use. */
lemoe_status lemoe_frame_encode(lemoe_frame_kind kind, uint64_t sequence, const lemoe_payload *payload,
                                lemoe_payload *out) LEMOE_MUST_CHECK;

/* ---- reading ---- */

typedef struct lemoe_frame {
    uint32_t kind;
    uint64_t sequence;
    int minor;
    int64_t offset; /* in the file */
    lemoe_payload_cursor payload;
} lemoe_frame;

/* Walks over the bytes of a journal, or of its later part. The caller sets the fields of the first group. */
typedef struct lemoe_journal_reader {
    const char *name; /* for messages */
    const unsigned char *data;
    int64_t n_bytes;
    int64_t base;           /* offset of data[0] in the file; 0 or the end of a frame */
    uint64_t next_sequence; /* 0 at the start of a file */
    bool salvage;           /* skip what is damaged instead of refusing it */

    int64_t at;        /* behind the last frame that was given, from data */
    int64_t n_skipped; /* bytes that salvage left out */
} lemoe_journal_reader;

/* Local. The next frame; *more is false at the end and at a torn tail. Errors: FORMAT with offset and remedy for
 * damage, a file that is no journal or of foreign byte order; UNSUPPORTED for another major version. */
lemoe_status lemoe_journal_next(lemoe_journal_reader *reader, lemoe_frame *frame, bool *more) LEMOE_MUST_CHECK;

/* Local. Bytes [from, end) of a journal file; the caller frees *data. */
lemoe_status lemoe_journal_load(const char *path, int64_t from, unsigned char **data,
                                int64_t *n_bytes) LEMOE_MUST_CHECK;
/* Local. The first bytes, at most so many; the caller frees *data. */
lemoe_status lemoe_journal_load_beginning(const char *path, int64_t most, unsigned char **data,
                                          int64_t *n_bytes) LEMOE_MUST_CHECK;
/* Local. The payload of the end frame, found from the end of the file without reading the rest; the caller frees *data.
 * *data is NULL when the file does not close with a whole end frame of this version. Errors: IO. */
lemoe_status lemoe_journal_load_end(const char *path, unsigned char **data, int64_t *n_bytes) LEMOE_MUST_CHECK;

#endif
