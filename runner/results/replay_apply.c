#include "runner/results/replay_apply.h"

#include "kernels/base/mem.h"

#include <math.h>
#include <string.h>

enum { MAX_NAME = 256, MAX_ATTRIBUTES = 4096 };

static lemoe_status refuse(const lemoe_replay *replay, const lemoe_frame *frame, const char *what) {
    return lemoe_raise(LEMOE_ERR_FORMAT, "%s: the frame at byte %lld makes no sense: %s", replay->name,
                       (long long)frame->offset, what);
}

/* Writers of a later minor version may append to what this one knows. */
static bool is_read_up(const lemoe_frame *frame, const lemoe_payload_cursor *cursor) {
    return !cursor->is_short && (cursor->at == cursor->n_bytes || frame->minor > LEMOE_JOURNAL_MINOR);
}

static lemoe_status apply_header(lemoe_replay *replay, const lemoe_frame *frame) {
    lemoe_payload_cursor cursor = frame->payload;
    lemoe_results_axes axes = {0};
    char *kinds[LEMOE_RESULTS_MAX_KINDS] = {NULL};
    lemoe_status status = LEMOE_OK;
    if (replay->schema) return refuse(replay, frame, "a second header");
    axes.n_edit = lemoe_payload_get_i64(&cursor);
    axes.n_batch = lemoe_payload_get_i64(&cursor);
    axes.n_milestone = lemoe_payload_get_i64(&cursor);
    axes.n_expert = lemoe_payload_get_i64(&cursor);
    int64_t n_locality = lemoe_payload_get_i64(&cursor);
    if (cursor.is_short || n_locality < 0 || n_locality > LEMOE_RESULTS_MAX_KINDS)
        return refuse(replay, frame, "a header that is too short or has too many locality kinds");
    LEMOE_TRY_GOTO(lemoe_payload_get_copy(&cursor, &replay->run_id));
    for (int64_t i = 0; i < n_locality; i++) LEMOE_TRY_GOTO(lemoe_payload_get_copy(&cursor, &kinds[i]));
    if (!is_read_up(frame, &cursor)) {
        status = refuse(replay, frame, "a header of the wrong length");
        goto out;
    }
    axes.n_locality = (int)n_locality;
    axes.locality_name = (const char *const *)kinds;
    status = lemoe_schema_create(&axes, &replay->schema);
    if (status == LEMOE_ERR_ARG) {
        lemoe_error_prefix("%s: the header at byte %lld makes no sense", replay->name, (long long)frame->offset);
        status = LEMOE_ERR_FORMAT;
    }
    LEMOE_TRY_GOTO(status);
    LEMOE_TRY_GOTO(lemoe_mem_alloc(replay->schema->n_dataset, sizeof *replay->columns, &replay->columns));
out:
    for (int i = 0; i < LEMOE_RESULTS_MAX_KINDS; i++) lemoe_mem_free(kinds[i]);
    return status;
}

static lemoe_status find_or_add(lemoe_replay *replay, char **name, lemoe_replay_attribute **out) {
    for (int64_t i = 0; i < replay->n_attribute; i++)
        if (strcmp(replay->attributes[i].name, *name) == 0) {
            *out = &replay->attributes[i];
            return LEMOE_OK;
        }
    LEMOE_TRY(lemoe_mem_grow(&replay->attributes, &replay->attribute_capacity, replay->n_attribute + 1,
                             sizeof *replay->attributes));
    *out = &replay->attributes[replay->n_attribute++];
    memset(*out, 0, sizeof **out);
    (*out)->name = *name;
    *name = NULL;
    return LEMOE_OK;
}

