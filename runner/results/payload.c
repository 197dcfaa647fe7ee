#include "runner/results/payload.h"

#include "kernels/base/mem.h"

#include <string.h>

lemoe_status lemoe_payload_put(lemoe_payload *payload, const void *data, int64_t n_bytes) {
    LEMOE_TRY(lemoe_mem_grow(&payload->data, &payload->capacity, payload->n_bytes + n_bytes, 1));
    if (n_bytes > 0) memcpy(payload->data + payload->n_bytes, data, (size_t)n_bytes);
    payload->n_bytes += n_bytes;
    return LEMOE_OK;
}

lemoe_status lemoe_payload_put_i64(lemoe_payload *payload, int64_t value) {
    return lemoe_payload_put(payload, &value, (int64_t)sizeof value);
}

lemoe_status lemoe_payload_put_text(lemoe_payload *payload, const char *text) {
    int64_t n = (int64_t)strlen(text);
    LEMOE_TRY(lemoe_payload_put_i64(payload, n));
    return lemoe_payload_put(payload, text, n);
}

void lemoe_payload_reset(lemoe_payload *payload) {
    lemoe_mem_free(payload->data);
    memset(payload, 0, sizeof *payload);
}

const unsigned char *lemoe_payload_get(lemoe_payload_cursor *cursor, int64_t n_bytes) {
    if (cursor->is_short || n_bytes < 0 || n_bytes > cursor->n_bytes - cursor->at) {
        cursor->is_short = true;
        return NULL;
    }
    const unsigned char *data = cursor->data + cursor->at;
    cursor->at += n_bytes;
    return data;
}

int64_t lemoe_payload_get_i64(lemoe_payload_cursor *cursor) {
    int64_t value = 0;
    const unsigned char *data = lemoe_payload_get(cursor, (int64_t)sizeof value);
    if (data) memcpy(&value, data, sizeof value);
    return value;
}

const char *lemoe_payload_get_text(lemoe_payload_cursor *cursor, int64_t *n_bytes) {
    *n_bytes = lemoe_payload_get_i64(cursor);
    const char *text = (const char *)lemoe_payload_get(cursor, *n_bytes);
    if (!text) *n_bytes = 0;
    return text;
}

/* Length of the UTF-8 sequence at text (n > 0 bytes left), 0 when there is none: no overlong forms, no surrogates. */
static int64_t sequence_length(const unsigned char *text, int64_t n) {
    unsigned char lead = text[0];
    if (lead == 0) return 0;
    if (lead < 0x80) return 1;
    int64_t length = lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : 4;
    if (lead < 0xc2 || lead > 0xf4 || length > n) return 0;
    for (int64_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    bool is_overlong = (lead == 0xe0 && text[1] < 0xa0) || (lead == 0xf0 && text[1] < 0x90);
    bool is_outside = (lead == 0xed && text[1] >= 0xa0) || (lead == 0xf4 && text[1] >= 0x90);
    return is_overlong || is_outside ? 0 : length;
}

lemoe_status lemoe_payload_get_copy(lemoe_payload_cursor *cursor, char **out) {
    int64_t n = 0;
    const char *text = lemoe_payload_get_text(cursor, &n);
    LEMOE_TRY(lemoe_mem_alloc(n + 1, 1, out));
    for (int64_t i = 0; i < n;) {
        int64_t length = sequence_length((const unsigned char *)text + i, n - i);
        if (length == 0)
            (*out)[i++] = '?';
        else {
            memcpy(*out + i, text + i, (size_t)length);
            i += length;
        }
    }
    return LEMOE_OK;
}
