#include "kernels/base/mem.h"
#include "runner/state/state_internal.h"

#include <errno.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 20, MAX_TEXT = 4096 };

bool lemoe_state_is_loading(const lemoe_state *state) { return !state->stream; }

/* ---- records ---- */

lemoe_status state_write(lemoe_state *s, const void *data, int64_t n_bytes) {
    if (n_bytes == 0) return LEMOE_OK;
    (void)XXH3_128bits_update(s->hash, data, (size_t)n_bytes);
    LEMOE_CHECK(fwrite(data, 1, (size_t)n_bytes, s->stream) == (size_t)n_bytes, LEMOE_ERR_IO,
                "%s: cannot be written: %s", s->path, strerror(errno));
    return LEMOE_OK;
}

lemoe_status state_begin_record(lemoe_state *s, const char *name, state_kind kind, int64_t n_bytes) {
    state_record record = {(uint32_t)strlen(name), (uint32_t)kind, (uint64_t)n_bytes};
    LEMOE_TRY(state_write(s, &record, (int64_t)sizeof record));
    return state_write(s, name, (int64_t)record.name_bytes);
}

lemoe_status state_next_record(lemoe_state *s, const char *name, state_record *record, const unsigned char **payload) {
    int64_t left = s->end - s->at - (int64_t)sizeof *record;
    LEMOE_CHECK(left >= 0, LEMOE_ERR_FORMAT, "%s: ends where `%s` should stand", s->path, name);
    memcpy(record, s->map.data + s->at, sizeof *record);
    const unsigned char *text = s->map.data + s->at + sizeof *record;
    bool is_whole =
        record->name_bytes <= (uint64_t)left && record->n_bytes <= (uint64_t)left - (uint64_t)record->name_bytes;
    LEMOE_CHECK(is_whole && record->name_bytes == strlen(name) && memcmp(text, name, record->name_bytes) == 0,
                LEMOE_ERR_FORMAT, "%s: byte %lld holds something else than `%s`", s->path, (long long)s->at, name);
    *payload = text + record->name_bytes;
    s->at += (int64_t)sizeof *record + (int64_t)record->name_bytes + (int64_t)record->n_bytes;
    return LEMOE_OK;
}

/* ---- values ---- */

static lemoe_status next_value(lemoe_state *s, const char *name, int64_t n_bytes, const unsigned char **payload) {
    state_record record;
    LEMOE_TRY(state_next_record(s, name, &record, payload));
    LEMOE_CHECK(record.kind == STATE_VALUE && record.n_bytes == (uint64_t)n_bytes, LEMOE_ERR_FORMAT,
                "%s: `%s` has %lld bytes, not %lld", s->path, name, (long long)record.n_bytes, (long long)n_bytes);
    return LEMOE_OK;
}

lemoe_status lemoe_state_bytes(lemoe_state *s, const char *name, void *data, int64_t n_bytes) {
    if (!lemoe_state_is_loading(s)) {
        LEMOE_TRY(state_begin_record(s, name, STATE_VALUE, n_bytes));
        return state_write(s, data, n_bytes);
    }
    const unsigned char *payload = NULL;
    LEMOE_TRY(next_value(s, name, n_bytes, &payload));
    if (n_bytes > 0) memcpy(data, payload, (size_t)n_bytes);
    return LEMOE_OK;
}

lemoe_status lemoe_state_i64(lemoe_state *s, const char *name, int64_t *value) {
    return lemoe_state_bytes(s, name, value, (int64_t)sizeof *value);
}

lemoe_status lemoe_state_f64(lemoe_state *s, const char *name, double *value) {
    return lemoe_state_bytes(s, name, value, (int64_t)sizeof *value);
}

lemoe_status lemoe_state_count(lemoe_state *s, const char *name, int64_t *value, int64_t most) {
    LEMOE_TRY(lemoe_state_i64(s, name, value));
    LEMOE_CHECK(*value >= 0 && *value <= most, LEMOE_ERR_FORMAT, "%s: `%s` is %lld, outside of 0 to %lld", s->path,
                name, (long long)*value, (long long)most);
    return LEMOE_OK;
}

lemoe_status lemoe_state_bool(lemoe_state *s, const char *name, bool *value) {
    int64_t number = *value;
    LEMOE_TRY(lemoe_state_count(s, name, &number, 1));
    *value = number == 1;
    return LEMOE_OK;
}

lemoe_status lemoe_state_same(lemoe_state *s, const char *name, const char *text) {
    int64_t length = (int64_t)strlen(text);
    if (!lemoe_state_is_loading(s)) return lemoe_state_bytes(s, name, (void *)text, length);
    state_record record;
    const unsigned char *payload = NULL;
    LEMOE_TRY(state_next_record(s, name, &record, &payload));
    bool is_same = record.n_bytes == (uint64_t)length && memcmp(payload, text, (size_t)length) == 0;
    int shown = record.n_bytes < MAX_TEXT ? (int)record.n_bytes : MAX_TEXT;
    LEMOE_CHECK(is_same, LEMOE_ERR_FORMAT, "%s: its %s is `%.*s`, here it is `%s`", s->path, name, shown,
                (const char *)payload, text);
    return LEMOE_OK;
}

/* ---- tensors ---- */

static lemoe_status save_tensor(lemoe_state *s, lemoe_device *device, const lemoe_tensor *tensor, int64_t n_bytes) {
    char *chunk = NULL;
    lemoe_status status = LEMOE_OK;
    if (lemoe_device_is_host(device)) return state_write(s, tensor->data, n_bytes);
    LEMOE_TRY(lemoe_mem_alloc(CHUNK_BYTES, 1, &chunk));
    for (int64_t done = 0; done < n_bytes; done += CHUNK_BYTES) {
        int64_t n = n_bytes - done < CHUNK_BYTES ? n_bytes - done : CHUNK_BYTES;
        LEMOE_TRY_GOTO(lemoe_device_download(device, chunk, (const char *)tensor->data + done, (size_t)n));
        LEMOE_TRY_GOTO(state_write(s, chunk, n));
    }
out:
    lemoe_mem_free(chunk);
    return status;
}

lemoe_status lemoe_state_tensor(lemoe_state *s, lemoe_device *device, const char *name, lemoe_tensor tensor) {
    int64_t n_bytes = (int64_t)lemoe_tensor_bytes(&tensor);
    if (!lemoe_state_is_loading(s)) {
        LEMOE_TRY(state_begin_record(s, name, STATE_VALUE, n_bytes));
        return save_tensor(s, device, &tensor, n_bytes);
    }
    const unsigned char *payload = NULL;
    LEMOE_TRY(next_value(s, name, n_bytes, &payload));
    return n_bytes ? lemoe_device_upload(device, tensor.data, payload, (size_t)n_bytes) : LEMOE_OK;
}