static lemoe_status apply_attribute(lemoe_replay *replay, const lemoe_frame *frame) {
    lemoe_payload_cursor cursor = frame->payload;
    lemoe_replay_attribute *attribute = NULL;
    char *name = NULL, *text = NULL;
    int64_t value = 0;
    lemoe_status status = LEMOE_OK;
    LEMOE_TRY_GOTO(lemoe_payload_get_copy(&cursor, &name));
    int64_t element = lemoe_payload_get_i64(&cursor);
    if (element == LEMOE_ELEMENT_TEXT) LEMOE_TRY_GOTO(lemoe_payload_get_copy(&cursor, &text));
    if (element == LEMOE_ELEMENT_I64) value = lemoe_payload_get_i64(&cursor);
    bool is_known = element == 0 || element == LEMOE_ELEMENT_TEXT || element == LEMOE_ELEMENT_I64;
    if (!is_known || !is_read_up(frame, &cursor) || !name[0] || strlen(name) > MAX_NAME || strchr(name, '/') ||
        replay->n_attribute >= MAX_ATTRIBUTES) {
        status = refuse(replay, frame, "an attribute");
        goto out;
    }
    LEMOE_TRY_GOTO(find_or_add(replay, &name, &attribute));
    if (element == 0) {
        attribute->is_volatile = true;
    } else {
        lemoe_mem_free(attribute->text);
        attribute->element = (lemoe_element)element;
        attribute->text = text;
        attribute->value = value;
        text = NULL;
    }
out:
    lemoe_mem_free(name);
    lemoe_mem_free(text);
    return status;
}

/* A few bytes may ask for rows without end; a real journal holds nearly all the rows of the datasets it touches. */
static lemoe_status claim(lemoe_replay *replay, const lemoe_frame *frame, int64_t n_element, int64_t n_known_bytes) {
    const int64_t plausible = (INT64_C(256) << 20) + 1000 * n_known_bytes;
    if (n_element > (plausible - replay->n_claimed_bytes) / 8)
        return refuse(replay, frame, "far more rows than a journal of this size can have");
    replay->n_claimed_bytes += n_element * 8;
    return LEMOE_OK;
}

static lemoe_status hold_rows(lemoe_replay *replay, const lemoe_frame *frame, int64_t index, int64_t n_row,
                              int64_t n_known_bytes) {
    const lemoe_schema_dataset *dataset = &replay->schema->datasets[index];
    lemoe_replay_column *column = &replay->columns[index];
    if (column->n_row >= n_row) return LEMOE_OK;
    int64_t begin = column->n_row * dataset->row_element, end = n_row * dataset->row_element;
    LEMOE_TRY(claim(replay, frame, end - begin, n_known_bytes));
    switch (dataset->row->element) {
    case LEMOE_ELEMENT_F64:
        LEMOE_TRY(lemoe_mem_grow(&column->f64, &column->capacity, end, sizeof *column->f64));
        for (int64_t i = begin; i < end; i++) column->f64[i] = (double)NAN;
        break;
    case LEMOE_ELEMENT_I64:
    case LEMOE_ELEMENT_I32:
        LEMOE_TRY(lemoe_mem_grow(&column->i64, &column->capacity, end, sizeof *column->i64));
        for (int64_t i = begin; i < end; i++) column->i64[i] = -1;
        break;
    case LEMOE_ELEMENT_TEXT:
        LEMOE_TRY(lemoe_mem_grow(&column->text, &column->capacity, end, sizeof *column->text));
        for (int64_t i = begin; i < end; i++) column->text[i] = NULL;
        break;
    }
    column->n_row = n_row;
    return LEMOE_OK;
}

static lemoe_status copy_values(lemoe_replay *replay, const lemoe_frame *frame, int64_t index, int64_t begin,
                                int64_t n_element, lemoe_payload_cursor *cursor) {
    lemoe_replay_column *column = &replay->columns[index];
    lemoe_element element = replay->schema->datasets[index].row->element;
    if (element == LEMOE_ELEMENT_TEXT) {
        for (int64_t i = begin; i < begin + n_element; i++) {
            lemoe_mem_free(column->text[i]);
            column->text[i] = NULL;
            LEMOE_TRY(lemoe_payload_get_copy(cursor, &column->text[i]));
        }
        return LEMOE_OK;
    }
    const unsigned char *values = lemoe_payload_get(cursor, n_element * 8);
    if (!values) return LEMOE_OK; /* the caller sees the cursor run short */
    if (element == LEMOE_ELEMENT_F64) {
        memcpy(column->f64 + begin, values, (size_t)n_element * 8);
        return LEMOE_OK;
    }
    memcpy(column->i64 + begin, values, (size_t)n_element * 8);
    for (int64_t i = begin; element == LEMOE_ELEMENT_I32 && i < begin + n_element; i++)
        if (column->i64[i] < INT32_MIN || column->i64[i] > INT32_MAX)
            return refuse(replay, frame, "a number outside of its type");
    return LEMOE_OK;
}

