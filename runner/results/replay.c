#include "runner/results/replay.h"

#include "kernels/base/mem.h"
#include "runner/results/replay_apply.h"

#include <string.h>

lemoe_status lemoe_replay_create(const char *name, bool salvage, lemoe_replay **out) {
    lemoe_replay *replay = NULL;
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *replay, &replay));
    replay->salvage = salvage;
    lemoe_status status = lemoe_mem_strdup(name, &replay->name);
    if (status != LEMOE_OK) {
        lemoe_mem_free(replay);
        return status;
    }
    *out = replay;
    return LEMOE_OK;
}

static void destroy_column(lemoe_replay_column *column, int64_t n_element) {
    for (int64_t i = 0; column->text && i < n_element; i++) lemoe_mem_free(column->text[i]);
    lemoe_mem_free(column->text);
    lemoe_mem_free(column->f64);
    lemoe_mem_free(column->i64);
}

void lemoe_replay_destroy(lemoe_replay *replay) {
    if (!replay) return;
    for (int64_t i = 0; replay->columns && i < replay->schema->n_dataset; i++)
        destroy_column(&replay->columns[i], replay->columns[i].n_row * replay->schema->datasets[i].row_element);
    for (int64_t i = 0; i < replay->n_attribute; i++) {
        lemoe_mem_free(replay->attributes[i].name);
        lemoe_mem_free(replay->attributes[i].text);
    }
    lemoe_schema_destroy(replay->schema);
    lemoe_mem_free(replay->columns);
    lemoe_mem_free(replay->attributes);
    lemoe_mem_free(replay->run_id);
    lemoe_mem_free(replay->name);
    lemoe_mem_free(replay);
}

/* Frames since the last commit; they count once the next one is there. */
typedef struct pending {
    lemoe_frame *frames;
    int64_t n, capacity;
} pending;

static lemoe_status apply_pending(lemoe_replay *replay, pending *waiting, int64_t n_known_bytes) {
    for (int64_t i = 0; i < waiting->n; i++) {
        const lemoe_frame *frame = &waiting->frames[i];
        lemoe_status status = lemoe_replay_apply(replay, frame, n_known_bytes);
        if (status == LEMOE_ERR_FORMAT && replay->salvage && replay->schema) {
            replay->n_skipped_bytes += frame->payload.n_bytes + LEMOE_FRAME_HEAD_BYTES + LEMOE_FRAME_TAIL_BYTES;
            continue;
        }
        if (status != LEMOE_OK) return lemoe_error_frame(status, __FILE__, __LINE__, __func__);
    }
    waiting->n = 0;
    return LEMOE_OK;
}

static lemoe_status play(lemoe_replay *replay, lemoe_journal_reader *reader, pending *waiting) {
    while (true) {
        lemoe_frame frame;
        bool more = false;
        LEMOE_TRY(lemoe_journal_next(reader, &frame, &more));
        if (!more) return LEMOE_OK;
        LEMOE_CHECK(!replay->has_ended || replay->salvage, LEMOE_ERR_FORMAT,
                    "%s: damaged at byte %lld: the run had ended before it", replay->name, (long long)frame.offset);
        LEMOE_TRY(lemoe_mem_grow(&waiting->frames, &waiting->capacity, waiting->n + 1, sizeof frame));
        waiting->frames[waiting->n++] = frame;
        if (frame.kind != LEMOE_FRAME_COMMIT && frame.kind != LEMOE_FRAME_END) continue;
        LEMOE_TRY(apply_pending(replay, waiting, reader->base + reader->n_bytes));
        replay->offset = reader->base + reader->at;
        replay->next_sequence = reader->next_sequence;
    }
}

lemoe_status lemoe_replay_feed(lemoe_replay *replay, const unsigned char *data, int64_t n_bytes) {
    lemoe_journal_reader reader = {.name = replay->name,
                                   .data = data,
                                   .n_bytes = n_bytes,
                                   .base = replay->offset,
                                   .next_sequence = replay->next_sequence,
                                   .salvage = replay->salvage};
    pending waiting = {NULL, 0, 0};
    lemoe_status status = play(replay, &reader, &waiting);
    lemoe_mem_free(waiting.frames);
    replay->n_skipped_bytes += reader.n_skipped;
    return status;
}

lemoe_status lemoe_replay_advance(lemoe_replay *replay, const char *path) {
    unsigned char *data = NULL;
    int64_t n_bytes = 0;
    LEMOE_TRY(lemoe_journal_load(path, replay->offset, &data, &n_bytes));
    lemoe_status status = lemoe_replay_feed(replay, data, n_bytes);
    lemoe_mem_free(data);
    return status;
}

const lemoe_replay_attribute *lemoe_replay_attribute_of(const lemoe_replay *replay, const char *name) {
    for (int64_t i = 0; i < replay->n_attribute; i++)
        if (strcmp(replay->attributes[i].name, name) == 0)
            return replay->attributes[i].element ? &replay->attributes[i] : NULL;
    return NULL;
}

const lemoe_replay_column *lemoe_replay_column_of(const lemoe_replay *replay, const char *path) {
    int64_t index = replay->schema ? lemoe_schema_find(replay->schema, path) : -1;
    return index >= 0 && replay->columns[index].is_put ? &replay->columns[index] : NULL;
}
