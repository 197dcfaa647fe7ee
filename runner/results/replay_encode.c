/* Payloads of the journal's frames; replay_apply.c reads them back. */
#include "runner/results/replay.h"

lemoe_status lemoe_replay_encode_header(const lemoe_results_axes *axes, const char *run_id, lemoe_payload *out) {
    const int64_t numbers[] = {axes->n_edit, axes->n_batch, axes->n_milestone, axes->n_expert, axes->n_locality};
    LEMOE_TRY(lemoe_payload_put(out, numbers, (int64_t)sizeof numbers));
    LEMOE_TRY(lemoe_payload_put_text(out, run_id));
    for (int i = 0; i < axes->n_locality; i++)
        LEMOE_TRY(lemoe_payload_put_text(out, axes->locality_name[i] ? axes->locality_name[i] : ""));
    return LEMOE_OK;
}

lemoe_status lemoe_replay_encode_attribute(const char *name, const char *text, int64_t value, lemoe_payload *out) {
    LEMOE_TRY(lemoe_payload_put_text(out, name));
    LEMOE_TRY(lemoe_payload_put_i64(out, text ? LEMOE_ELEMENT_TEXT : LEMOE_ELEMENT_I64));
    return text ? lemoe_payload_put_text(out, text) : lemoe_payload_put_i64(out, value);
}

lemoe_status lemoe_replay_encode_checkpoint(int64_t serial, lemoe_payload *out) {
    return lemoe_payload_put_i64(out, serial);
}

lemoe_status lemoe_replay_encode_rows(const lemoe_rows *rows, lemoe_payload *out) {
    LEMOE_TRY(lemoe_payload_put_i64(out, rows->element));
    LEMOE_TRY(lemoe_payload_put_text(out, rows->path));
    LEMOE_TRY(lemoe_payload_put_i64(out, rows->first));
    LEMOE_TRY(lemoe_payload_put_i64(out, rows->n_rows));
    if (rows->element != LEMOE_ELEMENT_TEXT) return lemoe_payload_put(out, rows->values, rows->n_element * 8);
    const char *const *texts = rows->values;
    for (int64_t i = 0; i < rows->n_element; i++) LEMOE_TRY(lemoe_payload_put_text(out, texts[i] ? texts[i] : ""));
    return LEMOE_OK;
}