static int64_t find_dataset(const lemoe_replay *replay, const char *path, int64_t n_path) {
    for (int64_t i = 0; path && i < replay->schema->n_dataset; i++) {
        const char *known = replay->schema->datasets[i].path;
        if ((int64_t)strlen(known) == n_path && memcmp(known, path, (size_t)n_path) == 0) return i;
    }
    return -1;
}

static lemoe_status apply_rows(lemoe_replay *replay, const lemoe_frame *frame, int64_t n_known_bytes) {
    lemoe_payload_cursor cursor = frame->payload;
    int64_t n_path = 0;
    int64_t element = lemoe_payload_get_i64(&cursor);
    const char *path = lemoe_payload_get_text(&cursor, &n_path);
    int64_t first = lemoe_payload_get_i64(&cursor), n_rows = lemoe_payload_get_i64(&cursor);
    int64_t index = find_dataset(replay, path, n_path);
    if (index < 0 && frame->minor > LEMOE_JOURNAL_MINOR) return LEMOE_OK; /* a dataset of a later version */
    if (index < 0) return refuse(replay, frame, "rows of an unknown dataset");
    const lemoe_schema_dataset *dataset = &replay->schema->datasets[index];
    bool is_integer = dataset->row->element == LEMOE_ELEMENT_I32 || dataset->row->element == LEMOE_ELEMENT_I64;
    if (element != (is_integer ? LEMOE_ELEMENT_I64 : (int64_t)dataset->row->element))
        return refuse(replay, frame, "rows of another type than their dataset");
    int64_t limit = dataset->n_row < 0 ? INT64_C(1) << 31 : dataset->n_row;
    if (dataset->row_element < 1 || first < 0 || n_rows < 1 || first > limit || n_rows > limit - first)
        return refuse(replay, frame, "rows outside of their axis");
    /* Text takes 8 bytes and more an element, numbers exactly 8. */
    if (n_rows > (cursor.n_bytes - cursor.at) / 8 / dataset->row_element)
        return refuse(replay, frame, "fewer values than rows");
    LEMOE_TRY(hold_rows(replay, frame, index, dataset->n_row < 0 ? first + n_rows : dataset->n_row, n_known_bytes));
    LEMOE_TRY(copy_values(replay, frame, index, first * dataset->row_element, n_rows * dataset->row_element, &cursor));
    if (!is_read_up(frame, &cursor)) return refuse(replay, frame, "rows of the wrong length");
    replay->columns[index].is_put = true;
    return LEMOE_OK;
}

static lemoe_status apply_checkpoint(lemoe_replay *replay, const lemoe_frame *frame) {
    lemoe_payload_cursor cursor = frame->payload;
    int64_t serial = lemoe_payload_get_i64(&cursor), *known = replay->checkpoints;
    if (serial < 1 || !is_read_up(frame, &cursor)) return refuse(replay, frame, "the name of a checkpoint");
    memmove(known + 1, known, (LEMOE_RESULTS_CHECKPOINTS - 1) * sizeof *known);
    known[0] = serial;
    return LEMOE_OK;
}

lemoe_status lemoe_replay_apply(lemoe_replay *replay, const lemoe_frame *frame, int64_t n_known_bytes) {
    if (frame->kind == LEMOE_FRAME_HEADER) return apply_header(replay, frame);
    if (!replay->schema)
        return lemoe_raise(LEMOE_ERR_FORMAT, "%s: the header is missing; nothing can be recovered", replay->name);
    switch (frame->kind) {
    case LEMOE_FRAME_ATTRIBUTE: return apply_attribute(replay, frame);
    case LEMOE_FRAME_ROWS: return apply_rows(replay, frame, n_known_bytes);
    case LEMOE_FRAME_CHECKPOINT: return apply_checkpoint(replay, frame);
    case LEMOE_FRAME_COMMIT: return LEMOE_OK;
    case LEMOE_FRAME_END: replay->has_ended = true; return LEMOE_OK;
    default: break;
    }
    return frame->minor > LEMOE_JOURNAL_MINOR ? LEMOE_OK : refuse(replay, frame, "a frame of unknown kind");
}
